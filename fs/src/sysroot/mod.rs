//! An ordered stack of layers, merged lazily, plus writable zones (docs/sysroot.md).
//!
//! The layers' merge ([`merge`]) never changes; what was written lies over it ([`changes`]), the
//! bytes in a [`spool`]. Locks, outermost first: a file's data, the changes, the lower tree's
//! records.

#![forbid(unsafe_code)]

mod access;
#[cfg(any(test, feature = "fuzzing"))]
mod audit;
mod changed;
mod changes;
mod content;
mod create;
mod data;
mod file;
mod kept;
mod listing;
mod merge;
mod metadata;
mod operations;
mod overlaps;
mod read;
mod rename;
mod runs;
mod spool;
mod statistics;
mod zones;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::content::{Content, Identity, LayerFile};
use crate::error::{Errno, Error, Result};
use crate::filesystem::Creation;
use crate::layer::{DataRun, Layer};
use crate::node::{Attributes, Ino, Kind, ROOT_INO};
use crate::sync::{DashMap, RwLock};

use changes::{Body, Changes, NameChange, is_lower};
use merge::{LowerTree, Source};
use spool::Spool;
use statistics::Counts;
use zones::{Zones, components};

pub use changed::{Change, ChangedPath};
pub use overlaps::Overlap;
pub use zones::{Policy, Zone};

/// How a sysroot may be written to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The deepest prefix wins; what no zone covers is read-only.
    pub zones: Vec<Zone>,
    /// Where the nameless file goes that holds what is written; the system's temporary directory
    /// if `None`. Needed only where a zone is writable.
    pub spool_directory: Option<PathBuf>,
}

/// Layers merged into one tree, with writable zones.
///
/// Opening one costs the number of layers. Directories are merged when they are first looked at.
pub struct Sysroot {
    tree: LowerTree,
    zones: Arc<Zones>,
    changes: RwLock<Changes>,
    /// Holds by inode (`Filesystem::forget`); not counted where nothing can be removed.
    holds: Option<DashMap<Ino, u64>>,
    spool: Option<Arc<Spool>>,
    /// What a read-only tree holds, once somebody asked.
    counts: OnceLock<Counts>,
    /// The first write whose bytes could not be stored.
    lost_write: OnceLock<String>,
}

impl Drop for Sysroot {
    /// The spool ends as a whole, which costs a fraction of giving each file's part back.
    fn drop(&mut self) {
        if let Some(spool) = &self.spool {
            spool.give_nothing_back();
        }
    }
}

impl Sysroot {
    /// Stacks layers, lowest first.
    ///
    /// Fails for zones that contradict each other, and where a zone is writable but the spool
    /// cannot be made.
    pub fn new(layers: Vec<Arc<dyn Layer>>, options: Options) -> Result<Sysroot> {
        let zones = Arc::new(Zones::new(&options.zones)?);
        let writable = zones.any_writable();
        let spool = if writable {
            let directory = options.spool_directory.unwrap_or_else(std::env::temp_dir);
            Some(Arc::new(Spool::create(&directory)?))
        } else {
            None
        };
        Ok(Sysroot {
            tree: LowerTree::new(layers, Arc::clone(&zones))?,
            zones,
            changes: RwLock::new(Changes::new()),
            holds: writable.then(DashMap::new),
            spool,
            counts: OnceLock::new(),
            lost_write: OnceLock::new(),
        })
    }

    /// Finds an absolute path. Follows no symlinks and grants no hold.
    pub fn resolve(&self, path: &[u8]) -> Result<Attributes> {
        let changes = self.changes.read();
        let ino = self.walk(&changes, path)?;
        self.attributes_of(&changes, ino)
    }

    fn walk(&self, changes: &Changes, path: &[u8]) -> Result<Ino> {
        let mut ino = ROOT_INO;
        for name in components(path) {
            ino = match name {
                b"." => ino,
                b".." => self.parent_of(changes, ino)?,
                _ => self.child(changes, ino, name)?.ok_or_else(|| access::absent(name))?,
            };
        }
        Ok(ino)
    }

    /// Makes a directory and those above it that are missing, in any zone: for the host's own
    /// set-up before the tree is served. `ENOTDIR` where something else is in the way.
    pub fn make_directories(&self, path: &[u8], creation: Creation) -> Result<Ino> {
        let mut changes = self.changes.write();
        let mut ino = ROOT_INO;
        for name in components(path) {
            if name == b"." || name == b".." {
                return Err(Error::Invalid(format!(
                    "The directory '{}' cannot be made: write it without '.' and '..'.",
                    String::from_utf8_lossy(path)
                )));
            }
            ino = match self.child(&changes, ino, name)? {
                Some(found) => found,
                None => self.add_directory(&mut changes, ino, name, creation)?,
            };
            if !self.kind_of(&changes, ino)?.is_directory() {
                return Err(Errno::NOTDIR.into());
            }
        }
        Ok(ino)
    }

    /// The label of the layer that a node's content comes from (for a directory: its metadata).
    /// `None` for new nodes and files that were written to.
    pub fn provenance(&self, ino: Ino) -> Option<&str> {
        if let Some(node) = self.changes.read().nodes.get(&ino) {
            match node.body {
                Body::Lower => {}
                Body::Directory(_) if is_lower(ino) => {}
                _ => return None,
            }
        }
        let source = self.tree.describer(ino).ok()??;
        Some(self.tree.layer(source).ok()?.label())
    }

    /// The policy of the zone that covers a path, whether or not it exists.
    pub fn policy(&self, path: &[u8]) -> Policy {
        self.zones.policy_of(path)
    }

    /// SHA-256 of a file's content where its layer knows it and nobody wrote to the file.
    pub fn digest(&self, ino: Ino) -> Result<Option<[u8; 32]>> {
        if self.changes.read().nodes.get(&ino).is_some_and(|node| !matches!(node.body, Body::Lower))
        {
            return Ok(None);
        }
        match self.tree.origin(ino).filter(|_| ino != ROOT_INO) {
            Some(source) => self.tree.layer(source)?.digest(source.entry),
            None => Ok(None),
        }
    }

    /// What is known of a file's content without reading it; nothing once somebody wrote to it.
    pub fn content_identities(&self, ino: Ino) -> Result<Vec<Identity>> {
        if self.changes.read().nodes.get(&ino).is_some_and(|node| !matches!(node.body, Body::Lower))
        {
            return Ok(Vec::new());
        }
        match self.tree.origin(ino) {
            Some(Source { layer, entry }) => {
                let layer = self.tree.layer(Source { layer, entry })?;
                LayerFile { layer, entry }.identities()
            }
            None => Ok(Vec::new()),
        }
    }

    /// The next run of data of a file at or after `offset`; `None` where only a hole follows.
    pub fn next_data(&self, ino: Ino, offset: u64) -> Result<Option<DataRun>> {
        let size = self.file_size(ino)?;
        self.find_data(ino, offset, size)
    }

    /// Whether something else than this sysroot's users may change what it shows, as the host does
    /// with a directory that is a layer.
    pub fn is_live(&self) -> bool {
        self.tree.is_live()
    }

    /// Why the first of the writes failed whose bytes could not be stored; none did where this is
    /// `None`. Who wrote may never have heard of it: a kernel that writes later, from its page
    /// cache or a shared mapping, has nobody to tell.
    pub fn lost_write(&self) -> Option<&str> {
        self.lost_write.get().map(String::as_str)
    }

    /// Bytes that written data takes on the host's disk.
    pub fn spool_usage(&self) -> Result<u64> {
        self.spool.as_ref().map_or(Ok(0), |spool| spool.disk_usage())
    }

    fn kind_of(&self, changes: &Changes, ino: Ino) -> Result<Kind> {
        match changes.nodes.get(&ino) {
            Some(node) => Ok(node.meta.kind),
            None if is_lower(ino) => Ok(self.tree.metadata(ino)?.kind),
            None => Err(Errno::STALE.into()),
        }
    }

    /// What a name in a directory means now.
    fn child(&self, changes: &Changes, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        if let Some(node) = changes.nodes.get(&parent) {
            let Body::Directory(names) = &node.body else {
                return Err(Errno::NOTDIR.into());
            };
            match names.get(name) {
                NameChange::Added(ino) => return Ok(Some(ino)),
                NameChange::Removed => return Ok(None),
                NameChange::Unchanged => {}
            }
        }
        if !is_lower(parent) {
            return if changes.nodes.contains_key(&parent) {
                Ok(None)
            } else {
                Err(Errno::STALE.into())
            };
        }
        let directory = self.tree.directory(parent)?;
        Ok(self.tree.lookup(parent, &directory, name)?.map(|found| found.ino))
    }
}
