//! What the operations share: attributes, copy-up, names, holds.

#![forbid(unsafe_code)]

use std::collections::hash_map::Entry;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Sysroot;
use super::changes::{Body, Changes, DirectoryChanges, Node, is_lower};
use super::zones::Place;
use crate::error::{Errno, Result};
use crate::node::{Attributes, Ino, Kind, Metadata, Timestamp};

/// Bytes of the longest name that can be made. Layers may bring longer ones.
pub(super) const NAME_MAX: usize = 255;

/// A directory that is there and can be changed.
pub(super) struct LiveDirectory {
    pub place: Place,
}

impl Sysroot {
    pub(super) fn attributes_of(&self, changes: &Changes, ino: Ino) -> Result<Attributes> {
        let Some(node) = changes.nodes.get(&ino) else {
            if !is_lower(ino) {
                return Err(Errno::STALE.into());
            }
            let meta = self.tree.metadata(ino)?;
            return Ok(Attributes {
                ino,
                nlink: self.tree.links(ino, &meta)?,
                atime: meta.mtime,
                ctime: meta.mtime,
                blocks: self.lower_blocks(ino, &meta)?,
                meta,
            });
        };
        let nlink = match &node.body {
            Body::Directory(_) if node.names == 0 => 0,
            Body::Directory(names) => {
                let lower = if is_lower(ino) { self.tree.subdirectories(ino)? } else { 0 };
                let count = names.subdirectories.saturating_add(i64::from(lower) + 2);
                u32::try_from(count).unwrap_or(u32::MAX)
            }
            _ => node.names,
        };
        let blocks = match &node.body {
            Body::Data(data) => data.data_bytes().div_ceil(512),
            Body::Lower => self.lower_blocks(ino, &node.meta)?,
            Body::Target(_) | Body::Empty | Body::Directory(_) => 0,
        };
        let (meta, atime, ctime) = (node.meta, node.atime, node.ctime);
        Ok(Attributes { ino, meta, nlink, atime, ctime, blocks })
    }

    fn lower_blocks(&self, ino: Ino, meta: &Metadata) -> Result<u64> {
        match self.tree.origin(ino) {
            Some(source) if meta.kind == Kind::File => {
                Ok(self.tree.layer(source)?.data_bytes(source.entry)?.div_ceil(512))
            }
            _ => Ok(0),
        }
    }

    /// The node's own record, made from the lower tree if it has none yet. Copies no data.
    pub(super) fn copy_up<'a>(&self, changes: &'a mut Changes, ino: Ino) -> Result<&'a mut Node> {
        match changes.nodes.entry(ino) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(self.copy_of_lower(ino)?)),
        }
    }

    fn copy_of_lower(&self, ino: Ino) -> Result<Node> {
        if !is_lower(ino) {
            return Err(Errno::STALE.into());
        }
        let meta = self.tree.metadata(ino)?;
        let (body, place, names) = if meta.kind.is_directory() {
            let directory = self.tree.directory(ino)?;
            let names = DirectoryChanges::new(directory.parent, None);
            (Body::Directory(Box::new(names)), directory.place, 1)
        } else {
            (Body::Lower, self.lower_place(ino, meta.kind)?, self.tree.links(ino, &meta)?)
        };
        Ok(Node {
            meta,
            atime: meta.mtime,
            ctime: meta.mtime,
            names,
            place,
            temporary: false,
            xattrs: None,
            body,
        })
    }

    fn lower_place(&self, ino: Ino, kind: Kind) -> Result<Place> {
        match self.zones.uniform() {
            Some(place) => Ok(place),
            None => self.tree.place(ino, kind),
        }
    }

    /// `EROFS` unless the node is in a writable zone.
    pub(super) fn check_writable(&self, changes: &Changes, ino: Ino) -> Result<()> {
        let place = match changes.nodes.get(&ino) {
            Some(node) => node.place,
            None if is_lower(ino) => self.lower_place(ino, self.tree.metadata(ino)?.kind)?,
            None => return Err(Errno::STALE.into()),
        };
        writable(place)
    }

    /// A directory in which names may be looked up and made; `ENOENT` once it was removed.
    pub(super) fn live_directory(&self, changes: &Changes, ino: Ino) -> Result<LiveDirectory> {
        match changes.nodes.get(&ino) {
            Some(node) if !node.meta.kind.is_directory() => Err(Errno::NOTDIR.into()),
            Some(node) if node.names == 0 => Err(Errno::NOENT.into()),
            Some(node) => Ok(LiveDirectory { place: node.place }),
            None if is_lower(ino) => Ok(LiveDirectory { place: self.tree.directory(ino)?.place }),
            None => Err(Errno::STALE.into()),
        }
    }

    pub(super) fn parent_of(&self, changes: &Changes, directory: Ino) -> Result<Ino> {
        match changes.nodes.get(&directory) {
            Some(Node { body: Body::Directory(names), .. }) => Ok(names.parent),
            Some(_) => Err(Errno::NOTDIR.into()),
            None => Ok(self.tree.directory(directory)?.parent),
        }
    }

    pub(super) fn is_empty_directory(&self, changes: &Changes, ino: Ino) -> Result<bool> {
        let lower = self.lower_child_count(ino)?;
        Ok(changes.directory(ino).map_or(lower, |names| names.count(lower)) == 0)
    }

    pub(super) fn lower_child_count(&self, ino: Ino) -> Result<u64> {
        if !is_lower(ino) {
            return Ok(0);
        }
        self.tree.child_count(ino, &self.tree.directory(ino)?)
    }

    /// Grants a hold. Call it while the changes are locked, so that the node cannot go in between.
    pub(super) fn hold(&self, ino: Ino) {
        if let Some(holds) = &self.holds {
            let mut count = holds.entry(ino).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Takes one name from a node that has a record. A node without names and holds is given
    /// back, for the caller to drop when the changes are no longer locked.
    #[must_use = "drop it outside of the lock"]
    pub(super) fn drop_name(
        &self,
        changes: &mut Changes,
        ino: Ino,
        now: Timestamp,
    ) -> Option<Node> {
        let node = changes.nodes.get_mut(&ino)?;
        node.names = node.names.saturating_sub(1);
        node.ctime = now;
        if node.names > 0 || self.is_held(ino) {
            return None;
        }
        changes.nodes.remove(&ino)
    }

    fn is_held(&self, ino: Ino) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds.contains_key(&ino))
    }

    pub(super) fn release(&self, ino: Ino, count: u64) {
        let Some(holds) = &self.holds else { return };
        let remaining = match holds.get_mut(&ino) {
            Some(mut held) => {
                *held = held.saturating_sub(count);
                *held
            }
            None => return,
        };
        if remaining > 0 {
            return;
        }
        holds.remove_if(&ino, |_, held| *held == 0);
        let nameless =
            |changes: &Changes| changes.nodes.get(&ino).is_some_and(|node| node.names == 0);
        if !nameless(&self.changes.read()) {
            return;
        }
        let mut changes = self.changes.write();
        let gone = if nameless(&changes) && !self.is_held(ino) {
            changes.nodes.remove(&ino)
        } else {
            None
        };
        drop(changes);
        drop(gone);
    }
}

impl Changes {
    /// Adds a name to a directory that has a record.
    pub(super) fn add_name(
        &mut self,
        parent: Ino,
        name: &[u8],
        child: (Ino, Kind),
        now: Timestamp,
    ) -> Result<()> {
        let node = self.node_mut(parent)?;
        node.touch(now);
        match &mut node.body {
            Body::Directory(names) => {
                names.add(name, child.0, child.1.is_directory());
                Ok(())
            }
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Takes a name from a directory that has a record.
    pub(super) fn remove_name(
        &mut self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        now: Timestamp,
    ) -> Result<()> {
        let node = self.node_mut(parent)?;
        node.touch(now);
        match &mut node.body {
            Body::Directory(names) => {
                names.remove(name, kind.is_directory());
                Ok(())
            }
            _ => Err(Errno::NOTDIR.into()),
        }
    }
}

pub(super) fn writable(place: Place) -> Result<()> {
    if place.is_writable() { Ok(()) } else { Err(Errno::ROFS.into()) }
}

/// A name that a directory could have.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() {
        return Err(Errno::NOENT.into());
    }
    if name == b"." || name == b".." || name.iter().any(|byte| *byte == b'/' || *byte == 0) {
        return Err(Errno::INVAL.into());
    }
    Ok(())
}

/// A name that a directory may be given.
pub(super) fn check_new_name(name: &[u8]) -> Result<()> {
    check_name(name)?;
    if name.len() > NAME_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    Ok(())
}

/// Why a name is not there. Layers may hold longer names than anything can be made with.
pub(super) fn absent(name: &[u8]) -> Errno {
    if name.len() > NAME_MAX { Errno::NAMETOOLONG } else { Errno::NOENT }
}

pub(super) fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
        }
        Err(_) => Timestamp::EPOCH,
    }
}
