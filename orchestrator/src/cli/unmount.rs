//! `outcrop unmount`: end a mount and wait until its server has finished.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outcrop_fs::transport::{fusermount, resolve_mountpoint};

use super::context::Context;
use super::error::{CommandError, CommandResult};
use super::mount::{MountRecord, find_record};

/// How often the server is looked for while it finishes.
const INTERVAL: Duration = Duration::from_millis(5);

/// Unmount, and wait until the capture (if one was asked for) is written
///
/// Example: outcrop unmount ~/root
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Where `outcrop mount` has mounted
    mountpoint: PathBuf,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let mountpoint = resolve_mountpoint(&arguments.mountpoint)
        .map_err(|error| CommandError::input(error.to_string()))?;
    let record = find_record(&context, &mountpoint)?;
    let output = Command::new(fusermount().unwrap_or_else(|| "fusermount3".into()))
        .arg("-u")
        .arg("--")
        .arg(&mountpoint)
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(not_unmounted(&mountpoint, &output.stderr)),
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

/// Only the text of fusermount3 tells a mount that is in use from a directory that is none.
fn not_unmounted(mountpoint: &Path, said: &[u8]) -> CommandError {
    let said = String::from_utf8_lossy(said);
    let place = mountpoint.display();
    if said.contains(" not found in ") {
        return CommandError::input(format!("no mount of yours is on {place}"))
            .hint("`findmnt` lists what is mounted");
    }
    CommandError::build(format!("{place} was not unmounted: {}", said.trim()))
        .hint(format!("close what uses it (see `fuser -m {place}`) and try again"))
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
