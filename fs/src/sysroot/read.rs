//! Reading directories.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use super::Sysroot;
use super::changes::{Changes, is_lower};
use crate::error::{Errno, Result};
use crate::filesystem::DirectoryEntry;
use crate::node::{Ino, Kind};

/// Cookies: 1 is after `.`, 2 after `..`. Then follow the names of the lower tree in its order,
/// which never changes, then the added ones by their sequence number, which is never used again.
const AFTER_DOTS: u64 = 2;

/// Names collected under one lock. The visitor runs without it, because it may ask us back.
const BATCH: usize = 128;

#[derive(Default)]
struct Batch {
    names: Vec<u8>,
    entries: Vec<Collected>,
}

struct Collected {
    name_length: usize,
    ino: Ino,
    kind: Kind,
    cookie: u64,
}

impl Batch {
    fn push(&mut self, name: &[u8], ino: Ino, kind: Kind, cookie: u64) {
        self.names.extend_from_slice(name);
        self.entries.push(Collected { name_length: name.len(), ino, kind, cookie });
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH
    }

    fn visit(
        &self,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut names = self.names.as_slice();
        for entry in &self.entries {
            let Some((name, rest)) = names.split_at_checked(entry.name_length) else { break };
            names = rest;
            let Collected { ino, kind, cookie, .. } = *entry;
            visit(DirectoryEntry { name, ino, kind, cookie })?;
        }
        ControlFlow::Continue(())
    }
}

impl Sysroot {
    pub(super) fn visit_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut batch = Batch::default();
        let mut at = cookie;
        let unchanged = {
            let changes = self.changes.read();
            let parent = self.parent_of(&changes, directory)?;
            for (name, ino, next) in [(b".".as_slice(), directory, 1), (b"..", parent, AFTER_DOTS)]
            {
                if at < next {
                    batch.push(name, ino, Kind::Directory, next);
                    at = next;
                }
            }
            changes.nodes.is_empty()
        };
        if batch.visit(visit).is_break() {
            return Ok(());
        }
        if unchanged {
            return self.visit_lower(directory, at, visit);
        }
        loop {
            batch.names.clear();
            batch.entries.clear();
            self.collect(&self.changes.read(), directory, at, &mut batch)?;
            let Some(last) = batch.entries.last() else { return Ok(()) };
            at = last.cookie;
            if batch.visit(visit).is_break() {
                return Ok(());
            }
        }
    }

    fn visit_lower(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(DirectoryEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let record = self.tree.directory(directory)?;
        let mut cookie = cookie;
        self.tree.children(directory, &record, cookie - AFTER_DOTS, &mut |name, ino, kind| {
            cookie = cookie.saturating_add(1);
            visit(DirectoryEntry { name, ino, kind, cookie })
        })
    }

    fn collect(
        &self,
        changes: &Changes,
        directory: Ino,
        cookie: u64,
        batch: &mut Batch,
    ) -> Result<()> {
        let names = changes.directory(directory);
        let lower = self.lower_child_count(directory)?;
        let mut position = cookie.saturating_sub(AFTER_DOTS);
        if is_lower(directory) && position < lower {
            let record = self.tree.directory(directory)?;
            self.tree.children(directory, &record, position, &mut |name, ino, kind| {
                position = position.saturating_add(1);
                if names.is_some_and(|names| names.is_removed(name)) {
                    return ControlFlow::Continue(());
                }
                let kind = changes.nodes.get(&ino).map_or(kind, |node| node.meta.kind);
                batch.push(name, ino, kind, position.saturating_add(AFTER_DOTS));
                if batch.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if batch.is_full() {
                return Ok(());
            }
        }
        let Some(names) = names else { return Ok(()) };
        for (sequence, name, ino) in names.added_from(position.saturating_sub(lower)) {
            let kind = match changes.nodes.get(&ino) {
                Some(node) => node.meta.kind,
                None if is_lower(ino) => self.tree.metadata(ino)?.kind,
                None => return Err(Errno::STALE.into()),
            };
            let cookie = lower.saturating_add(sequence).saturating_add(AFTER_DOTS + 1);
            batch.push(name, ino, kind, cookie);
            if batch.is_full() {
                break;
            }
        }
        Ok(())
    }
}
