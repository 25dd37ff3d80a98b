//! Programs of one tree that run where another tree is the root: they start with a loader of another
//! name, and that loader looks elsewhere for what it loads.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Errno, Error, Result};
use crate::filesystem::{DirectoryEntry, Filesystem, Seek, Statistics};
use crate::node::{Attributes, Ino};

/// Programs have their headers in the first page: what the kernel reads to start them.
const HEADERS: usize = 4096;
/// The largest loader that is read into memory; glibc's has a quarter of a megabyte.
const LARGEST_LOADER: u64 = 16 << 20;
/// The largest program that is searched for strings; GCC 14's for C++ has 38 megabytes.
const LARGEST_PROGRAM: u64 = 256 << 20;

/// Where programs find their loader, and it what it loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// The loader's own file in the tree.
    pub loader: Ino,
    /// What programs name as their loader (`PT_INTERP`) in the place of what they do; shorter than that.
    pub interpreter: Vec<u8>,
    /// Strings of the loader, and what stands in their place; each pair of one length.
    pub strings: Vec<(Vec<u8>, Vec<u8>)>,
    /// Other files with strings of which something else stands in the place.
    pub others: Vec<Renamed>,
}

/// A file whose strings, with the zero at their end, are shown as others that are not longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    pub file: Ino,
    pub strings: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tree that cannot be changed, whose programs are shown so.
pub struct LoaderView {
    tree: Arc<dyn Filesystem>,
    relocation: Relocation,
    loader: Vec<u8>,
    /// What stands where in other files.
    patches: HashMap<Ino, Vec<(u64, Vec<u8>)>>,
}

impl LoaderView {
    /// # Errors
    /// What reading the files gives; `EINVAL` for one that does not have the strings.
    pub fn new(tree: Arc<dyn Filesystem>, relocation: Relocation) -> Result<LoaderView> {
        let mut loader = whole(&*tree, relocation.loader, LARGEST_LOADER)?;
        for (from, to) in &relocation.strings {
            if from.len() != to.len() || !replace(&mut loader, from, to) {
                return Err(Error::Os(Errno::INVAL));
            }
        }
        let mut patches = HashMap::new();
        for Renamed { file, strings } in &relocation.others {
            let content = whole(&*tree, *file, LARGEST_PROGRAM)?;
            let places: Result<Vec<_>> =
                strings.iter().map(|(from, to)| place_of_string(&content, from, to)).collect();
            patches.insert(*file, places?);
        }
        Ok(LoaderView { tree, relocation, loader, patches })
    }

    /// Puts other strings into what was read of a file.
    fn rename(&self, ino: Ino, offset: u64, bytes: &mut [u8]) {
        for (start, string) in self.patches.get(&ino).into_iter().flatten() {
            for (at, byte) in (*start..).zip(string) {
                let place = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(shown) = place.and_then(|place| bytes.get_mut(place)) {
                    *shown = *byte;
                }
            }
        }
    }

    /// Puts the other interpreter into what was read of a program.
    fn relocate(&self, ino: Ino, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let Ok(offset) = usize::try_from(offset) else { return Ok(()) };
        if offset >= HEADERS {
            return Ok(());
        }
        let mut headers = vec![0; HEADERS];
        let length = self.tree.read(ino, 0, &mut headers)?;
        headers.truncate(length);
        let Some(place) = interpreter(&headers) else { return Ok(()) };
        let name = &self.relocation.interpreter;
        if place.len() <= name.len() {
            return Ok(());
        }
        for (position, at) in place.enumerate() {
            let byte = name.get(position).copied().unwrap_or(0);
            if let Some(shown) = at.checked_sub(offset).and_then(|at| bytes.get_mut(at)) {
                *shown = byte;
            }
        }
        Ok(())
    }
}

fn whole(tree: &dyn Filesystem, ino: Ino, largest: u64) -> Result<Vec<u8>> {
    let size = tree.attributes(ino)?.meta.size.min(largest);
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match tree.read(ino, length as u64, rest)? {
            0 => break,
            count => length = length.saturating_add(count),
        }
    }
    content.truncate(length);
    Ok(content)
}

/// Where a program has a string, alone between two zeros, and what is to stand there, with as many bytes.
fn place_of_string(content: &[u8], from: &[u8], to: &[u8]) -> Result<(u64, Vec<u8>)> {
    let wanted = [b"\0", from, b"\0"].concat();
    let at = memchr::memmem::find(content, &wanted).filter(|_| to.len() <= from.len());
    let at = at.ok_or(Error::Os(Errno::INVAL))?;
    let mut shown = to.to_vec();
    shown.resize(from.len(), 0);
    Ok((at.saturating_add(1) as u64, shown))
}

/// Replaces every occurrence; whether there was one.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> bool {
    let mut found = false;
    let mut start = 0;
    while let Some(at) = bytes.get(start..).and_then(|rest| find(rest, from)) {
        let at = start.saturating_add(at);
        start = at.saturating_add(from.len());
        if let Some(place) = bytes.get_mut(at..start) {
            place.copy_from_slice(to);
            found = true;
        }
    }
    found
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len().max(1)).position(|window| window == wanted)
}

/// Where an ELF program of 64 bits and the host's byte order names its loader, with the zero at the end
/// (System V ABI, program header).
fn interpreter(headers: &[u8]) -> Option<std::ops::Range<usize>> {
    const PT_INTERP: u32 = 3;
    const ENTRY: usize = 56;
    if headers.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let u64_at = |at: usize| -> Option<usize> {
        let bytes = headers.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let table = u64_at(32)?;
    let count = u16::from_le_bytes(headers.get(56..58)?.try_into().ok()?);
    (0..usize::from(count)).find_map(|number| {
        let entry = table.checked_add(number.checked_mul(ENTRY)?)?;
        let kind = headers.get(entry..entry.checked_add(4)?)?.try_into().ok()?;
        if u32::from_le_bytes(kind) != PT_INTERP {
            return None;
        }
        let start = u64_at(entry.checked_add(8)?)?;
        let end = start.checked_add(u64_at(entry.checked_add(32)?)?)?;
        (end <= headers.len()).then_some(start..end)
    })
}

impl Filesystem for LoaderView {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.tree.lookup(parent, name)
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.tree.forget(ino, count);
    }

    fn remember(&self, ino: Ino) {
        self.tree.remember(ino);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        self.tree.attributes(ino)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.tree.read_link(ino)
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.tree.read_directory(directory, cookie, visit)
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if ino == self.relocation.loader {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.loader.len());
            let rest = self.loader.get(start..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
                to.copy_from_slice(from);
            }
            return Ok(length);
        }
        let length = self.tree.read(ino, offset, buffer)?;
        let bytes = buffer.get_mut(..length).unwrap_or_default();
        self.relocate(ino, offset, bytes)?;
        self.rename(ino, offset, bytes);
        Ok(length)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.tree.get_xattr(ino, name)
    }

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.tree.list_xattrs(ino)
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        self.tree.seek(ino, offset, seek)
    }

    fn statistics(&self) -> Result<Statistics> {
        self.tree.statistics()
    }

    fn is_immutable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Kind, Metadata, ROOT_INO};
    use crate::view::memory_tree::MemoryTree;

    const INTERPRETER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";

    /// A header, two program headers of which the second names the loader, and the name.
    fn program() -> Vec<u8> {
        let mut program = vec![0; 64 + 2 * 56];
        program[..5].copy_from_slice(b"\x7fELF\x02");
        program[32..40].copy_from_slice(&64u64.to_le_bytes());
        program[56..58].copy_from_slice(&2u16.to_le_bytes());
        let entry = 64 + 56;
        let place = program.len() as u64;
        program[entry..entry + 4].copy_from_slice(&3u32.to_le_bytes());
        program[entry + 8..entry + 16].copy_from_slice(&place.to_le_bytes());
        program[entry + 32..entry + 40].copy_from_slice(&(INTERPRETER.len() as u64).to_le_bytes());
        program.extend_from_slice(INTERPRETER);
        program.extend_from_slice(b"and /lib64/ld-linux-x86-64.so.2 again");
        program
    }

    fn view(interpreter: &[u8]) -> Result<(LoaderView, [Ino; 3])> {
        let tree = MemoryTree::new();
        let meta = Metadata { kind: Kind::File, ..Metadata::default_directory() };
        let loader = tree.put(ROOT_INO, b"ld", meta, b"..\0/etc/ld.so.cache\0/etc/ld.so.preload\0");
        let other = tree.put(ROOT_INO, b"text", meta, b"/etc/ld.so.cache");
        let program = tree.put(ROOT_INO, b"cc1", meta, &program());
        let strings = vec![(b"/etc/ld.so.".to_vec(), b"/dev/ld.so.".to_vec())];
        let others = vec![Renamed { file: other, strings: vec![] }];
        let relocation = Relocation { loader, interpreter: interpreter.to_vec(), strings, others };
        let view = LoaderView::new(Arc::new(tree.frozen()), relocation)?;
        Ok((view, [loader, other, program]))
    }

    fn content(view: &LoaderView, ino: Ino, offset: u64, piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            let length = view.read(ino, offset + all.len() as u64, &mut buffer).unwrap();
            if length == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..length]);
        }
    }

    #[test]
    fn a_program_names_the_other_loader_however_it_is_read() {
        let (view, [_, _, ino]) = view(b"/dev/ld.so").unwrap();
        let mut expected = program();
        let start = 64 + 2 * 56;
        expected[start..start + INTERPRETER.len()].fill(0);
        expected[start..start + 10].copy_from_slice(b"/dev/ld.so");
        for piece in [1, 7, 64, 180, 4096] {
            assert_eq!(content(&view, ino, 0, piece), expected, "{piece} at once");
        }
        assert_eq!(content(&view, ino, start as u64 + 3, 100), &expected[start + 3..]);
    }

    #[test]
    fn the_loader_looks_elsewhere_and_other_files_are_as_they_are() {
        let (view, [loader, other, _]) = view(b"/dev/ld.so").unwrap();
        let expected = b"..\0/dev/ld.so.cache\0/dev/ld.so.preload\0";
        for piece in [1, 5, 100] {
            assert_eq!(content(&view, loader, 0, piece), expected);
        }
        assert_eq!(content(&view, other, 0, 100), b"/etc/ld.so.cache");
    }

    #[test]
    fn what_cannot_be_put_in_is_left_or_refused() {
        let (view, [loader, _, ino]) = view(INTERPRETER).unwrap();
        assert_eq!(content(&view, ino, 0, 4096), program());
        let strings = vec![(b"/nowhere".to_vec(), b"/anywher".to_vec())];
        let others = Vec::new();
        let relocation = Relocation { loader, interpreter: Vec::new(), strings, others };
        let refused = LoaderView::new(view.tree.clone(), relocation).err().unwrap();
        assert_eq!(refused.errno(), Errno::INVAL);
    }

    #[test]
    fn a_string_of_another_program_is_shown_as_a_shorter_one() {
        let tree = MemoryTree::new();
        let meta = Metadata { kind: Kind::File, ..Metadata::default_directory() };
        let loader = tree.put(ROOT_INO, b"ld", meta, b"loader");
        let program = b"..\0/cross/include/c++\0/cross/include\0..";
        let file = tree.put(ROOT_INO, b"cc1plus", meta, program);
        let tree: Arc<dyn Filesystem> = Arc::new(tree.frozen());
        let view = |from: &[u8], to: &[u8]| {
            let others = vec![Renamed { file, strings: vec![(from.to_vec(), to.to_vec())] }];
            let (interpreter, strings) = (b"/dev/ld.so".to_vec(), Vec::new());
            let relocation = Relocation { loader, interpreter, strings, others };
            LoaderView::new(tree.clone(), relocation)
        };
        let shorter = view(b"/cross/include", b"/include").unwrap();
        let expected = b"..\0/cross/include/c++\0/include\0\0\0\0\0\0\0..";
        for piece in [1, 5, 100] {
            assert_eq!(content(&shorter, file, 0, piece), expected);
        }
        assert_eq!(content(&shorter, loader, 0, 3), b"loader");
        for (from, to) in [(&b"/include"[..], &b"/i"[..]), (b"/cross/include", b"/longer/include")]
        {
            assert_eq!(view(from, to).err().unwrap().errno(), Errno::INVAL);
        }
    }

    #[test]
    fn made_up_headers_are_no_program() {
        let whole = program();
        for length in 0..whole.len() {
            let _ = interpreter(&whole[..length]);
        }
        for at in 0..180 {
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = interpreter(&changed);
            }
        }
    }
}
