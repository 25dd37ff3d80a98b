//! Makes the guest's kernel forget what the host has changed of the tree, as nothing tells it by itself.

use crate::system;
use crate::world::SYSROOT;
use outcrop_guest::protocol::compile::Change;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Exists, and in another file system than the tree: a link from it to the tree always fails.
const FOREIGN: &str = "/init";

/// More answers than programs of a guest can have under way for one file.
const TRIES: usize = 1000;

/// When this returns the kernel knows nothing of these that is older than the change.
pub fn forget(changes: &[Change]) {
    for change in changes {
        let path = PathBuf::from(OsStr::from_bytes(&[SYSROOT.as_bytes(), &change.path].concat()));
        if change.what & (Change::NAME | Change::CONTENT) != 0 {
            // The kernel asks anew for a name that is about to be made (fs/fuse/dir.c: LOOKUP_EXCL in
            // fuse_dentry_revalidate), and takes in the attributes of what it finds.
            let _ = fs::hard_link(FOREIGN, &path);
        }
        if change.what & (Change::CONTENT | Change::LISTING) != 0 {
            take_in_attributes(&path);
        }
        if change.what & Change::ANYTHING != 0 {
            let _ = fs::write("/proc/sys/vm/drop_caches", "3");
        }
    }
}

/// Content and lists of names are used while a node's time is the one that they had then
/// (`FUSE_AUTO_INVAL_DATA`, and fs/fuse/readdir.c).
fn take_in_attributes(path: &Path) {
    for _ in 0..TRIES {
        let asked = system::attributes(path, libc::AT_STATX_FORCE_SYNC);
        let taken_in = system::attributes(path, libc::AT_STATX_DONT_SYNC);
        match (asked, taken_in) {
            // An older answer, which had been on its way, was taken in meanwhile, and this one was not
            // (fs/fuse/inode.c: attr_version); no older one is taken in after one that was.
            (Ok(asked), Ok(taken_in)) if asked != taken_in => {}
            _ => return,
        }
    }
}

/// Sends the host everything that only this kernel has yet.
pub fn write_back() {
    if let Ok(root) = fs::File::open(SYSROOT) {
        let _ = system::sync_file_system(&root);
    }
}
