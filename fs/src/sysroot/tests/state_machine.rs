//! Random operations on random stacks of layers, step by step against the reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::generate::{NAMES, Operation, Wish, layer, operation, wish};
use super::model::{Id, Model, ROOT};
use super::{CREATION, content_of, writable, zone};
use crate::error::{Errno, Result};
use crate::filesystem::{Filesystem, Seek, SetAttributes, SetXattr};
use crate::node::{Attributes, Ino, Kind, ROOT_INO};
use crate::sysroot::{Options, Policy, Sysroot, Zone};

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
            other => self.apply_to_data(other),
        }
    }

    fn apply_to_data(&mut self, operation: Operation) -> TestCaseResult {
        use Operation as O;
        match operation {
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
            other => self.apply_to_metadata(other),
        }
    }

    fn apply_to_metadata(&mut self, operation: Operation) -> TestCaseResult {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn kept_changes_are_the_same_tree(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..60),
        later in vec(operation(), 0..30),
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
        for operation in &later {
            pair.apply(operation)?;
            pair.compare()?;
        }
    }
}
