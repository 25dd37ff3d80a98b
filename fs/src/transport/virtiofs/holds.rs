//! The inodes that the guest's kernel holds.
//!
//! A guest that crashes gives nothing back, and one that unmounts need not: whoever serves it
//! knows what it holds, and gives that back itself.

#![forbid(unsafe_code)]

use crate::filesystem::Filesystem;
use crate::node::Ino;
use crate::sync::{DashMap, Entry};

#[derive(Default)]
pub(super) struct Holds {
    /// `None` where nothing can be removed, so that holds do not matter.
    counts: Option<DashMap<Ino, u64>>,
}

impl Holds {
    pub(super) fn new(tree: &dyn Filesystem) -> Self {
        Holds { counts: (!tree.is_immutable()).then(DashMap::new) }
    }

    /// The tree has granted one more hold.
    pub(super) fn add(&self, ino: Ino) {
        if let Some(counts) = &self.counts {
            let mut count = counts.entry(ino).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Gives holds back, but never more than the guest has: others may hold the same inode.
    pub(super) fn give_back(&self, tree: &dyn Filesystem, ino: Ino, count: u64) {
        let Some(counts) = &self.counts else { return };
        let returned = match counts.entry(ino) {
            Entry::Vacant(_) => return,
            Entry::Occupied(mut held) => {
                let returned = count.min(*held.get());
                if returned == *held.get() {
                    held.remove();
                } else {
                    *held.get_mut() = held.get().saturating_sub(returned);
                }
                returned
            }
        };
        tree.forget(ino, returned);
    }

    /// The guest's kernel has forgotten everything, or is gone.
    pub(super) fn give_all_back(&self, tree: &dyn Filesystem) {
        let Some(counts) = &self.counts else { return };
        let held: Vec<Ino> = counts.iter().map(|held| *held.key()).collect();
        for ino in held {
            self.give_back(tree, ino, u64::MAX);
        }
        counts.shrink_to_fit();
    }
}
