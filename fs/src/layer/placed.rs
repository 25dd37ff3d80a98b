//! A layer whose root appears at a directory further down.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{DataRun, Entry, Layer, Whiteout};
use crate::content::Identity;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;
use crate::node::{Metadata, Xattrs};

/// Puts synthetic directories (root's, 0755, at the epoch) above a layer's root.
///
/// Entries 0 to n-1 are these directories; entry n + e is the inner layer's entry e.
pub struct Placed {
    inner: Arc<dyn Layer>,
    names: Vec<Vec<u8>>,
}

/// Where an entry lives.
enum Place<'a> {
    /// A synthetic directory: its only child's name and entry.
    Above {
        name: &'a [u8],
        child: Entry,
    },
    Inner(Entry),
}

impl Placed {
    /// `at` is a path from the root, such as `/a/b`; `/` changes nothing.
    pub fn new(inner: Arc<dyn Layer>, at: &[u8]) -> Result<Placed> {
        let mut names = Vec::new();
        for name in at.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            if name == b"." || name == b".." || name.contains(&0) {
                return Err(Error::Invalid(format!(
                    "A layer cannot be placed at {}: give a path without '.' and '..'.",
                    at.escape_ascii()
                )));
            }
            names.push(name.to_vec());
        }
        Ok(Placed { inner, names })
    }

    fn depth(&self) -> u64 {
        self.names.len() as u64
    }

    fn place(&self, entry: Entry) -> Result<Place<'_>> {
        if let Some(inner) = entry.0.checked_sub(self.depth()) {
            return Ok(Place::Inner(Entry(inner)));
        }
        let position = usize::try_from(entry.0).map_err(|_| Errno::STALE)?;
        let name = self.names.get(position).ok_or(Errno::STALE)?;
        Ok(Place::Above { name, child: Entry(entry.0.saturating_add(1)) })
    }

    fn outer(&self, inner: Entry) -> Entry {
        Entry(inner.0.saturating_add(self.depth()))
    }

    /// The inner entry of something that no synthetic directory is.
    fn inner(&self, entry: Entry, otherwise: Errno) -> Result<Entry> {
        match self.place(entry)? {
            Place::Inner(inner) => Ok(inner),
            Place::Above { .. } => Err(otherwise.into()),
        }
    }
}

impl Layer for Placed {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn version(&self) -> String {
        self.inner.version()
    }

    fn is_live(&self) -> bool {
        self.inner.is_live()
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(Metadata::default_directory()),
            Place::Inner(inner) => self.inner.metadata(inner),
        }
    }

    fn link_count(&self, entry: Entry) -> Result<u32> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(1),
            Place::Inner(inner) => self.inner.link_count(inner),
        }
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        match self.place(entry)? {
            Place::Inner(inner) if inner != Entry::ROOT => {
                let names = self.inner.names(inner)?;
                Ok(names.into_iter().map(|(dir, name)| (self.outer(dir), name)).collect())
            }
            _ => {
                // A synthetic directory, or the inner root, which has the last one's name.
                let parent = self.parent(entry)?;
                let name = match self.place(parent)? {
                    Place::Above { name, .. } if entry != Entry::ROOT => name.to_vec(),
                    _ => Vec::new(),
                };
                Ok(vec![(parent, name)])
            }
        }
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        match self.place(entry)? {
            Place::Inner(inner) if inner != Entry::ROOT => {
                Ok(self.outer(self.inner.parent(inner)?))
            }
            _ => Ok(Entry(entry.0.saturating_sub(1))),
        }
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        match self.place(directory)? {
            Place::Above { .. } => Ok(1),
            Place::Inner(inner) => self.inner.subdirectories(inner),
        }
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        match self.place(directory)? {
            Place::Above { name: only, child } => Ok((name == only).then_some(child)),
            Place::Inner(inner) => {
                Ok(self.inner.lookup(inner, name)?.map(|found| self.outer(found)))
            }
        }
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        match self.place(directory)? {
            Place::Above { name, child } => {
                if start == 0 {
                    let _ = visit(name, child);
                }
                Ok(())
            }
            Place::Inner(inner) => {
                self.inner.children(inner, start, &mut |name, child| visit(name, self.outer(child)))
            }
        }
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        match self.place(directory)? {
            Place::Above { .. } => Ok(1),
            Place::Inner(inner) => self.inner.child_count(inner),
        }
    }

    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.read(self.inner(entry, Errno::ISDIR)?, offset, buffer)
    }

    fn read_to(
        &self,
        entry: Entry,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        self.inner.read_to(self.inner(entry, Errno::ISDIR)?, offset, length, sink)
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>> {
        self.inner.read_link(self.inner(entry, Errno::INVAL)?)
    }

    fn xattrs(&self, entry: Entry) -> Result<Xattrs> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(Xattrs::new()),
            Place::Inner(inner) => self.inner.xattrs(inner),
        }
    }

    fn has_xattrs(&self, entry: Entry) -> Result<bool> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(false),
            Place::Inner(inner) => self.inner.has_xattrs(inner),
        }
    }

    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        self.inner.next_data(self.inner(entry, Errno::ISDIR)?, offset)
    }

    fn data_bytes(&self, entry: Entry) -> Result<u64> {
        self.inner.data_bytes(self.inner(entry, Errno::ISDIR)?)
    }

    fn whiteout(&self, directory: Entry, name: &[u8]) -> Result<Option<Whiteout>> {
        match self.place(directory)? {
            Place::Above { .. } => Ok(None),
            Place::Inner(inner) => self.inner.whiteout(inner, name),
        }
    }

    fn is_opaque(&self, directory: Entry) -> Result<bool> {
        match self.place(directory)? {
            Place::Above { .. } => Ok(false),
            Place::Inner(inner) => self.inner.is_opaque(inner),
        }
    }

    fn is_implied(&self, directory: Entry) -> Result<bool> {
        match self.place(directory)? {
            Place::Above { .. } => Ok(true),
            Place::Inner(inner) => self.inner.is_implied(inner),
        }
    }

    fn digest(&self, entry: Entry) -> Result<Option<[u8; 32]>> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(None),
            Place::Inner(inner) => self.inner.digest(inner),
        }
    }

    fn identity(&self, entry: Entry) -> Result<Option<Identity>> {
        match self.place(entry)? {
            Place::Above { .. } => Ok(None),
            Place::Inner(inner) => self.inner.identity(inner),
        }
    }
}
