//! Each operation on both: the outcome must be the same.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::CREATION;
use super::super::model::Id;
use super::generate::{NAMES, Operation, XATTRS};
use super::pair::Pair;
use crate::error::{Errno, Result};
use crate::filesystem::{Filesystem, SetAttributes};
use crate::node::{Attributes, Ino, Kind};

impl Pair {
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

    pub fn directory(&self, pick: usize) -> (Id, Ino) {
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

    /// Applies one operation after the other, and compares the trees after each.
    pub fn follow(&mut self, operations: &[Operation]) -> TestCaseResult {
        operations.iter().try_for_each(|operation| {
            self.apply(operation)?;
            self.compare()
        })
    }

    pub fn apply(&mut self, operation: &Operation) -> TestCaseResult {
        self.apply_to_names(operation.clone())?;
        self.readings.keep_only_what_stayed(&self.model);
        Ok(())
    }

    fn apply_to_names(&mut self, operation: Operation) -> TestCaseResult {
        use Operation as O;
        match operation {
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
            O::SetAttributes { node, set } => {
                let (id, ino) = self.node(node);
                let outcome = self.sysroot.set_attributes(ino, &set);
                same(outcome.map(|_| ()), self.model.set_attributes(id, &set))
            }
            O::SetXattr { node, name, value, how } => {
                let ((id, ino), name) = (self.node(node), XATTRS[name]);
                same(
                    self.sysroot.set_xattr(ino, name, &[value], how),
                    self.model.set_xattr(id, name, value, how),
                )
            }
            O::RemoveXattr { node, name } => {
                let ((id, ino), name) = (self.node(node), XATTRS[name]);
                same(self.sysroot.remove_xattr(ino, name), self.model.remove_xattr(id, name))
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
            O::List { directory, names } => {
                let (id, ino) = self.directory(directory);
                self.readings.go_on(&self.sysroot, &self.model, (id, ino), names)
            }
            _ => Ok(()),
        }
    }
}

impl Pair {
    /// Gives every hold back, and lets the tree look at itself.
    pub fn end(&mut self) -> TestCaseResult {
        self.readings.end(&self.sysroot)?;
        for (_, ino) in std::mem::take(&mut self.open) {
            self.sysroot.forget(ino, 1);
        }
        self.compare()?;
        prop_assert_eq!(self.sysroot.held_nodes(), 0);
        self.sysroot.audit();
        Ok(())
    }
}

fn same<T: PartialEq + Debug>(
    got: Result<T>,
    expected: std::result::Result<T, Errno>,
) -> TestCaseResult {
    prop_assert_eq!(got.map_err(|error| error.errno()), expected);
    Ok(())
}
