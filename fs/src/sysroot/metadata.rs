//! Changing attributes, extended attributes and kinds.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Sysroot;
use super::access::{now, writable};
use super::changes::{Body, Changes, Node, is_lower};
use super::create::{SYMLINK_MODE, TARGET_MAX};
use super::file::{FileData, Reader, read_lower};
use crate::error::{Errno, Result};
use crate::filesystem::{SetAttributes, SetTime, SetXattr};
use crate::node::{Attributes, Ino, Kind, ROOT_INO, Timestamp, Xattrs};

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o0010;
/// File capabilities: a privilege like setuid, so it goes with it.
const CAPABILITY: &[u8] = b"security.capability";

/// Limits of the kernel's own interface (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 65_536;

impl Sysroot {
    pub(super) fn change_attributes(&self, ino: Ino, set: &SetAttributes) -> Result<Attributes> {
        if *set == SetAttributes::default() {
            return self.attributes_of(&self.changes.read(), ino);
        }
        let data = match set.size {
            Some(size) => {
                self.check_attributes(&self.changes.read(), ino, set)?;
                Some((size, self.data_to_resize(ino, size)?))
            }
            None => None,
        };
        // Nobody reads between the change of the size and that of the data.
        let mut writer = data.as_ref().map(|(size, data)| (*size, data.write()));
        let mut changes = self.changes.write();
        self.check_attributes(&changes, ino, set)?;
        if let Some((_, data)) = &data {
            self.check_data(&changes, ino, data)?;
        }
        self.copy_up(&mut changes, ino)?;
        if set.kill_privileges {
            self.kill_privileges(&mut changes, ino)?;
        }
        change(changes.node_mut(ino)?, set, now());
        drop(changes);
        if let Some((size, writer)) = &mut writer {
            writer.truncate(*size);
        }
        self.attributes_of(&self.changes.read(), ino)
    }

    /// Whatever can be refused or cannot be read, before anything is changed.
    fn check_attributes(&self, changes: &Changes, ino: Ino, set: &SetAttributes) -> Result<()> {
        let kind = self.attributes_of(changes, ino)?.meta.kind;
        if set.size.is_some() {
            check_file(kind)?;
        }
        self.check_writable(changes, ino)?;
        if set.mode.is_some() && kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP.into());
        }
        if set.kill_privileges && !kind.is_directory() {
            self.with_xattrs(changes, ino, |_| ())?;
        }
        Ok(())
    }

    fn kill_privileges(&self, changes: &mut Changes, ino: Ino) -> Result<()> {
        if changes.node_mut(ino)?.meta.kind.is_directory() {
            return Ok(());
        }
        if self.with_xattrs(changes, ino, |xattrs| xattrs.contains_key(CAPABILITY))? {
            self.own_xattrs(changes, ino)?.remove(CAPABILITY);
        }
        let mode = &mut changes.node_mut(ino)?.meta.mode;
        *mode &= !SETUID;
        if *mode & GROUP_EXECUTE != 0 {
            *mode &= !SETGID;
        }
        Ok(())
    }

    pub(super) fn with_xattrs<T>(
        &self,
        changes: &Changes,
        ino: Ino,
        visit: impl FnOnce(&Xattrs) -> T,
    ) -> Result<T> {
        match changes.nodes.get(&ino) {
            Some(Node { xattrs: Some(xattrs), .. }) => Ok(visit(xattrs)),
            Some(_) if !is_lower(ino) => Ok(visit(&Xattrs::new())),
            None if !is_lower(ino) => Err(Errno::STALE.into()),
            _ => Ok(visit(&self.lower_xattrs(ino)?)),
        }
    }

    fn lower_xattrs(&self, ino: Ino) -> Result<Xattrs> {
        let source = match self.tree.describer(ino)? {
            Some(source) => source,
            None if ino == ROOT_INO => return Ok(Xattrs::new()),
            None => return Err(Errno::STALE.into()),
        };
        let layer = self.tree.layer(source)?;
        if layer.has_xattrs(source.entry)? { layer.xattrs(source.entry) } else { Ok(Xattrs::new()) }
    }

    /// The node's own xattrs, to be changed.
    fn own_xattrs<'a>(&self, changes: &'a mut Changes, ino: Ino) -> Result<&'a mut Xattrs> {
        let lower = if is_lower(ino) && self.copy_up(changes, ino)?.xattrs.is_none() {
            self.lower_xattrs(ino)?
        } else {
            Xattrs::new()
        };
        Ok(changes.node_mut(ino)?.xattrs.get_or_insert_with(|| Box::new(lower)))
    }

    pub(super) fn put_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
    ) -> Result<()> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX {
            return Err(Errno::RANGE.into());
        }
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let mut changes = self.changes.write();
        self.check_writable(&changes, ino)?;
        let exists = self.with_xattrs(&changes, ino, |xattrs| xattrs.contains_key(name))?;
        match how {
            SetXattr::Create if exists => return Err(Errno::EXIST.into()),
            SetXattr::Replace if !exists => return Err(Errno::NODATA.into()),
            _ => {}
        }
        self.own_xattrs(&mut changes, ino)?.insert(name.to_vec(), value.to_vec());
        changes.node_mut(ino)?.ctime = now();
        Ok(())
    }

    pub(super) fn drop_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let mut changes = self.changes.write();
        self.check_writable(&changes, ino)?;
        if !self.with_xattrs(&changes, ino, |xattrs| xattrs.contains_key(name))? {
            return Err(Errno::NODATA.into());
        }
        self.own_xattrs(&mut changes, ino)?.remove(name);
        changes.node_mut(ino)?.ctime = now();
        Ok(())
    }

    pub(super) fn turn_into(&self, ino: Ino, kind: Kind) -> Result<()> {
        loop {
            let data = if kind == Kind::Symlink { self.own_data(ino) } else { None };
            // Nobody writes to a file from when its content is read until it is a symlink.
            let reader = data.as_ref().map(|data| data.reader());
            let mut changes = self.changes.write();
            let old = self.attributes_of(&changes, ino)?.meta;
            if old.kind.is_directory() || kind.is_directory() {
                return Err(Errno::ISDIR.into());
            }
            self.check_writable(&changes, ino)?;
            let (body, size) = match (old.kind, kind) {
                (from, to) if from == to => return Ok(()),
                (Kind::File, Kind::Symlink) => {
                    if !has_data(&changes, ino, data.as_ref()) {
                        continue;
                    }
                    let target = self.target_in_file(ino, old.size, reader.as_ref())?;
                    (Body::Target(target.into()), old.size)
                }
                (Kind::Symlink, Kind::File) => {
                    let own = self.own_target(&changes, ino)?;
                    let target = own.map_or_else(|| self.lower_target(ino), Ok)?;
                    let spool = self.spool.as_ref().ok_or(Errno::ROFS)?;
                    let data = FileData::empty(Arc::clone(spool));
                    data.write().write(0, &target)?;
                    (Body::Data(Arc::new(data)), target.len() as u64)
                }
                (_, Kind::Symlink) => return Err(Errno::INVAL.into()),
                (_, kind) => (self.new_body(kind)?, 0),
            };
            let node = self.copy_up(&mut changes, ino)?;
            let replaced = std::mem::replace(&mut node.body, body);
            node.meta.kind = kind;
            node.meta.size = size;
            if kind == Kind::Symlink {
                node.meta.mode = SYMLINK_MODE;
            }
            node.ctime = now();
            drop(changes);
            drop(reader);
            drop(replaced);
            return Ok(());
        }
    }

    /// The data of a file that was written to.
    fn own_data(&self, ino: Ino) -> Option<Arc<FileData>> {
        match &self.changes.read().nodes.get(&ino)?.body {
            Body::Data(data) => Some(Arc::clone(data)),
            _ => None,
        }
    }

    /// A file's content as the target of a symlink; of a file that was never written to without a
    /// reader.
    fn target_in_file(&self, ino: Ino, size: u64, reader: Option<&Reader<'_>>) -> Result<Vec<u8>> {
        let length = usize::try_from(size).map_err(|_| Errno::NAMETOOLONG)?;
        if length > TARGET_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut target = vec![0; length];
        match reader {
            Some(reader) => reader.read(&self.tree, 0, &mut target)?,
            None => {
                let source = self.tree.origin(ino).ok_or(Errno::STALE)?;
                read_lower(self.tree.layer(source)?, source, 0, &mut target)?;
            }
        }
        check_target(&target)?;
        Ok(target)
    }

    pub(super) fn target(&self, ino: Ino) -> Result<Vec<u8>> {
        let own = self.own_target(&self.changes.read(), ino)?;
        own.map_or_else(|| self.lower_target(ino), Ok)
    }

    /// A symlink's target, unless it is the lower tree's.
    fn own_target(&self, changes: &Changes, ino: Ino) -> Result<Option<Vec<u8>>> {
        match changes.nodes.get(&ino) {
            Some(node) if node.meta.kind != Kind::Symlink => Err(Errno::INVAL.into()),
            Some(Node { body: Body::Target(target), .. }) => Ok(Some(target.to_vec())),
            None if !is_lower(ino) => Err(Errno::STALE.into()),
            _ => Ok(None),
        }
    }

    fn lower_target(&self, ino: Ino) -> Result<Vec<u8>> {
        if self.tree.metadata(ino)?.kind != Kind::Symlink {
            return Err(Errno::INVAL.into());
        }
        let source = self.tree.origin(ino).ok_or(Errno::STALE)?;
        self.tree.layer(source)?.read_link(source.entry)
    }

    /// Records what writing did to a file. Call it while the file's data is still locked.
    pub(super) fn record_write(
        &self,
        ino: Ino,
        data: &Arc<FileData>,
        size: impl FnOnce(u64) -> u64,
    ) -> Result<()> {
        let mut changes = self.changes.write();
        self.check_data(&changes, ino, data)?;
        let node = changes.node_mut(ino)?;
        node.meta.size = size(node.meta.size);
        node.touch(now());
        Ok(())
    }

    /// That this still is the file's data.
    fn check_data(&self, changes: &Changes, ino: Ino, data: &Arc<FileData>) -> Result<()> {
        if has_data(changes, ino, Some(data)) {
            return Ok(());
        }
        // Something else since, such as a symlink.
        check_file(self.kind_of(changes, ino)?)?;
        Err(Errno::STALE.into())
    }

    /// The data of a file, ready to be changed.
    pub(super) fn data_for_write(&self, ino: Ino) -> Result<Arc<FileData>> {
        if let Some(Node { body: Body::Data(data), place, .. }) =
            self.changes.read().nodes.get(&ino)
        {
            writable(*place)?;
            return Ok(Arc::clone(data));
        }
        let mut changes = self.changes.write();
        check_file(self.kind_of(&changes, ino)?)?;
        self.check_writable(&changes, ino)?;
        let spool = self.spool.as_ref().ok_or(Errno::ROFS)?;
        let node = self.copy_up(&mut changes, ino)?;
        if let Body::Data(data) = &node.body {
            return Ok(Arc::clone(data));
        }
        let source = self.tree.origin(ino).ok_or(Errno::STALE)?;
        let layer = self.tree.layer(source)?;
        let data = FileData::of_lower(Arc::clone(spool), layer, source, node.meta.size)?;
        let data = Arc::new(data);
        node.body = Body::Data(Arc::clone(&data));
        Ok(data)
    }

    /// `stat` of what is a file: its size.
    pub(super) fn file_size(&self, ino: Ino) -> Result<u64> {
        let changes = self.changes.read();
        let meta = match changes.nodes.get(&ino) {
            Some(node) => node.meta,
            None if is_lower(ino) => self.tree.metadata(ino)?,
            None => return Err(Errno::STALE.into()),
        };
        check_file(meta.kind)?;
        Ok(meta.size)
    }
}

fn change(node: &mut Node, set: &SetAttributes, now: Timestamp) {
    let time = |set: SetTime| match set {
        SetTime::Now => now,
        SetTime::At(at) => at,
    };
    if let Some(size) = set.size {
        node.meta.size = size;
        node.meta.mtime = now;
    }
    node.meta.mode = set.mode.map_or(node.meta.mode, |mode| mode & 0o7777);
    node.meta.uid = set.uid.unwrap_or(node.meta.uid);
    node.meta.gid = set.gid.unwrap_or(node.meta.gid);
    node.atime = set.atime.map_or(node.atime, time);
    node.meta.mtime = set.mtime.map_or(node.meta.mtime, time);
    node.ctime = now;
}

/// Whether this is a file's data now; `None` for a file that was never written to.
fn has_data(changes: &Changes, ino: Ino, data: Option<&Arc<FileData>>) -> bool {
    match (changes.nodes.get(&ino).map(|node| &node.body), data) {
        (Some(Body::Data(current)), Some(data)) => Arc::ptr_eq(current, data),
        (Some(Body::Data(_)), None) | (_, Some(_)) => false,
        (_, None) => true,
    }
}

pub(super) fn check_file(kind: Kind) -> Result<()> {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Errno::ISDIR.into()),
        _ => Err(Errno::INVAL.into()),
    }
}

pub(super) fn check_target(target: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Errno::NOENT.into());
    }
    if target.len() > TARGET_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    if target.contains(&0) {
        return Err(Errno::INVAL.into());
    }
    Ok(())
}
