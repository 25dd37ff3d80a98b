//! `outcrop man`: manual pages of all commands.

use std::path::PathBuf;

use clap::CommandFactory;

use super::error::{CommandError, CommandResult};
use crate::output;

/// Write manual pages: outcrop.1 and one for each command
///
/// Pages that are there are replaced; the directory is made if it is not there.
///
/// Example: outcrop man ~/.local/share/man/man1; man outcrop-build
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Where the pages go, such as man1 in a directory of MANPATH
    directory: PathBuf,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(super::Arguments::command(), directory))
        .map_err(|error| {
            CommandError::build(format!("cannot write pages to {}: {error}", directory.display()))
        })?;
    output::say(format_args!("read them with: man -l {}/outcrop.1", directory.display()));
    Ok(())
}
