//! `outcrop completions`: what a shell needs to complete commands and options.

use clap::CommandFactory;
use clap_complete::Shell;

use super::error::CommandResult;
use crate::output;

/// Print a script that completes commands and options in a shell
///
/// Example: outcrop completions bash > ~/.local/share/bash-completion/completions/outcrop
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The shell that is to read the script
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "outcrop",
        &mut script,
    );
    output::write(&script)?;
    Ok(())
}
