//! Random operations on random stacks of layers, step by step against the reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::layer::MemoryLayer;
use super::model::{Id, Model, ROOT, Said};
use super::{CREATION, content_of, writable};
use crate::error::{Errno, Result};
use crate::filesystem::{Allocate, Filesystem, Rename, Seek, SetAttributes, SetXattr};
use crate::node::{Attributes, Device, Ino, Kind, ROOT_INO};
use crate::sysroot::Sysroot;

/// Nodes and directories are picked by index, modulo what there is.
#[derive(Debug, Clone)]
enum Operation {
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

const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d\xff", b"e"];
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

fn operation() -> impl Strategy<Value = Operation> {
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
enum Wish {
    Node { kind: Kind, mode: u16, bytes: Vec<u8>, xattr: Option<u8> },
    Symlink,
    Link(usize),
    Whiteout,
    Opaque,
}

fn wish() -> impl Strategy<Value = (Vec<u8>, Wish)> {
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
fn layer(label: &str, wishes: Vec<(Vec<u8>, Wish)>) -> (MemoryLayer, Vec<(Vec<u8>, Said)>) {
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

struct Pair {
    sysroot: Sysroot,
    model: Model,
    /// The number that each node was first seen with.
    numbers: BTreeMap<Id, Ino>,
    /// Held nodes, with or without names.
    open: Vec<(Id, Ino)>,
}

impl Pair {
    fn new(layers: Vec<Vec<(Vec<u8>, Wish)>>) -> Pair {
        let mut model = Model::new();
        let mut stack = Vec::new();
        for (number, wishes) in layers.into_iter().enumerate() {
            let (layer, said) = layer(&format!("layer {number}"), wishes);
            model.lay(&said);
            stack.push(layer);
        }
        let sysroot = writable(stack);
        Pair { sysroot, model, numbers: BTreeMap::new(), open: Vec::new() }
    }

    /// Compares everything that can be reached, and everything that is open.
    fn compare(&mut self) -> TestCaseResult {
        let mut waiting = vec![(ROOT, ROOT_INO)];
        let links = self.model.reachable();
        while let Some((id, ino)) = waiting.pop() {
            let first = *self.numbers.entry(id).or_insert(ino);
            prop_assert_eq!(first, ino, "a node keeps its number");
            self.compare_node(id, ino, links.get(&id).copied().unwrap_or(0))?;
            if !self.model.nodes[id].kind.is_directory() {
                continue;
            }
            let names = read_names(&self.sysroot, ino);
            let expected: Vec<&Vec<u8>> = self.model.nodes[id].children.keys().collect();
            prop_assert_eq!(names.keys().collect::<Vec<_>>(), expected);
            for (name, child) in &self.model.nodes[id].children {
                let (child_ino, kind) = names[name];
                prop_assert_eq!(kind, self.model.nodes[*child].kind);
                let found = self.sysroot.lookup(ino, name).unwrap();
                self.sysroot.forget(found.ino, 1);
                prop_assert_eq!(found.ino, child_ino);
                waiting.push((*child, child_ino));
            }
        }
        for (id, ino) in &self.open {
            self.compare_node(*id, *ino, links.get(id).copied().unwrap_or(0))?;
        }
        let numbers: BTreeSet<&Ino> = self.numbers.values().collect();
        prop_assert_eq!(numbers.len(), self.numbers.len(), "no two nodes share a number");
        Ok(())
    }

    fn compare_node(&self, id: Id, ino: Ino, links: u32) -> TestCaseResult {
        let node = &self.model.nodes[id];
        let attributes = self.sysroot.attributes(ino).unwrap();
        let meta = attributes.meta;
        prop_assert_eq!(
            (meta.kind, meta.mode, meta.uid, meta.gid, attributes.nlink),
            (node.kind, node.mode, node.uid, node.gid, links)
        );
        if !node.kind.is_directory() {
            prop_assert_eq!(meta.size, node.bytes.len() as u64);
        }
        match node.kind {
            Kind::File => {
                prop_assert_eq!(&content_of(&self.sysroot, ino), &node.bytes);
                self.compare_holes(ino, &node.bytes)?;
            }
            Kind::Symlink => {
                prop_assert_eq!(&self.sysroot.read_link(ino).unwrap(), &node.bytes);
            }
            _ => {}
        }
        let names: Vec<Vec<u8>> = node.xattrs.keys().cloned().collect();
        prop_assert_eq!(self.sysroot.list_xattrs(ino).unwrap(), names);
        for (name, value) in &node.xattrs {
            prop_assert_eq!(&self.sysroot.get_xattr(ino, name).unwrap(), value);
        }
        Ok(())
    }

    /// What `SEEK_DATA` and `SEEK_HOLE` leave out must be zeros, and they must come to an end.
    fn compare_holes(&self, ino: Ino, bytes: &[u8]) -> TestCaseResult {
        let mut at = 0;
        while (at as usize) < bytes.len() {
            let data = match self.sysroot.seek(ino, at, Seek::Data) {
                Ok(data) => data,
                Err(error) => {
                    prop_assert_eq!(error.errno(), Errno::NXIO);
                    bytes.len() as u64
                }
            };
            let hole = &bytes[at as usize..data as usize];
            prop_assert!(hole.iter().all(|byte| *byte == 0), "a hole holds zeros");
            if data as usize == bytes.len() {
                break;
            }
            at = self.sysroot.seek(ino, data, Seek::Hole).unwrap();
            prop_assert!(at > data && at as usize <= bytes.len());
        }
        Ok(())
    }

    /// Everything known: reachable or open.
    fn nodes(&self) -> Vec<(Id, Ino)> {
        let reachable = self.model.reachable();
        let known = reachable.keys().map(|id| (*id, self.numbers[id]));
        known.chain(self.open.iter().copied()).collect()
    }

    fn node(&self, pick: usize) -> (Id, Ino) {
        let nodes = self.nodes();
        nodes[pick % nodes.len()]
    }

    fn directory(&self, pick: usize) -> (Id, Ino) {
        let mut nodes = self.nodes();
        nodes.retain(|(id, _)| self.model.nodes[*id].kind.is_directory());
        nodes[pick % nodes.len()]
    }

    fn created(
        &mut self,
        outcome: Result<Attributes>,
        expected: std::result::Result<Id, Errno>,
    ) -> TestCaseResult {
        let outcome = outcome.map(|made| made.ino);
        if let (Ok(ino), Ok(id)) = (&outcome, &expected) {
            let first = *self.numbers.entry(*id).or_insert(*ino);
            prop_assert_eq!(first, *ino);
            self.sysroot.forget(*ino, 1);
        }
        same(outcome.map(|_| ()), expected.map(|_| ()))
    }

    fn apply(&mut self, operation: &Operation) -> TestCaseResult {
        use Operation as O;
        match operation.clone() {
            O::Create { directory, name, kind, setgid } => {
                let (id, ino) = self.directory(directory);
                let mut creation = CREATION;
                creation.mode |= if setgid { 0o2000 } else { 0 };
                let made = if kind.is_directory() {
                    self.sysroot.make_directory(ino, NAMES[name], creation)
                } else {
                    self.sysroot.make_node(ino, NAMES[name], kind, creation)
                };
                let expected = self.model.create(id, NAMES[name], kind, vec![], creation);
                self.created(made, expected)
            }
            O::Symlink { directory, name } => {
                let (id, ino) = self.directory(directory);
                let made = self.sysroot.make_symlink(ino, NAMES[name], b"to", CREATION);
                let bytes = b"to".to_vec();
                let expected = self.model.create(id, NAMES[name], Kind::Symlink, bytes, CREATION);
                self.created(made, expected)
            }
            O::Temporary { directory } => {
                let (id, ino) = self.directory(directory);
                let made = self.sysroot.make_temporary(ino, CREATION);
                let expected = self.model.temporary(id, CREATION);
                if let (Ok(made), Ok(id)) = (&made, &expected) {
                    self.open.push((*id, made.ino));
                    self.numbers.insert(*id, made.ino);
                }
                same(made.map(|_| ()), expected.map(|_| ()))
            }
            O::Link { node, directory, name } => {
                let ((id, ino), (parent, parent_ino)) =
                    (self.node(node), self.directory(directory));
                let made = self.sysroot.link(ino, parent_ino, NAMES[name]);
                let expected = self.model.link(id, parent, NAMES[name]).map(|()| id);
                self.created(made, expected)
            }
            O::Unlink { directory, name } => {
                let (id, ino) = self.directory(directory);
                same(self.sysroot.unlink(ino, NAMES[name]), self.model.unlink(id, NAMES[name]))
            }
            O::RemoveDirectory { directory, name } => {
                let (id, ino) = self.directory(directory);
                same(
                    self.sysroot.remove_directory(ino, NAMES[name]),
                    self.model.remove_directory(id, NAMES[name]),
                )
            }
            O::Rename { from, to, how } => {
                let ((from_id, from_ino), (to_id, to_ino)) =
                    (self.directory(from.0), self.directory(to.0));
                let (name, new_name) = (NAMES[from.1], NAMES[to.1]);
                same(
                    self.sysroot.rename(from_ino, name, to_ino, new_name, how),
                    self.model.rename((from_id, name), (to_id, new_name), how),
                )
            }
            O::Write { node, offset, length, byte } => {
                let (id, ino) = self.node(node);
                let data = vec![byte; length];
                same(
                    self.sysroot.write(ino, offset as u64, &data),
                    self.model.write(id, offset, &data),
                )
            }
            O::Truncate { node, size } => {
                let (id, ino) = self.node(node);
                let set = SetAttributes { size: Some(size as u64), ..SetAttributes::default() };
                let outcome = self.sysroot.set_attributes(ino, &set);
                same(outcome.map(|_| ()), self.model.truncate(id, size))
            }
            O::Allocate { node, offset, length, how } => {
                let (id, ino) = self.node(node);
                same(
                    self.sysroot.allocate(ino, offset as u64, length as u64, how),
                    self.model.allocate(id, offset, length, how),
                )
            }
            O::Copy { from, to, length } => {
                let ((from_id, from_ino), (to_id, to_ino)) = (self.node(from.0), self.node(to.0));
                let outcome = self.sysroot.copy_range(
                    from_ino,
                    from.1 as u64,
                    to_ino,
                    to.1 as u64,
                    length as u64,
                );
                same(outcome, self.model.copy((from_id, from.1), (to_id, to.1), length))
            }
            other => self.apply_metadata(other),
        }
    }

    fn apply_metadata(&mut self, operation: Operation) -> TestCaseResult {
        use Operation as O;
        match operation {
            O::Own { node, mode, uid } => {
                let (id, ino) = self.node(node);
                let set = SetAttributes {
                    mode: Some(mode),
                    uid: Some(uid),
                    gid: Some(uid + 1),
                    ..SetAttributes::default()
                };
                self.sysroot.set_attributes(ino, &set).unwrap();
                let node = &mut self.model.nodes[id];
                (node.mode, node.uid, node.gid) = (mode, uid, uid + 1);
                Ok(())
            }
            O::SetXattr { node, value, how } => {
                let (id, ino) = self.node(node);
                let name = b"user.test".to_vec();
                let xattrs = &mut self.model.nodes[id].xattrs;
                let expected = match (how, xattrs.contains_key(&name)) {
                    (SetXattr::Create, true) => Err(Errno::EXIST),
                    (SetXattr::Replace, false) => Err(Errno::NODATA),
                    _ => {
                        xattrs.insert(name.clone(), vec![value]);
                        Ok(())
                    }
                };
                same(self.sysroot.set_xattr(ino, &name, &[value], how), expected)
            }
            O::RemoveXattr { node } => {
                let (id, ino) = self.node(node);
                let removed = self.model.nodes[id].xattrs.remove(b"user.test".as_slice());
                let expected = removed.map(|_| ()).ok_or(Errno::NODATA);
                same(self.sysroot.remove_xattr(ino, b"user.test"), expected)
            }
            O::ChangeKind { node, kind } => {
                let (id, ino) = self.node(node);
                same(self.sysroot.change_kind(ino, kind), self.model.change_kind(id, kind))
            }
            O::Open { node } => {
                let (id, ino) = self.node(node);
                self.sysroot.remember(ino);
                self.open.push((id, ino));
                Ok(())
            }
            O::Close { open } => {
                if !self.open.is_empty() {
                    let (_, ino) = self.open.swap_remove(open % self.open.len());
                    self.sysroot.forget(ino, 1);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn read_names(sysroot: &Sysroot, directory: Ino) -> BTreeMap<Vec<u8>, (Ino, Kind)> {
    let mut names = BTreeMap::new();
    sysroot
        .read_directory(directory, 2, &mut |entry| {
            let before = names.insert(entry.name.to_vec(), (entry.ino, entry.kind));
            assert!(before.is_none(), "a name is reported once");
            ControlFlow::Continue(())
        })
        .unwrap();
    names
}

fn same<T: PartialEq + Debug>(
    got: Result<T>,
    expected: std::result::Result<T, Errno>,
) -> TestCaseResult {
    prop_assert_eq!(got.map_err(|error| error.errno()), expected);
    Ok(())
}

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
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_sysroot_behaves_as_the_model(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..60),
    ) {
        let mut pair = Pair::new(layers);
        pair.compare()?;
        for operation in &operations {
            pair.apply(operation)?;
            pair.compare()?;
        }
        for (_, ino) in std::mem::take(&mut pair.open) {
            pair.sysroot.forget(ino, 1);
        }
        pair.compare()?;
    }
}
