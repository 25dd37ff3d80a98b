//! Where the index of a stream goes while the stream is written.

use crate::error::Result;
use crate::index::{Builder, NewNode, SourceIdentity};
use crate::node::Timestamp;

pub use crate::index::{Content as IndexContent, NewNode as IndexNode, SparseRun as IndexRun};

/// Builds an index from the entries of a stream, in the stream's order.
pub trait IndexSink: Send {
    /// `path` is relative, without slashes at the ends; empty for the root. Metadata are as
    /// written: times by the capture's policy.
    fn add(&mut self, path: &[u8], node: NewNode) -> Result<()>;

    /// The whole index of a stream of that many bytes and that SHA-256.
    fn finish(self: Box<Self>, size: u64, sha256: [u8; 32]) -> Result<Vec<u8>>;
}

/// A builder for a stream whose size and digest are known only at its end.
pub(super) fn builder(label: &str) -> Box<dyn IndexSink> {
    let unknown = SourceIdentity { size: 0, mtime: Timestamp::EPOCH, digest: None };
    Box::new(Builder::new(unknown).labelled(label))
}

impl IndexSink for Builder {
    fn add(&mut self, path: &[u8], node: NewNode) -> Result<()> {
        Builder::add(self, path, node)
    }

    fn finish(mut self: Box<Self>, size: u64, sha256: [u8; 32]) -> Result<Vec<u8>> {
        // An artifact is known by its digest: its own mtime says nothing.
        self.set_source(SourceIdentity { size, mtime: Timestamp::EPOCH, digest: Some(sha256) });
        Builder::finish(*self)
    }
}
