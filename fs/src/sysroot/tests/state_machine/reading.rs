//! Directories that are read in pieces while names come and go.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::super::model::{Id, Model};
use crate::filesystem::Filesystem;
use crate::node::Ino;
use crate::sysroot::Sysroot;

/// At most one reading of each directory, which is held meanwhile.
#[derive(Default)]
pub struct Readings {
    of: BTreeMap<Id, Reading>,
}

struct Reading {
    ino: Ino,
    cookie: u64,
    /// What was there at the beginning and neither came nor went since, and how often it was seen.
    stays: BTreeMap<Vec<u8>, (Id, u32)>,
}

impl Readings {
    pub fn go_on(
        &mut self,
        sysroot: &Sysroot,
        model: &Model,
        (id, ino): (Id, Ino),
        names: usize,
    ) -> TestCaseResult {
        let reading = self.of.entry(id).or_insert_with(|| {
            sysroot.remember(ino);
            let children = model.nodes[id].children.iter();
            let stays = children.map(|(name, child)| (name.clone(), (*child, 0))).collect();
            Reading { ino, cookie: 2, stays }
        });
        if reading.go_on(sysroot, names) {
            return Ok(());
        }
        match self.of.remove(&id) {
            Some(reading) => reading.end(sysroot),
            None => Ok(()),
        }
    }

    pub fn keep_only_what_stayed(&mut self, model: &Model) {
        for (id, reading) in &mut self.of {
            let children = &model.nodes[*id].children;
            reading.stays.retain(|name, (child, _)| children.get(name) == Some(child));
        }
    }

    pub fn end(&mut self, sysroot: &Sysroot) -> TestCaseResult {
        for mut reading in std::mem::take(&mut self.of).into_values() {
            while reading.go_on(sysroot, 100) {}
            reading.end(sysroot)?;
        }
        Ok(())
    }
}

impl Reading {
    /// Whether there was anything more.
    fn go_on(&mut self, sysroot: &Sysroot, names: usize) -> bool {
        let mut seen = 0;
        sysroot
            .read_directory(self.ino, self.cookie, &mut |entry| {
                self.cookie = entry.cookie;
                if let Some((_, times)) = self.stays.get_mut(entry.name) {
                    *times += 1;
                }
                seen += 1;
                if seen < names { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        seen > 0
    }

    fn end(self, sysroot: &Sysroot) -> TestCaseResult {
        for (name, (_, times)) in &self.stays {
            prop_assert_eq!(*times, 1, "{} is reported once", name.escape_ascii());
        }
        sysroot.forget(self.ino, 1);
        Ok(())
    }
}
