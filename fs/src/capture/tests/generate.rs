//! Generated trees for property tests.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use super::memory::MemoryTree;
use crate::node::ROOT_INO;
use crate::{Device, Ino, Kind, Metadata, Timestamp, Xattrs};

#[derive(Debug, Clone)]
pub struct Item {
    meta: Metadata,
    xattrs: Xattrs,
    target: Vec<u8>,
    /// Gap before and bytes of each run, and the gap at the end.
    runs: Vec<(u64, Vec<u8>)>,
    tail: u64,
    children: Vec<(Vec<u8>, Item)>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"ab.- \n%=".to_vec()),
        1 => (1u8..=255).prop_filter("slash", |byte| *byte != b'/'),
    ];
    prop_oneof![4 => vec(byte.clone(), 1..12), 1 => vec(byte, 90..300)]
        .prop_filter("dots", |name| name != b"." && name != b"..")
}

fn device() -> impl Strategy<Value = Device> {
    // GNU tar refuses numbers of 32 bits; Linux has 12 and 20.
    let number = prop_oneof![4 => 0u32..4096, 1 => 0u32..1 << 31];
    (number.clone(), number).prop_map(|(major, minor)| Device { major, minor })
}

fn leaf_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        2 => Just(Kind::Symlink),
        1 => device().prop_map(Kind::CharDevice),
        1 => device().prop_map(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
    ]
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..70_000, 1 => any::<u32>()]
}

fn mtime() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![
        4 => 0i64..4_000_000_000,
        1 => -10i64..0,
        1 => -100_000_000_000i64..100_000_000_000,
    ];
    let nanoseconds = prop_oneof![2 => Just(0u32), 1 => 0u32..1_000_000_000];
    (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds))
}

fn item(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Item> {
    let xattr_name = vec(prop::sample::select(b"abc.%=".to_vec()), 1..9)
        .prop_map(|name| [b"user.", name.as_slice()].concat());
    let gap = || prop_oneof![3 => Just(0u64), 1 => 1u64..600, 1 => 4096u64..200_000];
    (
        (kind, 0u16..0o10000, id(), id(), mtime()),
        btree_map(xattr_name, vec(any::<u8>(), 0..40), 0..3),
        prop_oneof![vec(b'a'..=b'z', 1..10), vec(1u8..=255, 90..250)],
        vec((gap(), vec(any::<u8>(), 1..2000)), 0..4),
        gap(),
    )
        .prop_map(|((kind, mode, uid, gid, mtime), xattrs, target, runs, tail)| {
            let meta = Metadata { kind, mode, uid, gid, mtime, size: 0 };
            Item { meta, xattrs, target, runs, tail, children: Vec::new() }
        })
}

pub fn tree() -> impl Strategy<Value = MemoryTree> {
    let node = item(leaf_kind()).prop_recursive(5, 40, 6, |inner| {
        (item(Just(Kind::Directory)), btree_map(name(), inner, 0..6))
            .prop_map(|(item, children)| Item { children: children.into_iter().collect(), ..item })
    });
    let links = vec((any::<Index>(), any::<Index>(), name()), 0..4);
    (item(Just(Kind::Directory)), btree_map(name(), node, 0..8), links).prop_map(build)
}

type Links = Vec<(Index, Index, Vec<u8>)>;

fn build(
    (root, children, links): (Item, std::collections::BTreeMap<Vec<u8>, Item>, Links),
) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.nodes[0].0 = root.meta;
    tree.nodes[0].1.xattrs = root.xattrs;
    for (name, item) in children {
        plant(&mut tree, ROOT_INO, &name, item);
    }
    let of = |tree: &MemoryTree, directory: bool| -> Vec<Ino> {
        (ROOT_INO..ROOT_INO + tree.nodes.len() as Ino)
            .filter(|ino| tree.nodes[(ino - 1) as usize].0.kind.is_directory() == directory)
            .collect()
    };
    let (directories, others) = (of(&tree, true), of(&tree, false));
    for (from, to, name) in links {
        let parent = *to.get(&directories);
        if !others.is_empty() && !tree.node_mut(parent).1.names.contains_key(&name) {
            tree.add_link(*from.get(&others), parent, &name);
        }
    }
    tree
}

fn plant(tree: &mut MemoryTree, parent: Ino, name: &[u8], item: Item) {
    let ino = tree.add(parent, name, item.meta);
    let (meta, node) = tree.node_mut(ino);
    node.xattrs = item.xattrs;
    match meta.kind {
        Kind::Symlink => {
            meta.size = item.target.len() as u64;
            node.target = item.target;
        }
        Kind::File => {
            for (gap, bytes) in item.runs {
                let offset = meta.size + gap;
                meta.size = offset + bytes.len() as u64;
                node.data.insert(offset, bytes);
            }
            meta.size += item.tail;
        }
        _ => {}
    }
    for (name, child) in item.children {
        plant(tree, ino, &name, child);
    }
}
