//! `Filesystem` for a sysroot.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use super::Sysroot;
use super::access::absent;
use super::changes::Body;
use super::create::{NewNode, new_directory};
use super::metadata::{check_file, check_target};
use crate::error::{Errno, Result};
use crate::filesystem::{
    Allocate, Creation, DataSink, DirectoryEntry, Filesystem, Rename, Seek, SetAttributes,
    SetXattr, Statistics,
};
use crate::node::{Attributes, Ino, Kind};

impl Filesystem for Sysroot {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let changes = self.changes.read();
        let ino = match name {
            b"." | b".." => {
                self.live_directory(&changes, parent)?;
                if name == b"." { parent } else { self.parent_of(&changes, parent)? }
            }
            _ => self.child(&changes, parent, name)?.ok_or_else(|| absent(name))?,
        };
        let attributes = self.attributes_of(&changes, ino)?;
        self.hold(ino);
        Ok(attributes)
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.release(ino, count);
    }

    fn remember(&self, ino: Ino) {
        self.hold(ino);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.attributes_of(&self.changes.read(), ino)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.target(ino)
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.visit_directory(directory, cookie, visit)
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.read_data(ino, offset, buffer)
    }

    fn read_to(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        sink: &mut dyn DataSink,
    ) -> Result<usize> {
        self.hand_on_data(ino, offset, length, sink)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let value =
            self.with_xattrs(&self.changes.read(), ino, |xattrs| xattrs.get(name).cloned())?;
        value.ok_or(Errno::NODATA.into())
    }

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.with_xattrs(&self.changes.read(), ino, |xattrs| xattrs.keys().cloned().collect())
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        self.seek_data(ino, offset, seek)
    }

    fn statistics(&self) -> Result<Statistics> {
        self.tell_statistics()
    }

    fn is_immutable(&self) -> bool {
        self.spool.is_none()
    }

    fn opens_everything(&self) -> bool {
        // Where some zones are read-only, an open for writing there must be refused.
        self.is_immutable() || self.zones.uniform().is_some_and(|place| place.is_writable())
    }

    fn set_attributes(&self, ino: Ino, changes: &SetAttributes) -> Result<Attributes> {
        self.change_attributes(ino, changes)
    }

    fn make_node(
        &self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        creation: Creation,
    ) -> Result<Attributes> {
        let body = self.new_body(kind)?;
        self.create(parent, name, NewNode { kind, body, size: 0, creation })
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        self.create(parent, name, new_directory(parent, name, creation))
    }

    fn make_symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        creation: Creation,
    ) -> Result<Attributes> {
        check_target(target)?;
        let body = Body::Target(target.into());
        let size = target.len() as u64;
        self.create(parent, name, NewNode { kind: Kind::Symlink, body, size, creation })
    }

    fn make_temporary(&self, parent: Ino, creation: Creation) -> Result<Attributes> {
        self.create_temporary(parent, creation)
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.add_link(ino, parent, name)
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove_file(parent, name)
    }

    fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove_empty_directory(parent, name)
    }

    fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        self.rename_entry((parent, name), (new_parent, new_name), how)
    }

    fn open_for_writing(&self, ino: Ino) -> Result<()> {
        let changes = self.changes.read();
        check_file(self.kind_of(&changes, ino)?)?;
        self.check_writable(&changes, ino)
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.write_data(ino, offset, data)
    }

    fn allocate(&self, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<()> {
        self.allocate_data(ino, offset, length, how)
    }

    fn copy_range(
        &self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        self.copy_data((from, from_offset), (to, to_offset), length)
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.put_xattr(ino, name, value, how)
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.drop_xattr(ino, name)
    }

    fn change_kind(&self, ino: Ino, kind: Kind) -> Result<()> {
        self.turn_into(ino, kind)
    }
}
