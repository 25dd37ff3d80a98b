//! Layers: read-only trees from somewhere.

pub mod cache;
mod delegate;
pub mod directory;
pub mod git;
pub mod indexed;
pub mod oci;
pub mod open;
mod parallel;
pub mod placed;
pub mod subtree;
pub mod synthetic;
pub mod without;

use std::ops::ControlFlow;

use crate::content::Identity;
use crate::error::{Error, Result};
use crate::filesystem::DataSink;
use crate::node::{Metadata, Xattrs};

/// A node of one layer. Numbers are the layer's own, stable for its life, and below 2^40.
/// Names that are hard links of each other have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry(pub u64);

impl Entry {
    /// The layer's root directory.
    pub const ROOT: Entry = Entry(0);
}

/// How a name relates to what lower layers have under it (OCI image layers only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteout {
    /// The name is hidden.
    Name,
    /// Everything that lower layers have in this directory is hidden.
    Opaque,
}

/// A run of a file's bytes, for copying and `SEEK_HOLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRun {
    /// Offset in the file.
    pub offset: u64,
    pub length: u64,
}

/// Bytes that are read at once where a layer has no file to read from.
const PIECE: usize = 128 * 1024;

/// The fault of a layer whose file is shorter than it said.
pub(crate) fn ends_early(label: &str) -> Error {
    Error::malformed(label, "a file ends before its size")
}

/// A read-only tree. All methods may be called from many threads at once.
///
/// An `Entry` that the layer did not give out is answered with `Errno::STALE`, never a panic.
pub trait Layer: Send + Sync {
    /// How messages name the layer: a path, a git revision, a package.
    fn label(&self) -> &str;

    /// What tells this tree from another one of the same label; empty where nothing does.
    fn version(&self) -> String {
        String::new()
    }

    /// Whether the tree may change while it is in use: then nobody may remember anything of it.
    fn is_live(&self) -> bool {
        false
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata>;

    /// Names that the node has inside this layer (1 for a directory).
    fn link_count(&self, entry: Entry) -> Result<u32>;

    /// Every (directory, name) of a node with more than one name; one pair otherwise.
    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>>;

    /// The directory that holds the node (for a hard-linked node: its first name's).
    /// The root's parent is the root.
    fn parent(&self, entry: Entry) -> Result<Entry>;

    /// Number of subdirectories of a directory.
    fn subdirectories(&self, directory: Entry) -> Result<u32>;

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>>;

    /// Visits a directory's children in bytewise order of their names, without `.` and `..`,
    /// beginning with the `start`-th; `Break` ends the visit early.
    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()>;

    fn child_count(&self, directory: Entry) -> Result<u64>;

    /// Reads at most `buffer.len()` bytes of a file; fewer only at its end.
    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Hands a range that lies within a file on to a sink. A file that turns out shorter than its
    /// layer said is a fault of the layer.
    fn read_to(
        &self,
        entry: Entry,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(PIECE).min(PIECE)];
        let (mut at, mut left) = (offset, length);
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let count = self.read(entry, at, piece)?;
            if count == 0 {
                return Err(ends_early(self.label()));
            }
            sink.bytes(piece.get(..count).unwrap_or_default())?;
            at = at.saturating_add(count as u64);
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>>;

    fn xattrs(&self, entry: Entry) -> Result<Xattrs>;

    /// Whether the node has any xattr, without building the map.
    fn has_xattrs(&self, entry: Entry) -> Result<bool> {
        Ok(!self.xattrs(entry)?.is_empty())
    }

    /// The next run of data at or after `offset`; `None` where only a hole follows. Layers that
    /// know no holes answer the rest of the file.
    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>>;

    /// Bytes of data that a file holds (less than its size where it is sparse).
    fn data_bytes(&self, entry: Entry) -> Result<u64>;

    /// Whiteouts in a directory, by name; empty but for OCI layers.
    fn whiteout(&self, _directory: Entry, _name: &[u8]) -> Result<Option<Whiteout>> {
        Ok(None)
    }

    /// Whether the directory hides what lower layers have in it; false but for OCI layers.
    fn is_opaque(&self, _directory: Entry) -> Result<bool> {
        Ok(false)
    }

    /// Whether the layer only has something below the directory and does not describe it: what a
    /// lower layer says of it then counts.
    fn is_implied(&self, _directory: Entry) -> Result<bool> {
        Ok(false)
    }

    /// SHA-256 of a file's content, where it is known without reading.
    fn digest(&self, _entry: Entry) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    /// What else is known of a file's content without reading.
    fn identity(&self, _entry: Entry) -> Result<Option<Identity>> {
        Ok(None)
    }
}
