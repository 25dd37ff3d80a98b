//! Drafts beside an output: written, then renamed to it when they are complete.
//!
//! A draft is locked as long as its process lives. Whoever makes the next one in that directory
//! removes those that nobody locks: `kill -9` leaves nothing for long.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempDir};

/// How names of drafts begin: distinct enough that no file of a person is taken for one.
const PREFIX: &str = ".outcrop-draft-";

/// Random letters and digits that follow it.
const RANDOM: usize = 8;

/// A draft that is a directory, for programs that insist on making their output themselves.
#[derive(Debug)]
pub struct DraftDirectory {
    directory: TempDir,
    _lock: File,
}

impl DraftDirectory {
    /// Makes one beside `output`; it goes with everything in it when this is dropped.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn beside(output: &Path) -> io::Result<DraftDirectory> {
        let parent = parent(output);
        remove_abandoned(parent);
        loop {
            let directory = builder().tempdir_in(parent)?;
            let lock = File::open(directory.path())?;
            if locked(&lock, directory.path())? {
                return Ok(DraftDirectory { directory, _lock: lock });
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Makes a draft of the file `output` beside it, which everybody may read.
pub(crate) fn beside(output: &Path) -> io::Result<NamedTempFile> {
    let parent = parent(output);
    remove_abandoned(parent);
    loop {
        let mut builder = builder();
        let draft = builder.permissions(fs::Permissions::from_mode(0o644)).tempfile_in(parent)?;
        if locked(draft.as_file(), draft.path())? {
            return Ok(draft);
        }
    }
}

/// The directory that a file is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn builder<'a>() -> tempfile::Builder<'a, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).rand_bytes(RANDOM);
    builder
}

/// Locks a new draft. False where somebody has taken it for abandoned before it was locked.
fn locked(draft: &File, path: &Path) -> io::Result<bool> {
    match flock(draft, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => is_at(draft, path),
        Err(Errno::WOULDBLOCK) => Ok(false),
        // A file system without locks: then nobody can take the draft for abandoned either.
        Err(_) => Ok(true),
    }
}

/// Whether an open file still has its name.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the drafts of processes that were killed. Those that cannot be removed cost only space.
fn remove_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_draft =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|random| {
                random.len() == RANDOM && random.bytes().all(|b| b.is_ascii_alphanumeric())
            });
        if !is_draft {
            continue;
        }
        if let Err(error) = remove_if_abandoned(&entry.path()) {
            log::debug!("{}: {error}", entry.path().display());
        }
    }
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    let ours = kind.uid() == rustix::process::geteuid().as_raw();
    if !ours || !(kind.is_file() || kind.is_dir()) {
        return Ok(());
    }
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    if !is_at(&file, path)? {
        return Ok(());
    }
    log::info!("removing {}: its process was killed", path.display());
    if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_next_draft_removes_those_of_killed_processes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        let live = beside(&output).unwrap();
        let busy = DraftDirectory::beside(&output).unwrap();
        // What `kill -9` leaves: the names without the locks.
        fs::write(directory.path().join(".outcrop-draft-abcdEF12"), "half").unwrap();
        fs::create_dir(directory.path().join(".outcrop-draft-12345678")).unwrap();
        fs::write(directory.path().join(".outcrop-draft-12345678/draft"), "half").unwrap();
        // What somebody else may have called so.
        let others = [".outcrop-draft-", ".outcrop-draft-my-notes", "outcrop-draft-abcdEF12"];
        for name in others {
            fs::write(directory.path().join(name), "mine").unwrap();
        }
        let next = beside(&output).unwrap();
        let mut left: Vec<String> = others.map(str::to_owned).to_vec();
        for path in [live.path(), busy.path(), next.path()] {
            left.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        left.sort();
        assert_eq!(names(directory.path()), left);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("out");
        drop((beside(&output).unwrap(), DraftDirectory::beside(&output).unwrap()));
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }
}
