//! `outcrop compile-endpoint`: one connection of the compile service, for QEMU alone.

use std::path::PathBuf;
use std::process::ExitCode;

/// Serve one connection of a guest's compiler on stdin and stdout
#[derive(clap::Args)]
pub struct Arguments {
    /// What the endpoint may do, as JSON
    settings: PathBuf,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    crate::compile::endpoint::main(&arguments.settings)
}

pub fn run_calls(arguments: &Arguments) -> ExitCode {
    crate::compile::calls::main(&arguments.settings)
}
