//! Listing a directory in batches, so that whoever listens may ask the tree meanwhile.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::node::{Ino, Kind};

/// A batch of a directory's entries. Batches grow: most directories fit the first, and a large
/// one is read in few calls.
struct Names {
    cookie: u64,
    batch: usize,
    bytes: Vec<u8>,
    /// End of the name in `bytes`, inode, kind, cookie of the next.
    entries: Vec<(usize, Ino, Kind, u64)>,
}

impl Names {
    const FIRST_BATCH: usize = 32;
    const LARGEST_BATCH: usize = 512;

    fn new(cookie: u64) -> Self {
        Names { cookie, batch: Self::FIRST_BATCH, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Reads the next batch; false at the end of the directory.
    fn fill(&mut self, tree: &dyn Filesystem, directory: Ino) -> Result<bool> {
        self.bytes.clear();
        self.entries.clear();
        let (batch, bytes, entries) = (self.batch, &mut self.bytes, &mut self.entries);
        tree.read_directory(directory, self.cookie, &mut |entry| {
            bytes.extend_from_slice(entry.name);
            entries.push((bytes.len(), entry.ino, entry.kind, entry.cookie));
            if entries.len() < batch { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.batch = batch.saturating_mul(2).min(Self::LARGEST_BATCH);
        match self.entries.last() {
            Some((.., next)) => self.cookie = *next,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn visit(
        &self,
        visit: &mut impl FnMut(&[u8], Ino, Kind, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut start = 0;
        for (end, ino, kind, next) in &self.entries {
            let name = self.bytes.get(start..*end).unwrap_or_default();
            visit(name, *ino, *kind, *next)?;
            start = *end;
        }
        ControlFlow::Continue(())
    }
}

/// Hands the entries of a directory from `cookie` on to `add` (name, inode, kind, cookie of the next)
/// until it says that the reply is full. A failure after the first batch waits for the next call:
/// the kernel shall have what it holds.
pub(super) fn list(
    tree: &dyn Filesystem,
    directory: Ino,
    cookie: u64,
    mut add: impl FnMut(&[u8], Ino, Kind, u64) -> ControlFlow<()>,
) -> Result<()> {
    let mut names = Names::new(cookie);
    let mut more = names.fill(tree, directory)?;
    while more && names.visit(&mut add).is_continue() {
        more = names.fill(tree, directory).unwrap_or(false);
    }
    Ok(())
}
