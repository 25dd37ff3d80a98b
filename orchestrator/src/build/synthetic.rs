//! The kit's list of nodes as a layer.

use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::synthetic::{self, SyntheticKind as Kind, SyntheticNode as Node};

use super::error::Result;
use crate::kit::{SyntheticKind, SyntheticNode};

/// The layer's.
pub const LABEL: &str = "the kit's own nodes";

/// What no package of the kit ships, as the topmost layer of the base.
pub fn layer(nodes: Vec<SyntheticNode>) -> Result<IndexedLayer> {
    let nodes = nodes.into_iter().map(|node| {
        let kind = match node.kind {
            SyntheticKind::Directory => Kind::Directory,
            SyntheticKind::File(content) => Kind::File(content.into_bytes()),
            SyntheticKind::Symlink(target) => Kind::Symlink(target.into_bytes()),
        };
        let mut converted = Node::new(node.path, kind, node.mode);
        converted.uid = node.uid;
        converted.gid = node.gid;
        converted
    });
    Ok(synthetic::layer(LABEL, nodes)?)
}
