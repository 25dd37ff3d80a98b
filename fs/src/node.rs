//! Nodes: files, directories, symlinks, devices, fifos and sockets with complete metadata.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// An inode number of a sysroot: unique, stable for the sysroot's life, never reused.
pub type Ino = u64;

/// The root directory of every sysroot (FUSE demands this number).
pub const ROOT_INO: Ino = 1;

/// Extended attributes by full name (`security.capability`, `user.mime_type`), bytewise ordered.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A device number, split, so that no encoding of `dev_t` can lose bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl Device {
    /// Linux has 12 and 20 bits for device numbers (its `include/linux/kdev_t.h`).
    pub const LARGEST_MAJOR: u32 = (1 << 12) - 1;
    pub const LARGEST_MINOR: u32 = (1 << 20) - 1;
}

/// Seconds and nanoseconds since 1970-01-01 UTC; `seconds` may be negative, `nanoseconds` is
/// always 0..=999_999_999 and counts forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };

    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        Timestamp { seconds, nanoseconds }
    }
}

/// What a node is, with what only that kind has. `Ord` exists for sorted test output only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
}

impl Kind {
    /// The `S_IFMT` bits of `st_mode`.
    pub const fn file_type_bits(self) -> u32 {
        match self {
            Kind::Fifo => 0o010000,
            Kind::CharDevice(_) => 0o020000,
            Kind::Directory => 0o040000,
            Kind::BlockDevice(_) => 0o060000,
            Kind::File => 0o100000,
            Kind::Symlink => 0o120000,
            Kind::Socket => 0o140000,
        }
    }

    /// The kind that `st_mode` and a device number describe; `None` for unknown type bits.
    pub const fn from_mode(mode: u32, device: Device) -> Option<Kind> {
        Some(match mode & 0o170000 {
            0o010000 => Kind::Fifo,
            0o020000 => Kind::CharDevice(device),
            0o040000 => Kind::Directory,
            0o060000 => Kind::BlockDevice(device),
            0o100000 => Kind::File,
            0o120000 => Kind::Symlink,
            0o140000 => Kind::Socket,
            _ => return None,
        })
    }

    pub const fn device(self) -> Device {
        match self {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => device,
            _ => Device { major: 0, minor: 0 },
        }
    }

    pub const fn is_directory(self) -> bool {
        matches!(self, Kind::Directory)
    }
}

/// Metadata of a node, apart from its content, its xattrs and its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Metadata {
    pub kind: Kind,
    /// The 12 permission bits: rwx for three, setuid, setgid, sticky.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    /// Bytes of a file's content or a symlink's target; 0 for everything else.
    pub size: u64,
}

impl Metadata {
    /// `st_mode`: type bits and permission bits.
    pub const fn st_mode(&self) -> u32 {
        self.kind.file_type_bits() | self.mode as u32
    }

    /// A directory as nobody described it: root's, 0755, at the epoch.
    pub const fn default_directory() -> Self {
        Metadata {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            size: 0,
        }
    }
}

/// A node's metadata as a sysroot shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub ino: Ino,
    pub meta: Metadata,
    /// Names that the node has; 2 + subdirectories for a directory.
    pub nlink: u32,
    pub atime: Timestamp,
    pub ctime: Timestamp,
    /// 512-byte blocks that hold data (fewer than `size` says for a sparse file).
    pub blocks: u64,
}
