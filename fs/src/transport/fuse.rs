//! The adapter between a tree and the kernel's FUSE messages: the one place that knows `fuser`'s
//! filesystem interface.
//!
//! Nothing is decided here but how to say it: the tree decides what exists, the caching policy
//! decides what the kernel may remember. Files are addressed by inode number alone, so that
//! open files need no handle.

#![forbid(unsafe_code)]

mod convert;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use super::caching::Caching;
use super::duties::{self, Asker};
use super::faults::Faults;
use super::kernel_values::{allocation, decode_kernel_device};
use super::names::list;
use crate::error::{Errno, Result};
use crate::filesystem::{Creation, Filesystem, Seek, SetAttributes, SetXattr};
use crate::node::{Attributes, Ino, Kind};
use convert::{attr, file_type, missing, rename, set_time};

/// Bytes that one READ or WRITE message may carry: the most that the kernel offers unprivileged.
const LARGEST_TRANSFER: u32 = 1 << 20;
/// Reads ahead and other requests that nobody waits for; `fuser`'s 16 starve a sequential reader.
const BACKGROUND_REQUESTS: u16 = 128;
/// Where answers begin in memory; larger pages than these only cost what this saves.
const PAGE: usize = 4096;
/// A copy's reply counts in 32 bits; a caller goes on where a short copy stopped.
const LARGEST_COPY: u64 = 1 << 30;
/// Nothing is ever reused, so that every inode is the first of its number.
const GENERATION: Generation = Generation(0);
const NO_HANDLE: FileHandle = FileHandle(0);

/// Serves a tree to a `fuser` session.
pub(super) struct Adapter {
    tree: Arc<dyn Filesystem>,
    caching: Caching,
    faults: Faults,
}

thread_local! {
    /// One READ's data: every thread of a session answers one request at a time.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers with an error or goes on with the value.
macro_rules! or_error {
    ($adapter:expr, $operation:expr, $ino:expr, $reply:expr, $result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => {
                let errno = $adapter.faults.answer($operation, $ino, &error);
                return $reply.error(fuser::Errno::from_i32(errno.raw_os_error()));
            }
        }
    };
}

impl Adapter {
    pub(super) fn new(tree: Arc<dyn Filesystem>, caching: Caching) -> Self {
        Adapter { tree, caching, faults: Faults::default() }
    }

    fn open_flags(&self) -> FopenFlags {
        // Nothing waits for close(2): writes reach the tree at once.
        if self.caching.keep_cache {
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
        } else {
            FopenFlags::FOPEN_NOFLUSH
        }
    }

    fn entry(
        &self,
        operation: &'static str,
        at: Ino,
        find: impl FnOnce() -> Result<Attributes>,
        reply: ReplyEntry,
    ) {
        let (found, caching) = self.with_lifetime(find);
        self.tell_entry(operation, at, found, caching, reply);
    }

    fn tell_entry(
        &self,
        operation: &'static str,
        at: Ino,
        found: Result<Attributes>,
        caching: Caching,
        reply: ReplyEntry,
    ) {
        let found = or_error!(self, operation, at, reply, found);
        let attr_ttl = self.attr_ttl(caching, found.ino);
        reply.entry_with_ttls(&attr_ttl, &caching.entry_ttl, &attr(&found), GENERATION);
    }

    /// An answer, and what may be remembered of it: nothing, where somebody else made a change
    /// meanwhile, who may not know of the answer.
    fn with_lifetime<T>(&self, find: impl FnOnce() -> T) -> (T, Caching) {
        let version = self.tree.version();
        let found = find();
        let is_current = self.tree.version() == version;
        (found, if is_current { self.caching } else { Caching::shared() })
    }

    fn attr_ttl(&self, caching: Caching, ino: Ino) -> Duration {
        if self.tree.is_restless(ino) { Duration::ZERO } else { caching.attr_ttl }
    }

    fn done(&self, operation: &'static str, ino: Ino, result: Result<()>, reply: ReplyEmpty) {
        or_error!(self, operation, ino, reply, result);
        reply.ok();
    }

    fn creation(
        &self,
        request: &Request,
        parent: INodeNo,
        mode: u32,
        umask: u32,
        directory: bool,
    ) -> Result<Creation> {
        duties::creation(&*self.tree, asker(request), parent.0, mode, umask, directory)
    }
}

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        if self.caching.keep_cache {
            wanted |= InitFlags::FUSE_CACHE_SYMLINKS;
        }
        if self.caching.by_time {
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        if self.caching.keep_listings {
            // What a listing tells is of use only to a kernel that may remember it.
            wanted |= InitFlags::FUSE_DO_READDIRPLUS;
        }
        let offered = config.capabilities();
        // Each of these only saves round trips: an old kernel does without. No writeback cache:
        // docs/views.md says why.
        let _ = config.add_capabilities(wanted & offered);
        let _ = config.set_max_write(LARGEST_TRANSFER);
        let _ = config.set_max_background(BACKGROUND_REQUESTS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (found, caching) = self.with_lifetime(|| self.tree.lookup(parent.0, name.as_bytes()));
        match found {
            Err(error) if error.errno() == Errno::NOENT && !caching.entry_ttl.is_zero() => {
                reply.entry(&caching.entry_ttl, &missing(), GENERATION);
            }
            found => self.tell_entry("lookup", parent.0, found, caching, reply),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.tree.forget(ino.0, count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (found, caching) = self.with_lifetime(|| self.tree.attributes(ino.0));
        let found = or_error!(self, "getattr", ino.0, reply, found);
        reply.attr(&self.attr_ttl(caching, ino.0), &attr(&found));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = SetAttributes {
            mode: mode.map(|mode| (mode & 0o7777) as u16),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            kill_privileges: false,
        };
        let kills = !asker(request).keeps_set_ids();
        let (changed, caching) =
            self.with_lifetime(|| duties::change(&*self.tree, ino.0, &changes, kills));
        let changed = or_error!(self, "setattr", ino.0, reply, changed);
        reply.attr(&self.attr_ttl(caching, ino.0), &attr(&changed));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = or_error!(self, "readlink", ino.0, reply, self.tree.read_link(ino.0));
        reply.data(&target);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let kind = match mode & 0o170000 {
            0 => Some(Kind::File),
            _ => Kind::from_mode(mode, decode_kernel_device(rdev)),
        };
        let make = || {
            let kind = kind.ok_or(Errno::INVAL)?;
            let creation = self.creation(request, parent, mode, umask, false)?;
            self.tree.make_node(parent.0, name.as_bytes(), kind, creation)
        };
        self.entry("mknod", parent.0, make, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let make = || {
            let creation = self.creation(request, parent, mode, umask, true)?;
            self.tree.make_directory(parent.0, name.as_bytes(), creation)
        };
        self.entry("mkdir", parent.0, make, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done("unlink", parent.0, self.tree.unlink(parent.0, name.as_bytes()), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done("rmdir", parent.0, self.tree.remove_directory(parent.0, name.as_bytes()), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let make = || {
            let creation = self.creation(request, parent, 0o777, 0, false)?;
            self.tree.make_symlink(parent.0, name.as_bytes(), target, creation)
        };
        self.entry("symlink", parent.0, make, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let result = self.tree.rename(parent.0, name, new_parent.0, new_name, rename(flags));
        self.done("rename", parent.0, result, reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry("link", ino.0, || self.tree.link(ino.0, parent.0, name.as_bytes()), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // ENOSYS once, and the kernel never asks again (FUSE_NO_OPEN_SUPPORT): right where no
        // open can be refused and cached content is always good.
        if self.tree.is_immutable() && self.caching.keep_cache {
            return reply.error(fuser::Errno::ENOSYS);
        }
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            or_error!(self, "open", ino.0, reply, self.tree.open_for_writing(ino.0));
        }
        reply.opened(NO_HANDLE, self.open_flags());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let wanted = size as usize;
            let Some(space) = aligned(buffer, wanted) else {
                return reply.error(fuser::Errno::EIO);
            };
            let length =
                or_error!(self, "read", ino.0, reply, self.tree.read(ino.0, offset, space));
            reply.data(space.get(..length).unwrap_or_default());
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let set_ids = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let written = duties::drop_privileges(&*self.tree, ino.0, set_ids)
            .and_then(|()| self.tree.write(ino.0, offset, data));
        or_error!(self, "write", ino.0, reply, written);
        // Messages are at most LARGEST_TRANSFER long.
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done("fsync", ino.0, self.tree.sync(ino.0), reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // As for open; the kernel then keeps listings too, and drops them with its own changes.
        if self.caching.keep_listings {
            return reply.error(fuser::Errno::ENOSYS);
        }
        reply.opened(NO_HANDLE, FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        cookie: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = list(&*self.tree, ino.0, cookie, |name, child, kind, next| {
            if reply.add(INodeNo(child), next, file_type(kind), OsStr::from_bytes(name)) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        or_error!(self, "readdir", ino.0, reply, listed);
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        cookie: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        // One TTL serves entry and attributes here.
        let ttl = self.caching.entry_ttl.min(self.caching.attr_ttl);
        let listed = list(&*self.tree, ino.0, cookie, |name, child, _, next| {
            let Ok(found) = self.tree.attributes(child) else {
                // Gone since it was listed, or broken: a lookup says which.
                return ControlFlow::Continue(());
            };
            let name_os = OsStr::from_bytes(name);
            if reply.add(INodeNo(child), next, name_os, &ttl, &attr(&found), GENERATION) {
                return ControlFlow::Break(());
            }
            // The kernel takes no hold on these two.
            if name != b"." && name != b".." {
                self.tree.remember(child);
            }
            ControlFlow::Continue(())
        });
        or_error!(self, "readdirplus", ino.0, reply, listed);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.done("fsyncdir", ino.0, self.tree.sync(ino.0), reply);
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let all = or_error!(self, "statfs", ino.0, reply, self.tree.statistics());
        let (size, free) = (all.block_size, all.free_blocks);
        reply.statfs(all.blocks, free, free, all.files, all.free_files, size, all.name_max, size);
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            libc::XATTR_CREATE => SetXattr::Create,
            libc::XATTR_REPLACE => SetXattr::Replace,
            _ => SetXattr::Any,
        };
        let result = duties::set_xattr(&*self.tree, ino.0, name.as_bytes(), value, how);
        self.done("setxattr", ino.0, result, reply);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.tree.get_xattr(ino.0, name.as_bytes());
        let value = or_error!(self, "getxattr", ino.0, reply, value);
        sized(reply, size, &value);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = or_error!(self, "listxattr", ino.0, reply, self.tree.list_xattrs(ino.0));
        // As on other file systems: the kernel lets only the privileged read them.
        let sees_trusted = request.uid() == 0;
        let mut list = Vec::new();
        for name in names.iter().filter(|name| sees_trusted || !name.starts_with(b"trusted.")) {
            list.extend_from_slice(name);
            list.push(0);
        }
        sized(reply, size, &list);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.done("removexattr", ino.0, self.tree.remove_xattr(ino.0, name.as_bytes()), reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // Everything is allowed to whom the mount is shown; ENOSYS ends the questions.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (made, caching) = self.with_lifetime(|| {
            let creation = self.creation(request, parent, mode, umask, false)?;
            duties::create(&*self.tree, parent.0, name.as_bytes(), creation, flags)
        });
        let made = or_error!(self, "create", parent.0, reply, made);
        let ttl = caching.entry_ttl.min(caching.attr_ttl);
        reply.created(&ttl, &attr(&made), GENERATION, NO_HANDLE, self.open_flags());
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let result = allocation(mode).ok_or(Errno::OPNOTSUPP.into()).and_then(|how| {
            duties::drop_privileges_for(&*self.tree, ino.0, asker(request))?;
            self.tree.allocate(ino.0, offset, length, how)
        });
        self.done("fallocate", ino.0, result, reply);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let seek = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let Ok(from) = u64::try_from(offset) else {
            return reply.error(fuser::Errno::ENXIO);
        };
        let found = or_error!(self, "lseek", ino.0, reply, self.tree.seek(ino.0, from, seek));
        match i64::try_from(found) {
            Ok(found) => reply.offset(found),
            Err(_) => reply.error(fuser::Errno::EOVERFLOW),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _: FileHandle,
        to_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let length = length.min(LARGEST_COPY);
        let copied = duties::drop_privileges_for(&*self.tree, to.0, asker(request))
            .and_then(|()| self.tree.copy_range(from.0, from_offset, to.0, to_offset, length));
        let copied = or_error!(self, "copy_file_range", to.0, reply, copied);
        reply.written(u32::try_from(copied).unwrap_or(u32::MAX));
    }
}

/// So many bytes of the buffer, from the beginning of a page on: a page of the answer that lies in
/// two pages of ours is looked up and copied in two pieces.
fn aligned(buffer: &mut Vec<u8>, wanted: usize) -> Option<&mut [u8]> {
    let room = wanted.saturating_add(PAGE);
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let start = buffer.as_ptr().align_offset(PAGE);
    buffer.get_mut(start..start.saturating_add(wanted))
}

fn asker(request: &Request) -> Asker {
    Asker { uid: request.uid(), gid: request.gid() }
}

/// The xattr size protocol: 0 asks for the size, anything smaller than the value is ERANGE.
fn sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(fuser::Errno::ERANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_with_a_page_however_long_it_is() {
        let mut buffer = Vec::new();
        for wanted in [0, 1, 4096, 4097, 1 << 20, 5] {
            let space = aligned(&mut buffer, wanted).unwrap();
            assert_eq!((space.len(), space.as_ptr().align_offset(PAGE)), (wanted, 0));
        }
    }
}
