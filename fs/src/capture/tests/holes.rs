//! Holes in the stream come from the content alone.

use super::*;
use crate::capture::holes::extents;

const UNIT: u64 = 64 << 10;

/// The same files with everything written out, zeros too.
fn without_holes(mut tree: MemoryTree) -> MemoryTree {
    for ino in (ROOT_INO..).take(tree.nodes.len()) {
        let content = tree.content(ino);
        let (meta, node) = tree.node_mut(ino);
        if meta.kind == Kind::File && !content.is_empty() {
            node.data = [(0, content)].into();
        }
    }
    tree
}

/// One file with runs of `(offset, bytes)`.
fn one_file(size: u64, runs: &[(u64, Vec<u8>)]) -> (MemoryTree, crate::Ino) {
    let mut tree = MemoryTree::new();
    let ino = tree.add(ROOT_INO, b"f", metadata(Kind::File, 0o644, 0, 0));
    tree.node_mut(ino).0.size = size;
    tree.node_mut(ino).1.data = runs.iter().cloned().collect();
    (tree, ino)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_tree_without_its_holes_gives_the_same_bytes(tree in generate::tree()) {
        let options = CaptureOptions::default();
        let before = stream(&tree, &options).0;
        prop_assert_eq!(before, stream(&without_holes(tree), &options).0);
    }

    /// Zeros in the tree's holes and zeros that were written, by the rule's own words.
    #[test]
    fn holes_are_whole_blocks_of_zeros(
        size in 0..10 * UNIT,
        bytes in prop::collection::vec(0..10 * UNIT, 0..6),
        written in prop::collection::vec((0..10 * UNIT, 1..2 * UNIT), 0..3),
    ) {
        let mut content = vec![0; size as usize];
        for at in bytes.iter().filter(|at| **at < size) {
            content[*at as usize] = 1;
        }
        let mut runs: Vec<(u64, u64)> = written;
        runs.extend(bytes.iter().map(|at| (*at, 1)));
        runs.sort_unstable();
        let mut data: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut end = 0;
        for (offset, length) in runs {
            let (from, to) = (offset.max(end), (offset + length).min(size));
            if from < to {
                data.push((from, content[from as usize..to as usize].to_vec()));
                end = to;
            }
        }
        let (tree, ino) = one_file(size, &data);
        prop_assert_eq!(&tree.content(ino), &content);
        let mut is_stored = vec![false; content.len()];
        for extent in extents(&tree, ino, size).unwrap().unwrap_or(vec![Extent { offset: 0, length: size }]) {
            is_stored[extent.offset as usize..][..extent.length as usize].fill(true);
        }
        for (block, stored) in content.chunks(UNIT as usize).zip(is_stored.chunks(UNIT as usize)) {
            let is_hole = block.len() as u64 == UNIT && block.iter().all(|byte| *byte == 0);
            prop_assert!(stored.iter().all(|stored| *stored != is_hole));
        }
    }
}

#[test]
fn a_byte_anywhere_in_a_block_makes_it_data() {
    for at in [0, 63, 64, 1023, 1024, UNIT - 1] {
        let mut block = vec![0; UNIT as usize];
        block[at as usize] = 1;
        let (tree, ino) = one_file(3 * UNIT, &[(UNIT, block)]);
        let found = extents(&tree, ino, 3 * UNIT).unwrap();
        assert_eq!(found, Some(vec![Extent { offset: UNIT, length: UNIT }]), "at {at}");
    }
}

#[test]
fn neighbours_are_one_run_and_a_file_without_holes_has_no_map() {
    let ones = vec![1; 2 * UNIT as usize];
    let (tree, ino) = one_file(4 * UNIT + 1, &[(UNIT, ones.clone())]);
    let want = [(UNIT, 2 * UNIT), (4 * UNIT, 1)];
    let want = want.map(|(offset, length)| Extent { offset, length }).to_vec();
    assert_eq!(extents(&tree, ino, 4 * UNIT + 1).unwrap(), Some(want));
    let (tree, ino) = one_file(2 * UNIT + 1, &[(0, ones)]);
    assert_eq!(extents(&tree, ino, 2 * UNIT + 1).unwrap(), None);
    // A hole that covers no block of the raster is not worth a map.
    let (tree, ino) = one_file(2 * UNIT, &[(0, vec![1]), (2 * UNIT - 1, vec![1])]);
    assert_eq!(extents(&tree, ino, 2 * UNIT).unwrap(), None);
}
