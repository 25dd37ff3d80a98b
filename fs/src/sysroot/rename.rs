//! Rename in all its forms.

#![forbid(unsafe_code)]

use super::Sysroot;
use super::access::{absent, check_name, check_new_name, now, writable};
use super::changes::{Body, Changes, Node};
use super::merge::MAX_DEPTH;
use super::zones::Place;
use crate::error::{Errno, Result};
use crate::filesystem::Rename;
use crate::node::{Ino, Kind, ROOT_INO, Timestamp};

/// One end of a rename.
#[derive(Clone, Copy)]
struct End<'a> {
    parent: Ino,
    name: &'a [u8],
    place: Place,
}

#[derive(Clone, Copy)]
struct Child {
    ino: Ino,
    kind: Kind,
}

impl Sysroot {
    pub(super) fn rename_entry(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        how: Rename,
    ) -> Result<()> {
        if how == Rename::Unsupported {
            return Err(Errno::INVAL.into());
        }
        let mut changes = self.changes.write();
        let from = self.end(&changes, from)?;
        let to = self.end(&changes, to)?;
        let moved = self.named(&changes, from)?.ok_or_else(|| absent(from.name))?;
        let existing = self.named(&changes, to)?;
        match (how, existing) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST.into()),
            (Rename::Exchange, None) => return Err(Errno::NOENT.into()),
            _ => {}
        }
        if existing.is_none() {
            check_new_name(to.name)?;
        }
        writable(from.place)?;
        writable(to.place)?;
        if existing.is_some_and(|existing| existing.ino == moved.ino) {
            return Ok(());
        }
        self.check_move(&changes, moved, from, to)?;
        if how == Rename::Exchange
            && let Some(existing) = existing
        {
            self.check_move(&changes, existing, to, from)?;
            return self.exchange(&mut changes, (from, moved), (to, existing));
        }
        if let Some(existing) = existing {
            self.check_replace(&changes, moved, existing)?;
        }
        let gone = self.replace(&mut changes, (from, moved), (to, existing))?;
        drop(changes);
        drop(gone);
        Ok(())
    }

    fn end<'a>(&self, changes: &Changes, (parent, name): (Ino, &'a [u8])) -> Result<End<'a>> {
        check_name(name)?;
        let place = self.zones.child(self.live_directory(changes, parent)?.place, name);
        Ok(End { parent, name, place })
    }

    fn named(&self, changes: &Changes, end: End<'_>) -> Result<Option<Child>> {
        match self.child(changes, end.parent, end.name)? {
            Some(ino) => Ok(Some(Child { ino, kind: self.kind_of(changes, ino)? })),
            None => Ok(None),
        }
    }

    /// A directory must not end up inside itself, nor take a zone's beginning with it.
    fn check_move(
        &self,
        changes: &Changes,
        moved: Child,
        from: End<'_>,
        to: End<'_>,
    ) -> Result<()> {
        if !moved.kind.is_directory() {
            return Ok(());
        }
        if self.is_within(changes, to.parent, moved.ino)? {
            return Err(Errno::INVAL.into());
        }
        if from.place.is_pinned() || self.zones.has_zones_below(to.place) {
            return Err(Errno::BUSY.into());
        }
        Ok(())
    }

    fn check_replace(&self, changes: &Changes, moved: Child, existing: Child) -> Result<()> {
        match (moved.kind.is_directory(), existing.kind.is_directory()) {
            (true, false) => Err(Errno::NOTDIR.into()),
            (false, true) => Err(Errno::ISDIR.into()),
            (true, true) if !self.is_empty_directory(changes, existing.ino)? => {
                Err(Errno::NOTEMPTY.into())
            }
            _ => Ok(()),
        }
    }

    fn is_within(&self, changes: &Changes, directory: Ino, ancestor: Ino) -> Result<bool> {
        let mut at = directory;
        for _ in 0..MAX_DEPTH {
            if at == ancestor {
                return Ok(true);
            }
            if at == ROOT_INO {
                return Ok(false);
            }
            at = self.parent_of(changes, at)?;
        }
        Err(Errno::LOOP.into())
    }

    fn replace(
        &self,
        changes: &mut Changes,
        (from, moved): (End<'_>, Child),
        (to, existing): (End<'_>, Option<Child>),
    ) -> Result<Option<Node>> {
        // Everything that may fail comes first, so that a rename happens wholly or not at all.
        let existing_ino = existing.map(|existing| existing.ino);
        for ino in [from.parent, to.parent, moved.ino].into_iter().chain(existing_ino) {
            self.copy_up(changes, ino)?;
        }
        let now = now();
        let mut gone = None;
        if let Some(existing) = existing {
            changes.remove_name(to.parent, to.name, existing.kind, now)?;
            gone = self.drop_name(changes, existing.ino, now);
        }
        changes.remove_name(from.parent, from.name, moved.kind, now)?;
        changes.settle(moved, to, now)?;
        Ok(gone)
    }

    fn exchange(
        &self,
        changes: &mut Changes,
        (from, moved): (End<'_>, Child),
        (to, existing): (End<'_>, Child),
    ) -> Result<()> {
        for ino in [from.parent, to.parent, moved.ino, existing.ino] {
            self.copy_up(changes, ino)?;
        }
        let now = now();
        changes.remove_name(from.parent, from.name, moved.kind, now)?;
        changes.remove_name(to.parent, to.name, existing.kind, now)?;
        changes.settle(moved, to, now)?;
        changes.settle(existing, from, now)
    }
}

impl Changes {
    /// Gives a node that has a record its new name.
    fn settle(&mut self, child: Child, end: End<'_>, now: Timestamp) -> Result<()> {
        self.add_name(end.parent, end.name, (child.ino, child.kind), now)?;
        let node = self.node_mut(child.ino)?;
        node.ctime = now;
        if let Body::Directory(names) = &mut node.body {
            names.parent = end.parent;
            names.name = Some(end.name.into());
            node.place = end.place;
        }
        Ok(())
    }
}
