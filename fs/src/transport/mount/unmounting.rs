//! umount2(2) where that is permitted, `fusermount3 -u` where it is not.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::{MountError, Unmounted};
use crate::error::Errno;

/// File indexers and closing editors need moments, not seconds.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);
const HELPER: &str = "fusermount3";
/// Where the helper is on systems whose users have no such directories in `PATH`.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/sbin"];

enum Attempt {
    Done,
    Busy,
    Failed(String),
}

/// The path of `fusermount3`, by which an ordinary user mounts and unmounts, if it is installed.
pub fn fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = MORE_DIRECTORIES.iter().map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|directory| directory.join(HELPER))
        .find(|candidate| candidate.is_file())
}

/// Unmounts what is mounted at `mountpoint` as long as `is_listed` says that it is still ours.
pub(super) fn unmount(
    mountpoint: &Path,
    is_listed: impl Fn() -> Result<bool, MountError>,
) -> Result<Unmounted, MountError> {
    for _ in 0..ATTEMPTS {
        if !is_listed()? {
            return Ok(Unmounted::Already);
        }
        match attempt(mountpoint, false) {
            Attempt::Done => return Ok(Unmounted::Clean),
            Attempt::Busy => std::thread::sleep(PAUSE),
            Attempt::Failed(_) if !is_listed()? => return Ok(Unmounted::Already),
            Attempt::Failed(reason) => {
                return Err(MountError::NotUnmounted { path: mountpoint.to_owned(), reason });
            }
        }
    }
    detach(mountpoint)
        .map_err(|reason| MountError::NotUnmounted { path: mountpoint.to_owned(), reason })?;
    log::warn!(
        "{} is still in use: it is detached now, and ends with its last user",
        mountpoint.display()
    );
    Ok(Unmounted::Lazy)
}

/// Takes the mount out of the tree, used or not.
pub(super) fn detach(mountpoint: &Path) -> Result<(), String> {
    match attempt(mountpoint, true) {
        Attempt::Done => Ok(()),
        Attempt::Busy => Err("it is in use".to_owned()),
        Attempt::Failed(reason) => Err(reason),
    }
}

fn attempt(mountpoint: &Path, lazily: bool) -> Attempt {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazily);
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Attempt::Done,
        Err(Errno::BUSY) => Attempt::Busy,
        Err(Errno::PERM) => attempt_with_helper(mountpoint, lazily),
        Err(errno) => Attempt::Failed(errno.to_string()),
    }
}

fn attempt_with_helper(mountpoint: &Path, lazily: bool) -> Attempt {
    let Some(helper) = fusermount() else {
        return Attempt::Failed(MountError::NoHelper.to_string());
    };
    let mut command = Command::new(helper);
    command.arg("-u").args(lazily.then_some("-z")).arg("--").arg(mountpoint);
    // The helper's "busy" is recognised by its text.
    command.env("LC_ALL", "C").stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => Attempt::Done,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if text.contains("busy") { Attempt::Busy } else { Attempt::Failed(text) }
        }
        Err(error) => Attempt::Failed(error.to_string()),
    }
}
