//! A layer whose tree is an index and whose bytes lie in a file beside it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::{DataRun, Entry, Layer, Whiteout, ends_early};
use crate::archive::Interpretation;
use crate::content::Identity;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;
use crate::index::{Fault, Index, Node, Payload};
use crate::node::{Kind, Metadata, Timestamp, Xattrs};

pub(super) mod build;
mod verify;

/// A read-only tree from a tar archive or from memory. Reading takes no lock.
pub struct IndexedLayer {
    label: String,
    index: Index,
    data: Data,
    /// How a damaged index is made anew; the entries keep their numbers, since an index is a
    /// function of its archive.
    recipe: Option<Recipe>,
    repaired: OnceLock<Index>,
    repairing: Mutex<()>,
    /// A shared lock that says that the cached files of this layer are in use.
    _in_use: Option<File>,
}

enum Data {
    File(File),
    Memory(Vec<u8>),
}

/// What an index was made from, for making it again.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub index_path: PathBuf,
    pub interpretation: Interpretation,
    pub digests: bool,
}

impl IndexedLayer {
    /// Opens an artifact: a plain tar with its index beside. An index that is missing, damaged or
    /// not of this tar is made anew, with a warning.
    pub fn open(label: &str, data: &Path, index: &Path) -> Result<IndexedLayer> {
        let file = File::open(data).map_err(|e| Error::host("cannot open", data, e))?;
        let identity = build::identity(&file, data, None)?;
        let recipe = Recipe {
            index_path: index.to_owned(),
            interpretation: Interpretation::Plain,
            digests: true,
        };
        let opened = match build::open_valid(index, &identity, identity.size) {
            Ok(Some(opened)) => opened,
            Ok(None) | Err(Error::Malformed { .. }) => {
                log::warn!("{label}: the index is missing, outdated or damaged; making it anew");
                build::rebuild(label, &file, &identity, &recipe)?
            }
            Err(error) => return Err(error),
        };
        Ok(IndexedLayer::from_parts(label, opened, file, Some(recipe)))
    }

    pub(super) fn from_parts(
        label: &str,
        index: Index,
        data: File,
        recipe: Option<Recipe>,
    ) -> IndexedLayer {
        IndexedLayer {
            label: label.to_owned(),
            index,
            data: Data::File(data),
            recipe,
            repaired: OnceLock::new(),
            repairing: Mutex::new(()),
            _in_use: None,
        }
    }

    /// Keeps `lock` as long as the layer lives.
    pub(super) fn holding(mut self, lock: Option<File>) -> IndexedLayer {
        self._in_use = lock;
        self
    }

    /// A layer that exists in memory only; data offsets of the index point into `data`.
    pub fn in_memory(label: &str, index: Vec<u8>, data: Vec<u8>) -> Result<IndexedLayer> {
        let index = Index::from_bytes(index).map_err(|fault| fault.into_error(label))?;
        Ok(IndexedLayer {
            label: label.to_owned(),
            index,
            data: Data::Memory(data),
            recipe: None,
            repaired: OnceLock::new(),
            repairing: Mutex::new(()),
            _in_use: None,
        })
    }

    /// Names in the tree, the root included.
    pub fn entry_count(&self) -> u64 {
        self.current().entry_count()
    }

    /// Bytes of the index.
    pub fn index_size(&self) -> u64 {
        self.current().size()
    }

    fn current(&self) -> &Index {
        self.repaired.get().unwrap_or(&self.index)
    }

    /// Asks the index; when it turns out to be damaged, makes it anew and asks again.
    fn ask<'a, T>(&'a self, question: impl Fn(&'a Index) -> Result<T, Fault>) -> Result<T> {
        match question(self.current()) {
            Ok(answer) => Ok(answer),
            Err(fault @ Fault::Damaged { .. }) => {
                let repaired = self.repair(fault)?;
                question(repaired).map_err(|fault| fault.into_error(&self.label))
            }
            Err(fault) => Err(fault.into_error(&self.label)),
        }
    }

    fn repair(&self, fault: Fault) -> Result<&Index> {
        let _one_at_a_time = self.repairing.lock();
        if let Some(repaired) = self.repaired.get() {
            return Ok(repaired);
        }
        let error = fault.into_error(&self.label);
        let (Some(recipe), Data::File(data)) = (&self.recipe, &self.data) else {
            return Err(error);
        };
        log::warn!("{error}; making the index anew");
        let source = self.index.source();
        let size = data.metadata().map_err(|e| Error::host("cannot stat", &self.label, e))?.len();
        let rebuilt = build::rebuild(&self.label, data, source, recipe)?;
        if size != self.index.data_size() || rebuilt.entry_count() != self.index.entry_count() {
            return Err(Error::malformed(
                self.label.clone(),
                "the archive was changed while it was in use",
            ));
        }
        Ok(self.repaired.get_or_init(|| rebuilt))
    }

    fn node(&self, entry: Entry) -> Result<Node> {
        self.ask(|index| index.node(entry.0))
    }

    fn file(&self, entry: Entry) -> Result<Node> {
        let node = self.node(entry)?;
        match node.metadata.kind {
            Kind::File => Ok(node),
            Kind::Directory => Err(Errno::ISDIR.into()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn read_data(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let ends_early = || Error::Malformed {
            layer: self.label.clone(),
            path: None,
            offset: Some(offset),
            problem: "the archive ends before the data of a file".to_owned(),
        };
        match &self.data {
            Data::File(file) => file.read_exact_at(buffer, offset).map_err(|error| {
                if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    return ends_early();
                }
                Error::host("cannot read", &self.label, error)
            }),
            Data::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| ends_early())?;
                let end = start.checked_add(buffer.len()).ok_or_else(ends_early)?;
                buffer.copy_from_slice(bytes.get(start..end).ok_or_else(ends_early)?);
                Ok(())
            }
        }
    }

    fn hand_on(&self, offset: u64, length: u64, sink: &mut dyn DataSink) -> Result<()> {
        match &self.data {
            Data::File(file) => {
                let taken = sink
                    .file(file, offset, length)
                    .map_err(|error| Error::host("cannot read", &self.label, error))?;
                if taken == length { Ok(()) } else { Err(ends_early(&self.label)) }
            }
            Data::Memory(bytes) => {
                let range = || {
                    let start = usize::try_from(offset).ok()?;
                    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
                };
                sink.bytes(range().ok_or_else(|| ends_early(&self.label))?)
            }
        }
    }

    fn hand_on_sparse(
        &self,
        node: &Node,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        let end = offset.saturating_add(length);
        let mut at = offset;
        let first = self.ask(|index| index.run_at(node, offset))?;
        let count = self.ask(|index| index.run_count(node))?;
        for position in first..count {
            let run = self.ask(|index| index.run(node, position))?;
            let from = run.file_offset.max(at);
            let to = run.file_offset.saturating_add(run.length).min(end);
            if from >= to {
                break;
            }
            sink.zeros(from.saturating_sub(at))?;
            let data = run.data_offset.saturating_add(from.saturating_sub(run.file_offset));
            self.hand_on(data, to.saturating_sub(from), sink)?;
            at = to;
        }
        sink.zeros(end.saturating_sub(at))
    }

    /// Fills a buffer that lies within the file from its runs, and zeros between them.
    fn read_sparse(&self, node: &Node, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0);
        let end = offset.saturating_add(buffer.len() as u64);
        let first = self.ask(|index| index.run_at(node, offset))?;
        let count = self.ask(|index| index.run_count(node))?;
        for position in first..count {
            let run = self.ask(|index| index.run(node, position))?;
            let from = run.file_offset.max(offset);
            let to = run.file_offset.saturating_add(run.length).min(end);
            if run.file_offset >= end {
                break;
            }
            let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
            let data = run.data_offset.saturating_add(from.saturating_sub(run.file_offset));
            if let Some(part) = buffer.get_mut(place(from)..place(to)) {
                self.read_data(data, part)?;
            }
        }
        Ok(())
    }
}

fn entry(number: u32) -> Entry {
    Entry(u64::from(number))
}

impl Layer for IndexedLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn version(&self) -> String {
        let source = self.index.source();
        match source.digest {
            Some(digest) => digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            None => {
                let Timestamp { seconds, nanoseconds } = source.mtime;
                format!("{} bytes of {seconds}.{nanoseconds:09}", source.size)
            }
        }
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        Ok(self.node(entry)?.metadata)
    }

    fn link_count(&self, entry: Entry) -> Result<u32> {
        let node = self.node(entry)?;
        self.ask(|index| index.link_count(&node))
    }

    fn names(&self, of: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        let node = self.node(of)?;
        let names = self.ask(|index| index.names(&node))?;
        Ok(names.into_iter().map(|(directory, name)| (entry(directory), name)).collect())
    }

    fn parent(&self, of: Entry) -> Result<Entry> {
        Ok(entry(self.ask(|index| index.parent(of.0))?))
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        match self.node(directory)?.payload {
            Payload::Directory { subdirectories, .. } => Ok(subdirectories),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.ask(|index| index.lookup(directory.0, name))?.map(entry))
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        let (first, count) = self.ask(|index| index.directory(directory.0))?;
        for position in u32::try_from(start).unwrap_or(u32::MAX)..count {
            let (name, number) = self.ask(|index| index.child(first, position))?;
            if visit(name, entry(number)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        Ok(u64::from(self.ask(|index| index.directory(directory.0))?.1))
    }

    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let node = self.file(entry)?;
        let left = node.metadata.size.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        match node.payload {
            Payload::Data { offset: start } => {
                self.read_data(start.saturating_add(offset), buffer)?;
            }
            _ => self.read_sparse(&node, offset, buffer)?,
        }
        Ok(wanted)
    }

    fn read_to(
        &self,
        entry: Entry,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        let node = self.file(entry)?;
        if offset.checked_add(length).is_none_or(|end| end > node.metadata.size) {
            return Err(Errno::INVAL.into());
        }
        match node.payload {
            Payload::Data { offset: start } => {
                self.hand_on(start.saturating_add(offset), length, sink)
            }
            _ => self.hand_on_sparse(&node, offset, length, sink),
        }
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>> {
        let node = self.node(entry)?;
        Ok(self.ask(|index| index.target(&node))?.to_vec())
    }

    fn xattrs(&self, entry: Entry) -> Result<Xattrs> {
        let node = self.node(entry)?;
        self.ask(|index| index.xattrs(&node))
    }

    fn has_xattrs(&self, entry: Entry) -> Result<bool> {
        let node = self.node(entry)?;
        self.ask(|index| index.has_xattrs(&node))
    }

    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        let node = self.file(entry)?;
        if offset >= node.metadata.size {
            return Ok(None);
        }
        if let Payload::Data { .. } = node.payload {
            let length = node.metadata.size.saturating_sub(offset);
            return Ok(Some(DataRun { offset, length }));
        }
        let position = self.ask(|index| index.run_at(&node, offset))?;
        if position >= self.ask(|index| index.run_count(&node))? {
            return Ok(None);
        }
        let run = self.ask(|index| index.run(&node, position))?;
        let start = run.file_offset.max(offset);
        let end = run.file_offset.saturating_add(run.length);
        Ok(Some(DataRun { offset: start, length: end.saturating_sub(start) }))
    }

    fn data_bytes(&self, entry: Entry) -> Result<u64> {
        let node = self.file(entry)?;
        if let Payload::Data { .. } = node.payload {
            return Ok(node.metadata.size);
        }
        let count = self.ask(|index| index.run_count(&node))?;
        let mut bytes = 0_u64;
        for position in 0..count {
            let run = self.ask(|index| index.run(&node, position))?;
            bytes = bytes.saturating_add(run.length);
        }
        Ok(bytes)
    }

    fn whiteout(&self, directory: Entry, name: &[u8]) -> Result<Option<Whiteout>> {
        let hidden = self.ask(|index| index.has_whiteout(directory.0, name))?;
        Ok(hidden.then_some(Whiteout::Name))
    }

    fn is_opaque(&self, directory: Entry) -> Result<bool> {
        match self.node(directory)?.payload {
            Payload::Directory { opaque, .. } => Ok(opaque),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn is_implied(&self, directory: Entry) -> Result<bool> {
        Ok(matches!(self.node(directory)?.payload, Payload::Directory { implied: true, .. }))
    }

    fn digest(&self, entry: Entry) -> Result<Option<[u8; 32]>> {
        let node = self.node(entry)?;
        self.ask(|index| index.digest(&node))
    }

    fn identity(&self, entry: Entry) -> Result<Option<Identity>> {
        let (Data::File(file), Payload::Data { offset }) = (&self.data, self.file(entry)?.payload)
        else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(file)?;
        Ok(Some(Identity::Stored { device: stat.st_dev, inode: stat.st_ino, offset }))
    }
}
