//! What differs from the lower tree: changed and new nodes, and names that came or went.
//!
//! Values only: nothing here reads a layer or the spool.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::file::FileData;
use super::merge::FIRST_LOWER_INO;
use super::zones::Place;
use crate::error::{Errno, Result};
use crate::node::{Ino, Metadata, ROOT_INO, Timestamp, Xattrs};

/// Where a changed node's content is.
pub(super) enum Body {
    /// As in the lower tree.
    Lower,
    Data(Arc<FileData>),
    Target(Box<[u8]>),
    /// Devices, fifos, sockets.
    Empty,
    Directory(Box<DirectoryChanges>),
}

/// A node that is new or differs from the lower tree's.
pub(super) struct Node {
    pub meta: Metadata,
    pub atime: Timestamp,
    pub ctime: Timestamp,
    /// Names; for a directory 1, or 0 once it is removed.
    pub names: u32,
    pub place: Place,
    /// Made without a name (`O_TMPFILE`) and never given one: `link` may.
    pub temporary: bool,
    /// `None`: the lower tree's, if the node is from there.
    pub xattrs: Option<Box<Xattrs>>,
    pub body: Body,
}

impl Node {
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.meta.mtime = now;
        self.ctime = now;
    }
}

/// What differs in a directory.
pub(super) struct DirectoryChanges {
    pub parent: Ino,
    /// The directory's own name, where it is not the lower tree's.
    pub name: Option<Arc<[u8]>>,
    /// Names of the lower tree that are gone.
    removed: HashSet<Box<[u8]>>,
    added: HashMap<Arc<[u8]>, Added>,
    /// The added names in the order of their arrival.
    order: BTreeMap<u64, Arc<[u8]>>,
    next_sequence: u64,
    /// Subdirectories more (or fewer) than in the lower tree.
    pub subdirectories: i64,
}

#[derive(Clone, Copy)]
struct Added {
    ino: Ino,
    sequence: u64,
}

/// What a directory's changes say about a name.
pub(super) enum NameChange {
    Unchanged,
    Removed,
    Added(Ino),
}

impl DirectoryChanges {
    pub(super) fn new(parent: Ino, name: Option<Arc<[u8]>>) -> DirectoryChanges {
        DirectoryChanges {
            parent,
            name,
            removed: HashSet::new(),
            added: HashMap::new(),
            order: BTreeMap::new(),
            next_sequence: 0,
            subdirectories: 0,
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> NameChange {
        if let Some(added) = self.added.get(name) {
            NameChange::Added(added.ino)
        } else if self.removed.contains(name) {
            NameChange::Removed
        } else {
            NameChange::Unchanged
        }
    }

    /// Adds a name that the directory does not have now.
    pub(super) fn add(&mut self, name: &[u8], ino: Ino, is_directory: bool) {
        let name: Arc<[u8]> = name.into();
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.order.insert(sequence, Arc::clone(&name));
        self.added.insert(name, Added { ino, sequence });
        self.subdirectories += i64::from(is_directory);
    }

    /// Takes away a name that the directory has now.
    pub(super) fn remove(&mut self, name: &[u8], is_directory: bool) {
        match self.added.remove(name) {
            Some(added) => {
                self.order.remove(&added.sequence);
            }
            None => {
                self.removed.insert(name.into());
            }
        }
        self.subdirectories -= i64::from(is_directory);
    }

    pub(super) fn is_removed(&self, name: &[u8]) -> bool {
        self.removed.contains(name)
    }

    pub(super) fn removed(&self) -> impl Iterator<Item = &[u8]> {
        self.removed.iter().map(AsRef::as_ref)
    }

    /// The added names from a sequence number on.
    pub(super) fn added_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &[u8], Ino)> {
        self.order.range(sequence..).filter_map(|(sequence, name)| {
            Some((*sequence, name.as_ref(), self.added.get(name)?.ino))
        })
    }

    /// Number of names, given the lower tree's.
    pub(super) fn count(&self, lower: u64) -> u64 {
        lower.saturating_sub(self.removed.len() as u64).saturating_add(self.added.len() as u64)
    }
}

pub(super) struct Changes {
    pub nodes: HashMap<Ino, Node>,
    next_ino: Ino,
}

impl Changes {
    pub(super) fn new() -> Changes {
        Changes { nodes: HashMap::new(), next_ino: ROOT_INO + 1 }
    }

    /// Puts a node where it was: no new one gets its number.
    pub(super) fn put_back(&mut self, ino: Ino, node: Node) {
        if !is_lower(ino) {
            self.next_ino = self.next_ino.max(ino.saturating_add(1));
        }
        self.nodes.insert(ino, node);
    }

    /// A number for a new node.
    pub(super) fn new_ino(&mut self) -> Result<Ino> {
        let ino = self.next_ino;
        if ino >= FIRST_LOWER_INO {
            return Err(Errno::NOSPC.into());
        }
        self.next_ino += 1;
        Ok(ino)
    }

    pub(super) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Errno::STALE.into())
    }

    /// The changes of a directory's names, if it has any.
    pub(super) fn directory(&self, ino: Ino) -> Option<&DirectoryChanges> {
        match &self.nodes.get(&ino)?.body {
            Body::Directory(changes) => Some(changes),
            _ => None,
        }
    }
}

/// Whether a number belongs to the lower tree.
pub(super) const fn is_lower(ino: Ino) -> bool {
    ino == ROOT_INO || ino >= FIRST_LOWER_INO
}
