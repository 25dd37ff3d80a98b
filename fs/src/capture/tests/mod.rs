//! Captures of trees in memory, read back by others.

mod decode;
mod generate;
mod gnu_tar;
mod holes;
pub(crate) mod memory;

use std::cell::Cell;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use self::decode::{decode, expected};
use self::memory::{MemoryTree, everything, metadata};
use super::file::capture_to_files;
use super::*;
use crate as outcrop_fs;
use crate::node::ROOT_INO;
use crate::{Errno, Error, Kind, Result, Timestamp};

type Nodes = Vec<(Vec<u8>, IndexNode)>;
type Recorded = Arc<Mutex<Nodes>>;

/// An index that only remembers.
#[derive(Default)]
struct Recorder(Recorded);

impl IndexSink for Recorder {
    fn add(&mut self, path: &[u8], node: IndexNode) -> Result<()> {
        self.0.lock().unwrap().push((path.to_vec(), node));
        Ok(())
    }

    fn finish(self: Box<Self>, size: u64, sha256: [u8; 32]) -> Result<Vec<u8>> {
        Ok([size.to_le_bytes().as_slice(), &sha256].concat())
    }
}

fn stream(tree: &MemoryTree, options: &CaptureOptions<'_>) -> (Vec<u8>, CaptureReport) {
    let mut bytes = Vec::new();
    let output = Output { writer: &mut bytes, name: Path::new("memory") };
    let report = capture(tree, ROOT_INO, output, options).unwrap();
    (bytes, report)
}

fn indexed(tree: &MemoryTree) -> (Vec<u8>, Nodes, IndexedCapture) {
    let mut bytes = Vec::new();
    let recorded = Recorded::default();
    let output = Output { writer: &mut bytes, name: Path::new("memory") };
    let options = CaptureOptions { digest: true, ..CaptureOptions::default() };
    let sink = Box::new(Recorder(recorded.clone()));
    let captured = capture_indexed(tree, ROOT_INO, output, sink, &options).unwrap();
    let nodes = recorded.lock().unwrap().clone();
    (bytes, nodes, captured)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A file's content as the index says where it stands in the stream.
fn content_by_index(stream: &[u8], node: &IndexNode) -> Option<Vec<u8>> {
    let size = node.metadata.size as usize;
    let runs = match &node.content {
        IndexContent::Data { offset } => {
            vec![IndexRun { file_offset: 0, data_offset: *offset, length: size as u64 }]
        }
        IndexContent::Sparse { runs } => runs.clone(),
        _ => return None,
    };
    let mut content = vec![0; size];
    for run in runs {
        let (to, from) = (run.file_offset as usize, run.data_offset as usize);
        let length = run.length as usize;
        content[to..to + length].copy_from_slice(&stream[from..from + length]);
    }
    Some(content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_captured_reads_back_equal(tree in generate::tree()) {
        let (bytes, report) = stream(&tree, &CaptureOptions::default());
        let want = expected(&tree);
        prop_assert_eq!(decode(&bytes), want.clone());
        prop_assert_eq!(report.entries, want.len() as u64);
        prop_assert_eq!(report.bytes, bytes.len() as u64);
        prop_assert_eq!(tree.holds.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_index_says_what_the_stream_holds(tree in generate::tree()) {
        let (bytes, nodes, captured) = indexed(&tree);
        let trailer = [captured.report.bytes.to_le_bytes().as_slice(), &sha256(&bytes)].concat();
        prop_assert_eq!(captured.index, trailer);
        prop_assert_eq!(captured.sha256, sha256(&bytes));
        prop_assert_eq!(&bytes, &stream(&tree, &CaptureOptions::default()).0);
        let want = expected(&tree);
        prop_assert_eq!(nodes.len(), want.len());
        for ((path, node), entry) in nodes.iter().zip(want) {
            prop_assert_eq!(path, &entry.path);
            prop_assert_eq!(&node.xattrs, &entry.xattrs);
            prop_assert_eq!(node.metadata.mtime, entry.meta.mtime);
            match content_by_index(&bytes, node) {
                Some(content) => {
                    prop_assert_eq!(node.digest, Some(sha256(&content)));
                    prop_assert_eq!(content, entry.content);
                }
                None => prop_assert_eq!(node.digest, None),
            }
        }
    }

    #[test]
    fn capturing_twice_gives_identical_bytes(tree in generate::tree()) {
        let options = CaptureOptions::default();
        prop_assert_eq!(stream(&tree, &options), stream(&tree, &options));
    }
}

#[test]
fn names_are_in_the_order_of_sort() {
    let mut tree = MemoryTree::new();
    let directory = tree.add(ROOT_INO, b"a", metadata(Kind::Directory, 0o755, 0, 0));
    for name in [&b"z"[..], b"b"] {
        tree.file(directory, name, metadata(Kind::File, 0o644, 0, 0), b"");
    }
    for name in [&b"a.c"[..], b"a-b", b"a0", b"B"] {
        tree.file(ROOT_INO, name, metadata(Kind::File, 0o644, 0, 0), b"");
    }
    let (bytes, _) = stream(&tree, &CaptureOptions::default());
    let names: Vec<_> = decode(&bytes).into_iter().map(|entry| entry.path).collect();
    let want: [&[u8]; 8] = [b"", b"B", b"a-b", b"a.c", b"a", b"a/b", b"a/z", b"a0"];
    assert_eq!(names, want);
}

#[test]
fn mtime_policies() {
    let early = Timestamp::new(-5, 250_000_000);
    let late = Timestamp::new(2_000_000_000, 1);
    let limit = Timestamp::new(1_000_000_000, 0);
    let mut tree = MemoryTree::new();
    tree.node_mut(ROOT_INO).0.mtime = early;
    let file = tree.file(ROOT_INO, b"f", metadata(Kind::File, 0o644, 0, 0), b"x");
    tree.node_mut(file).0.mtime = late;
    let times = |mtime| {
        let (bytes, _) = stream(&tree, &CaptureOptions { mtime, ..CaptureOptions::default() });
        decode(&bytes).into_iter().map(|entry| entry.meta.mtime).collect::<Vec<_>>()
    };
    assert_eq!(times(MtimePolicy::Keep), [early, late]);
    assert_eq!(times(MtimePolicy::Clamp(limit)), [early, limit]);
    assert_eq!(times(MtimePolicy::Fixed(limit)), [limit, limit]);
    assert_eq!(times(MtimePolicy::Within(limit, late)), [limit, late]);
    assert_eq!(times(MtimePolicy::Within(early, limit)), [early, limit]);
}

#[test]
fn prefix_and_exclude() {
    let tree = everything();
    let exclude = |path: &[u8], _: &crate::node::Attributes| path == b"dev" || path == b"bin/su";
    let options =
        CaptureOptions { prefix: b"opt/x", exclude: Some(&exclude), ..CaptureOptions::default() };
    let entries = decode(&stream(&tree, &options).0);
    assert_eq!(entries[0].path, b"opt/x");
    assert!(entries.iter().all(|entry| !entry.path.starts_with(b"opt/x/dev")));
    // The first name that is not left out gets the content.
    let link = entries.iter().find(|entry| entry.path == b"opt/x/bin/su-link").unwrap();
    assert_eq!((link.hard_link.as_ref(), link.content.as_slice()), (None, &b"#!/bin/true\n"[..]));
}

#[test]
fn sockets_are_left_out_and_reported() {
    let mut tree = MemoryTree::new();
    tree.add(ROOT_INO, b"log", metadata(Kind::Socket, 0o666, 0, 0));
    let (bytes, report) = stream(&tree, &CaptureOptions::default());
    assert_eq!(decode(&bytes).len(), 1);
    let skipped: Vec<_> = report.skipped.into_iter().map(|skipped| skipped.path).collect();
    assert_eq!(skipped, [b"log"]);
}

#[test]
fn a_file_larger_than_many_chunks_keeps_its_bytes() {
    let mut tree = MemoryTree::new();
    let data: Vec<u8> =
        (0..5_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    tree.file(ROOT_INO, b"big", metadata(Kind::File, 0o644, 0, 0), &data);
    let (bytes, nodes, _) = indexed(&tree);
    assert!(decode(&bytes)[1].content == data);
    assert_eq!(nodes[1].1.digest, Some(sha256(&data)));
}

#[test]
fn enormous_holes_cost_nothing_and_have_no_digest() {
    let mut tree = MemoryTree::new();
    let file = tree.add(ROOT_INO, b"sparse", metadata(Kind::File, 0o644, 0, 0));
    tree.node_mut(file).0.size = 1 << 45;
    tree.node_mut(file).1.data.insert(1 << 40, vec![1; 4096]);
    let (bytes, nodes, _) = indexed(&tree);
    assert!(bytes.len() < 128 * 1024, "{}", bytes.len());
    assert_eq!(nodes[1].1.digest, None);
}

/// Accepts that many bytes, then the disk is full.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::Error::from(Errno::NOSPC))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn big_tree() -> MemoryTree {
    let mut tree = everything();
    tree.file(ROOT_INO, b"large", metadata(Kind::File, 0o644, 0, 0), &vec![5; 4 << 20]);
    tree
}

#[test]
fn a_full_disk_is_an_error_that_names_the_output() {
    let mut full = Full(1 << 20);
    let output = Output { writer: &mut full, name: Path::new("/store/x.tar") };
    let error = capture(&big_tree(), ROOT_INO, output, &CaptureOptions::default()).unwrap_err();
    assert_eq!(error.errno(), Errno::NOSPC);
    assert!(error.to_string().contains("/store/x.tar"), "{error}");
}

#[test]
fn a_failed_capture_leaves_no_file_and_keeps_the_old_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (old, new) = (scratch.path().join("old.tar"), scratch.path().join("new.tar"));
    std::fs::write(&old, "precious").unwrap();
    let mut tree = big_tree();
    let large = tree.node_mut(ROOT_INO).1.names[&b"large"[..]];
    tree.node_mut(large).1.broken_from = Some(3 << 20);
    for path in [&old, &new] {
        let sink: Box<dyn IndexSink> = Box::new(Recorder::default());
        let index = scratch.path().join("index");
        let options = CaptureOptions::default();
        let indexed = capture_to_files(&tree, ROOT_INO, path, (&index, sink), &options);
        let plain = capture_to_file(&tree, ROOT_INO, path, &options);
        for error in [indexed.unwrap_err(), plain.unwrap_err()] {
            assert!(error.to_string().starts_with("cannot read /large: "), "{error}");
        }
    }
    let left: Vec<_> =
        std::fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&old));
    assert_eq!(std::fs::read(&old).unwrap(), b"precious");
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let mut tree = big_tree();
    let large = tree.node_mut(ROOT_INO).1.names[&b"large"[..]];
    tree.node_mut(large).1.cut_at = Some(100);
    let output = Output { writer: &mut io::sink(), name: Path::new("-") };
    let error = capture(&tree, ROOT_INO, output, &CaptureOptions::default()).unwrap_err();
    assert!(error.to_string().contains("/large"), "{error}");
}

#[test]
fn a_failing_index_explains_the_failure() {
    struct Broken;
    impl IndexSink for Broken {
        fn add(&mut self, _: &[u8], _: IndexNode) -> Result<()> {
            Err(Error::Invalid("the index is broken".into()))
        }
        fn finish(self: Box<Self>, _: u64, _: [u8; 32]) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }
    let output = Output { writer: &mut io::sink(), name: Path::new("-") };
    let options = CaptureOptions::default();
    let error = capture_indexed(&big_tree(), ROOT_INO, output, Box::new(Broken), &options);
    assert_eq!(error.unwrap_err().to_string(), "the index is broken");
}

#[test]
fn progress_can_stop_a_capture() {
    let calls = Cell::new(0);
    let progress = |_: Progress| {
        calls.set(calls.get() + 1);
        ControlFlow::Break(())
    };
    let options = CaptureOptions { progress: Some(&progress), ..CaptureOptions::default() };
    let output = Output { writer: &mut io::sink(), name: Path::new("-") };
    let error = capture(&big_tree(), ROOT_INO, output, &options).unwrap_err();
    assert_eq!((error.errno(), calls.get()), (Errno::CANCELED, 1));
}

#[test]
fn a_file_and_its_index_are_published() {
    let scratch = tempfile::tempdir().unwrap();
    let (tar, index) = (scratch.path().join("a.tar"), scratch.path().join("a.index"));
    let tree = everything();
    let sink: Box<dyn IndexSink> = Box::new(Recorder::default());
    let options = CaptureOptions::default();
    let captured = capture_to_files(&tree, ROOT_INO, &tar, (&index, sink), &options).unwrap();
    assert_eq!(std::fs::read(&tar).unwrap(), stream(&tree, &options).0);
    assert_eq!(std::fs::read(&index).unwrap(), captured.index);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 2);
}
