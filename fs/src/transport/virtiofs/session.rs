//! What a guest's messages mean for the tree (docs/virtiofs.md). Knows no queue and no guest memory.

#![forbid(unsafe_code)]

mod answer;
mod listing;
mod xattr;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use answer::{Answer, done, failed, send};

use super::holds::Holds;
use super::numbers::Numbers;
use super::tally::Tally;
use crate::error::{Errno, Result};
use crate::filesystem::{DataSink, Filesystem, SetAttributes};
use crate::node::{Attributes, Ino, Kind};
use crate::transport::caching::Caching;
use crate::transport::duties::{self, Asker};
use crate::transport::faults::Faults;
use crate::transport::fuse_message::{
    Create, Entry, Features, Header, InitialReply, InitialRequest, Lifetime, MalformedMessage,
    OLDEST_MINOR, OpenFlags, Operation, REPLY_HEADER, REQUEST_HEADER, RenameRequest, Reply,
    forgotten,
};

/// Bytes that one READ or WRITE may carry: what a queue of 1024 descriptors of a page can.
const LARGEST_TRANSFER: u32 = 1 << 20;
const PAGE: u32 = 4096;
/// The longest request: a full WRITE, its own fields, and room for what may be said besides.
pub(super) const LONGEST_REQUEST: usize = LARGEST_TRANSFER as usize + PAGE as usize;
/// Reads ahead and other requests that nobody waits for.
const BACKGROUND_REQUESTS: u16 = 64;
/// A copy's reply counts in 32 bits; a caller goes on where a short copy stopped.
const LARGEST_COPY: u64 = 1 << 30;
/// `O_ACCMODE` of open(2)'s flags.
const ACCESS_MODE: u32 = 3;

/// Where a reply goes: the parts of guest memory that the request offers for it.
pub(super) trait ReplySpace: DataSink {
    /// Bytes in all.
    fn room(&self) -> usize;

    /// Lets the next bytes go to a position; those between are left as they are.
    fn go_to(&mut self, position: usize);
}

/// One tree, served to one guest after the other.
pub(super) struct Session {
    tree: Arc<dyn Filesystem>,
    caching: Caching,
    holds: Holds,
    numbers: Numbers,
    faults: Faults,
    tally: Tally,
    /// Nothing may reach the tree any more: somebody believes it to be finished.
    closed: AtomicBool,
}

thread_local! {
    /// One reply: every thread answers one request at a time.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Session {
    pub(super) fn new(tree: Arc<dyn Filesystem>, caching: Caching) -> Self {
        let holds = Holds::new(&*tree);
        let closed = AtomicBool::new(false);
        let (faults, tally) = (Faults::default(), Tally::new());
        Session { tree, caching, holds, numbers: Numbers::default(), faults, tally, closed }
    }

    /// The guest is gone: gives back what it held.
    pub(super) fn guest_has_gone(&self) {
        let asked = self.tally.take();
        if !asked.is_empty() {
            log::debug!("virtiofs: a guest asked for (operation×times): {asked}");
        }
        self.holds.give_all_back(&*self.tree);
    }

    /// Answers everything with `ENOTCONN` from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Answers one request; returns the bytes of the reply, 0 where there is none.
    pub(super) fn answer(&self, message: &[u8], space: &mut dyn ReplySpace) -> usize {
        let header = match Header::parse(message) {
            Ok(header) => header,
            // There is nobody to answer to.
            Err(error) => {
                log::debug!("virtiofs: {error}");
                return 0;
            }
        };
        self.tally.count(header.operation);
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let answer = match Operation::parse(&header, message) {
                Ok(_) if self.is_closed() => failed(Errno::NOTCONN),
                Ok(operation) => {
                    let label = operation.label();
                    self.perform(&header, operation, buffer, space).unwrap_or_else(|error| {
                        failed(self.faults.answer(label, header.node, &error))
                    })
                }
                Err(error @ MalformedMessage::UnknownOperation(_)) => {
                    log::debug!("virtiofs: {error}");
                    failed(Errno::NOSYS)
                }
                Err(error) => {
                    log::debug!("virtiofs: operation {}: {error}", header.operation);
                    failed(Errno::INVAL)
                }
            };
            let sent = send(&answer, header.unique, buffer, space);
            sent.unwrap_or_else(|error| {
                log::debug!("virtiofs: operation {}: {error}", header.operation);
                0
            })
        })
    }

    fn perform(
        &self,
        header: &Header,
        operation: Operation<'_>,
        buffer: &mut Vec<u8>,
        space: &mut dyn ReplySpace,
    ) -> Result<Answer> {
        let (tree, node) = (&*self.tree, header.node);
        match operation {
            Operation::Initialise(offer) => self.initialise(&offer),
            Operation::Destroy => {
                self.guest_has_gone();
                done(Ok(()))
            }
            Operation::Forget { count } => {
                self.holds.give_back(tree, node, count);
                Ok(Answer::None)
            }
            Operation::BatchForget { list } => {
                for (ino, count) in forgotten(list) {
                    self.holds.give_back(tree, ino, count);
                }
                Ok(Answer::None)
            }
            // The request itself is answered, perhaps already: interrupting it would not be faster.
            Operation::Interrupt => Ok(Answer::None),
            Operation::Read { offset, size } => self.read(node, offset, size, space),
            Operation::Write { offset, data, kill_set_ids } => {
                duties::drop_privileges(tree, node, kill_set_ids)?;
                tree.write(node, offset, data)?;
                let count = u32::try_from(data.len()).map_err(|_| Errno::INVAL)?;
                Ok(Reply::Written(count).into())
            }
            Operation::Lookup { name } => self.lookup(node, name),
            Operation::Link { node: linked, name } => self.entry(tree.link(linked, node, name)),
            Operation::MakeSymlink { .. }
            | Operation::MakeNode { .. }
            | Operation::MakeDirectory { .. }
            | Operation::Create(_)
            | Operation::MakeTemporary(_) => self.make(header, operation),
            Operation::Unlink { name } => done(tree.unlink(node, name)),
            Operation::RemoveDirectory { name } => done(tree.remove_directory(node, name)),
            Operation::Rename(RenameRequest { name, new_parent, new_name, how }) => {
                done(tree.rename(node, name, new_parent, new_name, how))
            }
            Operation::ReadDirectory { cookie, size } => {
                self.read_directory(node, cookie, size, buffer, space)
            }
            Operation::ReadDirectoryPlus { cookie, size } => {
                self.read_directory_plus(node, cookie, size, buffer, space)
            }
            Operation::GetXattr { .. }
            | Operation::ListXattrs { .. }
            | Operation::SetXattr { .. }
            | Operation::RemoveXattr { .. } => self.xattr(node, operation, buffer),
            Operation::Allocate { .. } | Operation::Seek { .. } | Operation::CopyRange { .. } => {
                self.range(header, operation)
            }
            _ => self.inode(header, operation, buffer),
        }
    }

    /// What concerns one inode, and what only needs an answer.
    fn inode(
        &self,
        header: &Header,
        operation: Operation<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Answer> {
        let (tree, node) = (&*self.tree, header.node);
        let lifetime = self.caching.attr_ttl;
        match operation {
            Operation::GetAttributes => {
                Ok(Reply::Attributes(self.shown(tree.attributes(node)?), lifetime).into())
            }
            Operation::ExtendedAttributes => {
                Ok(Reply::ExtendedAttributes(self.shown(tree.attributes(node)?), lifetime).into())
            }
            Operation::SetAttributes(changes) => {
                let kill = changes.kill_privileges;
                let changes = SetAttributes { kill_privileges: false, ..changes };
                let changed = duties::change(tree, node, &changes, kill)?;
                Ok(Reply::Attributes(self.shown(changed), lifetime).into())
            }
            Operation::ReadLink => {
                let target = tree.read_link(node)?;
                answer::put_data(buffer, &target);
                Ok(Answer::Buffered)
            }
            Operation::Open { flags } => {
                // ENOSYS once, and the kernel never asks again (FUSE_NO_OPEN_SUPPORT): right where
                // no open can be refused and cached content is always good.
                if tree.opens_everything() && self.caching.keep_cache {
                    return Err(Errno::NOSYS.into());
                }
                if flags & ACCESS_MODE != 0 {
                    tree.open_for_writing(node)?;
                }
                Ok(Reply::Opened(self.open_flags()).into())
            }
            Operation::OpenDirectory => {
                // As for open; the kernel then keeps listings too, and drops them with its own
                // changes.
                if self.caching.keep_cache {
                    return Err(Errno::NOSYS.into());
                }
                Ok(Reply::Opened(OpenFlags::default()).into())
            }
            Operation::Statistics => Ok(Reply::Statistics(tree.statistics()?).into()),
            Operation::Release | Operation::ReleaseDirectory => done(Ok(())),
            Operation::Sync | Operation::SyncDirectory | Operation::SyncAll => {
                done(tree.sync(node))
            }
            Operation::Ioctl(_) => Err(Errno::NOTTY.into()),
            // Nothing waits for close(2), locks are the kernel's own, access(2) is checked there,
            // and files have no blocks that could be told: ENOSYS ends the questions.
            _ => Err(Errno::NOSYS.into()),
        }
    }

    fn initialise(&self, offer: &InitialRequest) -> Result<Answer> {
        if !InitialReply::speaks(offer) {
            return Ok(Reply::Initial(InitialReply::version_only()).into());
        }
        let needed = Features::SETXATTR_EXT.with(Features::MAX_PAGES);
        if offer.minor < OLDEST_MINOR || !offer.features.has(needed) {
            log::error!(
                "virtiofs: the guest's kernel speaks version 7.{} of the FUSE protocol, and 7.{} is \
                 the oldest that is served (Linux 5.14)",
                offer.minor,
                OLDEST_MINOR
            );
            return Err(Errno::PROTO.into());
        }
        // A kernel that starts anew holds nothing.
        self.guest_has_gone();
        let mut wanted = [
            Features::ASYNC_READ,
            Features::ASYNC_DIO,
            Features::BIG_WRITES,
            Features::PARALLEL_DIROPS,
            Features::HANDLE_KILLPRIV_V2,
            Features::INIT_EXT,
        ]
        .into_iter()
        .fold(needed, Features::with);
        if self.caching.keep_cache {
            wanted = wanted
                .with(Features::CACHE_SYMLINKS)
                .with(Features::NO_OPENDIR_SUPPORT)
                .with(Features::NO_OPEN_SUPPORT)
                .with(Features::DO_READDIRPLUS);
        }
        if self.caching.by_time {
            wanted = wanted.with(Features::AUTO_INVAL_DATA);
        }
        let features = wanted.both(offer.features);
        log::debug!(
            "virtiofs: the guest's kernel speaks version 7.{} of the FUSE protocol and offers \
             {:#x}, of which {:#x} is taken",
            offer.minor,
            offer.features.0,
            features.0
        );
        Ok(Reply::Initial(InitialReply {
            minor: offer.minor,
            max_readahead: offer.max_readahead,
            features,
            max_background: BACKGROUND_REQUESTS,
            max_write: LARGEST_TRANSFER,
            max_pages: (LARGEST_TRANSFER / PAGE) as u16,
        })
        .into())
    }

    fn open_flags(&self) -> OpenFlags {
        OpenFlags { keep_cache: self.caching.keep_cache, cache_directory: false, no_flush: true }
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime { entry: self.caching.entry_ttl, attributes: self.caching.attr_ttl }
    }

    /// Attributes with the number that programs are to see.
    fn shown(&self, found: Attributes) -> Attributes {
        Attributes { ino: self.numbers.shown(found.ino), ..found }
    }

    #[cfg(all(test, not(feature = "shuttle")))]
    pub(super) fn shown_number(&self, node: Ino) -> Ino {
        self.numbers.shown(node)
    }

    fn described(&self, found: Attributes) -> Entry {
        let attributes = Some(self.shown(found));
        Entry { node: found.ino, attributes, lifetime: self.lifetime() }
    }

    /// A node that the tree has granted a hold on.
    fn held(&self, found: Attributes) -> Entry {
        self.holds.add(found.ino);
        self.described(found)
    }

    fn entry(&self, made: Result<Attributes>) -> Result<Answer> {
        Ok(Reply::Entry(self.held(made?)).into())
    }

    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Answer> {
        match self.tree.lookup(parent, name) {
            Err(error) if error.errno() == Errno::NOENT && !self.caching.entry_ttl.is_zero() => {
                Ok(Reply::Entry(Entry { node: 0, attributes: None, lifetime: self.lifetime() })
                    .into())
            }
            result => self.entry(result),
        }
    }

    /// What makes a node.
    fn make(&self, header: &Header, operation: Operation<'_>) -> Result<Answer> {
        let (tree, parent) = (&*self.tree, header.node);
        let creation = |mode: u32, umask: u32, directory: bool| {
            duties::creation(tree, asker(header), parent, mode, umask, directory)
        };
        match operation {
            Operation::MakeSymlink { name, target } => {
                self.entry(tree.make_symlink(parent, name, target, creation(0o777, 0, false)?))
            }
            Operation::MakeNode { name, mode, device, umask } => {
                // mknod(2) without type bits makes a file.
                let kind = match mode & 0o170_000 {
                    0 => Kind::File,
                    _ => Kind::from_mode(mode, device).ok_or(Errno::INVAL)?,
                };
                self.entry(tree.make_node(parent, name, kind, creation(mode, umask, false)?))
            }
            Operation::MakeDirectory { name, mode, umask } => {
                self.entry(tree.make_directory(parent, name, creation(mode, umask, true)?))
            }
            Operation::Create(Create { name, flags, mode, umask }) => {
                let creation = creation(mode, umask, false)?;
                let made = duties::create(tree, parent, name, creation, flags.cast_signed())?;
                Ok(Reply::Created(self.held(made), self.open_flags()).into())
            }
            Operation::MakeTemporary(Create { mode, umask, .. }) => {
                let made = tree.make_temporary(parent, creation(mode, umask, false)?)?;
                Ok(Reply::Created(self.held(made), self.open_flags()).into())
            }
            _ => Err(Errno::NOSYS.into()),
        }
    }

    fn read(&self, ino: Ino, offset: u64, size: u32, space: &mut dyn ReplySpace) -> Result<Answer> {
        let room = space.room().saturating_sub(REPLY_HEADER);
        let length = usize::try_from(size.min(LARGEST_TRANSFER)).unwrap_or(room).min(room);
        space.go_to(REPLY_HEADER);
        Ok(Answer::Placed(self.tree.read_to(ino, offset, length, space)?))
    }

    fn range(&self, header: &Header, operation: Operation<'_>) -> Result<Answer> {
        let (tree, node) = (&*self.tree, header.node);
        match operation {
            Operation::Allocate { offset, length, how } => {
                let how = how.ok_or(Errno::OPNOTSUPP)?;
                duties::drop_privileges_for(tree, node, asker(header))?;
                done(tree.allocate(node, offset, length, how))
            }
            Operation::Seek { offset, seek } => {
                let found = tree.seek(node, offset, seek.ok_or(Errno::INVAL)?)?;
                Ok(Reply::Position(found).into())
            }
            Operation::CopyRange { offset, to, to_offset, length, wide } => {
                duties::drop_privileges_for(tree, to, asker(header))?;
                let length = length.min(LARGEST_COPY);
                let copied = tree.copy_range(node, offset, to, to_offset, length)?;
                if wide {
                    return Ok(Reply::Copied(copied).into());
                }
                Ok(Reply::Written(u32::try_from(copied).unwrap_or(u32::MAX)).into())
            }
            _ => Err(Errno::NOSYS.into()),
        }
    }
}

fn asker(header: &Header) -> Asker {
    Asker { uid: header.uid, gid: header.gid }
}

/// The shortest message that can be a request.
pub(super) const SHORTEST_REQUEST: usize = REQUEST_HEADER;
