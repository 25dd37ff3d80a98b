//! The mapped view: what QEMU's 9p server wants to find under `security_model=mapped-xattr`.
//!
//! QEMU runs as an ordinary user and keeps what the guest's root believes in extended attributes
//! (`hw/9pfs/9p-local.c`): owner, group, mode and device number of a file live in
//! `user.virtfs.{uid,gid,mode,rdev}`, ACLs in `user.virtfs.system.posix_acl_*`. This view answers
//! those from the node and translates what is written to them back into the node.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{Errno, Result};
use crate::filesystem::{
    Allocate, Creation, DirectoryEntry, Filesystem, Rename, Seek, SetAttributes, SetXattr,
    Statistics, decode_device, encode_device,
};
use crate::node::{Attributes, Device, Ino, Kind};

/// Everything that QEMU keeps for itself begins with this.
const RESERVED: &[u8] = b"user.virtfs.";
const UID: &[u8] = b"user.virtfs.uid";
const GID: &[u8] = b"user.virtfs.gid";
const MODE: &[u8] = b"user.virtfs.mode";
const RDEV: &[u8] = b"user.virtfs.rdev";
/// The names under which ACLs are really stored, behind [`RESERVED`] in this view.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const USER: &[u8] = b"user.";

const FILE_MODE: u16 = 0o600;
const DIRECTORY_MODE: u16 = 0o700;
const PERMISSION_BITS: u32 = 0o7777;
const TYPE_BITS: u32 = 0o170000;
/// Longest name in bytes that a 9p client reads from a listing: it gives up at a longer one, and
/// loses all that follow.
const LONGEST_LISTED_NAME: usize = 255;
/// Only one is ever between two writes of a well-behaved QEMU; more must not eat memory.
const MOST_EARLY_DEVICES: usize = 1024;

/// What an attribute name of this view stands for.
enum Name<'a> {
    Uid,
    Gid,
    Mode,
    Rdev,
    /// Kept by the node under this name: a user attribute, or an ACL without the prefix.
    Stored(&'a [u8]),
    /// Not for QEMU: `security.*`, `trusted.*`, other reserved names.
    Hidden,
}

impl<'a> Name<'a> {
    fn parse(name: &'a [u8]) -> Self {
        match name {
            UID => Name::Uid,
            GID => Name::Gid,
            MODE => Name::Mode,
            RDEV => Name::Rdev,
            _ => match name.strip_prefix(RESERVED) {
                Some(acl) if ACLS.contains(&acl) => Name::Stored(acl),
                Some(_) => Name::Hidden,
                None if name.starts_with(USER) => Name::Stored(name),
                None => Name::Hidden,
            },
        }
    }
}

/// Shows `inner` with every non-directory as a regular file of one host user.
pub struct MappedView {
    inner: Arc<dyn Filesystem>,
    uid: u32,
    gid: u32,
    /// Device numbers that came before the mode that says what they are for.
    early_devices: Mutex<HashMap<Ino, Device>>,
    warned_of_hidden_names: AtomicBool,
}

impl MappedView {
    /// `uid` and `gid` are those of the user that QEMU runs as.
    pub fn new(inner: Arc<dyn Filesystem>, uid: u32, gid: u32) -> Self {
        MappedView {
            inner,
            uid,
            gid,
            early_devices: Mutex::new(HashMap::new()),
            warned_of_hidden_names: AtomicBool::new(false),
        }
    }

    fn warn_of_hidden_name(&self, directory: Ino) {
        if !self.warned_of_hidden_names.swap(true, Ordering::Relaxed) {
            log::warn!(
                "names longer than {LONGEST_LISTED_NAME} bytes are not listed over 9p (the first \
                 is in the directory with inode {directory}); they stay in the tree"
            );
        }
    }

    fn disguise(&self, mut attributes: Attributes) -> Attributes {
        let meta = &mut attributes.meta;
        (meta.uid, meta.gid) = (self.uid, self.gid);
        if meta.kind.is_directory() {
            meta.mode = DIRECTORY_MODE;
        } else {
            meta.mode = FILE_MODE;
            meta.kind = Kind::File;
        }
        attributes
    }

    fn kind(&self, ino: Ino) -> Result<Kind> {
        Ok(self.inner.attributes(ino)?.meta.kind)
    }

    /// Who a new node belongs to until QEMU says so: never the host's user, whose number must not
    /// reach an artifact.
    fn creation(creation: Creation) -> Creation {
        Creation { mode: creation.mode, uid: 0, gid: 0 }
    }

    fn set_mode(&self, ino: Ino, st_mode: u32) -> Result<()> {
        let old = self.kind(ino)?;
        let new = if st_mode & TYPE_BITS == 0 {
            old
        } else {
            let early = self.early_devices.lock().get(&ino).copied();
            let device = early.unwrap_or_else(|| old.device());
            Kind::from_mode(st_mode, device).ok_or(Errno::INVAL)?
        };
        if new != old && (new.is_directory() || old.is_directory()) {
            return Err(Errno::INVAL.into());
        }
        if new != old {
            self.inner.change_kind(ino, new)?;
        }
        // A symlink's permissions are nobody's to choose.
        if new != Kind::Symlink {
            let mode = Some((st_mode & PERMISSION_BITS) as u16);
            self.inner.set_attributes(ino, &SetAttributes { mode, ..SetAttributes::default() })?;
        }
        self.early_devices.lock().remove(&ino);
        Ok(())
    }

    fn set_device(&self, ino: Ino, device: Device) -> Result<()> {
        match self.kind(ino)? {
            Kind::CharDevice(_) => self.inner.change_kind(ino, Kind::CharDevice(device)),
            Kind::BlockDevice(_) => self.inner.change_kind(ino, Kind::BlockDevice(device)),
            // QEMU writes a zero with every mknod, so that only others are worth remembering.
            Kind::File if device != Device::default() => {
                let mut early = self.early_devices.lock();
                if early.len() >= MOST_EARLY_DEVICES {
                    early.clear();
                }
                early.insert(ino, device);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn little_endian_u32(value: &[u8]) -> Result<u32> {
    Ok(u32::from_le_bytes(value.try_into().map_err(|_| Errno::INVAL)?))
}

fn little_endian_u64(value: &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(value.try_into().map_err(|_| Errno::INVAL)?))
}

impl Filesystem for MappedView {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.inner.lookup(parent, name).map(|found| self.disguise(found))
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.inner.forget(ino, count);
    }

    fn remember(&self, ino: Ino) {
        self.inner.remember(ino);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.inner.attributes(ino).map(|found| self.disguise(found))
    }

    fn read_link(&self, _ino: Ino) -> Result<Vec<u8>> {
        Err(Errno::INVAL.into())
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.read_directory(directory, cookie, &mut |mut entry| {
            if entry.name.len() > LONGEST_LISTED_NAME {
                self.warn_of_hidden_name(directory);
                return ControlFlow::Continue(());
            }
            if !entry.kind.is_directory() {
                entry.kind = Kind::File;
            }
            visit(entry)
        })
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self.kind(ino)? {
            Kind::File | Kind::Directory => self.inner.read(ino, offset, buffer),
            Kind::Symlink => {
                let target = self.inner.read_link(ino)?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = target.get(start..).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) else {
                    return Ok(0);
                };
                to.copy_from_slice(from);
                Ok(length)
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => Ok(0),
        }
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let meta = match Name::parse(name) {
            Name::Stored(name) => return self.inner.get_xattr(ino, name),
            Name::Hidden => return Err(Errno::NODATA.into()),
            Name::Uid | Name::Gid | Name::Mode | Name::Rdev => self.inner.attributes(ino)?.meta,
        };
        match (Name::parse(name), meta.kind) {
            (Name::Uid, _) => Ok(meta.uid.to_le_bytes().to_vec()),
            (Name::Gid, _) => Ok(meta.gid.to_le_bytes().to_vec()),
            (Name::Mode, _) => Ok(meta.st_mode().to_le_bytes().to_vec()),
            (_, Kind::CharDevice(device) | Kind::BlockDevice(device)) => {
                Ok(encode_device(device).to_le_bytes().to_vec())
            }
            _ => Err(Errno::NODATA.into()),
        }
    }

    /// User attributes and ACLs: of the reserved names, QEMU wants to see only the latter.
    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        let shown = |name: Vec<u8>| {
            if ACLS.contains(&name.as_slice()) {
                Some([RESERVED, name.as_slice()].concat())
            } else if name.starts_with(USER) && !name.starts_with(RESERVED) {
                Some(name)
            } else {
                None
            }
        };
        Ok(self.inner.list_xattrs(ino)?.into_iter().filter_map(shown).collect())
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        let meta = self.inner.attributes(ino)?.meta;
        match (meta.kind, seek) {
            (Kind::File | Kind::Directory, _) => self.inner.seek(ino, offset, seek),
            _ if offset >= meta.size => Err(Errno::NXIO.into()),
            (_, Seek::Data) => Ok(offset),
            (_, Seek::Hole) => Ok(meta.size),
        }
    }

    fn statistics(&self) -> Result<Statistics> {
        self.inner.statistics()
    }

    fn is_immutable(&self) -> bool {
        self.inner.is_immutable()
    }

    /// Size and times reach the node; the disguise has no mode to change and no owner but one.
    fn set_attributes(&self, ino: Ino, changes: &SetAttributes) -> Result<Attributes> {
        let foreign = |asked: Option<u32>, own| asked.is_some_and(|id| id != own);
        if foreign(changes.uid, self.uid) || foreign(changes.gid, self.gid) {
            return Err(Errno::PERM.into());
        }
        let changes = SetAttributes {
            size: changes.size,
            atime: changes.atime,
            mtime: changes.mtime,
            ..SetAttributes::default()
        };
        let result = if changes == SetAttributes::default() {
            self.inner.attributes(ino)
        } else {
            self.inner.set_attributes(ino, &changes)
        };
        result.map(|found| self.disguise(found))
    }

    /// Only files: other kinds begin as files here and become what their mode says.
    fn make_node(
        &self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        creation: Creation,
    ) -> Result<Attributes> {
        if kind != Kind::File {
            return Err(Errno::PERM.into());
        }
        let made = self.inner.make_node(parent, name, kind, Self::creation(creation))?;
        Ok(self.disguise(made))
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        let made = self.inner.make_directory(parent, name, Self::creation(creation))?;
        Ok(self.disguise(made))
    }

    fn make_symlink(&self, _: Ino, _: &[u8], _: &[u8], _: Creation) -> Result<Attributes> {
        Err(Errno::PERM.into())
    }

    fn make_temporary(&self, parent: Ino, creation: Creation) -> Result<Attributes> {
        let made = self.inner.make_temporary(parent, Self::creation(creation))?;
        Ok(self.disguise(made))
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.inner.link(ino, parent, name).map(|linked| self.disguise(linked))
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.inner.unlink(parent, name)
    }

    fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.inner.remove_directory(parent, name)
    }

    fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        self.inner.rename(parent, name, new_parent, new_name, how)
    }

    fn open_for_writing(&self, ino: Ino) -> Result<()> {
        self.inner.open_for_writing(ino)
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.write(ino, offset, data)
    }

    fn allocate(&self, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<()> {
        self.inner.allocate(ino, offset, length, how)
    }

    fn copy_range(
        &self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        self.inner.copy_range(from, from_offset, to, to_offset, length)
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        let parsed = Name::parse(name);
        match parsed {
            Name::Stored(name) => return self.inner.set_xattr(ino, name, value, how),
            Name::Hidden => return Err(Errno::OPNOTSUPP.into()),
            Name::Uid | Name::Gid | Name::Mode | Name::Rdev => {}
        }
        // The attribute exists whenever the node does.
        if how == SetXattr::Create {
            return Err(Errno::EXIST.into());
        }
        match parsed {
            Name::Mode => self.set_mode(ino, little_endian_u32(value)?),
            Name::Rdev => self.set_device(ino, decode_device(little_endian_u64(value)?)),
            _ => {
                let id = Some(little_endian_u32(value)?);
                let changes = match parsed {
                    Name::Uid => SetAttributes { uid: id, ..SetAttributes::default() },
                    _ => SetAttributes { gid: id, ..SetAttributes::default() },
                };
                self.inner.set_attributes(ino, &changes).map(|_| ())
            }
        }
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        match Name::parse(name) {
            Name::Stored(name) => self.inner.remove_xattr(ino, name),
            Name::Hidden => Err(Errno::NODATA.into()),
            Name::Uid | Name::Gid | Name::Mode | Name::Rdev => Err(Errno::PERM.into()),
        }
    }

    fn sync(&self, ino: Ino) -> Result<()> {
        self.inner.sync(ino)
    }
}

#[cfg(test)]
#[path = "mapped_tests.rs"]
mod tests;
