//! Random operations on random stacks of layers, step by step against the reference model.

mod apply;
mod generate;
mod pair;
mod reading;

use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::Id;
use super::zone;
use crate::capture::{CaptureOptions, capture_with_index};
use crate::filesystem::Filesystem;
use crate::layer::Layer;
use crate::layer::indexed::IndexedLayer;
use crate::node::Attributes;
use crate::sysroot::{Options, Policy, Sysroot, Zone};
use generate::{operation, wish};
use pair::{Pair, read_names};

/// Every path of a tree with its node.
fn walk(sysroot: &Sysroot) -> Vec<(Vec<u8>, Attributes)> {
    let mut found = Vec::new();
    let mut waiting = vec![b"/".to_vec()];
    while let Some(path) = waiting.pop() {
        let attributes = sysroot.resolve(&path).unwrap();
        if attributes.meta.kind.is_directory() {
            let names = read_names(sysroot, attributes.ino).into_keys();
            waiting.extend(names.map(|name| [path.as_slice(), b"/", &name].concat()));
        }
        found.push((path, attributes));
    }
    found
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #[test]
    fn a_number_is_understood_before_anything_was_looked_up(
        layers in vec(vec(wish(), 0..12), 1..5),
    ) {
        let warm = Pair::new(layers.clone()).sysroot;
        for (path, attributes) in walk(&warm) {
            let cold = Pair::new(layers.clone()).sysroot;
            prop_assert_eq!(cold.attributes(attributes.ino).unwrap(), attributes, "{:?}", &path);
            if attributes.meta.kind.is_directory() {
                let cold = Pair::new(layers.clone()).sysroot;
                let expected = read_names(&warm, attributes.ino);
                prop_assert_eq!(read_names(&cold, attributes.ino), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sysroot_behaves_as_the_model(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..60),
    ) {
        let mut pair = Pair::new(layers);
        pair.compare()?;
        pair.follow(&operations)?;
        pair.end()?;
    }

    #[test]
    fn kept_changes_are_the_same_tree(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..60),
        later in vec(operation(), 0..30),
    ) {
        let mut pair = Pair::new(layers);
        pair.compare()?;
        pair.follow(&operations)?;
        pair.end()?;
        let before = walk(&pair.sysroot);
        let directory = tempfile::tempdir().unwrap();
        pair.sysroot.keep(directory.path()).unwrap();
        let layers = pair.sysroot.tree.layers().to_vec();
        let restore = |zones: Vec<Zone>| {
            let options = Options { zones, spool_directory: None };
            Sysroot::restore(layers.clone(), directory.path(), options).unwrap()
        };
        pair.sysroot = restore(Vec::new());
        prop_assert_eq!(walk(&pair.sysroot), before);
        pair.compare()?;
        pair.sysroot = restore(vec![zone("/", Policy::Scratch)]);
        // The numbers of nodes that went before may be given out again.
        let alive = pair.model.reachable();
        pair.numbers.retain(|id, _| alive.contains_key(id));
        pair.follow(&later)?;
        pair.end()?;
    }

    #[test]
    fn a_capture_is_the_same_tree_as_a_layer(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..60),
        (root, with_index) in (0..64usize, any::<bool>()),
        later in vec(operation(), 0..30),
    ) {
        let mut pair = Pair::new(layers);
        pair.compare()?;
        for operation in &operations {
            pair.apply(operation)?;
        }
        pair.compare()?;
        let scratch = tempfile::tempdir().unwrap();
        let mut pair = captured(&pair, root, &scratch.path().join("first.tar"), with_index)?;
        pair.compare()?;
        captured(&pair, 0, &scratch.path().join("second.tar"), true)?.compare()?;
        let read = |name| std::fs::read(scratch.path().join(name)).unwrap();
        prop_assert!(read("first.tar") == read("second.tar"), "the same tree, the same stream");
        pair.follow(&later)?;
        pair.end()?;
    }
}

/// One of the directories, captured and opened again, as a tree that can be written to.
fn captured(
    pair: &Pair,
    root: usize,
    tar: &Path,
    with_index: bool,
) -> std::result::Result<Pair, TestCaseError> {
    let alive = pair.model.reachable();
    let mut directories: Vec<Id> = alive.into_keys().collect();
    directories.retain(|id| pair.model.nodes[*id].kind.is_directory());
    let id = directories[root % directories.len()];
    let (model, sockets) = pair.model.captured(id);
    let index = tar.with_extension("index");
    let options = CaptureOptions { digest: true, ..CaptureOptions::default() };
    let report = capture_with_index(&pair.sysroot, pair.numbers[&id], tar, &index, &options);
    let mut skipped: Vec<Vec<u8>> =
        report.unwrap().report.skipped.into_iter().map(|skipped| skipped.path).collect();
    skipped.sort();
    prop_assert_eq!(skipped, sockets);
    if !with_index {
        std::fs::remove_file(&index).unwrap();
    }
    let layer: Arc<dyn Layer> = Arc::new(IndexedLayer::open("captured", tar, &index).unwrap());
    let options = Options { zones: vec![zone("/", Policy::Capture)], spool_directory: None };
    Ok(Pair::of(Sysroot::new(vec![layer], options).unwrap(), model))
}
