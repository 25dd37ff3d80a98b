//! The reference: a file tree as plain as it can be, without layers, spool or sharing.

use std::collections::BTreeMap;

mod layers;

use crate::error::Errno;
use crate::filesystem::{Allocate, Creation, Rename, SetAttributes, SetTime, SetXattr};
use crate::node::{Kind, Timestamp, Xattrs};

pub use layers::Said;

pub type Id = usize;
pub const ROOT: Id = 0;
pub const CAPABILITY: &[u8] = b"security.capability";

/// A time of a node. The model has no clock: what became "now" only has to be another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    At(Timestamp),
    ChangedFrom(Timestamp),
}

impl Time {
    fn change(&mut self) {
        if let Time::At(time) = *self {
            *self = Time::ChangedFrom(time);
        }
    }

    fn set(&mut self, to: SetTime) {
        match to {
            SetTime::Now => self.change(),
            SetTime::At(time) => *self = Time::At(time),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// A file's content or a symlink's target.
    pub bytes: Vec<u8>,
    pub xattrs: Xattrs,
    pub children: BTreeMap<Vec<u8>, Id>,
    pub temporary: bool,
}

impl Node {
    /// A node of a layer.
    pub fn new(kind: Kind, mode: u16, bytes: Vec<u8>, mtime: Timestamp) -> Node {
        Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            atime: Time::At(mtime),
            mtime: Time::At(mtime),
            ctime: Time::At(mtime),
            bytes,
            xattrs: Xattrs::new(),
            children: BTreeMap::new(),
            temporary: false,
        }
    }

    fn touch(&mut self) {
        self.mtime.change();
        self.ctime.change();
    }

    fn lose_privileges(&mut self) {
        if self.kind.is_directory() {
            return;
        }
        self.xattrs.remove(CAPABILITY);
        let lost = if self.mode & 0o010 != 0 { 0o6000 } else { 0o4000 };
        self.mode &= !lost;
    }
}

/// Nodes stay for ever; what is not reachable is either open or forgotten.
#[derive(Debug, Clone)]
pub struct Model {
    pub nodes: Vec<Node>,
}

type Outcome<T> = Result<T, Errno>;

impl Model {
    pub fn new() -> Model {
        Model { nodes: vec![Node::new(Kind::Directory, 0o755, vec![], Timestamp::EPOCH)] }
    }

    pub fn find(&self, path: &[u8]) -> Option<Id> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(ROOT, |at, name| self.nodes[at].children.get(name).copied())
    }

    /// Every reachable node with its number of names (2 + subdirectories for a directory).
    pub fn reachable(&self) -> BTreeMap<Id, u32> {
        let mut links = BTreeMap::from([(ROOT, 2)]);
        let mut waiting = vec![ROOT];
        while let Some(at) = waiting.pop() {
            for child in self.nodes[at].children.values() {
                if self.nodes[*child].kind.is_directory() {
                    waiting.push(*child);
                    *links.entry(at).or_default() += 1;
                    *links.entry(*child).or_default() += 2;
                } else {
                    *links.entry(*child).or_default() += 1;
                }
            }
        }
        links
    }

    fn put(&mut self, directory: Id, name: &[u8], id: Id) {
        self.nodes[directory].children.insert(name.to_vec(), id);
        self.nodes[directory].touch();
    }

    fn take(&mut self, directory: Id, name: &[u8]) {
        let id = self.nodes[directory].children.remove(name).expect("a name that is there");
        self.nodes[directory].touch();
        self.nodes[id].ctime.change();
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn live(&self, directory: Id) -> Outcome<()> {
        if !self.nodes[directory].kind.is_directory() {
            return Err(Errno::NOTDIR);
        }
        if self.reachable().contains_key(&directory) { Ok(()) } else { Err(Errno::NOENT) }
    }

    fn free_name(&self, directory: Id, name: &[u8]) -> Outcome<()> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        self.live(directory)?;
        match self.nodes[directory].children.contains_key(name) {
            true => Err(Errno::EXIST),
            false => Ok(()),
        }
    }

    fn created(&self, directory: Id, kind: Kind, bytes: Vec<u8>, creation: Creation) -> Node {
        let mode = if kind == Kind::Symlink { 0o777 } else { creation.mode };
        let mut node = Node::new(kind, mode, bytes, Timestamp::EPOCH);
        node.touch();
        node.atime.change();
        (node.uid, node.gid) = (creation.uid, creation.gid);
        let parent = &self.nodes[directory];
        if parent.mode & 0o2000 != 0 {
            node.gid = parent.gid;
            if kind.is_directory() {
                node.mode |= 0o2000;
            }
        }
        node
    }

    pub fn create(
        &mut self,
        directory: Id,
        name: &[u8],
        kind: Kind,
        bytes: Vec<u8>,
        creation: Creation,
    ) -> Outcome<Id> {
        self.free_name(directory, name)?;
        let node = self.created(directory, kind, bytes, creation);
        let id = self.add(node);
        self.put(directory, name, id);
        Ok(id)
    }

    pub fn temporary(&mut self, directory: Id, creation: Creation) -> Outcome<Id> {
        self.live(directory)?;
        let mut node = self.created(directory, Kind::File, vec![], creation);
        node.temporary = true;
        Ok(self.add(node))
    }

    pub fn link(&mut self, id: Id, directory: Id, name: &[u8]) -> Outcome<()> {
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if self.nodes[id].kind.is_directory() {
            return Err(Errno::PERM);
        }
        self.free_name(directory, name)?;
        if !self.reachable().contains_key(&id) && !self.nodes[id].temporary {
            return Err(Errno::NOENT);
        }
        self.nodes[id].temporary = false;
        self.nodes[id].ctime.change();
        self.put(directory, name, id);
        Ok(())
    }

    pub fn lookup(&self, directory: Id, name: &[u8]) -> Outcome<Id> {
        self.live(directory)?;
        self.nodes[directory].children.get(name).copied().ok_or(Errno::NOENT)
    }

    pub fn unlink(&mut self, directory: Id, name: &[u8]) -> Outcome<()> {
        let id = self.lookup(directory, name)?;
        if self.nodes[id].kind.is_directory() {
            return Err(Errno::ISDIR);
        }
        self.take(directory, name);
        Ok(())
    }

    pub fn remove_directory(&mut self, directory: Id, name: &[u8]) -> Outcome<()> {
        let id = self.lookup(directory, name)?;
        if !self.nodes[id].kind.is_directory() {
            return Err(Errno::NOTDIR);
        }
        if !self.nodes[id].children.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.take(directory, name);
        Ok(())
    }

    fn is_within(&self, directory: Id, ancestor: Id) -> bool {
        directory == ancestor
            || self.nodes[ancestor].children.values().any(|child| {
                self.nodes[*child].kind.is_directory() && self.is_within(directory, *child)
            })
    }

    pub fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), how: Rename) -> Outcome<()> {
        self.live(from.0)?;
        self.live(to.0)?;
        let moved = self.lookup(from.0, from.1)?;
        let existing = self.nodes[to.0].children.get(to.1).copied();
        match (how, existing) {
            (Rename::Unsupported, _) => return Err(Errno::INVAL),
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if existing.is_none() && to.1.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if existing == Some(moved) {
            return Ok(());
        }
        let is_directory = |id: Id| self.nodes[id].kind.is_directory();
        if is_directory(moved) && self.is_within(to.0, moved) {
            return Err(Errno::INVAL);
        }
        if let (Rename::Exchange, Some(existing)) = (how, existing) {
            if is_directory(existing) && self.is_within(from.0, existing) {
                return Err(Errno::INVAL);
            }
            self.take(from.0, from.1);
            self.take(to.0, to.1);
            self.put(from.0, from.1, existing);
            self.put(to.0, to.1, moved);
            return Ok(());
        }
        if let Some(existing) = existing {
            match (is_directory(moved), is_directory(existing)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.nodes[existing].children.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => {}
            }
        }
        if existing.is_some() {
            self.take(to.0, to.1);
        }
        self.take(from.0, from.1);
        self.put(to.0, to.1, moved);
        Ok(())
    }

    fn file(&mut self, id: Id) -> Outcome<&mut Vec<u8>> {
        match self.nodes[id].kind {
            Kind::File => Ok(&mut self.nodes[id].bytes),
            Kind::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    pub fn write(&mut self, id: Id, offset: usize, data: &[u8]) -> Outcome<()> {
        let bytes = self.file(id)?;
        if data.is_empty() {
            return Ok(());
        }
        let end = offset + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(data);
        self.nodes[id].touch();
        Ok(())
    }

    pub fn truncate(&mut self, id: Id, size: usize) -> Outcome<()> {
        self.file(id)?.resize(size, 0);
        self.nodes[id].touch();
        Ok(())
    }

    pub fn allocate(&mut self, id: Id, offset: usize, length: usize, how: Allocate) -> Outcome<()> {
        if length == 0 {
            return Err(Errno::INVAL);
        }
        let bytes = self.file(id)?;
        let end = offset + length;
        if matches!(how, Allocate::Reserve | Allocate::ZeroRange) {
            bytes.resize(bytes.len().max(end), 0);
        }
        if !matches!(how, Allocate::Reserve | Allocate::ReserveKeepSize) {
            let end = end.min(bytes.len());
            if offset < end {
                bytes[offset..end].fill(0);
            }
        }
        self.nodes[id].touch();
        Ok(())
    }

    pub fn copy(
        &mut self,
        (from, from_offset): (Id, usize),
        (to, to_offset): (Id, usize),
        length: usize,
    ) -> Outcome<u64> {
        let source = self.file(from)?.clone();
        let length = length.min(source.len().saturating_sub(from_offset));
        if from == to && from_offset.abs_diff(to_offset) < length {
            return Err(Errno::INVAL);
        }
        self.file(to)?;
        if length > 0 {
            self.write(to, to_offset, &source[from_offset..from_offset + length])?;
        }
        Ok(length as u64)
    }

    pub fn change_kind(&mut self, id: Id, kind: Kind) -> Outcome<()> {
        let node = &mut self.nodes[id];
        if node.kind.is_directory() || kind.is_directory() {
            return Err(Errno::ISDIR);
        }
        match (node.kind, kind) {
            (from, to) if from == to => return Ok(()),
            (Kind::File, Kind::Symlink) if node.bytes.len() > 4095 => {
                return Err(Errno::NAMETOOLONG);
            }
            (Kind::File, Kind::Symlink) if node.bytes.is_empty() => return Err(Errno::NOENT),
            (Kind::File, Kind::Symlink) if node.bytes.contains(&0) => return Err(Errno::INVAL),
            (Kind::File, Kind::Symlink) | (Kind::Symlink, Kind::File) => {}
            (_, Kind::Symlink) => return Err(Errno::INVAL),
            _ => node.bytes.clear(),
        }
        node.kind = kind;
        if kind == Kind::Symlink {
            node.mode = 0o777;
        }
        node.ctime.change();
        Ok(())
    }

    pub fn set_attributes(&mut self, id: Id, set: &SetAttributes) -> Outcome<()> {
        if let Some(size) = set.size {
            self.truncate(id, size as usize)?;
        }
        if *set == SetAttributes::default() {
            return Ok(());
        }
        let node = &mut self.nodes[id];
        if node.kind == Kind::Symlink && set.mode.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        if set.kill_privileges {
            node.lose_privileges();
        }
        node.mode = set.mode.unwrap_or(node.mode);
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        for (time, to) in [(&mut node.atime, set.atime), (&mut node.mtime, set.mtime)] {
            if let Some(to) = to {
                time.set(to);
            }
        }
        node.ctime.change();
        Ok(())
    }

    pub fn set_xattr(&mut self, id: Id, name: &[u8], value: u8, how: SetXattr) -> Outcome<()> {
        let node = &mut self.nodes[id];
        match (how, node.xattrs.contains_key(name)) {
            (SetXattr::Create, true) => return Err(Errno::EXIST),
            (SetXattr::Replace, false) => return Err(Errno::NODATA),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), vec![value]);
        node.ctime.change();
        Ok(())
    }

    pub fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Outcome<()> {
        let node = &mut self.nodes[id];
        node.xattrs.remove(name).ok_or(Errno::NODATA)?;
        node.ctime.change();
        Ok(())
    }
}
