//! What differs in a sysroot from its layers, kept as layers that bring it back
//! (docs/sysroot.md, "Keeping changes").

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::file::capture_with_index;
use super::options::{CaptureOptions, CaptureReport};
use super::walk::walk;
use crate::error::{Error, Result};
use crate::index::{Builder, SourceIdentity};
use crate::layer::Layer;
use crate::layer::indexed::IndexedLayer;
use crate::node::{Attributes, ROOT_INO, Timestamp};
use crate::sysroot::{Change, ChangedPath, Sysroot};

const TAR: &str = "changes.tar";
const INDEX: &str = "changes.index";
const REMOVED: &str = "removed.index";

/// Writes what differs from the layers into an existing directory. Over the same layers,
/// [`open_changes`] brings the same tree back. Sockets, which tar cannot carry, are left out and
/// reported.
///
/// # Errors
/// Failures of the tree and of writing; what was written until then is of no use.
pub fn capture_changes(sysroot: &Sysroot, directory: &Path) -> Result<CaptureReport> {
    let changed = sysroot.changed_paths()?;
    let index = removed(&changed)?;
    let path = directory.join(REMOVED);
    std::fs::write(&path, index).map_err(|source| Error::host("cannot write", &path, source))?;
    let shown = Shown::new(sysroot, &changed)?;
    let exclude = |path: &[u8], _: &Attributes| !shown.contains(path);
    let options = CaptureOptions { exclude: Some(&exclude), ..CaptureOptions::default() };
    let (tar, index) = (directory.join(TAR), directory.join(INDEX));
    Ok(capture_with_index(sysroot, ROOT_INO, &tar, &index, &options)?.report)
}

/// The layers that [`capture_changes`] has written, lowest first, to be stacked over the layers of
/// the sysroot; `None` where nothing was.
///
/// # Errors
/// Files that cannot be read, or are not what was written.
pub fn open_changes(label: &str, directory: &Path) -> Result<Option<Vec<Arc<dyn Layer>>>> {
    let tar = directory.join(TAR);
    if !tar.exists() {
        return Ok(None);
    }
    let path = directory.join(REMOVED);
    let index = std::fs::read(&path).map_err(|source| Error::host("cannot read", &path, source))?;
    let removed = IndexedLayer::in_memory(label, index, Vec::new())?;
    let changes = IndexedLayer::open(label, &tar, &directory.join(INDEX))?;
    Ok(Some(vec![Arc::new(removed), Arc::new(changes)]))
}

/// An index of nothing but whiteouts: it hides what the layers have and the sysroot no longer.
fn removed(changed: &[ChangedPath]) -> Result<Vec<u8>> {
    let source = SourceIdentity { size: 0, mtime: Timestamp::EPOCH, digest: None };
    let mut builder = Builder::new(source).labelled("removed names");
    for ChangedPath { path, change } in changed {
        if matches!(change, Change::Removed | Change::Replaced) {
            builder.add_whiteout(relative(path))?;
        }
    }
    builder.set_data_size(0);
    builder.finish()
}

/// The paths that are captured, without slashes at the ends.
struct Shown {
    /// What changed, and the directories above it.
    paths: HashSet<Vec<u8>>,
    /// What is captured with everything below it.
    whole: HashSet<Vec<u8>>,
}

impl Shown {
    fn new(sysroot: &Sysroot, changed: &[ChangedPath]) -> Result<Shown> {
        let mut shown = Shown { paths: HashSet::new(), whole: HashSet::new() };
        for ChangedPath { path, change } in changed {
            let path = relative(path);
            match change {
                Change::Removed => shown.add(parent(path)),
                Change::Modified => shown.add(path),
                Change::Added | Change::Replaced => {
                    shown.add(path);
                    if !shown.is_in_whole(path) {
                        shown.add_links_below(sysroot, path)?;
                    }
                    shown.whole.insert(path.to_vec());
                }
            }
        }
        Ok(shown)
    }

    fn add(&mut self, path: &[u8]) {
        let mut at = path;
        while self.paths.insert(at.to_vec()) && !at.is_empty() {
            at = parent(at);
        }
    }

    /// A directory that was moved may hold nodes with names elsewhere: all names must be captured,
    /// or the copy would no longer be the same node.
    fn add_links_below(&mut self, sysroot: &Sysroot, path: &[u8]) -> Result<()> {
        let found = sysroot.resolve(path)?;
        if !found.meta.kind.is_directory() {
            return Ok(());
        }
        let mut links = Vec::new();
        walk(sysroot, found.ino, None, &mut |visit| {
            let is_linked = visit.attributes.nlink > 1 && visit.hard_link.is_none();
            if is_linked && !visit.attributes.meta.kind.is_directory() {
                links.push(visit.attributes.ino);
            }
            Ok(())
        })?;
        for ino in links {
            for path in sysroot.paths_in_layers(ino)? {
                self.add(relative(&path));
            }
        }
        Ok(())
    }

    fn contains(&self, path: &[u8]) -> bool {
        self.paths.contains(path) || self.is_in_whole(path)
    }

    fn is_in_whole(&self, path: &[u8]) -> bool {
        let mut at = path;
        while !at.is_empty() {
            at = parent(at);
            if self.whole.contains(at) {
                return true;
            }
        }
        false
    }
}

fn relative(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn parent(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..slash).unwrap_or_default()
}
