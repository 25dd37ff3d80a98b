//! Between the core's values and FUSE's.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};

use crate::error::Result;
use crate::filesystem::{Allocate, Filesystem, Rename, SetTime};
use crate::node::{Attributes, Device, Ino, Kind, Timestamp};

/// `st_blksize`: the page, as every other file system says.
const BLOCK_SIZE: u32 = 4096;
/// The kernel's own device numbers have 12 and 20 bits (`include/linux/kdev_t.h`).
const LARGEST_MAJOR: u32 = (1 << 12) - 1;
const LARGEST_MINOR: u32 = (1 << 20) - 1;

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

/// The kernel's 32-bit form. What does not fit cannot exist in any Linux file system; it is shown
/// as the largest number rather than as somebody else's.
pub(super) fn encode_kernel_device(device: Device) -> u32 {
    let (major, minor) = (device.major.min(LARGEST_MAJOR), device.minor.min(LARGEST_MINOR));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub(super) fn decode_kernel_device(encoded: u32) -> Device {
    Device {
        major: (encoded >> 8) & LARGEST_MAJOR,
        minor: (encoded & 0xff) | ((encoded >> 12) & !0xff),
    }
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

/// The core's word for fallocate(2)'s `mode`; `None` for what no tree offers.
pub(super) fn allocation(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Reserve),
        KEEP => Some(Allocate::ReserveKeepSize),
        PUNCH => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::ZeroRange),
        ZERO_KEEP => Some(Allocate::ZeroRangeKeepSize),
        _ => None,
    }
}

/// A batch of a directory's entries. Batches grow: most directories fit the first, and a large
/// one is read in few calls.
pub(super) struct Names {
    cookie: u64,
    batch: usize,
    bytes: Vec<u8>,
    /// End of the name in `bytes`, inode, kind, cookie of the next.
    entries: Vec<(usize, Ino, Kind, u64)>,
}

impl Names {
    const FIRST_BATCH: usize = 32;
    const LARGEST_BATCH: usize = 512;

    pub(super) fn new(cookie: u64) -> Self {
        Names { cookie, batch: Self::FIRST_BATCH, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Reads the next batch; false at the end of the directory.
    pub(super) fn fill(&mut self, tree: &dyn Filesystem, directory: Ino) -> Result<bool> {
        self.bytes.clear();
        self.entries.clear();
        let (batch, bytes, entries) = (self.batch, &mut self.bytes, &mut self.entries);
        tree.read_directory(directory, self.cookie, &mut |entry| {
            bytes.extend_from_slice(entry.name);
            entries.push((bytes.len(), entry.ino, entry.kind, entry.cookie));
            if entries.len() < batch { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.batch = batch.saturating_mul(2).min(Self::LARGEST_BATCH);
        match self.entries.last() {
            Some((.., next)) => self.cookie = *next,
            None => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn visit(
        &self,
        visit: &mut impl FnMut(&[u8], Ino, Kind, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut start = 0;
        for (end, ino, kind, next) in &self.entries {
            let name = self.bytes.get(start..*end).unwrap_or_default();
            visit(name, *ino, *kind, *next)?;
            start = *end;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
