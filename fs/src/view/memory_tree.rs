//! A complete writable tree in memory: what views and transports are tested with.

#![forbid(unsafe_code)]

mod state;

use std::collections::HashMap;
use std::ops::ControlFlow;

use parking_lot::RwLock;

use self::state::{FIRST_COOKIE, Node, State, now};
use crate::error::{Errno, Error, Result};
use crate::filesystem::{
    Allocate, Creation, DirectoryEntry, Filesystem, Rename, Seek, SetAttributes, SetTime, SetXattr,
    Statistics,
};
use crate::node::{Attributes, Ino, Kind, Metadata, ROOT_INO};

pub struct MemoryTree {
    state: RwLock<State>,
    immutable: bool,
}

impl MemoryTree {
    pub fn new() -> Self {
        let creation = Creation { mode: 0o755, uid: 0, gid: 0 };
        let root = Node::new(Kind::Directory, creation, ROOT_INO);
        let state = State { nodes: HashMap::from([(ROOT_INO, root)]), next_ino: ROOT_INO + 1 };
        MemoryTree { state: RwLock::new(state), immutable: false }
    }

    /// Says of itself that it never changes, and refuses every change.
    pub fn frozen(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Whoever wants to change the tree waits until this is dropped.
    #[cfg(not(feature = "shuttle"))]
    pub fn hold_up_changes(&self) -> impl Sized + '_ {
        self.state.read()
    }

    /// Whether somebody waits who wants to change the tree: nobody reads past a waiting writer.
    #[cfg(not(feature = "shuttle"))]
    pub fn is_waited_for(&self) -> bool {
        self.state.try_read().is_none()
    }

    /// Makes a node with content and metadata, without a hold on it.
    pub fn put(&self, parent: Ino, name: &[u8], meta: Metadata, content: &[u8]) -> Ino {
        let creation = Creation { mode: meta.mode, uid: meta.uid, gid: meta.gid };
        let mut state = self.state.write();
        let ino = state.make(parent, name, meta.kind, creation, content).unwrap().ino;
        let node = state.node_mut(ino).unwrap();
        node.meta.mtime = meta.mtime;
        node.holds = 0;
        ino
    }

    /// Makes every read of a file fail, as that of a damaged layer would.
    pub fn break_content(&self, ino: Ino) {
        self.state.write().node_mut(ino).unwrap().broken = true;
    }

    /// Nodes that exist, with or without names.
    pub fn node_count(&self) -> usize {
        self.state.read().nodes.len()
    }

    fn writable(&self) -> Result<()> {
        if self.immutable { Err(Errno::ROFS.into()) } else { Ok(()) }
    }
}

impl Filesystem for MemoryTree {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attributes> {
        let mut state = self.state.write();
        let ino = state.find(parent, name)?;
        let node = state.node_mut(ino)?;
        node.holds += 1;
        Ok(node.attributes(ino))
    }

    fn forget(&self, ino: Ino, count: u64) {
        let mut state = self.state.write();
        if let Ok(node) = state.node_mut(ino) {
            node.holds = node.holds.saturating_sub(count);
        }
        state.remove_if_unused(ino);
    }

    fn remember(&self, ino: Ino) {
        if let Ok(node) = self.state.write().node_mut(ino) {
            node.holds += 1;
        }
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes> {
        Ok(self.state.read().node(ino)?.attributes(ino))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let state = self.state.read();
        let node = state.node(ino)?;
        match node.meta.kind {
            Kind::Symlink => Ok(node.content.clone()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let state = self.state.read();
        let node = state.node(directory)?;
        if !node.meta.kind.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        let dots = [(&b"."[..], directory, 1), (&b".."[..], node.parent, 2)];
        for (name, ino, next) in dots {
            let entry = DirectoryEntry { name, ino, kind: Kind::Directory, cookie: next };
            if cookie < next && visit(entry).is_break() {
                return Ok(());
            }
        }
        for (cookie, name) in node.by_cookie.range((cookie + 1).max(FIRST_COOKIE)..) {
            let ino = node.children[name].0;
            let kind = state.node(ino)?.meta.kind;
            if visit(DirectoryEntry { name, ino, kind, cookie: *cookie }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let state = self.state.read();
        let node = state.node(ino)?;
        if node.meta.kind != Kind::File {
            return Err(Errno::INVAL.into());
        }
        if node.broken {
            return Err(Error::malformed("test.tar", "checksum of block 7 does not match"));
        }
        let rest = node.content.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let state = self.state.read();
        state.node(ino)?.xattrs.get(name).cloned().ok_or_else(|| Errno::NODATA.into())
    }

    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(self.state.read().node(ino)?.xattrs.keys().cloned().collect())
    }

    /// Pages of zeros count as holes.
    fn seek(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        const PAGE: usize = 4096;
        let state = self.state.read();
        let content = &state.node(ino)?.content;
        if offset >= content.len() as u64 {
            return Err(Errno::NXIO.into());
        }
        let mut at = offset as usize;
        while at < content.len() {
            let end = ((at / PAGE + 1) * PAGE).min(content.len());
            let data = content[at / PAGE * PAGE..end].iter().any(|byte| *byte != 0);
            if data == (seek == Seek::Data) {
                return Ok(at as u64);
            }
            at = end;
        }
        match seek {
            Seek::Data => Err(Errno::NXIO.into()),
            Seek::Hole => Ok(content.len() as u64),
        }
    }

    fn statistics(&self) -> Result<Statistics> {
        Ok(Statistics {
            block_size: 4096,
            blocks: 1 << 20,
            free_blocks: 1 << 19,
            files: self.node_count() as u64,
            free_files: 1 << 20,
            name_max: 255,
        })
    }

    fn is_immutable(&self) -> bool {
        self.immutable
    }

    fn set_attributes(&self, ino: Ino, changes: &SetAttributes) -> Result<Attributes> {
        self.writable()?;
        let mut state = self.state.write();
        let node = state.node_mut(ino)?;
        if let Some(size) = changes.size {
            node.file()?.resize(size as usize, 0);
        }
        if changes.kill_privileges {
            let group_executes = node.meta.mode & 0o010 != 0;
            node.meta.mode &= if group_executes { !0o6000 } else { !0o4000 };
        }
        if let Some(mode) = changes.mode {
            node.meta.mode = mode;
        }
        node.meta.uid = changes.uid.unwrap_or(node.meta.uid);
        node.meta.gid = changes.gid.unwrap_or(node.meta.gid);
        let time = |set| match set {
            SetTime::Now => now(),
            SetTime::At(time) => time,
        };
        node.atime = changes.atime.map_or(node.atime, time);
        node.meta.mtime = changes.mtime.map_or(node.meta.mtime, time);
        node.ctime = now();
        Ok(node.attributes(ino))
    }

    fn make_node(
        &self,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        creation: Creation,
    ) -> Result<Attributes> {
        self.writable()?;
        if matches!(kind, Kind::Directory | Kind::Symlink) {
            return Err(Errno::INVAL.into());
        }
        self.state.write().make(parent, name, kind, creation, b"")
    }

    fn make_directory(&self, parent: Ino, name: &[u8], creation: Creation) -> Result<Attributes> {
        self.writable()?;
        self.state.write().make(parent, name, Kind::Directory, creation, b"")
    }

    fn make_symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        creation: Creation,
    ) -> Result<Attributes> {
        self.writable()?;
        let creation = Creation { mode: 0o777, ..creation };
        self.state.write().make(parent, name, Kind::Symlink, creation, target)
    }

    fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attributes> {
        self.writable()?;
        let mut state = self.state.write();
        if state.node(ino)?.meta.kind.is_directory() {
            return Err(Errno::PERM.into());
        }
        state.attach(parent, name, ino)?;
        let node = state.node_mut(ino)?;
        node.holds += 1;
        Ok(node.attributes(ino))
    }

    fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let ino = state.find(parent, name)?;
        if state.node(ino)?.meta.kind.is_directory() {
            return Err(Errno::ISDIR.into());
        }
        state.remove(parent, name)
    }

    fn remove_directory(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let ino = state.find(parent, name)?;
        let node = state.node(ino)?;
        if !node.meta.kind.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        if !node.children.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        state.remove(parent, name)
    }

    fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        how: Rename,
    ) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let ino = state.find(parent, name)?;
        let target = state.find(new_parent, new_name).ok();
        match (how, target) {
            (Rename::Unsupported, _) => return Err(Errno::INVAL.into()),
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST.into()),
            (Rename::Exchange, None) => return Err(Errno::NOENT.into()),
            (Rename::Exchange, Some(target)) => {
                state.detach(parent, name)?;
                state.detach(new_parent, new_name)?;
                state.attach(parent, name, target)?;
                return state.attach(new_parent, new_name, ino);
            }
            (_, Some(target)) if target == ino => return Ok(()),
            (_, Some(target)) => {
                let old = state.node(target)?;
                if !old.children.is_empty() {
                    return Err(Errno::NOTEMPTY.into());
                }
                match (state.node(ino)?.meta.kind.is_directory(), old.meta.kind.is_directory()) {
                    (true, false) => return Err(Errno::NOTDIR.into()),
                    (false, true) => return Err(Errno::ISDIR.into()),
                    _ => state.remove(new_parent, new_name)?,
                }
            }
            (_, None) => {}
        }
        state.detach(parent, name)?;
        state.attach(new_parent, new_name, ino)
    }

    fn open_for_writing(&self, ino: Ino) -> Result<()> {
        self.writable()?;
        self.state.write().node_mut(ino)?.file().map(|_| ())
    }

    fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let content = state.node_mut(ino)?.file()?;
        let start = offset as usize;
        let end = start.checked_add(data.len()).ok_or(Errno::FBIG)?;
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(data);
        Ok(())
    }

    fn allocate(&self, ino: Ino, offset: u64, length: u64, how: Allocate) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let content = state.node_mut(ino)?.file()?;
        let end = (offset + length) as usize;
        if matches!(how, Allocate::Reserve | Allocate::ZeroRange) && content.len() < end {
            content.resize(end, 0);
        }
        if !matches!(how, Allocate::Reserve | Allocate::ReserveKeepSize) {
            let end = end.min(content.len());
            if let Some(range) = content.get_mut(offset as usize..end) {
                range.fill(0);
            }
        }
        Ok(())
    }

    fn copy_range(
        &self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        let mut data = vec![0; length as usize];
        let copied = self.read(from, from_offset, &mut data)?;
        self.write(to, to_offset, &data[..copied])?;
        Ok(copied as u64)
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let xattrs = &mut state.node_mut(ino)?.xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create, true) => Err(Errno::EXIST.into()),
            (SetXattr::Replace, false) => Err(Errno::NODATA.into()),
            _ => {
                xattrs.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let removed = state.node_mut(ino)?.xattrs.remove(name);
        removed.map(|_| ()).ok_or_else(|| Errno::NODATA.into())
    }

    fn change_kind(&self, ino: Ino, kind: Kind) -> Result<()> {
        self.writable()?;
        let mut state = self.state.write();
        let node = state.node_mut(ino)?;
        if node.meta.kind.is_directory() || kind.is_directory() {
            return Err(Errno::INVAL.into());
        }
        node.meta.kind = kind;
        if kind == Kind::Symlink {
            node.meta.mode = 0o777;
        }
        if !matches!(kind, Kind::File | Kind::Symlink) {
            node.content.clear();
        }
        Ok(())
    }
}
