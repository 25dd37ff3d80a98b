//! Advisory locks and leases: both die with the process that holds them.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::error::{Context, Error, Result};
use super::files;

/// An exclusive lock on a file. Dropping it releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Waits for the lock.
    pub fn wait(path: &Path) -> Result<FileLock> {
        loop {
            let file = open(path)?;
            flock(&file, FlockOperation::LockExclusive, path)?;
            if let Some(lock) = Self::confirm(file, path)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock unless somebody else has it.
    pub fn try_take(path: &Path) -> Result<Option<FileLock>> {
        loop {
            let file = open(path)?;
            if !flock(&file, FlockOperation::NonBlockingLockExclusive, path)? {
                return Ok(None);
            }
            if let Some(lock) = Self::confirm(file, path)? {
                return Ok(Some(lock));
            }
        }
    }

    /// A lock counts only while its file still has its name: the last holder may have removed it.
    fn confirm(mut file: File, path: &Path) -> Result<Option<FileLock>> {
        if !is_at(&file, path)? {
            return Ok(None);
        }
        // For people who wonder who holds it; nothing reads this.
        let note = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = note {
            log::debug!("{}: {error}", path.display());
        }
        Ok(Some(FileLock { file, path: path.to_owned() }))
    }

    /// Removes the lock's file, then releases the lock. Waiters notice and start again.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).context("cannot remove", &self.path)?;
        drop(self.file);
        Ok(())
    }
}

/// A shared lock on an existing file, `None` where the file is gone.
pub(super) fn share(path: &Path) -> Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("cannot open", path, error)),
    };
    flock(&file, FlockOperation::LockShared, path)?;
    Ok(is_at(&file, path)?.then_some(file))
}

/// An exclusive lock on an existing file that is not to be written; `None` while it is shared.
pub(super) fn try_claim(path: &Path) -> Result<Option<File>> {
    let file = File::open(path).context("cannot open", path)?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive, path)?.then_some(file))
}

fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).context("cannot open the lock file", path)
}

/// Whether the lock was obtained.
fn flock(file: &File, how: FlockOperation, path: &Path) -> Result<bool> {
    loop {
        match rustix::fs::flock(file, how) {
            Ok(()) => return Ok(true),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("cannot lock", path, errno.into())),
        }
    }
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    outcrop_fs::draft::is_at(file, path).context("cannot examine", path)
}

/// A directory of this process alone: `<id>/` beside a locked `<id>.pid`. Dropping it removes both.
#[derive(Debug)]
pub struct Lease {
    directory: PathBuf,
    lock: Option<FileLock>,
}

impl Lease {
    pub fn take(parent: &Path) -> Result<Lease> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{count}", std::process::id());
            let Some(lock) = FileLock::try_take(&parent.join(format!("{id}.pid")))? else {
                continue;
            };
            let directory = parent.join(id);
            // Left by a dead process of the same number: its lock was free, so it is ours.
            files::remove_tree(&directory)?;
            files::make_directory(&directory)?;
            return Ok(Lease { directory, lock: Some(lock) });
        }
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match files::remove_tree(&self.directory) {
            Ok(()) => {
                if let Some(Err(error)) = self.lock.take().map(FileLock::remove) {
                    log::warn!("{error}");
                }
            }
            // The pid file stays, so that a later process finds the rest and removes it.
            Err(error) => log::warn!("{error}"),
        }
    }
}

/// Removes what dead processes left, after `before` has seen each directory (to unmount what is
/// mounted below). Returns the directories removed; what cannot be removed is only logged.
pub(super) fn clean_stale(parent: &Path, before: &mut dyn FnMut(&Path)) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for item in fs::read_dir(parent).context("cannot read", parent)? {
        let path = item.context("cannot read", parent)?.path();
        // A pid file lives longer than its directory at both ends, so either name finds the other.
        let (directory, pid) = match path.extension() {
            Some(extension) if extension == "pid" => (path.with_extension(""), path),
            _ => (path.clone(), path.with_extension("pid")),
        };
        if !pid.exists() && !directory.exists() {
            continue;
        }
        let Some(lock) = FileLock::try_take(&pid)? else { continue };
        if directory.exists() || fs::symlink_metadata(&directory).is_ok() {
            before(&directory);
        }
        match files::remove_tree(&directory).and_then(|()| lock.remove()) {
            Ok(()) => removed.push(directory),
            Err(error) => log::warn!("cannot clean up after a dead process: {error}"),
        }
    }
    Ok(removed)
}
