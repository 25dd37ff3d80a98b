//! A layer without some of its names.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::content::Identity;
use crate::error::{Errno, Result};
use crate::filesystem::DataSink;
use crate::layer::delegate::delegate_nodes;
use crate::layer::{DataRun, Entry, Layer, Whiteout};
use crate::node::{Kind, Metadata, Xattrs};

/// A layer without some names. What lies below a hidden directory is hidden with it; a node that is
/// left with fewer names has its content under those.
pub struct WithoutLayer {
    inner: Arc<dyn Layer>,
    hidden: HashMap<Entry, Hidden>,
}

/// What is hidden in one directory.
#[derive(Default)]
struct Hidden {
    names: HashSet<Box<[u8]>>,
    /// How many of them are directories.
    directories: u32,
}

/// A directory on the way of [`WithoutLayer::selecting`].
struct Walked {
    entry: Entry,
    path: Vec<u8>,
    /// Where the parent stands in the list; the root has itself.
    parent: usize,
    is_empty: bool,
    /// Whether anything in it is wanted.
    is_wanted: bool,
}

impl WithoutLayer {
    /// Hides names of the root directory. Those that it does not have change nothing.
    pub fn new(inner: Arc<dyn Layer>, names: &[Vec<u8>]) -> Result<Self> {
        let mut hidden = Hidden::default();
        for name in names {
            if let Some(entry) = inner.lookup(Entry::ROOT, name)? {
                hidden.add(name, inner.metadata(entry)?.kind);
            }
        }
        Ok(WithoutLayer { inner, hidden: HashMap::from([(Entry::ROOT, hidden)]) })
    }

    /// Hides every path, but for the root, that is not `wanted`. It is asked for what is no
    /// directory and for empty directories; other directories stay if anything in them does. Paths
    /// have no slash at the ends.
    ///
    /// Costs a walk over the names of the layer.
    pub fn selecting(inner: Arc<dyn Layer>, wanted: &dyn Fn(&[u8]) -> bool) -> Result<Self> {
        let mut hidden: HashMap<Entry, Hidden> = HashMap::new();
        let mut walked = vec![Walked::new(Entry::ROOT, Vec::new(), 0)];
        let mut position = 0;
        while let Some(at) = walked.get(position) {
            let (directory, path) = (at.entry, at.path.clone());
            let children = children_of(inner.as_ref(), directory)?;
            let mut is_wanted = false;
            let is_empty = children.is_empty();
            for (name, entry) in children {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let below = [path.as_slice(), separator, name.as_slice()].concat();
                let kind = inner.metadata(entry)?.kind;
                if kind.is_directory() {
                    walked.push(Walked::new(entry, below, position));
                } else if wanted(&below) {
                    is_wanted = true;
                } else {
                    hidden.entry(directory).or_default().add(&name, kind);
                }
            }
            if let Some(at) = walked.get_mut(position) {
                at.is_empty = is_empty;
                at.is_wanted = is_wanted || is_empty && wanted(&path);
            }
            position += 1;
        }
        // Parents stand before their children: backwards, each is settled before its parent.
        while let Some(Walked { path, parent, is_wanted, .. }) = walked.pop() {
            let Some(above) = walked.get_mut(parent) else { continue };
            if is_wanted {
                above.is_wanted = true;
            } else {
                let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                hidden.entry(above.entry).or_default().add(name, Kind::Directory);
            }
        }
        Ok(WithoutLayer { inner, hidden })
    }

    fn hides(&self, directory: Entry, name: &[u8]) -> bool {
        self.hidden.get(&directory).is_some_and(|hidden| hidden.names.contains(name))
    }

    /// Whether a directory and all above it can be seen.
    fn shows(&self, directory: Entry) -> Result<bool> {
        let mut at = directory;
        while at != Entry::ROOT {
            let names = self.inner.names(at)?;
            let (parent, name) = names.first().ok_or(Errno::STALE)?;
            if self.hides(*parent, name) {
                return Ok(false);
            }
            at = *parent;
        }
        Ok(true)
    }
}

impl Hidden {
    fn add(&mut self, name: &[u8], kind: Kind) {
        if self.names.insert(name.into()) {
            self.directories += u32::from(kind.is_directory());
        }
    }
}

impl Walked {
    fn new(entry: Entry, path: Vec<u8>, parent: usize) -> Self {
        Walked { entry, path, parent, is_empty: true, is_wanted: false }
    }
}

fn children_of(layer: &dyn Layer, directory: Entry) -> Result<Vec<(Vec<u8>, Entry)>> {
    let mut children = Vec::new();
    layer.children(directory, 0, &mut |name, entry| {
        children.push((name.to_vec(), entry));
        ControlFlow::Continue(())
    })?;
    Ok(children)
}

impl Layer for WithoutLayer {
    fn label(&self) -> &str {
        self.inner.label()
    }

    delegate_nodes!(self, entry => entry);

    fn link_count(&self, entry: Entry) -> Result<u32> {
        match self.inner.link_count(entry)? {
            count @ ..=1 => Ok(count),
            _ => Ok(u32::try_from(self.names(entry)?.len()).unwrap_or(u32::MAX)),
        }
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut names = Vec::new();
        for (directory, name) in self.inner.names(entry)? {
            if !self.hides(directory, &name) && self.shows(directory)? {
                names.push((directory, name));
            }
        }
        Ok(names)
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        if self.inner.link_count(entry)? <= 1 {
            return self.inner.parent(entry);
        }
        let names = self.names(entry)?;
        Ok(names.first().ok_or(Errno::STALE)?.0)
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        let hidden = self.hidden.get(&directory).map_or(0, |hidden| hidden.directories);
        Ok(self.inner.subdirectories(directory)?.saturating_sub(hidden))
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        if self.hides(directory, name) {
            return Ok(None);
        }
        self.inner.lookup(directory, name)
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(hidden) = self.hidden.get(&directory) else {
            return self.inner.children(directory, start, visit);
        };
        let mut position = 0;
        self.inner.children(directory, 0, &mut |name, entry| {
            if hidden.names.contains(name) {
                return ControlFlow::Continue(());
            }
            position += 1;
            if position <= start { ControlFlow::Continue(()) } else { visit(name, entry) }
        })
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        let hidden = self.hidden.get(&directory).map_or(0, |hidden| hidden.names.len() as u64);
        Ok(self.inner.child_count(directory)?.saturating_sub(hidden))
    }
}

#[cfg(test)]
#[path = "without_tests.rs"]
mod tests;
