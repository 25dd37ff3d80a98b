//! Short stories of a guest's requests that meet, told in many orders (feature `shuttle`).

use shuttle::thread;

use super::holds::Holds;
use crate::error::Errno;
use crate::filesystem::{Creation, Filesystem, SetXattr};
use crate::node::{Ino, Kind, ROOT_INO};
use crate::sync::explore;
use crate::sysroot::{Options, Policy, Sysroot, Zone};
use crate::transport::duties;

const NEW: Creation = Creation { mode: 0o4755, uid: 1, gid: 1 };

fn tree() -> Sysroot {
    let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
    Sysroot::new(Vec::new(), Options { zones, spool_directory: None }).unwrap()
}

fn file(tree: &Sysroot, name: &[u8]) -> Ino {
    tree.make_node(ROOT_INO, name, Kind::File, NEW).unwrap().ino
}

#[test]
fn writers_do_not_trip_over_each_others_privileges() {
    explore(|| {
        let tree = tree();
        let ino = file(&tree, b"f");
        tree.set_xattr(ino, b"security.capability", b"all", SetXattr::Any).unwrap();
        let tree = &tree;
        // Two leave the mode alone: they take away the capabilities and nothing else.
        thread::scope(|scope| {
            for set_ids in [false, false, true] {
                scope.spawn(move || duties::drop_privileges(tree, ino, set_ids).unwrap());
            }
        });
        let left = tree.get_xattr(ino, b"security.capability").unwrap_err();
        assert_eq!(left.errno(), Errno::NODATA);
        assert_eq!(tree.attributes(ino).unwrap().meta.mode, 0o755);
    });
}

#[test]
fn who_may_open_or_make_a_file_never_finds_nothing() {
    explore(|| {
        let tree = tree();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let made = duties::create(&tree, ROOT_INO, b"f", NEW, libc::O_RDWR).unwrap();
                    tree.forget(made.ino, 1);
                });
            }
            scope.spawn(|| {
                let _ = tree.unlink(ROOT_INO, b"f");
            });
        });
        tree.audit();
        assert_eq!(tree.held_nodes(), 0);
    });
}

#[test]
fn what_is_forgotten_while_it_is_found_stays_held_once() {
    explore(|| {
        let tree = tree();
        let holds = Holds::new(&tree);
        let ino = file(&tree, b"f");
        holds.add(ino);
        thread::scope(|scope| {
            scope.spawn(|| {
                let Ok(found) = tree.lookup(ROOT_INO, b"f") else { return };
                holds.add(found.ino);
                tree.attributes(ino).unwrap();
                holds.give_back(&tree, ino, 1);
            });
            scope.spawn(|| holds.give_back(&tree, ino, 1));
            scope.spawn(|| tree.unlink(ROOT_INO, b"f").unwrap());
        });
        tree.audit();
        assert_eq!(tree.held_nodes(), 0);
        assert_eq!(tree.attributes(ino).unwrap_err().errno(), Errno::STALE);
    });
}

#[test]
fn a_guest_that_ends_twice_gives_everything_back_once() {
    explore(|| {
        let tree = tree();
        let holds = Holds::new(&tree);
        let ino = file(&tree, b"f");
        // Somebody else's, which the guest must not give back.
        tree.remember(ino);
        holds.add(ino);
        tree.unlink(ROOT_INO, b"f").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| holds.give_all_back(&tree));
            scope.spawn(|| holds.give_all_back(&tree));
            scope.spawn(|| holds.give_back(&tree, ino, 1));
        });
        assert_eq!(tree.held_nodes(), 1);
        tree.forget(ino, 1);
        assert!(tree.attributes(ino).is_err());
    });
}
