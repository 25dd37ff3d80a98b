//! Folds a package's top-level directories into `usr`, where merged systems have them.

use std::borrow::Cow;

use super::TarEntry;
use crate::error::Result;
use crate::index::{Builder, Content};
use crate::node::Kind;

/// The directories that Debian's usrmerge turns into symlinks.
const FOLDED: [&[u8]; 7] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libo32", b"libx32"];

pub(super) fn add(builder: &mut Builder, mut entry: TarEntry) -> Result<()> {
    if let Content::HardLink(target) = &entry.node.content
        && let Some(folded) = folded(target)
    {
        entry.node.content = Content::HardLink(folded);
    }
    let is_top = FOLDED.contains(&entry.path.as_slice());
    if is_top && entry.node.metadata.kind != Kind::Directory {
        // A package that ships the merged system's own link.
        return builder.add(&entry.path, entry.node);
    }
    let path = match folded(&entry.path) {
        // usr/bin's own description goes before that of the bin that is folded into it.
        Some(path) if is_top && builder.has_explicit(&path) => return Ok(()),
        Some(path) => Cow::Owned(path),
        None => Cow::Borrowed(&entry.path),
    };
    builder.add(&path, entry.node)
}

fn folded(path: &[u8]) -> Option<Vec<u8>> {
    let top = path.split(|&b| b == b'/').next()?;
    FOLDED.contains(&top).then(|| [b"usr/", path].concat())
}
