//! A sysroot beside its model, and their comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::model::{Id, Model, ROOT, Time};
use super::super::{content_of, writable};
use super::generate::{Wish, layer};
use super::reading::Readings;
use crate::error::Errno;
use crate::filesystem::{Filesystem, Seek};
use crate::node::{Ino, Kind, ROOT_INO};
use crate::sysroot::Sysroot;

/// A sysroot and what it should be.
pub struct Pair {
    pub sysroot: Sysroot,
    pub model: Model,
    /// The number that each node was first seen with.
    pub numbers: BTreeMap<Id, Ino>,
    /// Held nodes, with or without names.
    pub open: Vec<(Id, Ino)>,
    pub readings: Readings,
}

impl Pair {
    pub fn new(layers: Vec<Vec<(Vec<u8>, Wish)>>) -> Pair {
        let mut model = Model::new();
        let mut stack = Vec::new();
        for (number, wishes) in layers.into_iter().enumerate() {
            let (layer, said) = layer(&format!("layer {number}"), wishes);
            model.lay(&said);
            stack.push(layer);
        }
        Pair::of(writable(stack), model)
    }

    pub fn of(sysroot: Sysroot, model: Model) -> Pair {
        let (numbers, open) = (BTreeMap::new(), Vec::new());
        Pair { sysroot, model, numbers, open, readings: Readings::default() }
    }

    /// Compares everything that can be reached, and everything that is open.
    pub fn compare(&mut self) -> TestCaseResult {
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
            for (name, child) in self.model.nodes[id].children.clone() {
                let (child_ino, kind) = names[&name];
                prop_assert_eq!(kind, self.model.nodes[child].kind);
                let found = self.sysroot.lookup(ino, &name).unwrap();
                self.sysroot.forget(found.ino, 1);
                prop_assert_eq!(found.ino, child_ino);
                waiting.push((child, child_ino));
            }
        }
        for (id, ino) in self.open.clone() {
            self.compare_node(id, ino, links.get(&id).copied().unwrap_or(0))?;
        }
        let numbers: BTreeSet<&Ino> = self.numbers.values().collect();
        prop_assert_eq!(numbers.len(), self.numbers.len(), "no two nodes share a number");
        Ok(())
    }

    fn compare_node(&mut self, id: Id, ino: Ino, links: u32) -> TestCaseResult {
        self.compare_times(id, ino)?;
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
                self.compare_holes(ino, attributes.blocks, &node.bytes)?;
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

    fn compare_times(&mut self, id: Id, ino: Ino) -> TestCaseResult {
        let seen = self.sysroot.attributes(ino).unwrap();
        let node = &mut self.model.nodes[id];
        let times = [
            ("atime", seen.atime, &mut node.atime),
            ("mtime", seen.meta.mtime, &mut node.mtime),
            ("ctime", seen.ctime, &mut node.ctime),
        ];
        for (which, seen, expected) in times {
            match *expected {
                Time::At(expected) => prop_assert_eq!(seen, expected, "{} of {}", which, id),
                Time::ChangedFrom(old) => {
                    prop_assert_ne!(seen, old, "{} of {} changes", which, id);
                    *expected = Time::At(seen);
                }
            }
        }
        Ok(())
    }

    /// What `SEEK_DATA` and `SEEK_HOLE` leave out must be zeros, and they must come to an end; the rest
    /// takes blocks.
    fn compare_holes(&self, ino: Ino, blocks: u64, bytes: &[u8]) -> TestCaseResult {
        let (mut at, mut data_bytes) = (0, 0);
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
            data_bytes += at - data;
        }
        prop_assert_eq!(blocks, data_bytes.div_ceil(512));
        Ok(())
    }
}

pub fn read_names(sysroot: &Sysroot, directory: Ino) -> BTreeMap<Vec<u8>, (Ino, Kind)> {
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
