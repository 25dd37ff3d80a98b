//! Replies as bytes.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::fields::Put;
use super::initialise::InitialReply;
use crate::error::Errno;
use crate::filesystem::Statistics;
use crate::node::{Attributes, Ino, Timestamp};
use crate::transport::kernel_values::{encode_kernel_device, kernel_device};

/// Bytes of `fuse_out_header`, with which every reply begins.
pub(crate) const REPLY_HEADER: usize = 16;
/// `st_blksize`: the page, as every other file system says.
const BLOCK_SIZE: u32 = 4096;
/// What STATX is answered with: `STATX_BASIC_STATS` of `linux/stat.h`.
const BASIC_STATISTICS: u32 = 0x7ff;

/// How long the kernel may believe a name and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub entry: Duration,
    pub attributes: Duration,
}

/// What a name means: `fuse_entry_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What the kernel asks for it by; 0 where there is none.
    pub node: Ino,
    /// `None`: there is no such name, and that may be remembered.
    pub attributes: Option<Attributes>,
    pub lifetime: Lifetime,
}

impl Entry {
    pub(super) fn put(&self, message: &mut Vec<u8>) {
        message.put_u64(self.node);
        // The generation: no number is ever used again.
        message.put_u64(0);
        message.put_u64(self.lifetime.entry.as_secs());
        message.put_u64(self.lifetime.attributes.as_secs());
        message.put_u32(self.lifetime.entry.subsec_nanos());
        message.put_u32(self.lifetime.attributes.subsec_nanos());
        match &self.attributes {
            Some(found) => put_attributes(message, found),
            None => message.put_zeros(ATTRIBUTES),
        }
    }
}

/// `FOPEN_*` flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OpenFlags {
    /// Cached content of the file is still good.
    pub keep_cache: bool,
    /// A listing may be kept.
    pub cache_directory: bool,
    /// Nothing waits for close(2).
    pub no_flush: bool,
}

impl OpenFlags {
    fn bits(self) -> u32 {
        (u32::from(self.keep_cache) << 1)
            | (u32::from(self.cache_directory) << 3)
            | (u32::from(self.no_flush) << 5)
    }
}

/// A reply other than content: READ, READDIR and values of xattrs are bytes after the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Failed(Errno),
    Entry(Entry),
    Attributes(Attributes, Duration),
    /// The same as STATX wants it.
    ExtendedAttributes(Attributes, Duration),
    Opened(OpenFlags),
    Created(Entry, OpenFlags),
    Written(u32),
    Statistics(Statistics),
    /// Bytes that an xattr or the list of xattrs has.
    XattrSize(u32),
    Position(u64),
    /// Bytes copied, for `COPY_FILE_RANGE_64`.
    Copied(u64),
    Initial(InitialReply),
}

impl Reply {
    /// Writes header and body at the end of `message`.
    pub(crate) fn put(&self, unique: u64, message: &mut Vec<u8>) {
        let start = message.len();
        message.put_zeros(REPLY_HEADER);
        let mut errno = None;
        match self {
            Reply::Done => {}
            Reply::Failed(error) => errno = Some(*error),
            Reply::Entry(entry) => entry.put(message),
            Reply::Attributes(found, lifetime) => {
                message.put_u64(lifetime.as_secs());
                message.put_u32(lifetime.subsec_nanos());
                message.put_u32(0);
                put_attributes(message, found);
            }
            Reply::ExtendedAttributes(found, lifetime) => {
                message.put_u64(lifetime.as_secs());
                message.put_u32(lifetime.subsec_nanos());
                message.put_zeros(20);
                put_extended(message, found);
            }
            Reply::Opened(flags) => put_opened(message, *flags),
            Reply::Created(entry, flags) => {
                entry.put(message);
                put_opened(message, *flags);
            }
            Reply::Written(count) | Reply::XattrSize(count) => {
                message.put_u32(*count);
                message.put_u32(0);
            }
            Reply::Statistics(all) => put_statistics(message, all),
            Reply::Position(number) | Reply::Copied(number) => message.put_u64(*number),
            Reply::Initial(initial) => initial.put(message),
        }
        let body = message.len().saturating_sub(start).saturating_sub(REPLY_HEADER);
        let header = reply_header(unique, body, errno);
        if let Some(place) = message.get_mut(start..).and_then(|all| all.get_mut(..REPLY_HEADER)) {
            place.copy_from_slice(&header);
        }
    }
}

/// The header of a reply with `body` bytes after it.
pub(crate) fn reply_header(unique: u64, body: usize, errno: Option<Errno>) -> [u8; REPLY_HEADER] {
    let length = u32::try_from(body.saturating_add(REPLY_HEADER)).unwrap_or(u32::MAX);
    let error = errno.map_or(0, |errno| errno.raw_os_error().saturating_neg());
    let mut header = [0; REPLY_HEADER];
    let fields = length.to_le_bytes().into_iter().chain(error.to_le_bytes());
    for (place, byte) in header.iter_mut().zip(fields.chain(unique.to_le_bytes())) {
        *place = byte;
    }
    header
}

/// Bytes of `fuse_attr`.
const ATTRIBUTES: usize = 88;

fn put_attributes(message: &mut Vec<u8>, found: &Attributes) {
    let meta = &found.meta;
    message.put_u64(found.ino);
    message.put_u64(meta.size);
    message.put_u64(found.blocks);
    // Seconds before 1970 travel as negative numbers.
    for time in [found.atime, meta.mtime, found.ctime] {
        message.put_i64(time.seconds);
    }
    for time in [found.atime, meta.mtime, found.ctime] {
        message.put_u32(time.nanoseconds);
    }
    message.put_u32(meta.st_mode());
    message.put_u32(found.nlink);
    message.put_u32(meta.uid);
    message.put_u32(meta.gid);
    message.put_u32(encode_kernel_device(meta.kind.device()));
    message.put_u32(BLOCK_SIZE);
    message.put_u32(0);
}

/// `fuse_statx`: what there is beside the basic statistics is 0, and the mask says so.
fn put_extended(message: &mut Vec<u8>, found: &Attributes) {
    let meta = &found.meta;
    message.put_u32(BASIC_STATISTICS);
    message.put_u32(BLOCK_SIZE);
    message.put_u64(0);
    message.put_u32(found.nlink);
    message.put_u32(meta.uid);
    message.put_u32(meta.gid);
    message.put_u16(meta.st_mode() as u16);
    message.put_u16(0);
    message.put_u64(found.ino);
    message.put_u64(meta.size);
    message.put_u64(found.blocks);
    message.put_u64(0);
    for time in [found.atime, Timestamp::EPOCH, found.ctime, meta.mtime] {
        message.put_i64(time.seconds);
        message.put_u32(time.nanoseconds);
        message.put_u32(0);
    }
    let device = kernel_device(meta.kind.device());
    message.put_u32(device.major);
    message.put_u32(device.minor);
    // The device that the file is on: the guest's kernel knows it.
    message.put_u64(0);
    message.put_zeros(14 * 8);
}

fn put_opened(message: &mut Vec<u8>, flags: OpenFlags) {
    // Files are addressed by inode alone: every handle is 0.
    message.put_u64(0);
    message.put_u32(flags.bits());
    message.put_u32(0);
}

fn put_statistics(message: &mut Vec<u8>, all: &Statistics) {
    message.put_u64(all.blocks);
    message.put_u64(all.free_blocks);
    message.put_u64(all.free_blocks);
    message.put_u64(all.files);
    message.put_u64(all.free_files);
    message.put_u32(all.block_size);
    message.put_u32(all.name_max);
    message.put_u32(all.block_size);
    message.put_zeros(28);
}
