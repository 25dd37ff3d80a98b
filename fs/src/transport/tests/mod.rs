//! Real mounts, as whoever runs the tests, and once more as an ordinary user when that is root.

mod content;
mod lifecycle;
mod metadata;
mod ordinary_user;
mod sharing;
mod two_kernels;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Caching, Mount, MountOptions};
use crate::filesystem::Filesystem;
use crate::node::{Ino, Kind, Metadata, ROOT_INO};
use crate::view::memory_tree::MemoryTree;

/// False, and said aloud, where this machine cannot mount.
fn can_mount() -> bool {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &opened {
        eprintln!("SKIPPED: /dev/fuse cannot be opened: {error}");
    }
    opened.is_ok()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree and its mount; unmounted before the directory goes.
struct Mounted {
    mount: Option<Mount>,
    tree: Arc<MemoryTree>,
    directory: TempDir,
}

impl Mounted {
    fn with(tree: MemoryTree, options: &MountOptions) -> Mounted {
        let tree = Arc::new(tree);
        let directory = tempfile::tempdir().unwrap();
        let served = Arc::clone(&tree) as Arc<dyn Filesystem>;
        let mount = Mount::start(served, directory.path(), options).unwrap();
        Mounted { mount: Some(mount), tree, directory }
    }

    /// The tree's only writer is the mount.
    fn new() -> Mounted {
        Mounted::with(MemoryTree::new(), &exclusive())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens a new file for reading and writing.
    fn create(&self, name: &str) -> File {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(self.path(name)).unwrap()
    }

    fn ino(&self, name: &str) -> Ino {
        fs::symlink_metadata(self.path(name)).unwrap().ino()
    }

    fn meta(&self, name: &str) -> Metadata {
        self.tree.attributes(self.ino(name)).unwrap().meta
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.mount.take());
    }
}

fn exclusive() -> MountOptions {
    MountOptions { caching: Caching::immutable(), ..MountOptions::default() }
}

fn of_kind(kind: Kind, mode: u16) -> Metadata {
    Metadata { kind, mode, ..Metadata::default_directory() }
}

fn put_file(tree: &MemoryTree, name: &[u8], content: &[u8]) -> Ino {
    tree.put(ROOT_INO, name, of_kind(Kind::File, 0o644), content)
}

/// Waits for what the kernel does in its own time.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
