//! Stripping what a chunk has installed, on the host (docs/artifacts.md, "Stripping").

#![forbid(unsafe_code)]

pub mod elf;

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;

use object::read::{ReadCache, ReadCacheOps};
use outcrop_fs::capture::{Visit, walk};
use outcrop_fs::filesystem::{Filesystem, SetAttributes, SetTime};
use outcrop_fs::node::{Ino, Kind};
use outcrop_fs::{Errno, Error, Result};
use sha2::{Digest, Sha256};

/// What stripping did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub files: u64,
    /// Bytes that the files are smaller by.
    pub saved: u64,
}

/// Strips every file below `root` that is to be, in place. Mode, owner, xattrs and modification
/// time stay; what is no ELF file, or is in any doubt, is left byte for byte.
///
/// # Errors
/// Failures of the tree, with the path.
pub fn strip_tree(fs: &dyn Filesystem, root: Ino) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut done: HashSet<Ino> = HashSet::new();
    walk(fs, root, None, &mut |visit| {
        let attributes = visit.attributes;
        if !is_candidate(&visit) || attributes.nlink > 1 && !done.insert(attributes.ino) {
            return Ok(());
        }
        let saved = strip_file(fs, &visit).map_err(|error| at(error, visit.path))?;
        if saved > 0 {
            summary.files = summary.files.saturating_add(1);
            summary.saved = summary.saved.saturating_add(saved);
        }
        Ok(())
    })?;
    Ok(summary)
}

/// Executable by all, or named as what is loaded at run time.
fn is_candidate(visit: &Visit<'_>) -> bool {
    let meta = visit.attributes.meta;
    let name = visit.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    meta.kind == Kind::File
        && (meta.mode & 0o111 == 0o111
            || name.windows(3).any(|part| part == b".so")
            || name.ends_with(b".cmxs")
            || name.ends_with(b".node"))
}

/// Bytes that the file is smaller by.
fn strip_file(fs: &dyn Filesystem, visit: &Visit<'_>) -> Result<u64> {
    let (ino, meta) = (visit.attributes.ino, visit.attributes.meta);
    let failure = RefCell::new(None);
    let file = FileOfTree { fs, ino, size: meta.size, position: 0, failure: &failure };
    let cache = ReadCache::new(file);
    let stripped = elf::strip(&cache);
    drop(cache);
    // A file that cannot be read must not pass for one that is damaged.
    if let Some(error) = failure.into_inner() {
        return Err(error);
    }
    let Some(stripped) = stripped else { return Ok(0) };
    let set = |set: SetAttributes| fs.set_attributes(ino, &set).map(drop);
    set(SetAttributes { size: Some(stripped.kept), ..SetAttributes::default() })?;
    fs.write(ino, stripped.kept, &stripped.tail)?;
    fs.write(ino, 0, &stripped.header)?;
    if let Some(place) = stripped.build_id {
        renew_build_id(fs, ino, &place)?;
    }
    set(SetAttributes { mtime: Some(SetTime::At(meta.mtime)), ..SetAttributes::default() })?;
    let size = stripped.kept.saturating_add(stripped.tail.len() as u64);
    Ok(meta.size.saturating_sub(size))
}

/// Makes the build id a sum of what is left: the linker's covers debug information, too, which is not
/// the same for everybody who compiles.
fn renew_build_id(fs: &dyn Filesystem, ino: Ino, place: &Range<u64>) -> Result<()> {
    let length = place.end.saturating_sub(place.start);
    let zeros = vec![0; usize::try_from(length).unwrap_or_default()];
    fs.write(ino, place.start, &zeros)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut position = 0;
    loop {
        let count = fs.read(ino, position, &mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        sum.update(bytes);
        position = position.saturating_add(count as u64);
    }
    let sum = sum.finalize();
    fs.write(ino, place.start, sum.get(..zeros.len()).unwrap_or_default())?;
    Ok(())
}

/// What is read at once, in bytes.
const PIECE: usize = 1 << 18;

fn at(error: Error, path: &[u8]) -> Error {
    match error {
        Error::Os(errno) => {
            Error::host("cannot strip", format!("/{}", path.escape_ascii()), errno.into())
        }
        other => other,
    }
}

/// A file of the tree as `object` reads it: only the headers and the sections that move.
struct FileOfTree<'a> {
    fs: &'a dyn Filesystem,
    ino: Ino,
    size: u64,
    position: u64,
    /// Why the tree could not be read.
    failure: &'a RefCell<Option<Error>>,
}

impl FileOfTree<'_> {
    fn note(&self, error: Error) {
        self.failure.replace(Some(error));
    }
}

impl ReadCacheOps for FileOfTree<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.size)
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let count =
            self.fs.read(self.ino, self.position, buffer).map_err(|error| self.note(error))?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        let count = self.read(buffer)?;
        if count == buffer.len() {
            return Ok(());
        }
        // The library asks for nothing behind the end that `len` told.
        self.note(Errno::IO.into());
        Err(())
    }
}

#[cfg(test)]
mod tests;
