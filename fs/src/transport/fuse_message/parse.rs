//! Operations out of the bytes after a request's header. Structures and numbers: `linux/fuse.h`.

#![forbid(unsafe_code)]

use super::MalformedMessage;
use super::fields::Fields;
use super::initialise::InitialRequest;
use super::opcode;
use super::request::{Create, Ioctl, Operation, RenameRequest};
use crate::filesystem::{Rename, Seek, SetAttributes, SetTime, SetXattr};
use crate::node::{Ino, Timestamp};
use crate::transport::kernel_values::{allocation, decode_kernel_device};

pub(super) fn parse_body<'a>(
    operation: u32,
    fields: &mut Fields<'a>,
) -> Result<Operation<'a>, MalformedMessage> {
    Ok(match operation {
        opcode::LOOKUP => Operation::Lookup { name: fields.name()? },
        opcode::FORGET => Operation::Forget { count: fields.u64("count")? },
        opcode::BATCH_FORGET => batch_forget(fields)?,
        opcode::GETATTR => {
            fields.skip(16, "flags")?;
            Operation::GetAttributes
        }
        opcode::STATX => {
            fields.skip(24, "flags")?;
            Operation::ExtendedAttributes
        }
        opcode::SETATTR => Operation::SetAttributes(set_attributes(fields)?),
        opcode::READLINK => Operation::ReadLink,
        opcode::UNLINK => Operation::Unlink { name: fields.name()? },
        opcode::RMDIR => Operation::RemoveDirectory { name: fields.name()? },
        opcode::STATFS => Operation::Statistics,
        opcode::INIT => Operation::Initialise(InitialRequest::parse(fields)?),
        opcode::DESTROY => Operation::Destroy,
        opcode::INTERRUPT => {
            fields.skip(8, "number")?;
            Operation::Interrupt
        }
        opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::RENAME
        | opcode::RENAME2
        | opcode::LINK
        | opcode::CREATE
        | opcode::TMPFILE => parse_naming(operation, fields)?,
        opcode::SETXATTR | opcode::GETXATTR | opcode::LISTXATTR | opcode::REMOVEXATTR => {
            parse_xattr(operation, fields)?
        }
        _ => parse_open(operation, fields)?,
    })
}

/// What makes and moves names.
fn parse_naming<'a>(
    operation: u32,
    fields: &mut Fields<'a>,
) -> Result<Operation<'a>, MalformedMessage> {
    Ok(match operation {
        opcode::SYMLINK => {
            let name = fields.name()?;
            Operation::MakeSymlink { name, target: fields.name()? }
        }
        opcode::MKNOD => {
            let mode = fields.u32("mode")?;
            let device = decode_kernel_device(fields.u32("device")?);
            let umask = fields.u32("umask")?;
            fields.skip(4, "padding")?;
            Operation::MakeNode { name: fields.name()?, mode, device, umask }
        }
        opcode::MKDIR => {
            let mode = fields.u32("mode")?;
            let umask = fields.u32("umask")?;
            Operation::MakeDirectory { name: fields.name()?, mode, umask }
        }
        opcode::RENAME | opcode::RENAME2 => {
            let new_parent = fields.u64("directory")?;
            let how = if operation == opcode::RENAME2 {
                let flags = fields.u32("flags")?;
                fields.skip(4, "padding")?;
                rename(flags)
            } else {
                Rename::Replace
            };
            let name = fields.name()?;
            Operation::Rename(RenameRequest { name, new_parent, new_name: fields.name()?, how })
        }
        opcode::LINK => {
            let node = fields.u64("node")?;
            Operation::Link { node, name: fields.name()? }
        }
        _ => {
            let flags = fields.u32("flags")?;
            let mode = fields.u32("mode")?;
            let umask = fields.u32("umask")?;
            fields.skip(4, "flags")?;
            let create = Create { name: fields.name()?, flags, mode, umask };
            if operation == opcode::CREATE {
                Operation::Create(create)
            } else {
                Operation::MakeTemporary(create)
            }
        }
    })
}

fn parse_xattr<'a>(
    operation: u32,
    fields: &mut Fields<'a>,
) -> Result<Operation<'a>, MalformedMessage> {
    Ok(match operation {
        opcode::SETXATTR => {
            let size = fields.u32("size")?;
            let how = match fields.u32("flags")? {
                0 => SetXattr::Any,
                1 => SetXattr::Create,
                2 => SetXattr::Replace,
                _ => return Err(MalformedMessage::Value("flags")),
            };
            // The long form of FUSE_SETXATTR_EXT, which is always asked for.
            // Its one flag, that setgid goes, comes with ACLs alone, which are refused.
            fields.skip(8, "flags")?;
            let name = fields.name()?;
            let value = fields.bytes(length(size)?, "value")?;
            Operation::SetXattr { name, value, how }
        }
        opcode::GETXATTR => {
            let size = fields.u32("size")?;
            fields.skip(4, "padding")?;
            Operation::GetXattr { name: fields.name()?, size }
        }
        opcode::LISTXATTR => {
            let size = fields.u32("size")?;
            fields.skip(4, "padding")?;
            Operation::ListXattrs { size }
        }
        _ => Operation::RemoveXattr { name: fields.name()? },
    })
}

/// What works on open files and directories.
fn parse_open<'a>(
    operation: u32,
    fields: &mut Fields<'a>,
) -> Result<Operation<'a>, MalformedMessage> {
    Ok(match operation {
        opcode::OPEN | opcode::OPENDIR => {
            let flags = fields.u32("flags")?;
            fields.skip(4, "flags")?;
            if operation == opcode::OPEN {
                Operation::Open { flags }
            } else {
                Operation::OpenDirectory
            }
        }
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => {
            let (offset, size) = read(fields)?;
            match operation {
                opcode::READ => Operation::Read { offset, size },
                opcode::READDIR => Operation::ReadDirectory { cookie: offset, size },
                _ => Operation::ReadDirectoryPlus { cookie: offset, size },
            }
        }
        opcode::WRITE => write(fields)?,
        opcode::RELEASE | opcode::RELEASEDIR => {
            fields.skip(24, "handle")?;
            if operation == opcode::RELEASE {
                Operation::Release
            } else {
                Operation::ReleaseDirectory
            }
        }
        opcode::FSYNC | opcode::FSYNCDIR => {
            fields.skip(16, "handle")?;
            if operation == opcode::FSYNC { Operation::Sync } else { Operation::SyncDirectory }
        }
        opcode::SYNCFS => {
            fields.skip(8, "padding")?;
            Operation::SyncAll
        }
        opcode::FLUSH => {
            fields.skip(24, "handle")?;
            Operation::Flush
        }
        opcode::GETLK | opcode::SETLK | opcode::SETLKW => {
            fields.skip(48, "lock")?;
            Operation::Lock
        }
        opcode::ACCESS => {
            fields.skip(8, "mask")?;
            Operation::Access
        }
        opcode::BMAP => {
            fields.skip(16, "block")?;
            Operation::MapBlock
        }
        opcode::IOCTL => {
            fields.skip(12, "handle")?;
            let command = fields.u32("command")?;
            fields.skip(8, "argument")?;
            let input = fields.u32("size")?;
            fields.skip(4, "size")?;
            fields.skip(length(input)?, "argument")?;
            Operation::Ioctl(Ioctl { command })
        }
        opcode::POLL => {
            fields.skip(24, "handle")?;
            Operation::Poll
        }
        _ => parse_ranges(operation, fields)?,
    })
}

/// What works on ranges of files without carrying their bytes.
fn parse_ranges<'a>(
    operation: u32,
    fields: &mut Fields<'a>,
) -> Result<Operation<'a>, MalformedMessage> {
    Ok(match operation {
        opcode::FALLOCATE => {
            fields.skip(8, "handle")?;
            let offset = fields.u64("offset")?;
            let length = fields.u64("length")?;
            let mode = i32::from_le_bytes(fields.array("mode")?);
            fields.skip(4, "padding")?;
            Operation::Allocate { offset, length, how: allocation(mode) }
        }
        opcode::LSEEK => {
            fields.skip(8, "handle")?;
            let offset = fields.u64("offset")?;
            // SEEK_DATA and SEEK_HOLE of lseek(2).
            let seek = match fields.u32("whence")? {
                3 => Some(Seek::Data),
                4 => Some(Seek::Hole),
                _ => None,
            };
            fields.skip(4, "padding")?;
            Operation::Seek { offset, seek }
        }
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            fields.skip(8, "handle")?;
            let offset = fields.u64("offset")?;
            let to = fields.u64("node")?;
            fields.skip(8, "handle")?;
            let to_offset = fields.u64("offset")?;
            let length = fields.u64("length")?;
            fields.skip(8, "flags")?;
            let wide = operation == opcode::COPY_FILE_RANGE_64;
            Operation::CopyRange { offset, to, to_offset, length, wide }
        }
        unknown => return Err(MalformedMessage::UnknownOperation(unknown)),
    })
}

fn length(size: u32) -> Result<usize, MalformedMessage> {
    usize::try_from(size).map_err(|_| MalformedMessage::Value("size"))
}

/// Bytes of `fuse_forget_one`.
const FORGET_ONE: usize = 16;

fn batch_forget<'a>(fields: &mut Fields<'a>) -> Result<Operation<'a>, MalformedMessage> {
    let count = length(fields.u32("count")?)?;
    fields.skip(4, "padding")?;
    let bytes = count.checked_mul(FORGET_ONE).ok_or(MalformedMessage::Short("list"))?;
    Ok(Operation::BatchForget { list: fields.bytes(bytes, "list")? })
}

/// The inodes of a BATCH_FORGET and how many holds each gives back.
pub(crate) fn forgotten(list: &[u8]) -> impl Iterator<Item = (Ino, u64)> {
    list.chunks_exact(FORGET_ONE).filter_map(|one| {
        let mut fields = Fields::new(one);
        Some((fields.u64("node").ok()?, fields.u64("count").ok()?))
    })
}

fn read(fields: &mut Fields<'_>) -> Result<(u64, u32), MalformedMessage> {
    fields.skip(8, "handle")?;
    let offset = fields.u64("offset")?;
    let size = fields.u32("size")?;
    fields.skip(20, "flags")?;
    Ok((offset, size))
}

fn write<'a>(fields: &mut Fields<'a>) -> Result<Operation<'a>, MalformedMessage> {
    // FUSE_WRITE_KILL_SUIDGID.
    const KILL: u32 = 1 << 2;
    fields.skip(8, "handle")?;
    let offset = fields.u64("offset")?;
    let size = fields.u32("size")?;
    let kill_set_ids = fields.u32("flags")? & KILL != 0;
    fields.skip(16, "flags")?;
    let data = fields.bytes(length(size)?, "data")?;
    Ok(Operation::Write { offset, data, kill_set_ids })
}

/// The flags of renameat2(2); `RENAME_WHITEOUT` and combinations are not offered.
fn rename(flags: u32) -> Rename {
    match flags {
        0 => Rename::Replace,
        1 => Rename::NoReplace,
        2 => Rename::Exchange,
        _ => Rename::Unsupported,
    }
}

/// `fuse_setattr_in`: a field counts if its bit of `valid` (`FATTR_*`) is set. A ctime is not taken
/// over: the tree's own clock sets it.
fn set_attributes(fields: &mut Fields<'_>) -> Result<SetAttributes, MalformedMessage> {
    let valid = fields.u32("valid")?;
    let has = |bit: u32| valid & (1 << bit) != 0;
    fields.skip(12, "handle")?;
    let size = fields.u64("size")?;
    fields.skip(8, "owner")?;
    let seconds = [fields.u64("time")?, fields.u64("time")?];
    fields.skip(8, "time")?;
    let nanoseconds = [fields.u32("time")?, fields.u32("time")?];
    fields.skip(4, "time")?;
    let mode = fields.u32("mode")?;
    fields.skip(4, "padding")?;
    let uid = fields.u32("owner")?;
    let gid = fields.u32("owner")?;
    fields.skip(4, "padding")?;
    let [atime, mtime] = seconds;
    let [atime_nanoseconds, mtime_nanoseconds] = nanoseconds;
    let time = |set: u32, now: u32, seconds: u64, nanoseconds: u32| {
        if !has(set) {
            Ok(None)
        } else if has(now) {
            Ok(Some(SetTime::Now))
        } else if nanoseconds < 1_000_000_000 {
            // Seconds before 1970 travel as negative numbers.
            Ok(Some(SetTime::At(Timestamp::new(seconds.cast_signed(), nanoseconds))))
        } else {
            Err(MalformedMessage::Value("time"))
        }
    };
    Ok(SetAttributes {
        mode: has(0).then_some((mode & 0o7777) as u16),
        uid: has(1).then_some(uid),
        gid: has(2).then_some(gid),
        size: has(3).then_some(size),
        atime: time(4, 7, atime, atime_nanoseconds)?,
        mtime: time(5, 8, mtime, mtime_nanoseconds)?,
        kill_privileges: has(11),
    })
}
