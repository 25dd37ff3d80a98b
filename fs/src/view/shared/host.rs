//! The host view: a guest's tree as programs of the host that work for the guest see it.
//!
//! Who asks is always the one user of the host that the mount belongs to, and means nothing to the
//! guest: what is made here belongs to the guest's caller.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::known::{Known, Place};
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

    /// Makes a name by `make`, which the host's kernel then knows.
    fn made(
        &self,
        parent: Ino,
        name: &[u8],
        make: impl FnOnce() -> Result<Attributes>,
    ) -> Result<Attributes> {
        let place = place(parent, name);
        let note = |known: &mut Known, made: &Attributes| {
            known.changed_name(&place);
            known.found(place, made.ino);
        };
        Ok(self.shared.change_names(make, note)?.0)
    }

    /// Takes a name away by `remove`.
    fn without(&self, place: &Place, remove: impl FnOnce() -> Result<()>) -> Result<()> {
        let note = |known: &mut Known, _: &()| {
            // One that has other names has fewer links now.
            if let Some(ino) = known.at(place) {
                known.changed_node(ino);
            }
            known.changed_name(place);
            known.removed(place);
        };
        self.shared.change_names(remove, note).map(|_| ())
    }

    fn changed(&self, ino: Ino) {
        if self.shared.known.write().changed_node(ino) {
            return;
        }
        // What has no name at all can be reached by nobody else.
        if self.shared.tree.attributes(ino).is_ok_and(|found| found.nlink > 0) {
            self.shared.known.write().changed_somewhere();
        }
    }
}

impl Filesystem for HostView {
    fn version(&self) -> u64 {
        self.shared.version()
    }

    fn is_restless(&self, ino: Ino) -> bool {
        self.shared.known.read().is_restless(ino)
    }

    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.shared.find(place(parent, name), || self.shared.tree.lookup(parent, name))
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
                self.made(parent, name, || self.shared.tree.make_node(parent, name, kind, creation))
            }
            _ => Err(Errno::PERM.into()),
        }
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        let creation = self.creation(creation);
        self.made(parent, name, || self.shared.tree.make_directory(parent, name, creation))
    }

    fn make_symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        creation: Creation,
    ) -> Result<Attributes> {
        let creation = self.creation(creation);
        self.made(parent, name, || self.shared.tree.make_symlink(parent, name, target, creation))
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let linked = self.made(parent, name, || self.shared.tree.link(ino, parent, name))?;
        self.changed(ino);
        Ok(linked)
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
        let places = [place(parent, name), place(new_parent, new_name)];
        let rename = || self.shared.tree.rename(parent, name, new_parent, new_name, how);
        let note = |known: &mut Known, _: &()| {
            for place in &places {
                // What was replaced may have other names, and has fewer links now.
                if let Some(ino) = known.at(place) {
                    known.changed_node(ino);
                }
                known.changed_name(place);
            }
            known.renamed(how, places.clone());
        };
        self.shared.change_names(rename, note).map(|_| ())
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
