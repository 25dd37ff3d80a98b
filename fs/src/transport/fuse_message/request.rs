//! What can be asked.

#![forbid(unsafe_code)]

use super::MalformedMessage;
use super::fields::Fields;
use super::initialise::InitialRequest;
use super::parse::parse_body;
use crate::filesystem::{Allocate, Rename, Seek, SetAttributes, SetXattr};
use crate::node::{Device, Ino};

/// Bytes of `fuse_in_header`, with which every request begins.
pub(crate) const REQUEST_HEADER: usize = 40;

/// What every request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub operation: u32,
    /// Which request a reply answers.
    pub unique: u64,
    pub node: Ino,
    pub uid: u32,
    pub gid: u32,
    /// Bytes at the end that extend the operation (7.38).
    extensions: usize,
}

impl Header {
    pub(crate) fn parse(message: &[u8]) -> Result<Header, MalformedMessage> {
        let mut fields = Fields::new(message);
        let said = fields.u32("header")?;
        let operation = fields.u32("header")?;
        let unique = fields.u64("header")?;
        let node = fields.u64("header")?;
        let uid = fields.u32("header")?;
        let gid = fields.u32("header")?;
        fields.skip(4, "header")?;
        // In units of 8 bytes.
        let extensions = usize::from(fields.u16("header")?).saturating_mul(8);
        fields.skip(2, "header")?;
        if usize::try_from(said) != Ok(message.len()) {
            return Err(MalformedMessage::Length { said, has: message.len() });
        }
        Ok(Header { operation, unique, node, uid, gid, extensions })
    }
}

/// `RENAME` and `RENAME2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RenameRequest<'a> {
    pub name: &'a [u8],
    pub new_parent: Ino,
    pub new_name: &'a [u8],
    pub how: Rename,
}

/// `CREATE` and `TMPFILE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Create<'a> {
    /// Of no meaning for a nameless file.
    pub name: &'a [u8],
    /// Those of open(2).
    pub flags: u32,
    /// With type bits.
    pub mode: u32,
    pub umask: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ioctl {
    pub command: u32,
}

/// What is asked. Handles are left out: files are addressed by inode alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Lookup {
        name: &'a [u8],
    },
    Forget {
        count: u64,
    },
    BatchForget {
        list: &'a [u8],
    },
    GetAttributes,
    ExtendedAttributes,
    SetAttributes(SetAttributes),
    ReadLink,
    MakeSymlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MakeNode {
        name: &'a [u8],
        mode: u32,
        device: Device,
        umask: u32,
    },
    MakeDirectory {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RemoveDirectory {
        name: &'a [u8],
    },
    Rename(RenameRequest<'a>),
    Link {
        node: Ino,
        name: &'a [u8],
    },
    Open {
        flags: u32,
    },
    OpenDirectory,
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        data: &'a [u8],
        kill_set_ids: bool,
    },
    Statistics,
    Release,
    ReleaseDirectory,
    Sync,
    SyncDirectory,
    SyncAll,
    SetXattr {
        name: &'a [u8],
        value: &'a [u8],
        how: SetXattr,
    },
    GetXattr {
        name: &'a [u8],
        size: u32,
    },
    ListXattrs {
        size: u32,
    },
    RemoveXattr {
        name: &'a [u8],
    },
    Flush,
    Initialise(InitialRequest),
    ReadDirectory {
        cookie: u64,
        size: u32,
    },
    ReadDirectoryPlus {
        cookie: u64,
        size: u32,
    },
    /// GETLK, SETLK, SETLKW.
    Lock,
    Access,
    Create(Create<'a>),
    MakeTemporary(Create<'a>),
    Interrupt,
    MapBlock,
    Destroy,
    Ioctl(Ioctl),
    Poll,
    /// `None`: a mode that no tree offers.
    Allocate {
        offset: u64,
        length: u64,
        how: Option<Allocate>,
    },
    /// `None`: neither `SEEK_DATA` nor `SEEK_HOLE`.
    Seek {
        offset: u64,
        seek: Option<Seek>,
    },
    CopyRange {
        offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
        wide: bool,
    },
}

impl<'a> Operation<'a> {
    /// How a log names it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Operation::Lookup { .. } => "lookup",
            Operation::GetAttributes | Operation::ExtendedAttributes => "getattr",
            Operation::SetAttributes(_) => "setattr",
            Operation::ReadLink => "readlink",
            Operation::MakeSymlink { .. } => "symlink",
            Operation::MakeNode { .. } => "mknod",
            Operation::MakeDirectory { .. } => "mkdir",
            Operation::Unlink { .. } => "unlink",
            Operation::RemoveDirectory { .. } => "rmdir",
            Operation::Rename(_) => "rename",
            Operation::Link { .. } => "link",
            Operation::Open { .. } => "open",
            Operation::Read { .. } => "read",
            Operation::Write { .. } => "write",
            Operation::Statistics => "statfs",
            Operation::Sync | Operation::SyncDirectory | Operation::SyncAll => "fsync",
            Operation::SetXattr { .. } => "setxattr",
            Operation::GetXattr { .. } => "getxattr",
            Operation::ListXattrs { .. } => "listxattr",
            Operation::RemoveXattr { .. } => "removexattr",
            Operation::ReadDirectory { .. } => "readdir",
            Operation::ReadDirectoryPlus { .. } => "readdirplus",
            Operation::Create(_) => "create",
            Operation::MakeTemporary(_) => "tmpfile",
            Operation::Allocate { .. } => "fallocate",
            Operation::Seek { .. } => "lseek",
            Operation::CopyRange { .. } => "copy_file_range",
            _ => "virtiofs",
        }
    }

    /// The operation of a whole message, whose header has been parsed.
    pub(crate) fn parse(
        header: &Header,
        message: &'a [u8],
    ) -> Result<Operation<'a>, MalformedMessage> {
        let end = message
            .len()
            .checked_sub(header.extensions)
            .filter(|end| *end >= REQUEST_HEADER)
            .ok_or(MalformedMessage::Short("extensions"))?;
        let mut fields = Fields::new(message.get(REQUEST_HEADER..end).unwrap_or_default());
        let operation = parse_body(header.operation, &mut fields)?;
        fields.end()?;
        Ok(operation)
    }
}
