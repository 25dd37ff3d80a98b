//! Which paths differ from the lower tree.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::Sysroot;
use super::changes::{Body, Changes, DirectoryChanges, is_lower};
use super::merge::MAX_DEPTH;
use crate::error::{Errno, Result};
use crate::node::{Ino, ROOT_INO};

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// No layer has the path. Of a directory that was moved only the directory itself is told.
    Added,
    /// Another node stands there, or the same with other metadata, xattrs, content or names.
    Modified,
    /// A layer has the path, the sysroot no longer.
    Removed,
}

/// A path that differs from the lower tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// Absolute.
    pub path: Vec<u8>,
    pub change: Change,
}

impl Sysroot {
    /// The paths that differ from what the layers say, in bytewise order. Costs the number of
    /// changes, not of files.
    pub fn changed_paths(&self) -> Result<Vec<ChangedPath>> {
        let changes = self.changes.read();
        let mut found = BTreeMap::new();
        for (ino, node) in &changes.nodes {
            if let Body::Directory(names) = &node.body
                && let Some(path) = self.directory_path(&changes, *ino)?
            {
                changed_names(&path, names, &mut found);
            }
        }
        for (ino, node) in &changes.nodes {
            if !is_lower(*ino) || node.names == 0 {
                continue;
            }
            for path in self.lower_paths(&changes, *ino)? {
                found.entry(path).or_insert(Change::Modified);
            }
        }
        Ok(found.into_iter().map(|(path, change)| ChangedPath { path, change }).collect())
    }

    /// Where a node can be found under its names of the lower tree.
    fn lower_paths(&self, changes: &Changes, ino: Ino) -> Result<Vec<Vec<u8>>> {
        if ino == ROOT_INO {
            return Ok(vec![b"/".to_vec()]);
        }
        let mut paths = Vec::new();
        for (parent, _, name) in self.tree.visible_names(ino)? {
            let Some(directory) = self.directory_path(changes, parent)? else { continue };
            if self.child(changes, parent, &name)? == Some(ino) {
                paths.push(join(&directory, &name));
            }
        }
        Ok(paths)
    }

    /// A directory's path now; `None` if it was removed.
    fn directory_path(&self, changes: &Changes, directory: Ino) -> Result<Option<Vec<u8>>> {
        let mut names = Vec::new();
        let mut at = directory;
        while at != ROOT_INO {
            if names.len() >= MAX_DEPTH {
                return Err(Errno::LOOP.into());
            }
            let own = changes.directory(at).and_then(|names| names.name.as_ref());
            let name = match own {
                Some(name) => name.to_vec(),
                None => self.tree.directory_name(at)?,
            };
            let parent = self.parent_of(changes, at)?;
            // A removed directory still knows where it was.
            if self.child(changes, parent, &name)? != Some(at) {
                return Ok(None);
            }
            names.push(name);
            at = parent;
        }
        Ok(Some(names.iter().rev().fold(b"/".to_vec(), |path, name| join(&path, name))))
    }
}

fn changed_names(
    directory: &[u8],
    names: &DirectoryChanges,
    found: &mut BTreeMap<Vec<u8>, Change>,
) {
    for (_, name, _) in names.added_from(0) {
        let change = if names.is_removed(name) { Change::Modified } else { Change::Added };
        found.insert(join(directory, name), change);
    }
    for name in names.removed() {
        found.entry(join(directory, name)).or_insert(Change::Removed);
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, separator, name].concat()
}
