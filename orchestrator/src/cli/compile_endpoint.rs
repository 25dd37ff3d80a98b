//! `outcrop compile-endpoint`: one connection of the compile service, for QEMU alone.

use std::path::PathBuf;

use super::error::CommandResult;

/// Serve one connection of a guest's compiler on stdin and stdout
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    endpoint: crate::compile::EndpointArguments,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    crate::compile::serve(&arguments.endpoint);
    Ok(())
}
