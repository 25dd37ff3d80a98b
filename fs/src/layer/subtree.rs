//! Parts of a layer as layers of their own, and folding through usr-merge links with them.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::content::Identity;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;
use crate::layer::delegate::delegate_nodes;
use crate::layer::placed::Placed;
use crate::layer::without::WithoutLayer;
use crate::layer::{DataRun, Entry, Layer, Whiteout};
use crate::node::{Kind, Metadata, Xattrs};

/// What a layer shows below one of its directories.
pub struct SubtreeLayer {
    inner: Arc<dyn Layer>,
    label: String,
    root: Entry,
}

impl SubtreeLayer {
    /// `directory` must be a directory of `inner` (`ENOTDIR`).
    pub fn new(inner: Arc<dyn Layer>, directory: Entry) -> Result<Self> {
        if !inner.metadata(directory)?.kind.is_directory() {
            return Err(Error::Os(Errno::NOTDIR));
        }
        Ok(SubtreeLayer { label: inner.label().to_owned(), inner, root: directory })
    }

    fn inward(&self, entry: Entry) -> Entry {
        if entry == Entry::ROOT { self.root } else { entry }
    }

    fn outward(&self, entry: Entry) -> Entry {
        if entry == self.root { Entry::ROOT } else { entry }
    }
}

impl Layer for SubtreeLayer {
    fn label(&self) -> &str {
        &self.label
    }

    delegate_nodes!(self, entry => self.inward(entry));

    fn link_count(&self, entry: Entry) -> Result<u32> {
        self.inner.link_count(self.inward(entry))
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut names = self.inner.names(self.inward(entry))?;
        for (directory, _) in &mut names {
            *directory = self.outward(*directory);
        }
        Ok(names)
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        if entry == Entry::ROOT {
            return Ok(Entry::ROOT);
        }
        Ok(self.outward(self.inner.parent(entry)?))
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        self.inner.subdirectories(self.inward(directory))
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        self.inner.lookup(self.inward(directory), name)
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.children(self.inward(directory), start, visit)
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        self.inner.child_count(self.inward(directory))
    }
}

/// The top-level names that a merged-/usr system makes links into `usr/`.
pub const USR_MERGE_NAMES: [&[u8]; 6] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32"];

/// The names of [`USR_MERGE_NAMES`] that some layer of the stack has as a symlink to `usr/NAME`.
pub fn usr_merge_links(layers: &[Arc<dyn Layer>]) -> Result<Vec<Vec<u8>>> {
    let mut links = Vec::new();
    for name in USR_MERGE_NAMES {
        let target = [b"usr/".as_slice(), name].concat();
        for layer in layers {
            let Some(entry) = layer.lookup(Entry::ROOT, name)? else { continue };
            if layer.metadata(entry)?.kind != Kind::Symlink {
                continue;
            }
            let found = layer.read_link(entry)?;
            if found == target || found.strip_prefix(b"/") == Some(target.as_slice()) {
                links.push(name.to_vec());
                break;
            }
        }
    }
    Ok(links)
}

/// Sends a layer's real top-level directories through the links of the system that it joins, as an
/// unpacker that follows them would: `lib/x` becomes `usr/lib/x` where `lib` is in `links`.
/// Without this the directory would replace the link, and hide what lies behind it.
pub fn fold_through_links(layer: Arc<dyn Layer>, links: &[Vec<u8>]) -> Result<Vec<Arc<dyn Layer>>> {
    let mut folded: Vec<(Vec<u8>, Entry)> = Vec::new();
    for name in links {
        if let Some(entry) = layer.lookup(Entry::ROOT, name)?
            && layer.metadata(entry)?.kind.is_directory()
        {
            folded.push((name.clone(), entry));
        }
    }
    if folded.is_empty() {
        return Ok(vec![layer]);
    }
    let hidden: Vec<Vec<u8>> = folded.iter().map(|(name, _)| name.clone()).collect();
    let mut parts: Vec<Arc<dyn Layer>> = vec![Arc::new(WithoutLayer::new(layer.clone(), &hidden)?)];
    for (name, entry) in folded {
        let subtree = Arc::new(SubtreeLayer::new(layer.clone(), entry)?);
        let place = [b"/usr/".as_slice(), &name].concat();
        parts.push(Arc::new(Placed::new(subtree, &place)?));
    }
    Ok(parts)
}
