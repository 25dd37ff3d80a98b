//! How two trees differ: which paths came, went, or changed, and in what.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use crate::content::{self, Content, Identity};
use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::layer::DataRun;
use crate::node::{Attributes, Ino, Kind, Metadata, ROOT_INO, Xattrs};
use crate::sysroot::Sysroot;

/// In what a path may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    Type,
    /// The 12 permission bits.
    Mode,
    /// User and group.
    Owner,
    /// Of a file.
    Size,
    /// A file's bytes.
    Content,
    /// A symlink's target.
    Target,
    Device,
    Xattrs,
    Mtime,
    /// The other names of the node: their number, or which they are.
    Links,
}

/// What is compared of a node, apart from a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub attributes: Attributes,
    /// Of a symlink.
    pub target: Option<Vec<u8>>,
    pub xattrs: Xattrs,
    /// SHA-256 of a file's content, where it is known without reading.
    pub digest: Option<[u8; 32]>,
    /// The first of the paths that the node has, in the order of the comparison, where it has
    /// several.
    pub first_path: Option<Vec<u8>>,
}

/// How a path is not the same in both trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    Added(&'a Facts),
    Removed(&'a Facts),
    Changed {
        from: &'a Facts,
        to: &'a Facts,
        /// Never empty.
        aspects: BTreeSet<Aspect>,
    },
}

/// Is told an absolute path and how it differs.
pub type OnDifference<'a> = dyn FnMut(&[u8], &Difference<'_>) -> Result<()> + 'a;

/// Compares two trees from their roots. Directories come before what is in them, names in bytewise
/// order; below a directory that came or went every path is told.
///
/// Aspects in `ignored` are not looked at: without [`Aspect::Content`] no file is read.
///
/// # Errors
/// What a tree or `visit` fails with.
pub fn diff(
    from: &Sysroot,
    to: &Sysroot,
    ignored: &BTreeSet<Aspect>,
    visit: &mut OnDifference<'_>,
) -> Result<()> {
    let (mut from, mut to) = (Side::new(from), Side::new(to));
    let mut waiting = vec![(b"/".to_vec(), Some(ROOT_INO), Some(ROOT_INO))];
    while let Some((path, left, right)) = waiting.pop() {
        let left = left.map(|ino| from.facts(ino, &path)).transpose()?;
        let right = right.map(|ino| to.facts(ino, &path)).transpose()?;
        let mut below: BTreeMap<Vec<u8>, (Option<Ino>, Option<Ino>)> = BTreeMap::new();
        if let Some(facts) = left.as_ref().filter(|facts| facts.is_directory()) {
            for (name, ino) in from.children(facts)? {
                below.entry(name).or_default().0 = Some(ino);
            }
        }
        if let Some(facts) = right.as_ref().filter(|facts| facts.is_directory()) {
            for (name, ino) in to.children(facts)? {
                below.entry(name).or_default().1 = Some(ino);
            }
        }
        waiting.extend(below.into_iter().rev().map(|(name, (a, b))| (join(&path, &name), a, b)));
        let difference = match (&left, &right) {
            (None, None) => None,
            (None, Some(new)) => Some(Difference::Added(new)),
            (Some(old), None) => Some(Difference::Removed(old)),
            (Some(old), Some(new)) => {
                let mut aspects = aspects(old, new);
                if !ignored.contains(&Aspect::Content) && !has_same_content(&from, old, &to, new)? {
                    aspects.insert(Aspect::Content);
                }
                aspects.retain(|aspect| !ignored.contains(aspect));
                let differs = !aspects.is_empty();
                differs.then_some(Difference::Changed { from: old, to: new, aspects })
            }
        };
        if let Some(difference) = difference {
            visit(&path, &difference)?;
        }
    }
    Ok(())
}

/// In what two nodes differ, their bytes apart. What only one kind of node has is not compared
/// between two kinds.
pub fn aspects(from: &Facts, to: &Facts) -> BTreeSet<Aspect> {
    let (a, b) = (&from.attributes.meta, &to.attributes.meta);
    let is_same_kind = kind_name(a.kind) == kind_name(b.kind);
    let has_mode = |meta: &Metadata| meta.kind != Kind::Symlink;
    let links = |facts: &Facts| match facts.is_directory() {
        true => (0, None),
        false => (facts.attributes.nlink, facts.first_path.clone()),
    };
    [
        (Aspect::Type, !is_same_kind),
        (Aspect::Mode, has_mode(a) && has_mode(b) && a.mode != b.mode),
        (Aspect::Owner, (a.uid, a.gid) != (b.uid, b.gid)),
        (Aspect::Size, is_same_kind && a.kind == Kind::File && a.size != b.size),
        (Aspect::Target, is_same_kind && from.target != to.target),
        (Aspect::Device, is_same_kind && a.kind.device() != b.kind.device()),
        (Aspect::Xattrs, from.xattrs != to.xattrs),
        (Aspect::Mtime, a.mtime != b.mtime),
        (Aspect::Links, is_same_kind && links(from) != links(to)),
    ]
    .into_iter()
    .filter_map(|(aspect, differs)| differs.then_some(aspect))
    .collect()
}

/// A word for a kind of node.
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::CharDevice(_) => "character device",
        Kind::BlockDevice(_) => "block device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

impl Facts {
    fn is_directory(&self) -> bool {
        self.attributes.meta.kind.is_directory()
    }
}

struct Side<'a> {
    tree: &'a Sysroot,
    /// Of nodes with several names.
    first_paths: HashMap<Ino, Vec<u8>>,
}

impl<'a> Side<'a> {
    fn new(tree: &'a Sysroot) -> Side<'a> {
        Side { tree, first_paths: HashMap::new() }
    }

    fn facts(&mut self, ino: Ino, path: &[u8]) -> Result<Facts> {
        let attributes = self.tree.attributes(ino)?;
        let kind = attributes.meta.kind;
        let target = match kind {
            Kind::Symlink => Some(self.tree.read_link(ino)?),
            _ => None,
        };
        let mut xattrs = Xattrs::new();
        for name in self.tree.list_xattrs(ino)? {
            let value = self.tree.get_xattr(ino, &name)?;
            xattrs.insert(name, value);
        }
        let digest = match kind {
            Kind::File => self.tree.digest(ino)?,
            _ => None,
        };
        let first_path = (attributes.nlink > 1 && !kind.is_directory())
            .then(|| self.first_paths.entry(ino).or_insert_with(|| path.to_vec()).clone());
        Ok(Facts { attributes, target, xattrs, digest, first_path })
    }

    fn children(&self, directory: &Facts) -> Result<Vec<(Vec<u8>, Ino)>> {
        let mut found = Vec::new();
        self.tree.read_directory(directory.attributes.ino, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                found.push((entry.name.to_vec(), entry.ino));
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// Whether two nodes are not both files, or hold the same bytes.
fn has_same_content(from: &Side<'_>, old: &Facts, to: &Side<'_>, new: &Facts) -> Result<bool> {
    let kinds = (old.attributes.meta.kind, new.attributes.meta.kind);
    if kinds != (Kind::File, Kind::File) {
        return Ok(true);
    }
    let file = |tree, facts: &Facts| SysrootFile { tree, attributes: facts.attributes };
    content::is_same(&file(from.tree, old), &file(to.tree, new))
}

struct SysrootFile<'a> {
    tree: &'a Sysroot,
    attributes: Attributes,
}

impl Content for SysrootFile<'_> {
    fn size(&self) -> Result<u64> {
        Ok(self.attributes.meta.size)
    }

    fn identities(&self) -> Result<Vec<Identity>> {
        self.tree.content_identities(self.attributes.ino)
    }

    fn next_data(&self, offset: u64) -> Result<Option<DataRun>> {
        self.tree.next_data(self.attributes.ino, offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.tree.read(self.attributes.ino, offset, buffer)
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, separator, name].concat()
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
