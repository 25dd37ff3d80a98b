//! What is captured, mounted again: the layer over the stream equals the tree.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::Ino;
use crate::index::{Builder, SourceIdentity};
use crate::layer::indexed::IndexedLayer;
use crate::layer::{Entry, Layer};

fn compare(
    tree: &MemoryTree,
    ino: Ino,
    layer: &dyn Layer,
    entry: Entry,
    seen: &mut BTreeMap<Ino, Entry>,
) {
    let (mut meta, node) = tree.nodes[(ino - ROOT_INO) as usize].clone();
    if meta.kind == Kind::Directory {
        meta.size = 0;
    }
    assert_eq!(layer.metadata(entry).unwrap(), meta);
    assert_eq!(layer.xattrs(entry).unwrap(), node.xattrs);
    assert_eq!(*seen.entry(ino).or_insert(entry), entry, "hard links share a node");
    match meta.kind {
        Kind::File => {
            let want = tree.content(ino);
            let mut content = vec![1; want.len() + 1];
            assert_eq!(layer.read(entry, 0, &mut content).unwrap(), want.len());
            assert!(content[..want.len()] == want);
            // An index made by reading need not have digests, but must not have wrong ones.
            if let Some(digest) = layer.digest(entry).unwrap() {
                assert_eq!(digest, sha256(&want));
            }
            assert_eq!(layer.link_count(entry).unwrap(), node.nlink);
        }
        Kind::Symlink => assert_eq!(layer.read_link(entry).unwrap(), node.target),
        Kind::Directory => {
            let mut children = Vec::new();
            layer
                .children(entry, 0, &mut |name, child| {
                    children.push((name.to_vec(), child));
                    ControlFlow::Continue(())
                })
                .unwrap();
            let names: Vec<_> = children.iter().map(|(name, _)| name).collect();
            assert_eq!(names, node.names.keys().collect::<Vec<_>>());
            for ((_, child), ino) in children.iter().zip(node.names.values()) {
                compare(tree, *ino, layer, *child, seen);
            }
        }
        _ => {}
    }
}

fn check(tree: &MemoryTree, remove_index: bool) {
    let scratch = tempfile::tempdir().unwrap();
    let (tar, index) = (scratch.path().join("a.tar"), scratch.path().join("a.index"));
    let nothing = SourceIdentity { size: 0, mtime: Timestamp::EPOCH, digest: None };
    let sink: Box<dyn IndexSink> = Box::new(Builder::new(nothing));
    let options = CaptureOptions { digest: true, ..CaptureOptions::default() };
    capture_to_files(tree, ROOT_INO, &tar, (&index, sink), &options).unwrap();
    let made = std::fs::read(&index).unwrap();
    if remove_index {
        std::fs::remove_file(&index).unwrap();
    }
    let layer = IndexedLayer::open("artifact", &tar, &index).unwrap();
    compare(tree, ROOT_INO, &layer, Entry::ROOT, &mut BTreeMap::new());
    if !remove_index {
        assert!(std::fs::read(&index).unwrap() == made, "the capture's index was taken as it is");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_capture_opens_as_the_same_tree(tree in generate::tree()) {
        check(&tree, false);
    }

    /// The archive reader, without the capture's index, sees the same.
    #[test]
    fn a_capture_is_read_as_the_same_tree(tree in generate::tree()) {
        check(&tree, true);
    }
}

#[test]
fn one_of_everything() {
    check(&everything(), false);
    check(&everything(), true);
}
