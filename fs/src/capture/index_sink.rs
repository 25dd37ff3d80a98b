//! Where the index of a stream goes while the stream is written.

use crate::error::Result;
use crate::node::{Metadata, Xattrs};

/// Bytes of a file and where they stand in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRun {
    pub file_offset: u64,
    /// Offset in the stream.
    pub data_offset: u64,
    pub length: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexContent {
    None,
    /// All of a file's bytes, at this offset in the stream.
    Data {
        offset: u64,
    },
    Sparse {
        runs: Vec<IndexRun>,
    },
    Target(Vec<u8>),
    /// Path of the entry that has the content.
    HardLink(Vec<u8>),
}

/// One entry of the stream, as written: times by the capture's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexNode {
    pub metadata: Metadata,
    pub content: IndexContent,
    pub xattrs: Xattrs,
    /// SHA-256 of a file's content, holes read as zeros.
    pub digest: Option<[u8; 32]>,
}

/// Builds an index from the entries of a stream, in the stream's order.
pub trait IndexSink: Send {
    /// `path` is relative, without slashes at the ends; empty for the root.
    fn add(&mut self, path: &[u8], node: IndexNode) -> Result<()>;

    /// The whole index of a stream of that many bytes and that SHA-256.
    fn finish(self: Box<Self>, size: u64, sha256: [u8; 32]) -> Result<Vec<u8>>;
}
