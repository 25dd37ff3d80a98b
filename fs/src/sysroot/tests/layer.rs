//! A layer in memory, built call by call.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::error::{Errno, Result};
use crate::layer::{DataRun, Entry, Layer, Whiteout};
use crate::node::{Kind, Metadata, Timestamp, Xattrs};

pub struct MemoryLayer {
    label: String,
    nodes: Vec<Node>,
}

struct Node {
    meta: Metadata,
    runs: BTreeMap<u64, Vec<u8>>,
    target: Vec<u8>,
    xattrs: Xattrs,
    children: BTreeMap<Vec<u8>, u64>,
    names: Vec<(Entry, Vec<u8>)>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: bool,
    implied: bool,
    unreadable_xattrs: bool,
}

impl Node {
    fn new(kind: Kind, mode: u16, names: Vec<(Entry, Vec<u8>)>) -> Node {
        Node {
            meta: Metadata { kind, mode, uid: 0, gid: 0, mtime: Timestamp::new(1_000, 5), size: 0 },
            runs: BTreeMap::new(),
            target: Vec::new(),
            xattrs: Xattrs::new(),
            children: BTreeMap::new(),
            names,
            whiteouts: BTreeSet::new(),
            opaque: false,
            implied: false,
            unreadable_xattrs: false,
        }
    }
}

/// Builder calls take absolute paths and make missing parents (0755).
impl MemoryLayer {
    pub fn new(label: &str) -> MemoryLayer {
        let root = Node::new(Kind::Directory, 0o755, vec![(Entry::ROOT, Vec::new())]);
        MemoryLayer { label: label.into(), nodes: vec![root] }
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(0, |at, name| self.nodes[at].children.get(name).map(|entry| *entry as usize))
    }

    fn parent_and_name(&mut self, path: &[u8]) -> (usize, Vec<u8>) {
        let cut = path.iter().rposition(|byte| *byte == b'/').expect("an absolute path");
        let name = path[cut + 1..].to_vec();
        let parent = &path[..cut];
        let at = match self.find(parent) {
            Some(at) => at,
            None => self.add(&path[..cut], Kind::Directory, 0o755),
        };
        (at, name)
    }

    fn add(&mut self, path: &[u8], kind: Kind, mode: u16) -> usize {
        let (parent, name) = self.parent_and_name(path);
        assert!(self.nodes[parent].meta.kind.is_directory());
        let entry = self.nodes.len();
        self.nodes.push(Node::new(kind, mode, vec![(Entry(parent as u64), name.clone())]));
        let before = self.nodes[parent].children.insert(name, entry as u64);
        assert!(before.is_none(), "a test layer has each path once");
        entry
    }

    pub fn exists(&self, path: &[u8]) -> bool {
        self.find(path).is_some()
    }

    pub fn is_directory(&self, path: &[u8]) -> bool {
        self.find(path).is_some_and(|at| self.nodes[at].meta.kind.is_directory())
    }

    pub fn node(mut self, path: impl AsRef<[u8]>, kind: Kind, mode: u16) -> Self {
        self.add(path.as_ref(), kind, mode);
        self
    }

    pub fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.node(path, Kind::Directory, 0o755)
    }

    pub fn file(self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        let size = bytes.len() as u64;
        let runs = if bytes.is_empty() { vec![] } else { vec![(0, bytes)] };
        self.sparse(path, size, runs)
    }

    pub fn sparse(mut self, path: impl AsRef<[u8]>, size: u64, runs: Vec<(u64, Vec<u8>)>) -> Self {
        let at = self.add(path.as_ref(), Kind::File, 0o644);
        self.nodes[at].meta.size = size;
        self.nodes[at].runs = runs.into_iter().collect();
        self
    }

    pub fn symlink(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let at = self.add(path.as_ref(), Kind::Symlink, 0o777);
        self.nodes[at].meta.size = target.as_ref().len() as u64;
        self.nodes[at].target = target.as_ref().to_vec();
        self
    }

    pub fn link(mut self, existing: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        let at = self.find(existing.as_ref()).expect("the link's target");
        let (parent, name) = self.parent_and_name(path.as_ref());
        self.nodes[parent].children.insert(name.clone(), at as u64);
        self.nodes[at].names.push((Entry(parent as u64), name));
        self
    }

    pub fn whiteout(mut self, path: impl AsRef<[u8]>) -> Self {
        let (parent, name) = self.parent_and_name(path.as_ref());
        self.nodes[parent].whiteouts.insert(name);
        self
    }

    /// Changes a node that is there.
    fn with(mut self, path: impl AsRef<[u8]>, change: impl FnOnce(&mut Node)) -> Self {
        let at = self.find(path.as_ref()).expect("the node to change");
        change(&mut self.nodes[at]);
        self
    }

    /// Lets the layer have a directory without describing it.
    pub fn implied(self, path: impl AsRef<[u8]>) -> Self {
        self.with(path, |node| node.implied = true)
    }

    /// Lets reading a node's xattrs fail, as in a damaged archive.
    pub fn unreadable_xattrs(self, path: impl AsRef<[u8]>) -> Self {
        self.with(path, |node| node.unreadable_xattrs = true)
    }

    pub fn opaque(self, path: impl AsRef<[u8]>) -> Self {
        self.with(path, |node| node.opaque = true)
    }

    /// Gives a node everything of `meta` that is not its kind or size.
    pub fn described(self, path: impl AsRef<[u8]>, meta: Metadata, xattrs: Xattrs) -> Self {
        self.with(path, |node| {
            let (kind, size) = (node.meta.kind, node.meta.size);
            node.meta = Metadata { kind, size, ..meta };
            node.xattrs = xattrs;
        })
    }

    pub fn mode(self, path: &str, mode: u16) -> Self {
        self.with(path, |node| node.meta.mode = mode)
    }

    pub fn owner(self, path: &str, uid: u32, gid: u32) -> Self {
        self.with(path, |node| (node.meta.uid, node.meta.gid) = (uid, gid))
    }

    pub fn xattr(self, path: &str, name: &str, value: &[u8]) -> Self {
        self.with(path, |node| {
            node.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
        })
    }

    fn get(&self, entry: Entry) -> Result<&Node> {
        let node = usize::try_from(entry.0).ok().and_then(|at| self.nodes.get(at));
        node.ok_or(Errno::STALE.into())
    }
}

impl Layer for MemoryLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        Ok(self.get(entry)?.meta)
    }

    fn link_count(&self, entry: Entry) -> Result<u32> {
        Ok(self.get(entry)?.names.len() as u32)
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        Ok(self.get(entry)?.names.clone())
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        Ok(self.get(entry)?.names[0].0)
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        let children = self.get(directory)?.children.values();
        let directories =
            children.filter(|child| self.nodes[**child as usize].meta.kind.is_directory());
        Ok(directories.count() as u32)
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.get(directory)?.children.get(name).map(|entry| Entry(*entry)))
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        for (name, entry) in self.get(directory)?.children.iter().skip(start as usize) {
            if visit(name, Entry(*entry)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        Ok(self.get(directory)?.children.len() as u64)
    }

    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let node = self.get(entry)?;
        let length = node.meta.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (index, byte) in buffer[..length].iter_mut().enumerate() {
            let at = offset + index as u64;
            *byte = node
                .runs
                .range(..=at)
                .next_back()
                .and_then(|(start, bytes)| bytes.get((at - start) as usize))
                .copied()
                .unwrap_or(0);
        }
        Ok(length)
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>> {
        Ok(self.get(entry)?.target.clone())
    }

    fn xattrs(&self, entry: Entry) -> Result<Xattrs> {
        let node = self.get(entry)?;
        if node.unreadable_xattrs { Err(Errno::IO.into()) } else { Ok(node.xattrs.clone()) }
    }

    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        let runs = self.get(entry)?.runs.iter();
        Ok(runs
            .map(|(start, bytes)| (*start, start + bytes.len() as u64))
            .find(|(_, end)| *end > offset)
            .map(|(start, end)| DataRun {
                offset: start.max(offset),
                length: end - start.max(offset),
            }))
    }

    fn data_bytes(&self, entry: Entry) -> Result<u64> {
        Ok(self.get(entry)?.runs.values().map(|bytes| bytes.len() as u64).sum())
    }

    fn whiteout(&self, directory: Entry, name: &[u8]) -> Result<Option<Whiteout>> {
        Ok(self.get(directory)?.whiteouts.contains(name).then_some(Whiteout::Name))
    }

    fn is_opaque(&self, directory: Entry) -> Result<bool> {
        Ok(self.get(directory)?.opaque)
    }

    fn is_implied(&self, directory: Entry) -> Result<bool> {
        Ok(self.get(directory)?.implied)
    }
}
