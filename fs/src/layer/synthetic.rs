//! A layer from a list of nodes, with contents in memory.

#![forbid(unsafe_code)]

use super::indexed::IndexedLayer;
use crate::error::Result;
use crate::index::{Builder, Content, NewNode, SourceIdentity};
use crate::node::{Device, Kind, Metadata, Timestamp, Xattrs};

mod list;

pub use list::{ListError, parse};

/// What a listed node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntheticKind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// One more name of an earlier node; only the path of the new one matters.
    HardLink(Vec<u8>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
}

/// A node of a synthetic layer. Paths may begin with a slash; that of the root is `/` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticNode {
    pub path: Vec<u8>,
    pub kind: SyntheticKind,
    /// The 12 permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub xattrs: Xattrs,
}

impl SyntheticNode {
    /// A node of root's, at the epoch, without xattrs.
    pub fn new(path: impl AsRef<[u8]>, kind: SyntheticKind, mode: u16) -> Self {
        SyntheticNode {
            path: path.as_ref().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            xattrs: Xattrs::new(),
        }
    }
}

/// Makes a layer of nodes, in the order in which unpacking them would happen.
pub fn layer(label: &str, nodes: impl IntoIterator<Item = SyntheticNode>) -> Result<IndexedLayer> {
    let source = SourceIdentity { size: 0, mtime: Timestamp::EPOCH, digest: None };
    let mut builder = Builder::new(source).labelled(label);
    let mut data = Vec::new();
    for node in nodes {
        add(&mut builder, &mut data, node)?;
    }
    builder.set_data_size(data.len() as u64);
    IndexedLayer::in_memory(label, builder.finish()?, data)
}

fn add(builder: &mut Builder, data: &mut Vec<u8>, node: SyntheticNode) -> Result<()> {
    let mut size = 0;
    let (kind, content) = match node.kind {
        SyntheticKind::Directory => (Kind::Directory, Content::None),
        SyntheticKind::File(bytes) => {
            size = bytes.len() as u64;
            let offset = data.len() as u64;
            data.extend_from_slice(&bytes);
            (Kind::File, Content::Data { offset })
        }
        SyntheticKind::Symlink(target) => (Kind::Symlink, Content::Target(target)),
        SyntheticKind::HardLink(target) => {
            (Kind::File, Content::HardLink(relative(&target).to_vec()))
        }
        SyntheticKind::CharDevice(device) => (Kind::CharDevice(device), Content::None),
        SyntheticKind::BlockDevice(device) => (Kind::BlockDevice(device), Content::None),
        SyntheticKind::Fifo => (Kind::Fifo, Content::None),
        SyntheticKind::Socket => (Kind::Socket, Content::None),
    };
    let mode = if kind == Kind::Symlink { 0o777 } else { node.mode };
    let metadata = Metadata { kind, mode, uid: node.uid, gid: node.gid, mtime: node.mtime, size };
    let new = NewNode { metadata, content, xattrs: node.xattrs, digest: None };
    builder.add(relative(&node.path), new)
}

fn relative(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}
