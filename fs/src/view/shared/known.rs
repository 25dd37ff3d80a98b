//! What the host's kernel may know of a tree, and what it has changed there: pure bookkeeping.

use std::collections::HashMap;

use crate::node::Ino;

/// The root of every tree.
const ROOT: Ino = 1;
/// Names that are kept of a node; the host looks at few nodes by several.
const MOST_NAMES: usize = 4;
/// Directories above a node; more are no path that programs could use (PATH_MAX).
const DEEPEST: usize = 2048;
/// Changes that nobody has asked for yet; with more, everything counts as changed.
const MOST_CHANGES: usize = 16 * 1024;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub directory: Ino,
    pub name: Vec<u8>,
}

/// What somebody else's kernel has to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct What {
    /// The name came, went, or leads to something else.
    pub name: bool,
    /// Content or attributes of what has the name.
    pub content: bool,
    /// The list of names in it.
    pub listing: bool,
}

impl What {
    fn with(self, other: What) -> What {
        What {
            name: self.name || other.name,
            content: self.content || other.content,
            listing: self.listing || other.listing,
        }
    }
}

/// What has changed at a path from the tree's root, which is empty for the root itself and begins with
/// `/` for all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: Vec<u8>,
    pub what: What,
}

/// What has changed since it was last asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// In the order in which the paths first changed.
    pub list: Vec<Change>,
    /// There may be others that are not listed.
    pub incomplete: bool,
}

#[derive(Debug, Default)]
struct Node {
    holds: u64,
    /// The last one is where it was seen last.
    names: Vec<Place>,
}

#[derive(Debug, Default)]
pub struct Known {
    nodes: HashMap<Ino, Node>,
    places: HashMap<Place, Ino>,
    changes: Changes,
    listed: HashMap<Vec<u8>, usize>,
}

impl Known {
    /// The kernel is told of a node at a place, and holds it once more.
    pub fn found(&mut self, place: Place, ino: Ino) {
        self.name(place, ino);
        let node = self.nodes.entry(ino).or_default();
        node.holds = node.holds.saturating_add(1);
    }

    fn name(&mut self, place: Place, ino: Ino) {
        if let Some(before) = self.places.insert(place.clone(), ino).filter(|b| *b != ino) {
            self.drop_name(before, &place);
        }
        let names = &mut self.nodes.entry(ino).or_default().names;
        names.retain(|name| *name != place);
        names.push(place);
        if names.len() > MOST_NAMES {
            let oldest = names.remove(0);
            self.places.remove(&oldest);
        }
    }

    fn drop_name(&mut self, ino: Ino, place: &Place) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.names.retain(|name| name != place);
        }
    }

    /// The kernel gives holds back.
    pub fn forget(&mut self, ino: Ino, count: u64) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        node.holds = node.holds.saturating_sub(count);
        if node.holds == 0 {
            for name in std::mem::take(&mut node.names) {
                self.places.remove(&name);
            }
            self.nodes.remove(&ino);
        }
    }

    /// Everything that the kernel holds, which it holds no longer.
    pub fn forget_all(&mut self) -> Vec<(Ino, u64)> {
        self.places.clear();
        self.nodes.drain().map(|(ino, node)| (ino, node.holds)).collect()
    }

    pub fn holds(&self, ino: Ino) -> bool {
        ino == ROOT || self.nodes.contains_key(&ino)
    }

    pub fn at(&self, place: &Place) -> Option<Ino> {
        self.places.get(place).copied()
    }

    /// The directories in which a node is known by a name.
    pub fn directories_of(&self, ino: Ino) -> Vec<Ino> {
        let names = self.nodes.get(&ino).map(|node| node.names.as_slice()).unwrap_or_default();
        names.iter().map(|name| name.directory).collect()
    }

    /// What had a name has it no longer; `before` is what was known there before that happened. A newer
    /// node of that name stays: to know too much costs a question, to know too little a wrong answer.
    pub fn removed(&mut self, place: &Place, before: Option<Ino>) {
        let Some(ino) = before.filter(|_| self.at(place) == before) else { return };
        self.places.remove(place);
        self.drop_name(ino, place);
    }

    /// What was at the first place is at the second; `before` is what was known at both.
    pub fn renamed(&mut self, from: &Place, to: Place, before: [Option<Ino>; 2]) {
        let [moved, replaced] = before;
        let path_before = moved.and_then(|ino| self.path(ino));
        self.removed(from, moved);
        self.removed(&to, replaced.filter(|ino| Some(*ino) != moved));
        let Some(ino) = moved else { return };
        if self.at(&to).is_some_and(|there| there != ino) {
            return;
        }
        self.name(to, ino);
        if let (Some(before), Some(after)) = (path_before, self.path(ino)) {
            self.move_changes(&before, &after);
        }
    }

    pub fn exchanged(&mut self, places: [Place; 2], before: [Option<Ino>; 2]) {
        let [one, other] = places;
        let [first, second] = before;
        let paths = [self.path_of(&one), self.path_of(&other)];
        self.removed(&one, first);
        self.removed(&other, second);
        for (ino, place) in [(first, other), (second, one)] {
            if let Some(ino) = ino {
                self.name(place, ino);
            }
        }
        if let [Some(one), Some(other)] = paths {
            self.move_changes(&one, &other);
            self.move_changes(&other, &one);
        }
    }

    /// What was moved, and all below it, has changed at its new place, too.
    fn move_changes(&mut self, before: &[u8], after: &[u8]) {
        let moved = |change: &Change| {
            let rest = change.path.strip_prefix(before)?;
            let path = [after, rest].concat();
            (rest.is_empty() || rest.starts_with(b"/")).then_some((path, change.what))
        };
        let moved: Vec<_> = self.changes.list.iter().filter_map(moved).collect();
        for (path, what) in moved {
            self.changed(Some(path), what);
        }
    }

    /// From the root; `None` for what is not known by a name.
    fn path(&self, ino: Ino) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut ino = ino;
        while ino != ROOT {
            let place = self.nodes.get(&ino)?.names.last()?;
            names.push(place.name.as_slice());
            ino = place.directory;
            if names.len() > DEEPEST {
                return None;
            }
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Some(path)
    }

    fn path_of(&self, place: &Place) -> Option<Vec<u8>> {
        Some([&self.path(place.directory)?, b"/".as_slice(), &place.name].concat())
    }

    /// The host has changed what a name leads to.
    pub fn changed_name(&mut self, place: &Place) {
        let directory = self.path(place.directory);
        self.changed(self.path_of(place), What { name: true, content: true, listing: false });
        self.changed(directory, What { listing: true, ..What::default() });
    }

    /// The host has changed a node's content or attributes.
    pub fn changed_node(&mut self, ino: Ino) {
        let names = self.nodes.get(&ino).map(|node| node.names.clone()).unwrap_or_default();
        for name in &names {
            let path = self.path_of(name);
            self.changed(path, What { content: true, ..What::default() });
        }
        if ino == ROOT {
            self.changed(Some(Vec::new()), What { listing: true, ..What::default() });
        }
    }

    fn changed(&mut self, path: Option<Vec<u8>>, what: What) {
        // What has no name can be reached by nobody else.
        let Some(path) = path else { return };
        let Changes { list, incomplete } = &mut self.changes;
        let room = list.len() < MOST_CHANGES;
        match self.listed.get(&path).and_then(|at| list.get_mut(*at)) {
            Some(change) => change.what = change.what.with(what),
            None if room => {
                self.listed.insert(path.clone(), list.len());
                list.push(Change { path, what });
            }
            None => *incomplete = true,
        }
    }

    /// What the host has changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        self.listed.clear();
        std::mem::take(&mut self.changes)
    }
}
