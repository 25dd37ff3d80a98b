//! Two kernels that remember, over one tree, told in many orders (feature `shuttle`): neither may be
//! wrong about what was changed before it is asked.

use std::collections::HashMap;
use std::sync::Arc;

use shuttle::thread;

use super::{Announcer, GuestView, HostView, SharedTree};
use crate::filesystem::{Creation, Filesystem, Rename, SetAttributes};
use crate::node::{Attributes, Ino, Kind, ROOT_INO};
use crate::sync::{RwLock, explore};
use crate::sysroot::{Options, Policy, Sysroot, Zone};

const CREATION: Creation = Creation { mode: 0o644, uid: 0, gid: 0 };

/// As Linux's FUSE client: fs/fuse/dir.c and inode.c. A directory's lock is held from the question for
/// a name until the answer has been taken in, but not where a name is only to be confirmed that has no
/// time to live. Attributes that were asked for before the newest ones are not taken in.
struct Kernel {
    tree: Arc<dyn Filesystem>,
    locks: [RwLock<()>; 4],
    names: RwLock<HashMap<Name, Entry>>,
    nodes: RwLock<Nodes>,
}

/// In a directory.
type Name = (Ino, Vec<u8>);

/// What a name leads to.
#[derive(Clone, Copy)]
struct Entry {
    ino: Option<Ino>,
    lasts: bool,
    /// Two of the same name are two.
    number: u64,
}

#[derive(Default)]
struct Nodes {
    /// Size and links, while they are valid, and the version that they were taken in with.
    known: HashMap<Ino, (Option<Facts>, u64)>,
    version: u64,
    entries: u64,
}

type Facts = (u64, u32);

fn facts(found: &Attributes) -> Facts {
    (found.meta.size, found.nlink)
}

impl Kernel {
    fn new(tree: Arc<dyn Filesystem>) -> Arc<Kernel> {
        let locks = std::array::from_fn(|_| RwLock::new(()));
        Arc::new(Kernel { tree, locks, names: RwLock::default(), nodes: RwLock::default() })
    }

    fn lock(&self, directory: Ino) -> &RwLock<()> {
        &self.locks[(directory % 4) as usize]
    }

    /// What a program is told of a name.
    fn stat(&self, directory: Ino, name: &str) -> Option<Facts> {
        let place = (directory, name.as_bytes().to_vec());
        let ino = self.find(place)?;
        let valid = self.nodes.read().known.get(&ino).and_then(|(facts, _)| *facts);
        if valid.is_some() {
            return valid;
        }
        self.ask(ino).map(|found| facts(&found))
    }

    fn find(&self, place: Name) -> Option<Ino> {
        let cached = self.names.read().get(&place).copied();
        match cached {
            Some(Entry { ino, lasts: true, .. }) => return ino,
            Some(entry) if entry.ino.is_some() && self.confirm(&place, entry) => return entry.ino,
            _ => {}
        }
        let _reader = self.lock(place.0).read();
        self.look_up(place)
    }

    fn confirm(&self, place: &Name, entry: Entry) -> bool {
        let (ino, lasts) = self.ask_for(place);
        let mut names = self.names.write();
        if ino != entry.ino {
            names.remove(place);
            return false;
        }
        if let Some(there) = names.get_mut(place).filter(|there| there.number == entry.number) {
            there.lasts = lasts;
        }
        true
    }

    fn look_at(&self, names: &[&str]) {
        for name in names {
            self.stat(ROOT_INO, name);
            let known = self.names.read().get(&(ROOT_INO, name.as_bytes().to_vec())).copied();
            if let Some(ino) = known.and_then(|entry| entry.ino) {
                self.ask(ino);
            }
        }
    }

    fn look_up(&self, place: Name) -> Option<Ino> {
        let (ino, lasts) = self.ask_for(&place);
        let number = {
            let mut nodes = self.nodes.write();
            nodes.entries += 1;
            nodes.entries
        };
        self.names.write().insert(place, Entry { ino, lasts, number });
        ino
    }

    /// What a name leads to, and whether that may be remembered.
    fn ask_for(&self, place: &Name) -> (Option<Ino>, bool) {
        let (asked, version) = (self.nodes.read().version, self.tree.version());
        let found = self.tree.lookup(place.0, &place.1).ok();
        let lasts = self.tree.version() == version;
        thread::yield_now();
        if let Some(found) = &found {
            self.take_in(found, asked, lasts);
        }
        (found.map(|found| found.ino), lasts)
    }

    fn take_in(&self, found: &Attributes, asked: u64, lasts: bool) {
        let mut nodes = self.nodes.write();
        nodes.version += 1;
        let version = nodes.version;
        let node = nodes.known.entry(found.ino).or_insert((None, 0));
        if node.1 <= asked {
            *node = (lasts.then(|| facts(found)), version);
        }
    }

    /// What the agent's failing link(2) does (`guest/src/agent/forgetting.rs`).
    fn ask_anew(&self, path: &[u8]) {
        let name = path.strip_prefix(b"/").unwrap();
        let _writer = self.lock(ROOT_INO).write();
        let place = (ROOT_INO, name.to_vec());
        self.names.write().remove(&place);
        let Some(ino) = self.look_up(place) else { return };
        while let Some(found) = self.ask(ino) {
            let nodes = self.nodes.read();
            if nodes.known.get(&ino).is_some_and(|(known, _)| *known == Some(facts(&found))) {
                return;
            }
        }
    }

    /// Asks for attributes, whatever is known of them.
    fn ask(&self, ino: Ino) -> Option<Attributes> {
        let (asked, version) = (self.nodes.read().version, self.tree.version());
        let found = self.tree.attributes(ino).ok()?;
        let lasts = self.tree.version() == version;
        thread::yield_now();
        self.take_in(&found, asked, lasts);
        Some(found)
    }
}

impl Announcer for Kernel {
    fn name(&self, directory: Ino, name: &[u8]) {
        let _writer = self.lock(directory).write();
        self.names.write().remove(&(directory, name.to_vec()));
    }

    fn node(&self, ino: Ino) {
        let mut nodes = self.nodes.write();
        nodes.version += 1;
        let version = nodes.version;
        if let Some(node) = nodes.known.get_mut(&ino) {
            *node = (None, version);
        }
    }

    fn barrier(&self, directory: Ino) {
        self.name(directory, b"/");
    }
}

/// One tree, its two views, and both kernels.
struct World {
    shared: Arc<SharedTree>,
    guest: Arc<Kernel>,
    host: Arc<Kernel>,
}

impl World {
    fn new() -> World {
        let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
        let tree = Sysroot::new(Vec::new(), Options { zones, spool_directory: None }).unwrap();
        let made = tree.make_node(ROOT_INO, b"old", Kind::File, CREATION).unwrap();
        tree.write(made.ino, 0, b"old").unwrap();
        let shared = SharedTree::new(Arc::new(tree));
        let guest = Kernel::new(Arc::new(GuestView::new(shared.clone())));
        let host = Kernel::new(Arc::new(HostView::new(shared.clone(), 0, 0)));
        shared.announce_to(host.clone());
        World { shared, guest, host }
    }

    /// What is true.
    fn truth(&self, name: &str) -> Option<Facts> {
        self.shared.tree.lookup(ROOT_INO, name.as_bytes()).ok().map(|found| facts(&found))
    }

    #[track_caller]
    fn host_is_right(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.host.stat(ROOT_INO, name), self.truth(name), "{name} on the host");
        }
    }

    /// At the end of a job.
    #[track_caller]
    fn guest_is_right(&self, names: &[&str]) {
        for change in self.shared.take_changes().list {
            if change.what.name || change.what.content {
                self.guest.ask_anew(&change.path);
            }
        }
        for name in names {
            assert_eq!(self.guest.stat(ROOT_INO, name), self.truth(name), "{name} in the guest");
        }
    }
}

/// Creates, writes, truncates, links, renames and removes; calls `check` after each.
fn change_everything(tree: &dyn Filesystem, check: impl Fn()) {
    let made = tree.make_node(ROOT_INO, b"new", Kind::File, CREATION).unwrap().ino;
    check();
    tree.write(made, 0, b"12345").unwrap();
    check();
    let changes = SetAttributes { size: Some(2), ..SetAttributes::default() };
    tree.set_attributes(made, &changes).unwrap();
    check();
    tree.link(made, ROOT_INO, b"other").unwrap();
    check();
    tree.rename(ROOT_INO, b"new", ROOT_INO, b"old", Rename::Replace).unwrap();
    check();
    tree.unlink(ROOT_INO, b"other").unwrap();
    check();
    tree.write(made, 2, b"345").unwrap();
    check();
}

const NAMES: [&str; 3] = ["new", "old", "other"];

#[test]
fn the_host_s_kernel_knows_what_the_guest_has_changed() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            scope.spawn(|| world.host.look_at(&NAMES));
            scope.spawn(|| {
                change_everything(&*world.guest.tree, || world.host_is_right(&NAMES));
            });
        });
        world.host_is_right(&NAMES);
    });
}

#[test]
fn the_guest_s_kernel_knows_what_the_host_has_changed() {
    explore(|| {
        let world = World::new();
        thread::scope(|scope| {
            scope.spawn(|| world.guest.look_at(&NAMES));
            scope.spawn(|| {
                change_everything(&*world.host.tree, || world.guest_is_right(&NAMES));
            });
        });
        world.guest_is_right(&NAMES);
    });
}
