//! The transport-free core: what a sysroot and its views can be asked.
//!
//! The operations are those of a POSIX inode interface. They take and give values, never a
//! transport's types, and fail with an [`Error`](crate::Error) that carries an errno.
//! Permission is not checked here: the asking kernel does that (a guest's kernel on virtiofs, or
//! nobody where a single user mounts for inspection).

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::ControlFlow;

use crate::error::{Errno, Error, Result};
use crate::node::{Attributes, Device, Ino, Kind, Timestamp};

/// A time to set: a given one, or the server's now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    Now,
    At(Timestamp),
}

/// Changes of a node's attributes; `None` leaves a field as it is. An empty change is legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttributes {
    /// The 12 permission bits; `EOPNOTSUPP` for a symlink, whose mode is always 0777.
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// Drop setuid, and setgid where the group may execute (`HANDLE_KILLPRIV_V2`).
    pub kill_privileges: bool,
}

/// Who creates a node, and how: owner, group and the 12 permission bits, umask already applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creation {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    pub name: &'a [u8],
    pub ino: Ino,
    pub kind: Kind,
    /// Where to go on after this entry: pass it as `cookie` to the next call.
    pub cookie: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Replace what is there, as rename(2) does.
    Replace,
    /// `RENAME_NOREPLACE`: `EEXIST` where the new name exists.
    NoReplace,
    /// `RENAME_EXCHANGE`: both names must exist and swap.
    Exchange,
    /// `RENAME_WHITEOUT` is not offered: `EINVAL`.
    Unsupported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Make sure of the range, growing the file (`mode` 0).
    Reserve,
    /// The same without growing (`FALLOC_FL_KEEP_SIZE`).
    ReserveKeepSize,
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE`.
    ZeroRange,
    /// `FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE`.
    ZeroRangeKeepSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetXattr {
    Any,
    /// `XATTR_CREATE`: `EEXIST` where it exists.
    Create,
    /// `XATTR_REPLACE`: `ENODATA` where it does not.
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

/// What statfs(2) is told; sizes in units of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    pub block_size: u32,
    pub blocks: u64,
    pub free_blocks: u64,
    pub files: u64,
    pub free_files: u64,
    pub name_max: u32,
}

/// Takes bytes in order: where a transport moves content to (see [`Filesystem::read_to`]).
pub trait DataSink {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()>;

    fn zeros(&mut self, count: u64) -> Result<()>;

    /// Takes `length` bytes of a file of the host from `offset` on; fewer only where that file ends.
    /// Returns how many.
    fn file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<u64>;
}

/// A file tree that a transport can serve. All methods may be called from many threads at once.
///
/// Read-only trees implement the first half; the mutating operations default to `EROFS`.
pub trait Filesystem: Send + Sync {
    /// Finds a name and remembers that the asker now holds the inode once more (see `forget`).
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes>;

    /// Gives back `count` holds of an inode that `lookup` or a creating operation granted. A node
    /// without names lives until its last hold is gone.
    fn forget(&self, _ino: Ino, _count: u64) {}

    /// Counts the changes that others have made and that the asker may have to be told of. An answer
    /// between two different counts may be older than the second and must not be remembered.
    fn version(&self) -> u64 {
        0
    }

    /// Whether somebody else has changed this node while the asker knew it: its attributes are then to
    /// be asked for each time. A kernel that remembers them tells one program the old size together with
    /// the new time, while it takes in the answer to another one.
    fn is_restless(&self, _ino: Ino) -> bool {
        false
    }

    /// One more hold, for an entry that `read_directory` reported with its attributes
    /// (READDIRPLUS).
    fn remember(&self, _ino: Ino) {}

    fn attributes(&self, ino: Ino) -> Result<Attributes>;

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>>;

    /// Visits names from `cookie` (0: the beginning) on, `.` and `..` first. Stateless: names that
    /// neither came nor went while a directory is read are reported exactly once.
    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// The same into a sink, so that bytes that lie in a file of the host can go where they are
    /// wanted without passing through a buffer. After a failure the sink may have taken some.
    fn read_to(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        sink: &mut dyn DataSink,
    ) -> Result<usize> {
        let mut buffer = vec![0; length];
        let count = self.read(ino, offset, &mut buffer)?;
        sink.bytes(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    /// `ERANGE` is the transport's business: this gives the whole value. `ENODATA` if absent.
    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>>;

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>>;

    /// `SEEK_DATA`/`SEEK_HOLE`; `ENXIO` at or beyond the end.
    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64>;

    fn statistics(&self) -> Result<Statistics>;

    /// Whether nothing in the tree can change while it is served: a transport may then cache
    /// everything for ever.
    fn is_immutable(&self) -> bool;

    /// Whether nothing that exists can refuse to be opened: a transport need then not ask.
    fn opens_everything(&self) -> bool {
        self.is_immutable()
    }

    fn set_attributes(&self, _ino: Ino, _changes: &SetAttributes) -> Result<Attributes> {
        read_only()
    }

    /// Makes a file, device, fifo or socket (not a directory, not a symlink: `EINVAL`).
    fn make_node(
        &self,
        _parent: Ino,
        _name: &[u8],
        _kind: Kind,
        _creation: Creation,
    ) -> Result<Attributes> {
        read_only()
    }

    fn make_directory(
        &self,
        _parent: Ino,
        _name: &[u8],
        _creation: Creation,
    ) -> Result<Attributes> {
        read_only()
    }

    /// The mode of a symlink is always 0777; `creation.mode` is ignored.
    fn make_symlink(
        &self,
        _parent: Ino,
        _name: &[u8],
        _target: &[u8],
        _creation: Creation,
    ) -> Result<Attributes> {
        read_only()
    }

    /// A file without a name (`O_TMPFILE`); `link` may give it one.
    fn make_temporary(&self, _parent: Ino, _creation: Creation) -> Result<Attributes> {
        read_only()
    }

    fn link(&self, _ino: Ino, _parent: Ino, _name: &[u8]) -> Result<Attributes> {
        read_only()
    }

    /// Removes a name of anything but a directory (`EISDIR`).
    fn unlink(&self, _parent: Ino, _name: &[u8]) -> Result<()> {
        read_only()
    }

    fn remove_directory(&self, _parent: Ino, _name: &[u8]) -> Result<()> {
        read_only()
    }

    fn rename(
        &self,
        _parent: Ino,
        _name: &[u8],
        _new_parent: Ino,
        _new_name: &[u8],
        _how: Rename,
    ) -> Result<()> {
        read_only()
    }

    /// Checks that a file may be written before the first byte is (`EROFS`, `EISDIR`, …).
    fn open_for_writing(&self, _ino: Ino) -> Result<()> {
        read_only()
    }

    /// Writes all of `data` or fails.
    fn write(&self, _ino: Ino, _offset: u64, _data: &[u8]) -> Result<()> {
        read_only()
    }

    fn allocate(&self, _ino: Ino, _offset: u64, _length: u64, _how: Allocate) -> Result<()> {
        read_only()
    }

    /// Copies between two files (or inside one); returns the bytes copied, fewer at the source's end.
    fn copy_range(
        &self,
        _from: Ino,
        _from_offset: u64,
        _to: Ino,
        _to_offset: u64,
        _length: u64,
    ) -> Result<u64> {
        read_only()
    }

    fn set_xattr(&self, _ino: Ino, _name: &[u8], _value: &[u8], _how: SetXattr) -> Result<()> {
        read_only()
    }

    fn remove_xattr(&self, _ino: Ino, _name: &[u8]) -> Result<()> {
        read_only()
    }

    /// Turns a node that is not a directory into another kind, keeping its metadata, xattrs and
    /// names; a file that becomes a symlink keeps its content as the target, and its mode is then
    /// 0777. Only a view that
    /// shows nodes in disguise needs it: POSIX has no such operation.
    fn change_kind(&self, _ino: Ino, _kind: Kind) -> Result<()> {
        read_only()
    }

    fn sync(&self, _ino: Ino) -> Result<()> {
        Ok(())
    }
}

fn read_only<T>() -> Result<T> {
    Err(Error::Os(Errno::ROFS))
}

/// glibc's `makedev` encoding, the one that the kernel's interfaces and QEMU use.
pub const fn encode_device(device: Device) -> u64 {
    let (major, minor) = (device.major as u64, device.minor as u64);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

/// The reverse of [`encode_device`].
pub const fn decode_device(encoded: u64) -> Device {
    Device {
        major: (((encoded >> 8) & 0xfff) | ((encoded >> 32) & !0xfff)) as u32,
        minor: ((encoded & 0xff) | ((encoded >> 12) & !0xff)) as u32,
    }
}
