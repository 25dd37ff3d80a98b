//! The store: crash-safe, on local disk. Layout and promises are in `docs/store.md`.

#![forbid(unsafe_code)]

mod artifact;
mod collect;
mod error;
mod files;
mod inventory;
mod key;
mod lock;
mod reserve;
mod verify;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use error::Context;
use parking_lot::Mutex;

pub use artifact::{Artifact, ArtifactInfo, Draft, SourceRecord};
pub use collect::{Collected, Collection};
pub use error::{Error, Result};
pub use files::{disk_usage, remove_tree, write_beside};
pub use inventory::{Item, Part};
pub use key::{Key, hex};
pub use lock::FileLock;
pub use reserve::Reserve;
pub(crate) use verify::sha256;
pub use verify::{DirectoryUsage, Usage, Verdict};

/// The layout that this program reads and writes.
const VERSION: &str = "1\n";

const DIRECTORIES: [&str; 11] = [
    "artifacts",
    "layers",
    "mirrors",
    "sources",
    "kits",
    "kept",
    "logs",
    "failed",
    "run",
    "tmp",
    "locks",
];

/// An exclusive lock on a key, see [`Store::lock`].
pub type KeyLock = FileLock;

/// The local store. Cheap to clone; all clones share one lease on `tmp/`.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Drafts live here.
    temporary: lock::Lease,
    counter: AtomicU64,
    /// What no garbage collection may remove while this store is open.
    held: Mutex<HashMap<PathBuf, File>>,
}

/// A directory of one running process, see [`Store::run_directory`].
#[derive(Debug)]
pub struct RunDirectory {
    lease: lock::Lease,
}

impl RunDirectory {
    pub fn path(&self) -> &Path {
        self.lease.path()
    }
}

impl Store {
    /// Where the store is unless something else is asked for.
    pub fn default_root() -> Result<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(root) = variable("OUTCROP_HOME") {
            return std::path::absolute(&root).context("cannot use OUTCROP_HOME", root);
        }
        // The XDG specification: a relative path is to be ignored.
        if let Some(cache) = variable("XDG_CACHE_HOME").map(PathBuf::from)
            && cache.is_absolute()
        {
            return Ok(cache.join("outcrop"));
        }
        match variable("HOME") {
            Some(home) => Ok(PathBuf::from(home).join(".cache/outcrop")),
            None => Err(Error::Invalid(
                "There is no place for the store: set OUTCROP_HOME or HOME.".to_owned(),
            )),
        }
    }

    /// Opens the store at `root`, which is made if it is not there, and removes the drafts of dead
    /// processes.
    pub fn open(root: PathBuf) -> Result<Store> {
        files::make_directory(&root)?;
        let root = root.canonicalize().context("cannot open the store", &root)?;
        check_version(&root)?;
        for name in DIRECTORIES {
            files::make_directory(&root.join(name))?;
        }
        let temporary = root.join("tmp");
        lock::clean_stale(&temporary, &mut |_| {})?;
        let inner = Inner {
            temporary: lock::Lease::take(&temporary)?,
            root,
            counter: AtomicU64::new(0),
            held: Mutex::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// One of the store's top directories.
    pub fn layers(&self) -> PathBuf {
        self.root().join("layers")
    }

    pub fn mirrors(&self) -> PathBuf {
        self.root().join("mirrors")
    }

    pub fn sources(&self) -> PathBuf {
        self.root().join("sources")
    }

    pub fn kits(&self) -> PathBuf {
        self.root().join("kits")
    }

    /// Changes whose capture failed (docs/kept-changes.md).
    pub fn kept(&self) -> PathBuf {
        self.root().join("kept")
    }

    /// The log of a key's last build.
    pub fn log_path(&self, key: &Key) -> PathBuf {
        self.root().join("logs").join(format!("{key}.log"))
    }

    /// Where a failed build of the key leaves what is worth keeping.
    pub fn failed_path(&self, key: &Key) -> PathBuf {
        self.root().join("failed").join(key.as_str())
    }

    /// A fresh path in `tmp/` that nobody else uses; it goes when the process ends.
    pub fn temporary_path(&self) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.temporary.path().join(number.to_string())
    }

    pub(super) fn artifact_directory(&self, key: &Key) -> PathBuf {
        self.root().join("artifacts").join(key.shard()).join(key.as_str())
    }

    /// The artifact of a key, checked for presence and size, and marked as just used.
    pub fn artifact(&self, key: &Key) -> Result<Option<Artifact>> {
        let directory = self.artifact_directory(key);
        match artifact::read(&directory)? {
            None => Ok(None),
            Some(Ok(artifact)) => {
                mark_used(&directory);
                Ok(Some(artifact))
            }
            Some(Err(problem)) => {
                log::warn!("{}: {problem}; taken as absent", directory.display());
                Ok(None)
            }
        }
    }

    /// The artifact of a key as [`Store::artifact`] finds it, which from then on no garbage
    /// collection removes until this store and its clones are closed.
    pub fn held_artifact(&self, key: &Key) -> Result<Option<Artifact>> {
        let Some(artifact) = self.artifact(key)? else { return Ok(None) };
        let info = artifact.tar.with_file_name(artifact::INFO);
        // Where it was removed between the two steps, it is as if it had not been there.
        Ok(self.hold_file(&info)?.then_some(artifact))
    }

    /// Keeps a mirror, a download, a kit or a failed tree from garbage collection until this store
    /// and its clones are closed, and marks it as just used. False where it is not there (any more).
    pub fn hold(&self, path: &Path) -> Result<bool> {
        let held = self.hold_file(path)?;
        if held {
            mark_used(path);
        }
        Ok(held)
    }

    fn hold_file(&self, path: &Path) -> Result<bool> {
        if self.inner.held.lock().contains_key(path) {
            return Ok(true);
        }
        let Some(file) = lock::share(path)? else { return Ok(false) };
        self.inner.held.lock().insert(path.to_owned(), file);
        Ok(true)
    }

    /// What is known of an artifact, without marking it as just used.
    pub fn describe(&self, key: &Key) -> Result<Option<ArtifactInfo>> {
        let found = artifact::read(&self.artifact_directory(key))?;
        Ok(found.and_then(Result::ok).map(|artifact| artifact.info))
    }

    /// What is known of every artifact, in the order of the keys.
    pub fn descriptions(&self) -> Result<impl Iterator<Item = Result<ArtifactInfo>> + '_> {
        let keys = self.keys()?.into_iter();
        Ok(keys.filter_map(|key| self.describe(&key).transpose()))
    }

    /// Begins an artifact.
    pub fn draft(&self, key: &Key) -> Result<Draft> {
        Draft::new(self.clone(), key.clone(), self.temporary_path())
    }

    /// Moves something out of sight in one step, then removes it.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        let aside = self.temporary_path();
        match fs::rename(path, &aside) {
            Ok(()) => files::remove_tree(&aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("cannot remove", path, error)),
        }
    }

    /// Waits for the exclusive lock of a key.
    pub fn lock(&self, key: &Key) -> Result<KeyLock> {
        self.lock_name(key.as_str())
    }

    /// Takes the lock of a key unless somebody else has it.
    pub fn try_lock(&self, key: &Key) -> Result<Option<KeyLock>> {
        FileLock::try_take(&self.lock_path(key.as_str()))
    }

    /// Waits for an exclusive lock of any name (`A-Za-z0-9._+@%-`).
    pub fn lock_name(&self, name: &str) -> Result<FileLock> {
        FileLock::wait(&self.lock_path(name))
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.root().join("locks").join(format!("{name}.lock"))
    }

    /// A directory for sockets, mount points and spools of this process. Dropping it removes it;
    /// unmount what is below first.
    pub fn run_directory(&self) -> Result<RunDirectory> {
        Ok(RunDirectory { lease: lock::Lease::take(&self.root().join("run"))? })
    }

    /// Removes run directories of dead processes. `before` sees each one first and should unmount
    /// what is mounted below it: a directory with a mount in it is left and reported.
    pub fn clean_stale_runs(&self, mut before: impl FnMut(&Path)) -> Result<Vec<PathBuf>> {
        lock::clean_stale(&self.root().join("run"), &mut before)
    }
}

/// Sets the modification time, which is the time of last use.
fn mark_used(path: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let flags = rustix::fs::AtFlags::empty();
    if let Err(errno) = rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags) {
        log::debug!("{}: {errno}", path.display());
    }
}

fn check_version(root: &Path) -> Result<()> {
    let path = root.join("version");
    match fs::read_to_string(&path) {
        Ok(text) if text == VERSION => Ok(()),
        Ok(text) => Err(Error::Invalid(format!(
            "{}: this store has version {:?}, this program knows version {:?}; \
             set OUTCROP_HOME to another directory.",
            root.display(),
            text.trim(),
            VERSION.trim()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let strangers = fs::read_dir(root)
                .context("cannot read", root)?
                .flatten()
                .find(|item| !is_ours(&item.file_name().to_string_lossy()));
            if let Some(stranger) = strangers {
                return Err(Error::Invalid(format!(
                    "{}: this directory is not a store: it holds {}; \
                     set OUTCROP_HOME to an empty directory.",
                    root.display(),
                    stranger.file_name().to_string_lossy()
                )));
            }
            files::write_beside(&path, VERSION.as_bytes())
        }
        Err(error) => Err(Error::io("cannot read", path, error)),
    }
}

/// Names that a process leaves when it dies while making a store.
fn is_ours(name: &str) -> bool {
    DIRECTORIES.contains(&name) || name == "version" || name.starts_with(".tmp")
}

#[cfg(test)]
mod tests;
