//! Making, linking and removing names.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Sysroot;
use super::access::{absent, check_name, check_new_name, now, writable};
use super::changes::{Body, Changes, DirectoryChanges, Node};
use super::file::FileData;
use super::zones::Place;
use crate::error::{Errno, Result};
use crate::filesystem::Creation;
use crate::node::{Attributes, Ino, Kind, Metadata};

/// Names that one node may have, as on ext4.
pub(super) const LINK_MAX: u32 = 65_000;
/// Bytes of the longest symlink target (`PATH_MAX` without the final NUL).
pub(super) const TARGET_MAX: usize = 4095;
/// No symlink has another mode.
pub(super) const SYMLINK_MODE: u16 = 0o777;
const SETGID: u16 = 0o2000;

/// What a new node is.
pub(super) struct NewNode {
    pub kind: Kind,
    pub body: Body,
    pub size: u64,
    pub creation: Creation,
}

impl Sysroot {
    /// Makes a node under a name that is free, in a writable zone, and holds it.
    pub(super) fn create(&self, parent: Ino, name: &[u8], new: NewNode) -> Result<Attributes> {
        check_new_name(name)?;
        let mut changes = self.changes.write();
        let place = self.place_for_new(&changes, parent, name)?;
        writable(place)?;
        let ino = self.add_node(&mut changes, parent, name, place, new)?;
        self.hold(ino);
        self.attributes_of(&changes, ino)
    }

    /// Where a new name would stand; `EEXIST` comes before `EROFS`, for `mkdir -p`.
    fn place_for_new(&self, changes: &Changes, parent: Ino, name: &[u8]) -> Result<Place> {
        let directory = self.live_directory(changes, parent)?;
        if self.child(changes, parent, name)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        Ok(self.zones.child(directory.place, name))
    }

    pub(super) fn add_directory(
        &self,
        changes: &mut Changes,
        parent: Ino,
        name: &[u8],
        creation: Creation,
    ) -> Result<Ino> {
        check_new_name(name)?;
        let place = self.place_for_new(changes, parent, name)?;
        self.add_node(changes, parent, name, place, new_directory(parent, name, creation))
    }

    fn add_node(
        &self,
        changes: &mut Changes,
        parent: Ino,
        name: &[u8],
        place: Place,
        new: NewNode,
    ) -> Result<Ino> {
        let kind = new.kind;
        let directory = self.copy_up(changes, parent)?.meta;
        let node = new_node(new, &directory, place);
        let now = node.ctime;
        let ino = changes.new_ino()?;
        changes.nodes.insert(ino, node);
        changes.add_name(parent, name, (ino, kind), now)?;
        Ok(ino)
    }

    pub(super) fn create_temporary(&self, parent: Ino, creation: Creation) -> Result<Attributes> {
        let body = self.new_body(Kind::File)?;
        let mut changes = self.changes.write();
        let place = self.zones.child(self.live_directory(&changes, parent)?.place, b"");
        writable(place)?;
        let directory = self.attributes_of(&changes, parent)?.meta;
        let mut node =
            new_node(NewNode { kind: Kind::File, body, size: 0, creation }, &directory, place);
        node.names = 0;
        node.temporary = true;
        let ino = changes.new_ino()?;
        changes.nodes.insert(ino, node);
        self.hold(ino);
        self.attributes_of(&changes, ino)
    }

    /// The body of a new node that is neither a directory nor a symlink.
    pub(super) fn new_body(&self, kind: Kind) -> Result<Body> {
        match kind {
            Kind::File => {
                let spool = self.spool.as_ref().ok_or(Errno::ROFS)?;
                Ok(Body::Data(Arc::new(FileData::empty(Arc::clone(spool)))))
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => {
                Ok(Body::Empty)
            }
            Kind::Directory | Kind::Symlink => Err(Errno::INVAL.into()),
        }
    }

    pub(super) fn add_link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        check_new_name(name)?;
        let mut changes = self.changes.write();
        let kind = self.kind_of(&changes, ino)?;
        if kind.is_directory() {
            return Err(Errno::PERM.into());
        }
        let place = self.place_for_new(&changes, parent, name)?;
        writable(place)?;
        self.check_writable(&changes, ino)?;
        self.copy_up(&mut changes, parent)?;
        let node = self.copy_up(&mut changes, ino)?;
        if node.names == 0 && !node.temporary {
            return Err(Errno::NOENT.into());
        }
        if node.names >= LINK_MAX {
            return Err(Errno::MLINK.into());
        }
        let now = now();
        node.names += 1;
        node.temporary = false;
        node.ctime = now;
        changes.add_name(parent, name, (ino, kind), now)?;
        self.hold(ino);
        self.attributes_of(&changes, ino)
    }

    pub(super) fn remove_file(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove(parent, name, |_, _, kind| {
            if kind.is_directory() { Err(Errno::ISDIR.into()) } else { Ok(()) }
        })
    }

    pub(super) fn remove_empty_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove(parent, name, |changes, ino, kind| {
            if !kind.is_directory() {
                return Err(Errno::NOTDIR.into());
            }
            if !self.is_empty_directory(changes, ino)? {
                return Err(Errno::NOTEMPTY.into());
            }
            Ok(())
        })
    }

    fn remove(
        &self,
        parent: Ino,
        name: &[u8],
        check: impl FnOnce(&Changes, Ino, Kind) -> Result<()>,
    ) -> Result<()> {
        check_name(name)?;
        let mut changes = self.changes.write();
        let directory = self.live_directory(&changes, parent)?;
        let ino = self.child(&changes, parent, name)?.ok_or_else(|| absent(name))?;
        let kind = self.kind_of(&changes, ino)?;
        writable(self.zones.child(directory.place, name))?;
        check(&changes, ino, kind)?;
        self.copy_up(&mut changes, parent)?;
        self.copy_up(&mut changes, ino)?;
        let now = now();
        changes.remove_name(parent, name, kind, now)?;
        let gone = self.drop_name(&mut changes, ino, now);
        drop(changes);
        drop(gone);
        Ok(())
    }
}

pub(super) fn new_directory(parent: Ino, name: &[u8], creation: Creation) -> NewNode {
    let body = Body::Directory(Box::new(DirectoryChanges::new(parent, Some(name.into()))));
    NewNode { kind: Kind::Directory, body, size: 0, creation }
}

/// The node as its parent directory lets it be: a setgid directory hands down its group, and to
/// directories the bit.
fn new_node(new: NewNode, directory: &Metadata, place: Place) -> Node {
    let now = now();
    let inherits = directory.mode & SETGID != 0;
    let mut mode = match new.kind {
        Kind::Symlink => SYMLINK_MODE,
        _ => new.creation.mode & 0o7777,
    };
    if inherits && new.kind.is_directory() {
        mode |= SETGID;
    }
    Node {
        meta: Metadata {
            kind: new.kind,
            mode,
            uid: new.creation.uid,
            gid: if inherits { directory.gid } else { new.creation.gid },
            mtime: now,
            size: new.size,
        },
        atime: now,
        ctime: now,
        names: 1,
        place,
        temporary: false,
        xattrs: None,
        body: new.body,
    }
}
