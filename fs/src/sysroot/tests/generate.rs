//! What the state machine is fed: layers and operations.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::layer::MemoryLayer;
use super::model::Said;
use crate::filesystem::{Allocate, Rename, SetXattr};
use crate::node::{Device, Kind};

/// Nodes and directories are picked by index, modulo what there is.
#[derive(Debug, Clone)]
pub enum Operation {
    Create { directory: usize, name: usize, kind: Kind, setgid: bool },
    Symlink { directory: usize, name: usize },
    Temporary { directory: usize },
    Link { node: usize, directory: usize, name: usize },
    Unlink { directory: usize, name: usize },
    RemoveDirectory { directory: usize, name: usize },
    Rename { from: (usize, usize), to: (usize, usize), how: Rename },
    Write { node: usize, offset: usize, length: usize, byte: u8 },
    Truncate { node: usize, size: usize },
    Allocate { node: usize, offset: usize, length: usize, how: Allocate },
    Copy { from: (usize, usize), to: (usize, usize), length: usize },
    Own { node: usize, mode: u16, uid: u32 },
    SetXattr { node: usize, value: u8, how: SetXattr },
    RemoveXattr { node: usize },
    ChangeKind { node: usize, kind: Kind },
    Open { node: usize },
    Close { open: usize },
}

pub const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d\xff", b"e"];
const DEVICE: Device = Device { major: 300, minor: 70_000 };

/// Sizes around a page, so that runs are cut in the middle and at their ends.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![0..20usize, 4090..4100usize, 0..10_000usize]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        3 => Just(Kind::Directory),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharDevice(DEVICE)),
    ]
}

pub fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let pick = || 0..64usize;
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => (pick(), name(), kind(), any::<bool>()).prop_map(|(directory, name, kind, setgid)| {
            O::Create { directory, name, kind, setgid }
        }),
        1 => (pick(), name()).prop_map(|(directory, name)| O::Symlink { directory, name }),
        1 => pick().prop_map(|directory| O::Temporary { directory }),
        2 => (pick(), pick(), name())
            .prop_map(|(node, directory, name)| O::Link { node, directory, name }),
        4 => (pick(), name()).prop_map(|(directory, name)| O::Unlink { directory, name }),
        3 => (pick(), name()).prop_map(|(directory, name)| O::RemoveDirectory { directory, name }),
        6 => ((pick(), name()), (pick(), name()), prop_oneof![
            3 => Just(Rename::Replace),
            1 => Just(Rename::NoReplace),
            2 => Just(Rename::Exchange),
        ]).prop_map(|(from, to, how)| O::Rename { from, to, how }),
        4 => (pick(), extent(), extent(), 1..255u8)
            .prop_map(|(node, offset, length, byte)| O::Write { node, offset, length, byte }),
        2 => (pick(), extent()).prop_map(|(node, size)| O::Truncate { node, size }),
        2 => (pick(), extent(), extent(), prop_oneof![
            Just(Allocate::Reserve),
            Just(Allocate::ReserveKeepSize),
            Just(Allocate::PunchHole),
            Just(Allocate::ZeroRange),
            Just(Allocate::ZeroRangeKeepSize),
        ]).prop_map(|(node, offset, length, how)| O::Allocate { node, offset, length, how }),
        2 => ((pick(), extent()), (pick(), extent()), extent())
            .prop_map(|(from, to, length)| O::Copy { from, to, length }),
        2 => (pick(), 0..0o10000u16, 0..3u32)
            .prop_map(|(node, mode, uid)| O::Own { node, mode, uid }),
        1 => (pick(), any::<u8>(), prop_oneof![
            Just(SetXattr::Any), Just(SetXattr::Create), Just(SetXattr::Replace),
        ]).prop_map(|(node, value, how)| O::SetXattr { node, value, how }),
        1 => pick().prop_map(|node| O::RemoveXattr { node }),
        1 => (pick(), prop_oneof![Just(Kind::Symlink), kind()])
            .prop_map(|(node, kind)| O::ChangeKind { node, kind }),
        2 => pick().prop_map(|node| O::Open { node }),
        1 => pick().prop_map(|open| O::Close { open }),
    ]
}

/// A layer's statement before it is known whether it fits.
#[derive(Debug, Clone)]
pub enum Wish {
    Node { kind: Kind, mode: u16, bytes: Vec<u8>, xattr: Option<u8> },
    Symlink,
    Link(usize),
    Whiteout,
    Opaque,
}

pub fn wish() -> impl Strategy<Value = (Vec<u8>, Wish)> {
    let path = vec(0..NAMES.len(), 1..4).prop_map(|names| {
        names.iter().flat_map(|name| [b"/".as_slice(), NAMES[*name]].concat()).collect()
    });
    let bytes = prop_oneof![vec(1..255u8, 0..10), (1..255u8).prop_map(|byte| vec![byte; 5000])];
    let node = (kind(), 0..0o10000u16, bytes, any::<Option<u8>>()).prop_map(
        |(kind, mode, bytes, xattr)| {
            let bytes = if kind == Kind::File { bytes } else { vec![] };
            Wish::Node { kind, mode, bytes, xattr }
        },
    );
    let wish = prop_oneof![
        8 => node,
        1 => Just(Wish::Symlink),
        2 => (0..64usize).prop_map(Wish::Link),
        1 => Just(Wish::Whiteout),
        1 => Just(Wish::Opaque),
    ];
    (path, wish)
}

/// Keeps the wishes that make a well-formed layer, parents first.
pub fn layer(label: &str, wishes: Vec<(Vec<u8>, Wish)>) -> (MemoryLayer, Vec<(Vec<u8>, Said)>) {
    let mut layer = MemoryLayer::new(label);
    let mut said: Vec<(Vec<u8>, Said)> = Vec::new();
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut closed = BTreeSet::new();
    for (path, wish) in wishes {
        let cuts = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let parents: Vec<Vec<u8>> = cuts.map(|(cut, _)| path[..cut].to_vec()).collect();
        if parents.iter().any(|parent| layer.exists(parent) && !layer.is_directory(parent)) {
            continue;
        }
        let wants_new = !matches!(wish, Wish::Whiteout | Wish::Opaque);
        if wants_new && layer.exists(&path) {
            continue;
        }
        if matches!(wish, Wish::Opaque)
            && (!layer.is_directory(&path) || !closed.insert(path.clone()))
        {
            continue;
        }
        for parent in parents {
            if !layer.exists(&parent) {
                layer = layer.directory(&parent);
                let plain =
                    Said::Node { kind: Kind::Directory, mode: 0o755, bytes: vec![], xattr: None };
                said.push((parent, plain));
            }
        }
        match wish {
            Wish::Node { kind, mode, bytes, xattr } => {
                layer = match kind {
                    Kind::File => layer.file(&path, &bytes),
                    _ => layer.node(&path, kind, 0),
                };
                layer = layer.described(&path, mode, xattr);
                if !kind.is_directory() {
                    files.push(path.clone());
                }
                said.push((path, Said::Node { kind, mode, bytes, xattr }));
            }
            Wish::Symlink => {
                layer = layer.symlink(&path, "target");
                files.push(path.clone());
                let (kind, mode, bytes) = (Kind::Symlink, 0o777, b"target".to_vec());
                said.push((path, Said::Node { kind, mode, bytes, xattr: None }));
            }
            Wish::Link(_) if files.is_empty() => {}
            Wish::Link(index) => {
                let existing = files[index % files.len()].clone();
                layer = layer.link(&existing, &path);
                said.push((path, Said::Link { existing }));
            }
            Wish::Whiteout => {
                layer = layer.whiteout(&path);
                said.push((path, Said::Whiteout));
            }
            Wish::Opaque => {
                layer = layer.opaque(&path);
                said.push((path, Said::Opaque));
            }
        }
    }
    (layer, said)
}
