//! A read-only tree in memory with every kind of node: what tests capture and export.
//!
//! Directories are reported in reverse order, so that nobody can rely on a tree's own order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};

use super::outcrop_fs::filesystem::{DirectoryEntry, Filesystem, Seek, Statistics};
use super::outcrop_fs::node::ROOT_INO;
use super::outcrop_fs::{
    Device, Errno, Error, Ino, Kind, Metadata, Result, Timestamp, Xattrs, node::Attributes,
};

#[derive(Debug, Clone, Default)]
pub struct Node {
    pub xattrs: Xattrs,
    pub target: Vec<u8>,
    /// Runs of data by offset; a plain file has one.
    pub data: BTreeMap<u64, Vec<u8>>,
    pub names: BTreeMap<Vec<u8>, Ino>,
    pub nlink: u32,
    /// Reading at or beyond this offset fails with EIO.
    pub broken_from: Option<u64>,
    /// The content ends here although the size says otherwise.
    pub cut_at: Option<u64>,
}

#[derive(Debug)]
pub struct MemoryTree {
    pub nodes: Vec<(Metadata, Node)>,
    pub holds: AtomicI64,
}

pub fn metadata(kind: Kind, mode: u16, uid: u32, gid: u32) -> Metadata {
    Metadata { kind, mode, uid, gid, mtime: Timestamp::new(1_700_000_000, 0), size: 0 }
}

impl MemoryTree {
    pub fn new() -> Self {
        let node = Node { nlink: 2, ..Node::default() };
        let meta = metadata(Kind::Directory, 0o755, 0, 0);
        MemoryTree { nodes: vec![(meta, node)], holds: AtomicI64::new(0) }
    }

    fn at(&self, ino: Ino) -> Result<&(Metadata, Node)> {
        self.nodes.get((ino - ROOT_INO) as usize).ok_or(Error::Os(Errno::STALE))
    }

    pub fn node_mut(&mut self, ino: Ino) -> &mut (Metadata, Node) {
        &mut self.nodes[(ino - ROOT_INO) as usize]
    }

    pub fn add(&mut self, parent: Ino, name: &[u8], meta: Metadata) -> Ino {
        let ino = self.nodes.len() as Ino + ROOT_INO;
        let nlink = if meta.kind.is_directory() { 2 } else { 0 };
        self.nodes.push((meta, Node { nlink, ..Node::default() }));
        if meta.kind.is_directory() {
            self.node_mut(parent).1.names.insert(name.to_vec(), ino);
            self.node_mut(parent).1.nlink += 1;
        } else {
            self.add_link(ino, parent, name);
        }
        ino
    }

    pub fn file(&mut self, parent: Ino, name: &[u8], meta: Metadata, data: &[u8]) -> Ino {
        let ino = self.add(parent, name, Metadata { size: data.len() as u64, ..meta });
        if !data.is_empty() {
            self.node_mut(ino).1.data.insert(0, data.to_vec());
        }
        ino
    }

    pub fn symlink(&mut self, parent: Ino, name: &[u8], target: &[u8]) -> Ino {
        let mut meta = metadata(Kind::Symlink, 0o777, 0, 0);
        meta.size = target.len() as u64;
        let ino = self.add(parent, name, meta);
        self.node_mut(ino).1.target = target.to_vec();
        ino
    }

    pub fn add_link(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        self.node_mut(ino).1.nlink += 1;
        self.node_mut(parent).1.names.insert(name.to_vec(), ino);
    }

    pub fn xattr(&mut self, ino: Ino, name: &[u8], value: &[u8]) {
        self.node_mut(ino).1.xattrs.insert(name.to_vec(), value.to_vec());
    }

    /// The whole content, holes as zeros.
    pub fn content(&self, ino: Ino) -> Vec<u8> {
        let (meta, node) = self.at(ino).unwrap();
        let mut content = vec![0; meta.size as usize];
        for (offset, run) in &node.data {
            content[*offset as usize..*offset as usize + run.len()].copy_from_slice(run);
        }
        content
    }
}

/// One of everything that an image can hold.
pub fn everything() -> MemoryTree {
    let mut tree = MemoryTree::new();
    let (null, disk) = (Device { major: 1, minor: 3 }, Device { major: 8, minor: 300_000 });
    tree.node_mut(ROOT_INO).0.mode = 0o751;
    let dev = tree.add(ROOT_INO, b"dev", metadata(Kind::Directory, 0o755, 0, 0));
    tree.add(dev, b"null", metadata(Kind::CharDevice(null), 0o666, 0, 0));
    tree.add(dev, b"disk", metadata(Kind::BlockDevice(disk), 0o660, 0, 6));
    tree.add(dev, b"pipe", metadata(Kind::Fifo, 0o600, 5, 5));
    let bin = tree.add(ROOT_INO, b"bin", metadata(Kind::Directory, 0o755, 0, 0));
    let su = tree.file(bin, b"su", metadata(Kind::File, 0o4755, 0, 0), b"#!/bin/true\n");
    tree.add_link(su, bin, b"su-link");
    tree.symlink(bin, b"sh", b"su");
    let ping = tree.file(bin, b"ping", metadata(Kind::File, 0o755, 0, 0), &[7; 5000]);
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    tree.xattr(ping, b"security.capability", capability);
    tree.xattr(ping, b"user.note", b"hello");
    tree.add(ROOT_INO, b"tmp", metadata(Kind::Directory, 0o1777, 0, 0));
    let home = tree.add(ROOT_INO, b"home", metadata(Kind::Directory, 0o2750, 1000, 3_000_000));
    tree.file(home, b"notes", metadata(Kind::File, 0o640, 1000, 3_000_000), b"mine\n");
    tree.file(home, b"empty", metadata(Kind::File, 0o600, 4_000_000_000, 0), b"");
    let big = tree.add(home, b"holes", metadata(Kind::File, 0o644, 1000, 1000));
    tree.node_mut(big).0.size = 1 << 20;
    tree.node_mut(big).1.data.insert(128 * 1024, vec![9; 70_000]);
    let long = [b'n'; 240];
    tree.file(home, &long, metadata(Kind::File, 0o644, 0, 0), b"long name");
    tree.file(home, b"caf\xe9", metadata(Kind::File, 0o644, 0, 0), b"not UTF-8");
    tree
}

impl Filesystem for MemoryTree {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let ino = *self.at(parent)?.1.names.get(name).ok_or(Error::Os(Errno::NOENT))?;
        self.holds.fetch_add(1, Ordering::Relaxed);
        self.attributes(ino)
    }

    fn forget(&self, _ino: Ino, count: u64) {
        self.holds.fetch_sub(count as i64, Ordering::Relaxed);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        let (meta, node) = self.at(ino)?;
        let blocks = node.data.values().map(|run| run.len().div_ceil(512) as u64).sum();
        let (meta, nlink) = (*meta, node.nlink);
        Ok(Attributes { ino, meta, nlink, atime: meta.mtime, ctime: meta.mtime, blocks })
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        Ok(self.at(ino)?.1.target.clone())
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (_, node) = self.at(directory)?;
        let dots = [(&b"."[..], directory), (&b".."[..], directory)].into_iter();
        let names = node.names.iter().rev().map(|(name, ino)| (name.as_slice(), *ino));
        for (position, (name, ino)) in dots.chain(names).enumerate().skip(cookie as usize) {
            let kind = self.at(ino)?.0.kind;
            let cookie = position as u64 + 1;
            if visit(DirectoryEntry { name, ino, kind, cookie }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (meta, node) = self.at(ino)?;
        let size = meta.size.min(node.cut_at.unwrap_or(u64::MAX));
        let length = (buffer.len() as u64).min(size.saturating_sub(offset));
        if node.broken_from.is_some_and(|from| offset + length > from) {
            return Err(Error::Os(Errno::IO));
        }
        buffer.fill(0);
        for (start, run) in &node.data {
            let from = offset.max(*start);
            let to = (offset + length).min(start + run.len() as u64);
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&run[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(length as usize)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.at(ino)?.1.xattrs.get(name).cloned().ok_or(Error::Os(Errno::NODATA))
    }

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(self.at(ino)?.1.xattrs.keys().rev().cloned().collect())
    }

    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        let (meta, node) = self.at(ino)?;
        if offset >= meta.size {
            return Err(Error::Os(Errno::NXIO));
        }
        let runs = node.data.iter().map(|(start, run)| (*start, start + run.len() as u64));
        match seek {
            Seek::Data => runs
                .filter(|(_, end)| *end > offset)
                .map(|(start, _)| start.max(offset))
                .next()
                .ok_or(Error::Os(Errno::NXIO)),
            Seek::Hole => {
                let mut position = offset;
                for (start, end) in runs {
                    if start <= position && position < end {
                        position = end;
                    }
                }
                Ok(position)
            }
        }
    }

    fn statistics(&self) -> Result<Statistics> {
        Err(Error::Os(Errno::NOSYS))
    }

    fn is_immutable(&self) -> bool {
        true
    }
}
