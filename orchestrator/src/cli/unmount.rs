//! `outcrop unmount`: end a mount and wait until its server has finished.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::context::Context;
use super::error::{CommandError, CommandResult};
use super::mount::{MountRecord, find_record};

/// How often the server is looked for while it finishes.
const INTERVAL: Duration = Duration::from_millis(20);

/// Unmount, and wait until the capture (if one was asked for) is written
///
/// Example: outcrop unmount ~/root
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    mountpoint: PathBuf,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let mountpoint = std::path::absolute(&arguments.mountpoint).map_err(|error| {
        CommandError::input(format!("{}: {error}", arguments.mountpoint.display()))
    })?;
    let record = find_record(&context, &mountpoint)?;
    let status = Command::new("fusermount3").arg("-u").arg("--").arg(&mountpoint).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => {
            return Err(CommandError::input(format!("{} was not unmounted", mountpoint.display()))
                .hint("close what uses it (see `fuser -m`) and try again"));
        }
        Err(error) => {
            return Err(CommandError::host(format!("cannot run fusermount3: {error}"))
                .hint("install the package fuse3"));
        }
    }
    match record {
        Some(record) => wait_for_server(&record),
        None => Ok(()),
    }
}

/// The server removes its record when it has finished, or leaves an error in it.
fn wait_for_server(record: &MountRecord) -> CommandResult {
    let ended = loop {
        match record.ended() {
            None => std::thread::sleep(INTERVAL),
            Some(ended) => break ended,
        }
    };
    let _ = std::io::stderr().write_all(&record.take_log());
    ended
}
