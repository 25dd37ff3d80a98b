//! The host view: a guest's tree as programs of the host that work for the guest see it.
//!
//! Who asks is always the one user of the host that the mount belongs to, and means nothing to the
//! guest: what is made here belongs to the guest's caller.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::known::Place;
use super::{SharedTree, place};
use crate::error::{Errno, Result};
use crate::filesystem::{
    Allocate, Creation, DataSink, DirectoryEntry, Filesystem, Rename, Seek, SetAttributes,
    SetXattr, Statistics,
};
use crate::node::{Attributes, Ino, Kind};

/// Shows the tree as it is, and gives what is made in it to one owner. Neither devices nor owners can
/// be made, nor can extended attributes be changed: no compiler does.
pub struct HostView {
    shared: Arc<SharedTree>,
    uid: u32,
    gid: u32,
}

impl HostView {
    /// `uid` and `gid` are numbers of the guest.
    pub fn new(shared: Arc<SharedTree>, uid: u32, gid: u32) -> Self {
        HostView { shared, uid, gid }
    }

    /// Who makes something never keeps what only root may give: set-user-id bits come by chmod(2).
    fn creation(&self, creation: Creation) -> Creation {
        Creation { mode: creation.mode, uid: self.uid, gid: self.gid }
    }

    /// A node that the host's kernel now knows at a place.
    fn shown(&self, parent: Ino, name: &[u8], found: Attributes) -> Attributes {
        self.shared.known.write().found(place(parent, name), found.ino);
        found
    }

    /// The same for one that the host has made.
    fn made(&self, parent: Ino, name: &[u8], made: Attributes) -> Attributes {
        let place = place(parent, name);
        let mut known = self.shared.known.write();
        known.changed_name(&place);
        known.found(place, made.ino);
        made
    }

    /// Takes a name away by `remove`.
    fn without(&self, place: &Place, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.shared.known_at(place);
        remove()?;
        let mut known = self.shared.known.write();
        // One that has other names has fewer links now.
        if let Some(ino) = before {
            known.changed_node(ino);
        }
        known.changed_name(place);
        known.removed(place, before);
        Ok(())
    }

    fn changed(&self, ino: Ino) {
        self.shared.known.write().changed_node(ino);
    }
}

impl Filesystem for HostView {
    fn version(&self) -> u64 {
        self.shared.version()
    }

    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let found = self.shared.tree.lookup(parent, name)?;
        Ok(self.shown(parent, name, found))
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.shared.known.write().forget(ino, count);
        self.shared.tree.forget(ino, count);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.shared.tree.attributes(ino)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.shared.tree.read_link(ino)
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.shared.tree.read_directory(directory, cookie, visit)
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.shared.tree.read(ino, offset, buffer)
    }

    fn read_to(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        sink: &mut dyn DataSink,
    ) -> Result<usize> {
        self.shared.tree.read_to(ino, offset, length, sink)
    }

    fn get_xattr(&self, _ino: Ino, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::NODATA.into())
    }

    fn list_xattrs(&self, _ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        self.shared.tree.seek(ino, offset, seek)
    }

    fn statistics(&self) -> Result<Statistics> {
        self.shared.tree.statistics()
    }

    fn is_immutable(&self) -> bool {
        self.shared.tree.is_immutable()
    }

    fn opens_everything(&self) -> bool {
        self.shared.tree.opens_everything()
    }

    fn set_attributes(&self, ino: Ino, changes: &SetAttributes) -> Result<Attributes> {
        if changes.uid.is_some() || changes.gid.is_some() {
            return Err(Errno::PERM.into());
        }
        let changed = self.shared.tree.set_attributes(ino, changes)?;
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
        match kind {
            Kind::File => {
                let creation = self.creation(creation);
                let made = self.shared.tree.make_node(parent, name, kind, creation)?;
                Ok(self.made(parent, name, made))
            }
            _ => Err(Errno::PERM.into()),
        }
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        let made = self.shared.tree.make_directory(parent, name, self.creation(creation))?;
        Ok(self.made(parent, name, made))
    }

    fn make_symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        creation: Creation,
    ) -> Result<Attributes> {
        let made = self.shared.tree.make_symlink(parent, name, target, self.creation(creation))?;
        Ok(self.made(parent, name, made))
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let linked = self.shared.tree.link(ino, parent, name)?;
        self.changed(ino);
        Ok(self.made(parent, name, linked))
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.without(&place(parent, name), || self.shared.tree.unlink(parent, name))
    }

    fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.without(&place(parent, name), || self.shared.tree.remove_directory(parent, name))
    }

    fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        let (from, to) = (place(parent, name), place(new_parent, new_name));
        let before = [self.shared.known_at(&from), self.shared.known_at(&to)];
        self.shared.tree.rename(parent, name, new_parent, new_name, how)?;
        let mut known = self.shared.known.write();
        // What was replaced may have other names, and has fewer links now.
        before.iter().flatten().for_each(|ino| known.changed_node(*ino));
        known.changed_name(&from);
        known.changed_name(&to);
        match how {
            Rename::Exchange => known.exchanged([from, to], before),
            _ => known.renamed(&from, to, before),
        }
        Ok(())
    }

    fn open_for_writing(&self, ino: Ino) -> Result<()> {
        self.shared.tree.open_for_writing(ino)
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.shared.tree.write(ino, offset, data)?;
        self.changed(ino);
        Ok(())
    }

    fn allocate(&self, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<()> {
        self.shared.tree.allocate(ino, offset, length, how)?;
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
        let copied = self.shared.tree.copy_range(from, from_offset, to, to_offset, length)?;
        self.changed(to);
        Ok(copied)
    }

    fn set_xattr(&self, _ino: Ino, _name: &[u8], _value: &[u8], _how: SetXattr) -> Result<()> {
        Err(Errno::PERM.into())
    }

    fn remove_xattr(&self, _ino: Ino, _name: &[u8]) -> Result<()> {
        Err(Errno::PERM.into())
    }

    fn sync(&self, ino: Ino) -> Result<()> {
        self.shared.tree.sync(ino)
    }
}
