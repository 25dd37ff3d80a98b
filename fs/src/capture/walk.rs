//! Walking a tree in the one order that archives have.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::options::Exclude;
use crate::error::{Errno, Error, Result};
use crate::filesystem::Filesystem;
use crate::node::{Attributes, Ino};

/// A name of the tree, seen by [`walk`].
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// From the walk's root, `/`-separated; empty for the root itself.
    pub path: &'a [u8],
    pub attributes: &'a Attributes,
    /// The path under which the same node was visited before.
    pub hard_link: Option<&'a [u8]>,
}

/// Visits a tree: the root, then everything below it in bytewise order of the paths, where
/// directories count with a slash at their end. So parents come first, a directory's content
/// stays together, and `LC_ALL=C sort` agrees with the order.
///
/// # Errors
/// What the tree or `visit` fails with; failures of the tree carry the path.
pub fn walk(
    fs: &dyn Filesystem,
    root: Ino,
    exclude: Option<Exclude<'_>>,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let mut first_names: HashMap<Ino, Vec<u8>> = HashMap::new();
    let attributes = fs.attributes(root).map_err(|error| at(error, &path))?;
    visit(Visit { path: &path, attributes: &attributes, hard_link: None })?;
    if !attributes.meta.kind.is_directory() {
        return Ok(());
    }
    let mut open = vec![Directory::open(fs, root, None, &path)?];
    while let Some(directory) = open.last_mut() {
        path.truncate(directory.path_length);
        let Some(mut name) = directory.names.pop() else {
            open.pop();
            continue;
        };
        if name.last() == Some(&b'/') {
            name.pop();
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let attributes = fs.lookup(directory.ino, &name).map_err(|error| at(error, &path))?;
        let hold = Hold { fs, ino: attributes.ino };
        if exclude.is_some_and(|excluded| excluded(&path, &attributes)) {
            continue;
        }
        let is_directory = attributes.meta.kind.is_directory();
        let linked = attributes.nlink > 1 && !is_directory;
        let first = first_names.get(&attributes.ino).filter(|_| linked);
        visit(Visit { path: &path, attributes: &attributes, hard_link: first.map(Vec::as_slice) })?;
        if linked && first.is_none() {
            first_names.insert(attributes.ino, path.clone());
        }
        if is_directory {
            open.push(Directory::open(fs, attributes.ino, Some(hold), &path)?);
        }
    }
    Ok(())
}

/// A directory on the way from the root to the current name.
struct Directory<'a> {
    ino: Ino,
    /// Kept until the directory has been walked; the root is its owner's to hold.
    _hold: Option<Hold<'a>>,
    path_length: usize,
    /// Names still to visit, the next one last; those of directories end in a slash.
    names: Vec<Vec<u8>>,
}

impl<'a> Directory<'a> {
    fn open(
        fs: &'a dyn Filesystem,
        ino: Ino,
        hold: Option<Hold<'a>>,
        path: &[u8],
    ) -> Result<Directory<'a>> {
        let mut names = Vec::new();
        fs.read_directory(ino, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                let mut name = entry.name.to_vec();
                if entry.kind.is_directory() {
                    name.push(b'/');
                }
                names.push(name);
            }
            ControlFlow::Continue(())
        })
        .map_err(|error| at(error, path))?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Directory { ino, _hold: hold, path_length: path.len(), names })
    }
}

/// What `lookup` granted, given back whatever happens.
struct Hold<'a> {
    fs: &'a dyn Filesystem,
    ino: Ino,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.ino, 1);
    }
}

/// Adds the path to an error that only knows a number. `CANCELED` is the capture's own word to its
/// caller and stays bare.
pub(super) fn at(error: Error, path: &[u8]) -> Error {
    match error {
        Error::Os(errno) if errno != Errno::CANCELED => {
            Error::host("cannot read", display(path), errno.into())
        }
        other => other,
    }
}

pub(super) fn display(path: &[u8]) -> PathBuf {
    format!("/{}", path.escape_ascii()).into()
}
