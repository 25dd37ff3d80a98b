//! Why a mount could not be made, or ended.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

/// One sentence each: what is wrong, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("/dev/fuse does not exist; load the kernel module with `modprobe fuse`")]
    NoDevice,

    #[error(
        "/dev/fuse may not be opened by this user; make it accessible with `chmod 666 /dev/fuse`"
    )]
    DeviceDenied,

    #[error("fusermount3 is not installed; an ordinary user needs it to mount (package fuse3)")]
    NoHelper,

    #[error("the mount point {} does not exist; create the directory first", .0.display())]
    Missing(PathBuf),

    #[error("the mount point {} is not a directory", .0.display())]
    NotADirectory(PathBuf),

    #[error("the mount point {} is not empty; a mount would hide what is in it", .0.display())]
    NotEmpty(PathBuf),

    #[error("{} is an Outcrop mount already; unmount it with `outcrop unmount`", .0.display())]
    AlreadyMounted(PathBuf),

    #[error("{} is a dead mount of another program ({file_system}); unmount it first", path.display())]
    ForeignStale { path: PathBuf, file_system: String },

    #[error("cannot mount on {}: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },

    #[error("cannot unmount {}: {reason}", path.display())]
    NotUnmounted { path: PathBuf, reason: String },

    #[error("{doing} {}: {source}", path.display())]
    Host {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Whether the host lacks something, as opposed to a wrong request.
    pub fn is_host_problem(&self) -> bool {
        matches!(self, MountError::NoDevice | MountError::DeviceDenied | MountError::NoHelper)
    }
}
