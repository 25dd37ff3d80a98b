//! Changes whose capture failed: put away, and taken out again (docs/kept-changes.md).

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use outcrop_fs::capture::{
    CaptureOptions, MtimePolicy, OnProgress, can_capture_to, capture_to_file,
};
use outcrop_fs::node::{ROOT_INO, Timestamp};
use outcrop_fs::sysroot::{Options, Sysroot};

use super::context::Context;
use super::error::{CommandError, CommandResult};
use crate::output;
use crate::store::{Reserve, remove_tree, write_beside};
use crate::words::counted;

const REQUEST: &str = "request.json";

/// What a capture was to be.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Where the layers' paths begin.
    pub directory: PathBuf,
    pub layers: Vec<String>,
    pub zone: String,
    pub mtime: Option<i64>,
    pub out: PathBuf,
}

impl Request {
    pub fn capture(
        &self,
        sysroot: &Sysroot,
        out: &Path,
        progress: Option<OnProgress<'_>>,
    ) -> CommandResult {
        let root = sysroot.resolve(self.zone.as_bytes()).map_err(|error| {
            CommandError::input(format!("cannot capture {}: {error}", self.zone))
        })?;
        let mtime = match self.mtime {
            Some(seconds) => MtimePolicy::Fixed(Timestamp::new(seconds, 0)),
            None => MtimePolicy::Keep,
        };
        let options = CaptureOptions { mtime, progress, ..CaptureOptions::default() };
        let ino = if self.zone == "/" { ROOT_INO } else { root.ino };
        let report = capture_to_file(sysroot, ino, out, &options)?;
        for skipped in &report.skipped {
            let path = String::from_utf8_lossy(&skipped.path);
            output::say(format_args!("not captured: /{path}: {}", skipped.reason));
        }
        output::say(format_args!(
            "captured {}, {} bytes, to {}",
            counted(report.entries, "entry", "entries"),
            report.bytes,
            out.display()
        ));
        Ok(())
    }
}

/// Fails where the capture could not be written, before anybody has worked for it.
pub fn check_destination(out: &Path) -> CommandResult {
    let Err(error) = can_capture_to(out) else { return Ok(()) };
    let place = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.display().to_string(),
        _ => "this directory".to_owned(),
    };
    let kind = match &error {
        outcrop_fs::Error::Host { source, .. } => source.kind(),
        _ => ErrorKind::Other,
    };
    let problem = match kind {
        ErrorKind::NotFound => format!("{place} does not exist"),
        ErrorKind::NotADirectory => format!("{place} is not a directory"),
        ErrorKind::PermissionDenied => format!("{place} may not be written to"),
        ErrorKind::ReadOnlyFilesystem => format!("{place} is on a read-only file system"),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    Err(CommandError::input(format!("cannot write the capture to {}: {problem}", out.display()))
        .hint("nothing was mounted; name a file in a directory that you may write to"))
}

/// A capture that is to be made when the writing has ended.
pub struct Plan {
    request: Request,
    /// Room on the spool's disk, given back by dropping it: a spool that has filled its disk can
    /// still be kept.
    reserve: Reserve,
}

impl Plan {
    /// `directory` is the spool's.
    pub fn new(request: Request, directory: &Path) -> CommandResult<Plan> {
        let reserve = Reserve::new(directory).map_err(|error| {
            outcrop_fs::Error::host("cannot set room aside in", directory, error)
        })?;
        Ok(Plan { request, reserve })
    }

    /// Captures; what was written is kept where that fails, or something has failed before.
    pub fn finish(
        self,
        context: &Context,
        sysroot: &Sysroot,
        ended: CommandResult,
    ) -> CommandResult {
        if let Some(why) = sysroot.lost_write() {
            log::warn!(
                "not everything that was written could be stored ({why}): the program that wrote it \
                 was told, unless it did so through a mapping"
            );
        }
        let captured = ended.and_then(|()| self.request.capture(sysroot, &self.request.out, None));
        captured.map_err(|failure| self.keep(context, sysroot, failure))
    }

    /// Puts the changes away; the error then says how to get at them.
    fn keep(self, context: &Context, sysroot: &Sysroot, failure: CommandError) -> CommandError {
        self.reserve.release();
        let request = &self.request;
        match put_away(context, sysroot, request) {
            Ok(name) => failure.hint(format!(
                "what was written is kept; write it elsewhere, or there when that is mended, \
                 with: outcrop capture {name} {}",
                request.directory.join(&request.out).display()
            )),
            Err(error) => {
                let message = format!(
                    "{}; what was written could not be kept either: {}",
                    failure.message, error.message
                );
                CommandError::new(failure.exit, message)
            }
        }
    }
}

fn put_away(context: &Context, sysroot: &Sysroot, request: &Request) -> CommandResult<String> {
    let store = &context.store;
    let draft = store.temporary_path();
    let host = |error| outcrop_fs::Error::host("cannot keep the changes in", &draft, error);
    std::fs::create_dir(&draft).map_err(host)?;
    let filled = fill(&draft, sysroot, request).and_then(|()| {
        let name = free_name(&store.kept());
        let place = store.kept().join(&name);
        std::fs::rename(&draft, &place).map_err(host)?;
        File::open(store.kept()).and_then(|kept| kept.sync_all()).map_err(host)?;
        Ok(name)
    });
    if filled.is_err() {
        remove_tree(&draft)?;
    }
    filled
}

fn fill(draft: &Path, sysroot: &Sysroot, request: &Request) -> CommandResult {
    sysroot.keep(draft)?;
    let text = serde_json::to_vec(request)
        .map_err(|error| CommandError::input(format!("{REQUEST}: {error}")))?;
    Ok(write_beside(&draft.join(REQUEST), &text)?)
}

/// A name that sorts by time.
fn free_name(kept: &Path) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let names = std::iter::once(format!("mount-{seconds}"))
        .chain((2_u32..).map(|number| format!("mount-{seconds}-{number}")));
    names.into_iter().find(|name| !kept.join(name).exists()).unwrap_or_default()
}

/// A kept tree, opened over its layers.
pub struct Kept {
    pub place: PathBuf,
    pub request: Request,
    pub sysroot: Sysroot,
}

impl Kept {
    /// Opens by name. The process works in the request's directory from then on, because layers
    /// are named from there.
    pub fn open(context: &Context, name: &str) -> CommandResult<Kept> {
        let place = find(context, name)?;
        let path = place.join(REQUEST);
        let fault = |error: std::io::Error| {
            CommandError::input(format!("cannot read {}: {error}", path.display()))
        };
        let text = std::fs::read(&path).map_err(fault)?;
        let request: Request = serde_json::from_slice(&text).map_err(|e| fault(e.into()))?;
        std::env::set_current_dir(&request.directory).map_err(|error| {
            let directory = request.directory.display();
            CommandError::input(format!("cannot enter {directory}, where it was mounted: {error}"))
        })?;
        let layers = super::tree::open_specs(context, &request.layers)?;
        let sysroot = Sysroot::restore(layers, &place, Options::default())?;
        Ok(Kept { place, request, sysroot })
    }

    /// Takes the tree away, in one step.
    pub fn remove(self, context: &Context) -> CommandResult {
        let aside = context.store.temporary_path();
        std::fs::rename(&self.place, &aside).map_err(|error| {
            CommandError::host(format!("cannot remove {}: {error}", self.place.display()))
        })?;
        Ok(remove_tree(&aside)?)
    }
}

/// Beginnings of the keys of artifacts without which kept changes cannot be captured any more.
pub fn needed_artifacts(context: &Context) -> CommandResult<Vec<String>> {
    let kept = context.store.kept();
    let mut needed = Vec::new();
    let entries = std::fs::read_dir(&kept)
        .map_err(|error| CommandError::host(format!("cannot read {}: {error}", kept.display())))?;
    for entry in entries.flatten() {
        let path = entry.path().join(REQUEST);
        let request = std::fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                serde_json::from_slice::<Request>(&text).map_err(|error| error.to_string())
            })
            .map_err(|error| {
                CommandError::build(format!("cannot read {}: {error}", path.display()))
                    .hint("it says which artifacts are still needed; remove its directory if nothing in it is")
            })?;
        // A layer may be followed by where it appears.
        let keys = request.layers.iter().filter_map(|layer| layer.strip_prefix("artifact:"));
        needed.extend(keys.map(|key| key.split("@/").next().unwrap_or(key).to_owned()));
    }
    Ok(needed)
}

fn find(context: &Context, name: &str) -> CommandResult<PathBuf> {
    let kept = context.store.kept();
    let mut names: Vec<String> = std::fs::read_dir(&kept)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|known| known == name) {
        return Ok(kept.join(name));
    }
    names.sort();
    Err(CommandError::input(match names.is_empty() {
        true => format!("nothing is kept under the name {name}, nor under any other"),
        false => format!("nothing is kept under the name {name}; there is: {}", names.join(", ")),
    }))
}
