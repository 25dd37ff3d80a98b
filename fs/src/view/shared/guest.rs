//! The guest's view: its tree, where each change makes the host's kernel forget.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::known::{Known, Place};
use super::{SharedTree, place};
use crate::error::Result;
use crate::filesystem::{
    Allocate, Creation, DataSink, DirectoryEntry, Filesystem, Rename, Seek, SetAttributes,
    SetXattr, Statistics,
};
use crate::node::{Attributes, Ino, Kind};

/// The tree itself. A change is answered when the host's kernel has forgotten what it concerns.
pub struct GuestView(Arc<SharedTree>);

impl GuestView {
    pub fn new(shared: Arc<SharedTree>) -> Self {
        GuestView(shared)
    }

    /// Makes a name by `make`.
    fn made(
        &self,
        parent: Ino,
        name: &[u8],
        make: impl FnOnce() -> Result<Attributes>,
    ) -> Result<Attributes> {
        let made = make()?;
        self.0.announce_names(&[place(parent, name)], &[]);
        Ok(made)
    }

    fn changed(&self, ino: Ino) {
        self.0.announce_node(ino);
    }

    /// Takes a name away by `remove`.
    fn without(&self, place: Place, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let note = |known: &mut Known, _: &()| {
            let before = known.at(&place);
            known.removed(&place);
            before
        };
        let ((), before) = self.0.change_names(remove, note)?;
        self.0.announce_names(&[place], &[before]);
        Ok(())
    }
}

impl Filesystem for GuestView {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.0.tree.lookup(parent, name)
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.0.tree.forget(ino, count);
    }

    fn remember(&self, ino: Ino) {
        self.0.tree.remember(ino);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.0.tree.attributes(ino)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.0.tree.read_link(ino)
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.0.tree.read_directory(directory, cookie, visit)
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.tree.read(ino, offset, buffer)
    }

    fn read_to(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        sink: &mut dyn DataSink,
    ) -> Result<usize> {
        self.0.tree.read_to(ino, offset, length, sink)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.0.tree.get_xattr(ino, name)
    }

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.0.tree.list_xattrs(ino)
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        self.0.tree.seek(ino, offset, seek)
    }

    fn statistics(&self) -> Result<Statistics> {
        self.0.tree.statistics()
    }

    fn is_immutable(&self) -> bool {
        self.0.tree.is_immutable()
    }

    fn opens_everything(&self) -> bool {
        self.0.tree.opens_everything()
    }

    fn set_attributes(&self, ino: Ino, changes: &SetAttributes) -> Result<Attributes> {
        let changed = self.0.tree.set_attributes(ino, changes)?;
        self.changed(ino);
        Ok(changed)
    }

    fn make_node(
        &self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        creation: Creation,
    ) -> Result<Attributes> {
        self.made(parent, name, || self.0.tree.make_node(parent, name, kind, creation))
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        self.made(parent, name, || self.0.tree.make_directory(parent, name, creation))
    }

    fn make_symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        creation: Creation,
    ) -> Result<Attributes> {
        self.made(parent, name, || self.0.tree.make_symlink(parent, name, target, creation))
    }

    fn make_temporary(&self, parent: Ino, creation: Creation) -> Result<Attributes> {
        self.0.tree.make_temporary(parent, creation)
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let linked = self.made(parent, name, || self.0.tree.link(ino, parent, name))?;
        self.changed(ino);
        Ok(linked)
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.without(place(parent, name), || self.0.tree.unlink(parent, name))
    }

    fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.without(place(parent, name), || self.0.tree.remove_directory(parent, name))
    }

    fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        let places = [place(parent, name), place(new_parent, new_name)];
        let rename = || self.0.tree.rename(parent, name, new_parent, new_name, how);
        let note = |known: &mut Known, _: &()| {
            let before = places.each_ref().map(|place| known.at(place));
            known.renamed(how, places.clone());
            before
        };
        let ((), before) = self.0.change_names(rename, note)?;
        self.0.announce_names(&places, &before);
        Ok(())
    }

    fn open_for_writing(&self, ino: Ino) -> Result<()> {
        self.0.tree.open_for_writing(ino)
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.0.tree.write(ino, offset, data)?;
        self.changed(ino);
        Ok(())
    }

    fn allocate(&self, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<()> {
        self.0.tree.allocate(ino, offset, length, how)?;
        self.changed(ino);
        Ok(())
    }

    fn copy_range(
        &self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        let copied = self.0.tree.copy_range(from, from_offset, to, to_offset, length)?;
        self.changed(to);
        Ok(copied)
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.0.tree.set_xattr(ino, name, value, how)?;
        self.changed(ino);
        Ok(())
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.0.tree.remove_xattr(ino, name)?;
        self.changed(ino);
        Ok(())
    }

    fn change_kind(&self, ino: Ino, kind: Kind) -> Result<()> {
        self.0.tree.change_kind(ino, kind)?;
        self.changed(ino);
        Ok(())
    }

    fn sync(&self, ino: Ino) -> Result<()> {
        self.0.tree.sync(ino)
    }
}
