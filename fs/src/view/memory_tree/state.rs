//! The nodes of a tree in memory, and how names come and go.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Errno, Result};
use crate::filesystem::Creation;
use crate::node::{Attributes, Ino, Kind, Metadata, Timestamp, Xattrs};

pub const FIRST_COOKIE: u64 = 3;

pub struct Node {
    pub meta: Metadata,
    pub atime: Timestamp,
    pub ctime: Timestamp,
    pub nlink: u32,
    pub holds: u64,
    pub content: Vec<u8>,
    pub broken: bool,
    pub xattrs: Xattrs,
    pub parent: Ino,
    pub children: BTreeMap<Vec<u8>, (Ino, u64)>,
    pub by_cookie: BTreeMap<u64, Vec<u8>>,
    pub next_cookie: u64,
}

pub struct State {
    pub nodes: HashMap<Ino, Node>,
    pub next_ino: Ino,
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}

impl Node {
    pub fn new(kind: Kind, creation: Creation, parent: Ino) -> Self {
        let time = now();
        Node {
            meta: Metadata {
                kind,
                mode: creation.mode,
                uid: creation.uid,
                gid: creation.gid,
                mtime: time,
                size: 0,
            },
            atime: time,
            ctime: time,
            nlink: if kind.is_directory() { 2 } else { 0 },
            holds: 0,
            content: Vec::new(),
            broken: false,
            xattrs: Xattrs::new(),
            parent,
            children: BTreeMap::new(),
            by_cookie: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
        }
    }

    pub fn attributes(&self, ino: Ino) -> Attributes {
        Attributes {
            ino,
            meta: Metadata { size: self.content.len() as u64, ..self.meta },
            nlink: self.nlink,
            atime: self.atime,
            ctime: self.ctime,
            blocks: self.content.len().div_ceil(512) as u64,
        }
    }

    pub fn file(&mut self) -> Result<&mut Vec<u8>> {
        match self.meta.kind {
            Kind::File => {
                self.meta.mtime = now();
                self.ctime = self.meta.mtime;
                Ok(&mut self.content)
            }
            Kind::Directory => Err(Errno::ISDIR.into()),
            _ => Err(Errno::INVAL.into()),
        }
    }
}

impl State {
    pub fn node(&self, ino: Ino) -> Result<&Node> {
        self.nodes.get(&ino).ok_or_else(|| Errno::STALE.into())
    }

    pub fn node_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or_else(|| Errno::STALE.into())
    }

    pub fn directory(&mut self, ino: Ino) -> Result<&mut Node> {
        let node = self.node_mut(ino)?;
        if node.meta.kind.is_directory() { Ok(node) } else { Err(Errno::NOTDIR.into()) }
    }

    pub fn find(&self, parent: Ino, name: &[u8]) -> Result<Ino> {
        let node = self.node(parent)?;
        if !node.meta.kind.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        node.children.get(name).map(|(ino, _)| *ino).ok_or_else(|| Errno::NOENT.into())
    }

    pub fn attach(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<()> {
        let directory = self.directory(parent)?;
        if directory.children.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let cookie = directory.next_cookie;
        directory.next_cookie += 1;
        directory.children.insert(name.to_vec(), (ino, cookie));
        directory.by_cookie.insert(cookie, name.to_vec());
        directory.meta.mtime = now();
        let node = self.node_mut(ino)?;
        if node.meta.kind.is_directory() {
            node.parent = parent;
            self.node_mut(parent)?.nlink += 1;
        } else {
            node.nlink += 1;
            node.ctime = now();
        }
        Ok(())
    }

    pub fn detach(&mut self, parent: Ino, name: &[u8]) -> Result<Ino> {
        let directory = self.directory(parent)?;
        let (ino, cookie) = directory.children.remove(name).ok_or(Errno::NOENT)?;
        directory.by_cookie.remove(&cookie);
        directory.meta.mtime = now();
        if self.node(ino)?.meta.kind.is_directory() {
            self.node_mut(parent)?.nlink -= 1;
        } else {
            let node = self.node_mut(ino)?;
            node.nlink -= 1;
            node.ctime = now();
        }
        Ok(ino)
    }

    pub fn remove_if_unused(&mut self, ino: Ino) {
        if self.nodes.get(&ino).is_some_and(|node| node.nlink == 0 && node.holds == 0) {
            self.nodes.remove(&ino);
        }
    }

    pub fn make(
        &mut self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        creation: Creation,
        content: &[u8],
    ) -> Result<Attributes> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        let mut node = Node::new(kind, creation, parent);
        node.content = content.to_vec();
        node.holds = 1;
        self.nodes.insert(ino, node);
        if let Err(error) = self.attach(parent, name, ino) {
            self.nodes.remove(&ino);
            return Err(error);
        }
        Ok(self.node(ino)?.attributes(ino))
    }

    pub fn remove(&mut self, parent: Ino, name: &[u8]) -> Result<()> {
        let ino = self.detach(parent, name)?;
        if self.node(ino)?.meta.kind.is_directory() {
            self.node_mut(ino)?.nlink = 0;
        }
        self.remove_if_unused(ino);
        Ok(())
    }
}
