//! One tree for two kernels that both remember what they are told of it: a guest's, over virtiofs, and
//! the host's, over `/dev/fuse`, for programs of the host that work for the guest.
//!
//! ```text
//! guest ─► GuestView ─┐            change made ─► version ─► Announcer: the host's kernel forgets
//!                     ├─► tree
//! host  ─► HostView  ─┘            change made ─► Known ─► take_changes: whoever tells the guest
//! ```
//!
//! `docs/host-toolchain.md` says why that is enough.

#![forbid(unsafe_code)]

mod guest;
mod host;
mod known;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;

pub use guest::GuestView;
pub use host::HostView;
pub use known::{Change, Changes, What};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::node::{Attributes, Ino};
use crate::sync::RwLock;
use known::{Known, Place};

/// Makes a kernel forget. A call returns when the kernel has: it may wait for answers that are on
/// their way to it, so who calls must not be one that gives them, and must hold no lock of the tree.
pub trait Announcer: Send + Sync {
    /// What a name leads to, and all below.
    fn name(&self, directory: Ino, name: &[u8]);

    /// A node's attributes and content.
    fn node(&self, ino: Ino);

    /// Nothing; but what was answered about names in this directory before has arrived.
    fn barrier(&self, directory: Ino);
}

/// The tree, and what is known of its two users.
pub struct SharedTree {
    tree: Arc<dyn Filesystem>,
    known: RwLock<Known>,
    /// Held from an operation on names until `known` has it: by many who look, or by one who changes.
    order: RwLock<()>,
    /// How many changes the guest has made.
    version: AtomicU64,
    announcer: RwLock<Option<Arc<dyn Announcer>>>,
}

impl SharedTree {
    pub fn new(tree: Arc<dyn Filesystem>) -> Arc<SharedTree> {
        Arc::new(SharedTree {
            tree,
            known: RwLock::new(Known::default()),
            order: RwLock::new(()),
            version: AtomicU64::new(0),
            announcer: RwLock::new(None),
        })
    }

    /// How the host's kernel is told; before it is, it must not remember anything.
    pub fn announce_to(&self, announcer: Arc<dyn Announcer>) {
        *self.announcer.write() = Some(announcer);
    }

    /// What the host has changed since the last call.
    pub fn take_changes(&self) -> Changes {
        let _order = self.order.read();
        self.known.write().take_changes()
    }

    /// The host's kernel is gone: gives back what it held.
    pub fn host_has_gone(&self) {
        *self.announcer.write() = None;
        let held = self.known.write().forget_all();
        for (ino, holds) in held {
            self.tree.forget(ino, holds);
        }
    }

    fn announcer(&self) -> Option<Arc<dyn Announcer>> {
        self.announcer.read().clone()
    }

    /// Between a change of the guest and the question what the host's kernel knows: an answer to that
    /// kernel that is older than the change and is not among what it knows sees another version.
    fn count_change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The host's kernel asks what is at a place.
    fn find(&self, place: Place, find: impl FnOnce() -> Result<Attributes>) -> Result<Attributes> {
        let _order = self.order.read();
        let found = find()?;
        self.known.write().found(place, found.ino);
        Ok(found)
    }

    /// Changes what names lead to, by `change`, and what is known of them, by `note`.
    fn change_names<T, U>(
        &self,
        change: impl FnOnce() -> Result<T>,
        note: impl FnOnce(&mut Known, &T) -> U,
    ) -> Result<(T, U)> {
        let _order = self.order.write();
        let done = change()?;
        let noted = note(&mut self.known.write(), &done);
        Ok((done, noted))
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// The guest has changed what names lead to. `nodes` are those that the host's kernel knew there.
    fn announce_names(&self, places: &[Place], nodes: &[Option<Ino>]) {
        self.count_change();
        let Some(announcer) = self.announcer() else { return };
        for place in places {
            if self.known.read().holds(place.directory) {
                announcer.name(place.directory, &place.name);
                announcer.node(place.directory);
            }
        }
        // They may have other names.
        nodes.iter().flatten().for_each(|ino| announcer.node(*ino));
    }

    /// The guest has changed a node's content or attributes.
    fn announce_node(&self, ino: Ino) {
        self.count_change();
        let Some(announcer) = self.announcer() else { return };
        let directories = {
            let mut known = self.known.write();
            if !known.disturbed(ino) {
                return;
            }
            known.directories_of(ino)
        };
        // A kernel that is about to learn of the node does not know it yet, and would ignore this.
        for directory in directories {
            announcer.barrier(directory);
        }
        announcer.node(ino);
    }
}

fn place(directory: Ino, name: &[u8]) -> Place {
    Place { directory, name: name.to_vec() }
}
