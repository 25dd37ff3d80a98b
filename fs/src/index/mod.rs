//! The index of an archive: a mapped, checksummed table of its nodes (docs/index-format.md).

mod builder;
mod format;
mod map;
mod reader;

pub(crate) use builder::printable;
pub use builder::{Builder, Content, NewNode};
pub use format::{SourceIdentity, SparseRun};
pub use reader::{Fault, Index, Node, Payload};
