//! What the host's kernel may know of a tree, and what it has changed there: pure bookkeeping.

use std::collections::HashMap;

use crate::filesystem::Rename;
use crate::node::Ino;

/// The root of every tree.
const ROOT: Ino = 1;
/// Names that are kept of a node; the host looks at few nodes by several.
const MOST_NAMES: usize = 64;
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
    /// The guest has changed it since.
    is_restless: bool,
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

    /// The guest has changed a node; false where the kernel does not know it.
    pub fn disturbed(&mut self, ino: Ino) -> bool {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.is_restless = true;
        }
        self.holds(ino)
    }

    pub fn is_restless(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.is_restless)
    }

    pub fn at(&self, place: &Place) -> Option<Ino> {
        self.places.get(place).copied()
    }

    /// The directories in which a node is known by a name.
    pub fn directories_of(&self, ino: Ino) -> Vec<Ino> {
        let names = self.nodes.get(&ino).map(|node| node.names.as_slice()).unwrap_or_default();
        names.iter().map(|name| name.directory).collect()
    }

    /// What had a name has it no longer.
    pub fn removed(&mut self, place: &Place) {
        if let Some(ino) = self.places.remove(place) {
            self.drop_name(ino, place);
        }
    }

    /// What was at the first place is at the second, or what was at both has changed places.
    pub fn renamed(&mut self, how: Rename, [from, to]: [Place; 2]) {
        match how {
            Rename::Exchange => self.exchanged([from, to]),
            _ => self.moved(&from, to),
        }
    }

    fn moved(&mut self, from: &Place, to: Place) {
        let moved = self.at(from);
        let path_before = moved.and_then(|ino| self.path(ino));
        self.removed(from);
        self.removed(&to);
        let Some(ino) = moved else { return };
        self.name(to, ino);
        if let (Some(before), Some(after)) = (path_before, self.path(ino)) {
            self.move_changes(&before, &after);
        }
    }

    fn exchanged(&mut self, places: [Place; 2]) {
        let [one, other] = places;
        let [first, second] = [self.at(&one), self.at(&other)];
        let paths = [self.path_of(&one), self.path_of(&other)];
        self.removed(&one);
        self.removed(&other);
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
            self.changed(path, what);
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
        let paths = self.path_of(place).zip(self.path(place.directory));
        let Some((path, directory)) = paths else { return self.changed_somewhere() };
        self.changed(path, What { name: true, content: true, listing: false });
        self.changed(directory, What { listing: true, ..What::default() });
    }

    /// The host has changed a node's content or attributes; false where it has no known name.
    pub fn changed_node(&mut self, ino: Ino) -> bool {
        if ino == ROOT {
            self.changed(Vec::new(), What { listing: true, ..What::default() });
            return true;
        }
        let names = self.nodes.get(&ino).map(|node| node.names.clone()).unwrap_or_default();
        let paths: Vec<_> = names.iter().filter_map(|name| self.path_of(name)).collect();
        let is_told = !paths.is_empty();
        for path in paths {
            self.changed(path, What { content: true, ..What::default() });
        }
        is_told
    }

    /// Nobody knows what the host has changed.
    pub fn changed_somewhere(&mut self) {
        self.changes.incomplete = true;
    }

    fn changed(&mut self, path: Vec<u8>, what: What) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(directory: Ino, name: &str) -> Place {
        Place { directory, name: name.as_bytes().to_vec() }
    }

    fn told(known: &mut Known) -> Vec<String> {
        let list = known.take_changes().list;
        list.iter().map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
    }

    #[test]
    fn a_change_follows_the_directory_that_is_renamed_before_it_is_told() {
        let mut known = Known::default();
        known.found(place(ROOT, "d"), 2);
        known.found(place(2, "f"), 3);
        assert!(known.changed_node(3));
        known.renamed(Rename::Replace, [place(ROOT, "d"), place(ROOT, "e")]);
        assert!(told(&mut known).contains(&"/e/f".to_owned()));
        known.found(place(ROOT, "x"), 4);
        assert!(known.changed_node(3));
        known.renamed(Rename::Exchange, [place(ROOT, "x"), place(ROOT, "e")]);
        assert!(told(&mut known).contains(&"/x/f".to_owned()));
        assert_eq!(known.at(&place(ROOT, "e")), Some(4));
    }

    #[test]
    fn a_name_belongs_to_what_was_found_there_last() {
        let mut known = Known::default();
        known.found(place(ROOT, "a"), 2);
        known.found(place(ROOT, "b"), 2);
        known.found(place(ROOT, "a"), 3);
        assert!(known.changed_node(2));
        assert_eq!(told(&mut known), ["/b"]);
        known.forget(3, 1);
        assert_eq!((known.at(&place(ROOT, "a")), known.at(&place(ROOT, "b"))), (None, Some(2)));
    }

    #[test]
    fn a_node_with_more_names_than_are_kept_is_not_forgotten_silently() {
        let mut known = Known::default();
        let names: Vec<_> = (0..=MOST_NAMES).map(|n| place(ROOT, &n.to_string())).collect();
        names.iter().for_each(|name| known.found(name.clone(), 2));
        assert!(known.changed_node(2));
        names.iter().for_each(|name| known.removed(name));
        assert!(known.holds(2) && !known.changed_node(2));
    }

    #[test]
    fn a_change_in_a_directory_of_unknown_name_is_not_lost() {
        let mut known = Known::default();
        known.changed_name(&place(7, "f"));
        assert!(known.take_changes().incomplete);
        assert!(!known.take_changes().incomplete);
    }
}
