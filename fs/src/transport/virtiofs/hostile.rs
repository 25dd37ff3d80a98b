//! A guest that sends whatever it likes: what the fuzz targets and the replay of their corpus run.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use super::session::{ReplySpace, Session};
use crate::error::{Errno, Result};
use crate::filesystem::{Allocate, DataSink};
use crate::index::{Builder, Content, NewNode, SourceIdentity, SparseRun};
use crate::layer::Layer;
use crate::layer::indexed::IndexedLayer;
use crate::node::{Device, Ino, Kind, Metadata, Timestamp, Xattrs};
use crate::sysroot::{Options, Policy, Sysroot, Zone};
use crate::transport::caching::Caching;
use crate::transport::fuse_message::{Header, Operation, REQUEST_HEADER, forgotten};

/// A longer story finds nothing that a shorter one would not.
const MOST_REQUESTS: usize = 200;
/// More would only fill the disk.
const LONGEST_RANGE: u64 = 1 << 20;

/// Any bytes as a request: understood or refused.
pub fn message(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    let Ok(operation) = Operation::parse(&header, bytes) else { return };
    assert!(!operation.label().is_empty());
    if let Operation::BatchForget { list } = operation {
        assert_eq!(forgotten(list).count().checked_mul(16), Some(list.len()));
    }
}

/// Any bytes as a sequence of requests to a session over a layered tree. Nothing panics, every
/// reply is one, the tree does not contradict itself, and nothing is held when the guest has gone.
pub fn guest(story: &[u8]) {
    let tree = Arc::new(layered_tree());
    let session = Session::new(tree.clone(), Caching::immutable());
    let mut rest = story;
    for _ in 0..MOST_REQUESTS {
        let Some(step) = Step::take(&mut rest) else { break };
        let request = step.request();
        if only_fills_the_disk(&request) {
            continue;
        }
        let mut space = Space::new(step.room);
        let length = session.answer(&request, &mut space);
        check_reply(&space.bytes, length);
    }
    session.guest_has_gone();
    tree.audit();
    assert_eq!(tree.held_nodes(), 0, "nothing is held when the guest has gone");
}

/// One request of a story: opcode, flags, node, room for the reply, length of the body, body.
struct Step<'a> {
    opcode: u32,
    flags: u8,
    node: Ino,
    room: usize,
    body: &'a [u8],
}

/// The message says a wrong length.
const LIES_ABOUT_LENGTH: u8 = 1;
/// An ordinary user asks, not root.
const BY_USER: u8 = 1 << 1;
/// The last 8 bytes of the body are an extension.
const EXTENDED: u8 = 1 << 2;
/// Lengths of bodies count in 64 bytes.
const LONG: u8 = 1 << 3;

impl<'a> Step<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Step<'a>> {
        let ([opcode, flags, node, room, length], after) = rest.split_first_chunk()?;
        let unit = if flags & LONG == 0 { 1 } else { 64 };
        let length = (usize::from(*length) * unit).min(after.len());
        let (body, after) = after.split_at(length);
        *rest = after;
        let room = match usize::from(*room) {
            255 => 1 << 16,
            small => small * 16,
        };
        Some(Step { opcode: u32::from(*opcode), flags: *flags, node: node_of(*node), room, body })
    }

    fn request(&self) -> Vec<u8> {
        let has = |flag: u8| self.flags & flag != 0;
        let length = (REQUEST_HEADER + self.body.len()) as u32;
        let (uid, extensions) = (u32::from(has(BY_USER)) * 1000, u16::from(has(EXTENDED)));
        let mut message = Vec::new();
        message.extend((length + u32::from(has(LIES_ABOUT_LENGTH))).to_le_bytes());
        message.extend(self.opcode.to_le_bytes());
        message.extend(UNIQUE.to_le_bytes());
        message.extend(self.node.to_le_bytes());
        message.extend(uid.to_le_bytes());
        message.extend(uid.to_le_bytes());
        message.extend([0; 4]);
        message.extend(extensions.to_le_bytes());
        message.extend([0; 2]);
        message.extend(self.body);
        message
    }
}

const UNIQUE: u64 = 0x0123_4567_89ab_cdef;

/// New nodes have small numbers; from 128 on those of the two layers are meant.
fn node_of(byte: u8) -> Ino {
    match u64::from(byte) {
        new @ 0..128 => new,
        lower @ 128..192 => (1 << 40) + lower - 128,
        upper => (2 << 40) + upper - 192,
    }
}

fn only_fills_the_disk(request: &[u8]) -> bool {
    let Ok(header) = Header::parse(request) else { return false };
    match Operation::parse(&header, request) {
        Ok(Operation::Allocate { length, how: Some(Allocate::Reserve), .. })
        | Ok(Operation::Allocate { length, how: Some(Allocate::ReserveKeepSize), .. })
        | Ok(Operation::CopyRange { length, .. }) => length > LONGEST_RANGE,
        _ => false,
    }
}

fn check_reply(space: &[u8], length: usize) {
    let reply = space.get(..length).expect("a reply fits into its space");
    if reply.is_empty() {
        return;
    }
    assert_eq!(reply.get(..4), Some((length as u32).to_le_bytes().as_slice()));
    assert_eq!(reply.get(8..16), Some(UNIQUE.to_le_bytes().as_slice()));
    let error = reply.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_le_bytes);
    assert!(error.is_some_and(|error| (-4095..=0).contains(&error)), "an errno: {error:?}");
    assert!(error == Some(0) || length == 16, "an error has no body");
}

pub(super) fn layered_tree() -> Sysroot {
    static LAYERS: OnceLock<Vec<Arc<dyn Layer>>> = OnceLock::new();
    let layers = LAYERS.get_or_init(|| vec![Arc::new(lower_layer()), Arc::new(upper_layer())]);
    let zone = |prefix: &[u8], policy| Zone { prefix: prefix.to_vec(), policy };
    let zones = vec![zone(b"/", Policy::Capture), zone(b"/usr/ro", Policy::ReadOnly)];
    Sysroot::new(layers.clone(), Options { zones, spool_directory: None }).unwrap()
}

fn lower_layer() -> IndexedLayer {
    let mut layer = Nodes::new();
    let capabilities = Xattrs::from([(b"security.capability".to_vec(), vec![1; 20])]);
    layer.add("etc", Kind::Directory, 0o2755, Content::None);
    layer.add("etc/motd", Kind::File, 0o644, Content::Data { offset: 0 });
    layer.add("etc/link", Kind::File, 0, Content::HardLink(b"etc/motd".to_vec()));
    layer.add("usr/bin/su", Kind::File, 0o6755, Content::Data { offset: 100 });
    layer.add("usr/bin/ping", Kind::File, 0o755, Content::Data { offset: 0 });
    layer.xattrs("usr/bin/ping", capabilities);
    let runs = vec![
        SparseRun { file_offset: 10, data_offset: 0, length: 10 },
        SparseRun { file_offset: 5000, data_offset: 10, length: 100 },
    ];
    layer.add("usr/sparse", Kind::File, 0o644, Content::Sparse { runs });
    layer.add("usr/ro/file", Kind::File, 0o644, Content::Data { offset: 0 });
    layer.add("lib", Kind::Symlink, 0o777, Content::Target(b"usr/lib".to_vec()));
    let null = Kind::CharDevice(Device { major: 1, minor: 3 });
    layer.add("dev/null", null, 0o666, Content::None);
    layer.add("d/e/f", Kind::File, 0o644, Content::Data { offset: 0 });
    layer.add("d/gone", Kind::File, 0o644, Content::Data { offset: 0 });
    layer.finish("lower")
}

fn upper_layer() -> IndexedLayer {
    let mut layer = Nodes::new();
    layer.add("etc/link", Kind::File, 0o600, Content::Data { offset: 50 });
    layer.add("d/e/f", Kind::Directory, 0o755, Content::None);
    layer.add("d/new", Kind::Fifo, 0o644, Content::None);
    layer.add("opaque/x", Kind::File, 0o644, Content::Data { offset: 0 });
    layer.builder.add_whiteout(b"d/gone").unwrap();
    layer.builder.set_opaque(b"opaque").unwrap();
    layer.finish("upper")
}

/// Bytes that the files of a layer share.
const DATA: usize = 8192;

struct Nodes {
    builder: Builder,
    pending: Vec<(Vec<u8>, NewNode)>,
}

impl Nodes {
    fn new() -> Nodes {
        let source = SourceIdentity { size: DATA as u64, mtime: Timestamp::EPOCH, digest: None };
        Nodes { builder: Builder::new(source), pending: Vec::new() }
    }

    fn add(&mut self, path: &str, kind: Kind, mode: u16, content: Content) {
        let size = match content {
            Content::Sparse { .. } => 6000,
            Content::Data { .. } => 4500,
            _ => 0,
        };
        let metadata = Metadata { kind, mode, uid: 0, gid: 7, mtime: Timestamp::EPOCH, size };
        let node = NewNode { metadata, content, xattrs: Xattrs::new(), digest: None };
        self.pending.push((path.as_bytes().to_vec(), node));
    }

    fn xattrs(&mut self, path: &str, xattrs: Xattrs) {
        let node = self.pending.iter_mut().find(|(at, _)| at == path.as_bytes());
        node.unwrap().1.xattrs = xattrs;
    }

    fn finish(mut self, label: &str) -> IndexedLayer {
        for (path, node) in self.pending {
            self.builder.add(&path, node).unwrap();
        }
        let data = (0..DATA).map(|at| at as u8).collect();
        IndexedLayer::in_memory(label, self.builder.finish().unwrap(), data).unwrap()
    }
}

/// A reply space in memory.
pub(super) struct Space {
    pub bytes: Vec<u8>,
    at: usize,
}

impl Space {
    pub fn new(room: usize) -> Self {
        Space { bytes: vec![0xee; room], at: 0 }
    }
}

impl DataSink for Space {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.at.checked_add(bytes.len()).ok_or(Errno::NOBUFS)?;
        let place = self.bytes.get_mut(self.at..end).ok_or(Errno::NOBUFS)?;
        place.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        self.bytes(&vec![0; usize::try_from(count).map_err(|_| Errno::NOBUFS)?])
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let count = file.read_at(&mut buffer, offset)?;
        self.bytes(buffer.get(..count).unwrap_or_default()).map_err(io::Error::other)?;
        Ok(count as u64)
    }
}

impl ReplySpace for Space {
    fn room(&self) -> usize {
        self.bytes.len()
    }

    fn go_to(&mut self, position: usize) {
        self.at = position;
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn the_corpus_of_messages_is_understood_or_refused() {
        replay("message", super::message);
    }

    #[test]
    fn the_corpus_of_guests_does_no_harm() {
        replay("guest", super::guest);
    }
}
