//! The life of a mount: started, waited for, unmounted, and cleaned up after a dead predecessor.
//!
//! Works as an ordinary user through `fusermount3`, and as root through mount(2).

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};

use super::caching::Caching;
use super::fuse::Adapter;
use super::mount_error::MountError;
use super::mount_table::{TableEntry, mounted_at};
use crate::error::Errno;
use crate::filesystem::Filesystem;
use crate::node::Ino;
use crate::view::Announcer;

mod unmounting;

pub use unmounting::fusermount;

/// How mounts of ours are known: `fuse.outcrop` in the mount table.
const SUBTYPE: &str = "outcrop";
const FILE_SYSTEM: &str = "fuse.outcrop";
const DEVICE: &str = "/dev/fuse";
/// Where fuser looks for the mount helper first.
const HELPER_VARIABLE: &str = "FUSERMOUNT_PATH";
/// Open descriptors below this are standard input, output and error.
const FIRST_FREE_DESCRIPTOR: i32 = 3;
/// More threads than this only wait for each other: the kernel's queue is one.
const MOST_THREADS: usize = 8;
/// How long the kernel may take to end a session whose mount is gone.
const LONGEST_ENDING: Duration = Duration::from_secs(5);

/// How to mount a tree.
#[derive(Debug, Clone)]
pub struct MountOptions {
    pub caching: Caching,
    /// Let the kernel refuse every change; set by itself where the tree is immutable.
    pub read_only: bool,
    /// What the mount table shows as the source.
    pub name: String,
    /// Show the mount to other users too; an ordinary user needs `user_allow_other` in
    /// `/etc/fuse.conf`.
    pub allow_other: bool,
    /// Threads that answer requests; `None`: as many as the machine has processors, at least 2,
    /// at most 8.
    pub threads: Option<usize>,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            caching: Caching::shared(),
            read_only: false,
            name: SUBTYPE.to_owned(),
            allow_other: false,
            threads: None,
        }
    }
}

impl MountOptions {
    fn session(&self, immutable: bool) -> Config {
        let mut config = Config::default();
        // A comma would begin the next option, and fusermount3 reads a backslash as an escape.
        let name = self.name.replace([',', '\\', '\n', '\0'], "_");
        config.mount_options = vec![
            MountOption::FSName(name),
            // fuser's own Subtype reaches fusermount3 only, not mount(2).
            MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
        ];
        if self.read_only || immutable {
            config.mount_options.push(MountOption::RO);
        }
        config.acl = if self.allow_other { SessionACL::All } else { SessionACL::Owner };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(processors.max(2));
        config.n_threads = Some(threads.clamp(1, MOST_THREADS));
        config.clone_fd = true;
        config
    }
}

/// How an unmount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nobody used the mount any more; it is served no longer.
    Clean,
    /// The mount was busy: it has no name any more, and is served until its last user is gone.
    Lazy,
    /// It had been unmounted before.
    Already,
}

/// Whether a session still runs.
#[derive(Default)]
struct Ending {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ending {
    fn set(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    fn has_come(&self) -> bool {
        *self.ended.lock()
    }

    /// Waits until the session has ended; false when the time is over first.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let mut ended = self.ended.lock();
        let until = limit.map(|limit| Instant::now() + limit);
        while !*ended {
            match until {
                None => self.changed.wait(&mut ended),
                Some(until) => {
                    if self.changed.wait_until(&mut ended, until).timed_out() {
                        return *ended;
                    }
                }
            }
        }
        true
    }
}

/// Unmounts from any thread, such as one that waits for signals.
#[derive(Clone)]
pub struct Unmounter {
    entry: TableEntry,
    ending: Arc<Ending>,
}

impl Unmounter {
    /// Unmounts; a mount that stays busy for two seconds is detached instead, with a warning.
    ///
    /// Must not be called by a thread that serves the tree.
    pub fn unmount(&self) -> Result<Unmounted, MountError> {
        if self.ending.has_come() && !self.is_listed()? {
            return Ok(Unmounted::Already);
        }
        let how = unmounting::unmount(&self.entry.mountpoint, || self.is_listed())?;
        // The mount may also exist in another mount namespace, which keeps it alive.
        if how == Unmounted::Clean && !self.ending.wait(Some(LONGEST_ENDING)) {
            return Ok(Unmounted::Lazy);
        }
        Ok(how)
    }

    /// Whether the mount table still has this mount; an error if another hides it.
    fn is_listed(&self) -> Result<bool, MountError> {
        let path = &self.entry.mountpoint;
        let mounts = table(path)?;
        match mounts.last() {
            Some(top) if *top == self.entry => Ok(true),
            Some(top) if mounts.contains(&self.entry) => Err(MountError::NotUnmounted {
                path: path.clone(),
                reason: format!("a mount of type {} is on top of it", top.file_system),
            }),
            _ => Ok(false),
        }
    }
}

/// A mounted tree. Dropping it unmounts.
pub struct Mount {
    unmounter: Unmounter,
    notifier: Notifier,
    session: Option<JoinHandle<io::Result<()>>>,
}

impl Mount {
    /// Mounts `tree` on an existing empty directory, and returns when it can be used.
    ///
    /// A dead Outcrop mount at the same place is unmounted first. Threads are started here: a
    /// process that wants to go to the background does so before.
    pub fn start(
        tree: Arc<dyn Filesystem>,
        mountpoint: &Path,
        options: &MountOptions,
    ) -> Result<Mount, MountError> {
        clean_stale(mountpoint)?;
        let mountpoint = check_mountpoint(mountpoint)?;
        check_device()?;
        let config = options.session(tree.is_immutable());
        let adapter = Adapter::new(tree, options.caching);
        let session = Session::new(adapter, &mountpoint, &config)
            .map_err(|error| refusal(&mountpoint, &error))?;
        let Some(entry) = find(&mountpoint)?.filter(|entry| entry.file_system == FILE_SYSTEM)
        else {
            let reason = "it was unmounted at once".to_owned();
            return Err(MountError::Refused { path: mountpoint, reason });
        };
        let notifier = session.notifier();
        let ending = Arc::new(Ending::default());
        let unmounter = Unmounter { entry, ending: Arc::clone(&ending) };
        let cleaner = unmounter.clone();
        let session = std::thread::Builder::new()
            .name("outcrop-mount".to_owned())
            .spawn(move || {
                // The end of the session drops the tree, and with it what the tree holds open.
                let result = session.run();
                cleaner.after_the_session();
                ending.set();
                result
            })
            .map_err(|source| host("cannot start a thread for", &mountpoint, source))?;
        let mount = Mount { unmounter, notifier, session: Some(session) };
        std::fs::metadata(&mountpoint)
            .map_err(|source| host("cannot use the new mount", &mountpoint, source))?;
        Ok(mount)
    }

    /// The mount point, absolute and resolved.
    pub fn mountpoint(&self) -> &Path {
        &self.unmounter.entry.mountpoint
    }

    /// A handle that unmounts from elsewhere, and makes `wait` return.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Makes the kernel forget what it was told through this mount.
    pub fn announcer(&self) -> Arc<dyn Announcer> {
        Arc::new(KernelAnnouncer(self.notifier.clone()))
    }

    /// Unmounts. See [`Unmounter::unmount`].
    pub fn unmount(mut self) -> Result<Unmounted, MountError> {
        let how = self.unmounter.unmount()?;
        self.join()?;
        Ok(how)
    }

    /// Returns when the mount is gone: unmounted from outside, or through an [`Unmounter`].
    pub fn wait(mut self) -> Result<(), MountError> {
        self.unmounter.ending.wait(None);
        self.join()
    }

    /// What the session's thread has to say, if it has ended; a detached mount lives on.
    fn join(&mut self) -> Result<(), MountError> {
        if !self.unmounter.ending.has_come() {
            return Ok(());
        }
        let ended = match self.session.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => return Ok(()),
            Some(Ok(Err(error))) => error,
            Some(Err(_)) => io::Error::other("the thread that served it panicked"),
        };
        Err(host("the connection to the kernel broke for", self.mountpoint(), ended))
    }
}

struct KernelAnnouncer(Notifier);

impl KernelAnnouncer {
    /// A mount that is gone has no memory.
    fn tell(what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            log::debug!("the kernel cannot be told of a changed {what}: {error}");
        }
    }
}

impl Announcer for KernelAnnouncer {
    fn name(&self, directory: Ino, name: &[u8]) {
        let result = self.0.inval_entry(INodeNo(directory), OsStr::from_bytes(name));
        Self::tell("name", result);
    }

    fn node(&self, ino: Ino) {
        Self::tell("node", self.0.inval_inode(INodeNo(ino), 0, 0));
    }

    /// An announcement of a name takes the directory's lock, which a lookup holds until its answer has
    /// been taken in (fs/fuse/dir.c: fuse_reverse_inval_entry). No name has a slash.
    fn barrier(&self, directory: Ino) {
        self.name(directory, b"/");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.session.is_none() {
            return;
        }
        if let Err(error) = self.unmounter.unmount().and_then(|_| self.join()) {
            log::error!("{error}");
        }
    }
}

impl Unmounter {
    /// A connection can end while the mount table still has its mount (the kernel's `abort` file):
    /// that corpse is ours to remove.
    fn after_the_session(&self) {
        match self.is_listed() {
            Ok(true) => {
                if let Err(error) = unmounting::detach(&self.entry.mountpoint) {
                    log::error!(
                        "cannot remove the dead mount {}: {error}",
                        self.entry.mountpoint.display()
                    );
                }
            }
            Ok(false) => {}
            Err(error) => log::error!("{error}"),
        }
    }
}

/// Unmounts what a killed Outcrop left at `mountpoint`; true if there was anything. Living mounts
/// and those of other programs are not touched.
pub fn clean_stale(mountpoint: &Path) -> Result<bool, MountError> {
    let mut cleaned = false;
    while is_stale(mountpoint) {
        let path = resolve_mountpoint(mountpoint)?;
        let Some(entry) = find(&path)? else {
            let reason = "its mount is dead, but not in this process's mount table".to_owned();
            return Err(MountError::NotUnmounted { path, reason });
        };
        if entry.file_system != FILE_SYSTEM {
            return Err(MountError::ForeignStale { path, file_system: entry.file_system });
        }
        unmounting::detach(&path).map_err(|reason| MountError::NotUnmounted { path, reason })?;
        cleaned = true;
    }
    Ok(cleaned)
}

/// Whether the daemon behind the path is dead. A plain stat(2) may be answered from what the
/// kernel remembers of the dead daemon's words.
fn is_stale(path: &Path) -> bool {
    let result = statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::TYPE);
    matches!(result, Err(Errno::NOTCONN | Errno::CONNABORTED))
}

fn host(doing: &'static str, path: &Path, source: io::Error) -> MountError {
    MountError::Host { doing, path: path.to_owned(), source }
}

fn table(mountpoint: &Path) -> Result<Vec<TableEntry>, MountError> {
    mounted_at(mountpoint)
        .map_err(|source| host("cannot read the mount table for", mountpoint, source))
}

/// The topmost mount at a path.
fn find(mountpoint: &Path) -> Result<Option<TableEntry>, MountError> {
    Ok(table(mountpoint)?.pop())
}

/// The absolute path without symlinks, as the mount table has it. A dead mount cannot be entered:
/// there the parent is resolved.
///
/// # Errors
/// [`MountError::Host`] where the path does not lead anywhere.
pub fn resolve_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let result = match path.canonicalize() {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTCONN) => {
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    let parent =
                        if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                    parent.canonicalize().map(|parent| parent.join(name))
                }
                _ => Err(error),
            }
        }
        result => result,
    };
    result.map_err(|source| host("cannot resolve", path, source))
}

/// The resolved mount point, if something may be mounted on it.
fn check_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::Missing(path.to_owned()));
        }
        Err(source) => return Err(host("cannot look at the mount point", path, source)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(MountError::NotADirectory(path.to_owned()));
        }
        Ok(_) => {}
    }
    let resolved = resolve_mountpoint(path)?;
    if find(&resolved)?.is_some_and(|entry| entry.file_system == FILE_SYSTEM) {
        return Err(MountError::AlreadyMounted(resolved));
    }
    let mut entries = std::fs::read_dir(&resolved)
        .map_err(|source| host("cannot read the mount point", &resolved, source))?;
    if entries.next().is_some() {
        return Err(MountError::NotEmpty(resolved));
    }
    Ok(resolved)
}

/// Refuses what fuser would panic on, and says what is wrong with the device.
fn check_device() -> Result<(), MountError> {
    if std::env::var_os(HELPER_VARIABLE).is_some_and(|path| path.to_str().is_none()) {
        return Err(MountError::Refused {
            path: PathBuf::from(DEVICE),
            reason: format!("{HELPER_VARIABLE} is not UTF-8; unset it"),
        });
    }
    match rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) if device.as_raw_fd() < FIRST_FREE_DESCRIPTOR => Err(MountError::Refused {
            path: PathBuf::from(DEVICE),
            reason: "standard input, output or error is closed; open /dev/null there".to_owned(),
        }),
        Ok(_) => Ok(()),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Err(MountError::NoDevice),
        Err(Errno::ACCESS | Errno::PERM) => Err(MountError::DeviceDenied),
        Err(errno) => Err(host("cannot open", Path::new(DEVICE), errno.into())),
    }
}

fn refusal(mountpoint: &Path, error: &io::Error) -> MountError {
    // mount(2) is tried first: only when that is not permitted is the helper looked for. An error
    // with a number is that of starting it, which may also be the EACCES of a directory in PATH.
    if error.raw_os_error().is_some() && fusermount().is_none() {
        return MountError::NoHelper;
    }
    let reason = error.to_string().trim_end().to_owned();
    MountError::Refused { path: mountpoint.to_owned(), reason }
}
