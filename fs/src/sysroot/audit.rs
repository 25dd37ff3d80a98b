//! Whether a tree agrees with itself: what random and concurrent operations are judged by.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::Sysroot;
use super::changes::is_lower;
use crate::filesystem::Filesystem;
use crate::node::{Ino, Kind, ROOT_INO};

impl Sysroot {
    /// Nodes that somebody holds.
    pub(crate) fn held_nodes(&self) -> usize {
        self.holds.as_ref().map_or(0, |holds| holds.iter().filter(|held| **held > 0).count())
    }

    /// Panics where the tree contradicts itself. Nobody may change it meanwhile.
    pub(crate) fn audit(&self) {
        let mut names: HashMap<Ino, u32> = HashMap::new();
        let mut directories = HashSet::from([ROOT_INO]);
        let mut waiting = vec![ROOT_INO];
        while let Some(directory) = waiting.pop() {
            let mut subdirectories = 0;
            for (name, ino, kind) in self.children_for_audit(directory) {
                let shown = name.escape_ascii();
                let found = self.lookup(directory, &name).expect("a listed name is found");
                self.forget(found.ino, 1);
                assert_eq!((found.ino, found.meta.kind), (ino, kind), "{shown}");
                assert_eq!(self.attributes(ino).unwrap(), found, "{shown}");
                if kind.is_directory() {
                    subdirectories += 1;
                    assert!(directories.insert(ino), "the directory {shown} has two names");
                    let above = self.lookup(ino, b"..").expect("a parent");
                    self.forget(above.ino, 1);
                    assert_eq!(above.ino, directory, "the parent of {shown}");
                    waiting.push(ino);
                } else {
                    *names.entry(ino).or_default() += 1;
                    assert_eq!(kind == Kind::Symlink, self.read_link(ino).is_ok(), "{shown}");
                }
            }
            let nlink = self.attributes(directory).unwrap().nlink;
            assert_eq!(nlink, subdirectories + 2, "subdirectories of {directory}");
        }
        for (ino, count) in &names {
            assert_eq!(self.attributes(*ino).unwrap().nlink, *count, "names of {ino}");
        }
        self.audit_records(|ino| names.contains_key(&ino) || directories.contains(&ino));
        self.changed_paths().expect("changes have paths");
    }

    /// What is recorded can be reached, or is held.
    fn audit_records(&self, is_reached: impl Fn(Ino) -> bool) {
        let held = |ino: &Ino| {
            self.holds.as_ref().is_some_and(|holds| holds.get(ino).is_some_and(|held| *held > 0))
        };
        let changes = self.changes.read();
        for (ino, node) in &changes.nodes {
            if node.names == 0 {
                assert!(!is_reached(*ino), "{ino} has a name after all");
                assert!(held(ino), "{ino} has neither names nor holds");
            } else {
                // A layer's node may be hidden by a layer above; nobody could have asked for it.
                assert!(is_reached(*ino) || is_lower(*ino), "{ino} is lost");
            }
        }
    }

    fn children_for_audit(&self, directory: Ino) -> Vec<(Vec<u8>, Ino, Kind)> {
        let mut children = Vec::new();
        let mut seen = HashSet::new();
        self.read_directory(directory, 2, &mut |entry| {
            assert!(seen.insert(entry.name.to_vec()), "a name is listed once");
            children.push((entry.name.to_vec(), entry.ino, entry.kind));
            ControlFlow::Continue(())
        })
        .expect("a listing");
        children
    }
}
