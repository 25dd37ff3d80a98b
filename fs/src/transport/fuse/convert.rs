//! Between the core's values and FUSE's.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};

use crate::filesystem::{Rename, SetTime};
use crate::node::{Attributes, Kind, Timestamp};
use crate::transport::kernel_values::encode_kernel_device;

/// `st_blksize`: the page, as every other file system says.
const BLOCK_SIZE: u32 = 4096;

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn attr(attributes: &Attributes) -> FileAttr {
    let meta = &attributes.meta;
    FileAttr {
        ino: INodeNo(attributes.ino),
        size: meta.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.atime),
        mtime: system_time(meta.mtime),
        ctime: system_time(attributes.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(meta.kind),
        perm: meta.mode,
        nlink: attributes.nlink,
        uid: meta.uid,
        gid: meta.gid,
        rdev: encode_kernel_device(meta.kind.device()),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// What a cacheable "no such name" looks like: an entry of inode 0.
pub(super) fn missing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// A time that the kernel asked to set. fuser 0.18 makes a time before 1970 by subtracting both
/// fields from the epoch, although nanoseconds count forward: undoing the same gives them back.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    let time = match time {
        TimeOrNow::Now => return SetTime::Now,
        TimeOrNow::SpecificTime(time) => time,
    };
    SetTime::At(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Timestamp::new(i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos())
        }
        Err(error) => {
            let before = error.duration();
            Timestamp::new(
                i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds),
                before.subsec_nanos(),
            )
        }
    })
}

pub(super) fn rename(flags: RenameFlags) -> Rename {
    if flags.is_empty() {
        Rename::Replace
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Rename::NoReplace
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Rename::Exchange
    } else {
        Rename::Unsupported
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
