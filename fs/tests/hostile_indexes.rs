//! An index whose checksums are right but whose content lies: errors, no panic, no endless walk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::ControlFlow;

use outcrop_fs::index::{Builder, Content, Index, NewNode, SourceIdentity, SparseRun};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::{Entry, Layer};
use outcrop_fs::{Kind, Metadata, Timestamp, Xattrs};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

const HEADER: usize = 512;
const BLOCK: usize = 64 * 1024;
const DATA: u64 = 64;

fn metadata(kind: Kind, size: u64) -> Metadata {
    Metadata { kind, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::EPOCH, size }
}

fn builder() -> Builder {
    Builder::new(SourceIdentity { size: DATA, mtime: Timestamp::EPOCH, digest: None })
}

fn node(kind: Kind, size: u64, content: Content) -> NewNode {
    NewNode { metadata: metadata(kind, size), content, xattrs: Xattrs::new(), digest: None }
}

fn sample() -> Vec<u8> {
    let mut builder = builder();
    let runs = vec![
        SparseRun { file_offset: 4, data_offset: 0, length: 4 },
        SparseRun { file_offset: 12, data_offset: 4, length: 4 },
    ];
    let xattrs = Xattrs::from([(b"user.a".to_vec(), b"1".to_vec())]);
    builder
        .add(
            b"d/e/file",
            NewNode {
                xattrs,
                digest: Some([7; 32]),
                ..node(Kind::File, 8, Content::Data { offset: 8 })
            },
        )
        .unwrap();
    builder.add(b"d/link", node(Kind::File, 0, Content::HardLink(b"d/e/file".to_vec()))).unwrap();
    builder.add(b"d/sparse", node(Kind::File, 20, Content::Sparse { runs })).unwrap();
    builder.add(b"d/s", node(Kind::Symlink, 0, Content::Target(b"e/file".to_vec()))).unwrap();
    builder.add_whiteout(b"d/gone").unwrap();
    builder.finish().unwrap()
}

/// Makes all checksums right again.
fn resign(index: &mut [u8]) {
    let length = index.len();
    let checksums = u64::from_le_bytes(index[88 + 9 * 16..][..8].try_into().unwrap());
    let Ok(checksums) = usize::try_from(checksums) else { return };
    if checksums >= HEADER && checksums <= length {
        let sums: Vec<u8> = index[HEADER..checksums]
            .chunks(BLOCK)
            .flat_map(|block| xxh3_64(block).to_le_bytes())
            .collect();
        let room = length - checksums;
        let fits = sums.len().min(room);
        index[checksums..checksums + fits].copy_from_slice(&sums[..fits]);
        let sum = xxh3_64(&index[checksums..]);
        index[496..504].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = xxh3_64(&index[..504]);
    index[504..512].copy_from_slice(&sum.to_le_bytes());
}

/// Asks everything of every number; walks up from each to the root.
fn ask_everything(layer: &IndexedLayer) {
    let count = layer.entry_count().min(1000);
    for entry in (0..count + 2).map(Entry) {
        let _ = layer.metadata(entry);
        let _ = layer.link_count(entry);
        let _ = layer.names(entry);
        let _ = layer.subdirectories(entry);
        let _ = layer.lookup(entry, b"file");
        let _ = layer.child_count(entry);
        let mut seen = 0_u64;
        let _ = layer.children(entry, 0, &mut |_, _| {
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(seen <= count, "more children than entries");
        let _ = layer.read(entry, 0, &mut [0; 32]);
        let _ = layer.read(entry, u64::MAX, &mut [0; 32]);
        let _ = layer.read_link(entry);
        let _ = layer.xattrs(entry);
        let _ = layer.next_data(entry, 0);
        let _ = layer.data_bytes(entry);
        let _ = layer.whiteout(entry, b"gone");
        let _ = layer.is_opaque(entry);
        let _ = layer.digest(entry);
        let mut at = entry;
        for _ in 0..=count {
            match layer.parent(at) {
                Ok(parent) => at = parent,
                Err(_) => break,
            }
        }
        assert!(at == Entry::ROOT || layer.parent(at).is_err(), "a walk upwards has no end");
    }
}

#[test]
fn a_whole_index_verifies_and_answers() {
    let index = Index::from_bytes(sample()).unwrap();
    index.verify().unwrap();
    assert_eq!(index.entry_count(), 7);
    ask_everything(&IndexedLayer::in_memory("x", sample(), vec![0; DATA as usize]).unwrap());
}

#[test]
fn every_single_changed_byte_is_found() {
    let good = sample();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let found = Index::from_bytes(bad).and_then(|index| index.verify());
        assert!(found.is_err(), "byte {position}");
    }
}

#[test]
fn the_same_nodes_in_another_order_give_the_same_bytes() {
    let names = [&b"a"[..], b"b/c", b"b/d", b"e"];
    let build = |order: &mut dyn Iterator<Item = &&[u8]>| {
        let mut builder = builder();
        for name in order {
            builder.add(name, node(Kind::Fifo, 0, Content::None)).unwrap();
        }
        builder.finish().unwrap()
    };
    assert!(build(&mut names.iter()) == build(&mut names.iter().rev()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lying_indexes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = sample();
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        resign(&mut bytes);
        if let Ok(layer) = IndexedLayer::in_memory("x", bytes, vec![0; DATA as usize]) {
            ask_everything(&layer);
        }
    }

    #[test]
    fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(Index::from_bytes(bytes).is_err());
    }
}
