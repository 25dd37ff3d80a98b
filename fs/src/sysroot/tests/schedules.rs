//! Short stories of threads that meet, told in many orders (feature `shuttle`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use shuttle::thread;

use super::layer::MemoryLayer;
use super::*;
use crate::filesystem::Allocate;
use crate::node::ROOT_INO;
use crate::sync::explore;

fn tree() -> Sysroot {
    let layer = MemoryLayer::new("low")
        .file("/low", b"aaaaaaaa")
        .link("/low", "/linked")
        .file("/d/e/deep", b"deep")
        .file("/d/f", b"f");
    writable(vec![layer])
}

fn file(tree: &Sysroot, name: &[u8]) -> Ino {
    tree.make_node(ROOT_INO, name, Kind::File, CREATION).unwrap().ino
}

fn directory(tree: &Sysroot, parent: Ino, name: &[u8]) -> Ino {
    let made = tree.make_directory(parent, name, CREATION).unwrap().ino;
    tree.forget(made, 1);
    made
}

fn rename(tree: &Sysroot, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
    tree.rename(from.0, from.1, to.0, to.1, Rename::Replace)
}

fn assert_one_of<T: std::fmt::Debug>(result: &Result<T>, allowed: &[Errno]) {
    if let Err(error) = result {
        assert!(allowed.contains(&error.errno()), "{error}");
    }
}

fn ended(tree: &Sysroot) {
    tree.audit();
    assert_eq!(tree.held_nodes(), 0);
}

#[test]
fn a_node_that_is_held_can_be_used() {
    explore(|| {
        let tree = tree();
        let ino = file(&tree, b"f");
        thread::scope(|scope| {
            scope.spawn(|| match tree.lookup(ROOT_INO, b"f") {
                Ok(found) => {
                    assert_eq!(found.ino, ino);
                    tree.write(ino, 0, b"late").unwrap();
                    assert_eq!(tree.attributes(ino).unwrap().meta.size, 4);
                    tree.forget(ino, 1);
                }
                Err(error) => assert_eq!(error.errno(), Errno::NOENT),
            });
            scope.spawn(|| tree.unlink(ROOT_INO, b"f").unwrap());
            scope.spawn(|| tree.forget(ino, 1));
        });
        ended(&tree);
        assert_errno(tree.attributes(ino), Errno::STALE);
    });
}

#[test]
fn a_node_that_is_given_back_and_unlinked_at_once_goes() {
    explore(|| {
        let tree = tree();
        let low = tree.lookup(ROOT_INO, b"low").unwrap().ino;
        tree.remember(low);
        tree.unlink(ROOT_INO, b"linked").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| tree.forget(low, 1));
            scope.spawn(|| tree.forget(low, 1));
            scope.spawn(|| tree.unlink(ROOT_INO, b"low").unwrap());
        });
        ended(&tree);
        assert!(!tree.changes.read().nodes.contains_key(&low));
    });
}

#[test]
fn a_nameless_file_is_linked_or_gone() {
    explore(|| {
        let tree = tree();
        let ino = tree.make_temporary(ROOT_INO, CREATION).unwrap().ino;
        thread::scope(|scope| {
            scope.spawn(|| {
                let linked = tree.link(ino, ROOT_INO, b"name");
                assert_one_of(&linked, &[Errno::STALE]);
                if linked.is_ok() {
                    tree.forget(ino, 1);
                }
            });
            scope.spawn(|| tree.forget(ino, 1));
        });
        ended(&tree);
        assert_eq!(tree.resolve(b"/name").is_ok(), tree.attributes(ino).is_ok());
    });
}

#[test]
fn writers_that_copy_up_the_same_file_both_count() {
    explore(|| {
        let tree = tree();
        let low = ino(&tree, "/low");
        thread::scope(|scope| {
            scope.spawn(|| tree.write(low, 0, b"BB").unwrap());
            scope.spawn(|| tree.write(low, 6, b"CCC").unwrap());
            scope.spawn(|| rename(&tree, (ROOT_INO, b"low"), (ROOT_INO, b"new")).unwrap());
        });
        ended(&tree);
        assert_eq!(content(&tree, "/new"), b"BBaaaaCCC");
        assert_eq!(content(&tree, "/linked"), b"BBaaaaCCC");
    });
}

#[test]
fn a_write_is_seen_whole_or_not_at_all() {
    explore(|| {
        let tree = tree();
        let low = ino(&tree, "/low");
        thread::scope(|scope| {
            scope.spawn(|| tree.write(low, 4, b"BBBBBBBB").unwrap());
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = [0; 20];
                    let count = tree.read(low, 0, &mut seen).unwrap();
                    let seen = &seen[..count];
                    assert!(seen == b"aaaaaaaa" || seen == b"aaaaBBBBBBBB", "{seen:?}");
                    let mut sink = Collected::default();
                    tree.read_to(low, 0, 20, &mut sink).unwrap();
                    assert!(sink.0 == b"aaaaaaaa" || sink.0 == b"aaaaBBBBBBBB", "{:?}", sink.0);
                });
            }
        });
        ended(&tree);
    });
}

#[test]
fn a_truncation_comes_before_or_after_a_write() {
    explore(|| {
        let tree = tree();
        let low = ino(&tree, "/low");
        thread::scope(|scope| {
            scope.spawn(|| tree.write(low, 4, b"BBBB").unwrap());
            scope.spawn(|| {
                let set = SetAttributes { size: Some(2), ..SetAttributes::default() };
                tree.set_attributes(low, &set).unwrap();
            });
            scope.spawn(|| {
                let mut seen = [0; 8];
                let count = tree.read(low, 0, &mut seen).unwrap();
                let seen = &seen[..count];
                let orders: [&[u8]; 4] = [b"aaaaaaaa", b"aaaaBBBB", b"aa", b"aa\0\0BBBB"];
                assert!(orders.contains(&seen), "{seen:?}");
            });
        });
        ended(&tree);
        let last = content(&tree, "/low");
        assert!(last == b"aa" || last == b"aa\0\0BBBB", "{last:?}");
    });
}

#[test]
fn size_and_mode_that_are_set_at_once_are_seen_at_once() {
    explore(|| {
        let tree = tree();
        let low = ino(&tree, "/low");
        let set = |size: u64, mode: u16| {
            let (size, mode) = (Some(size), Some(mode));
            let set = SetAttributes { size, mode, ..SetAttributes::default() };
            tree.set_attributes(low, &set)
        };
        thread::scope(|scope| {
            scope.spawn(|| assert_one_of(&set(2, 0o600), &[Errno::INVAL, Errno::STALE]));
            scope.spawn(|| assert_one_of(&set(8, 0o644), &[Errno::INVAL, Errno::STALE]));
            scope.spawn(|| {
                let meta = tree.attributes(low).unwrap().meta;
                if meta.kind == Kind::File {
                    assert!([(8, 0o644), (2, 0o600)].contains(&(meta.size, meta.mode)), "{meta:?}");
                }
            });
            scope.spawn(|| tree.change_kind(low, Kind::Fifo).unwrap());
        });
        ended(&tree);
        let meta = stat(&tree, "/low").meta;
        assert_eq!(meta.size, 0);
    });
}

#[test]
fn what_was_written_is_in_the_symlink_that_a_file_becomes() {
    explore(|| {
        let tree = tree();
        let (low, own) = (ino(&tree, "/low"), file(&tree, b"own"));
        tree.write(own, 0, b"aaaaaaaa").unwrap();
        let tree = &tree;
        for file in [low, own] {
            let written = thread::scope(|scope| {
                let writer = scope.spawn(move || tree.write(file, 6, b"BBB"));
                scope.spawn(move || tree.change_kind(file, Kind::Symlink).unwrap());
                writer.join().unwrap()
            });
            assert_one_of(&written, &[Errno::INVAL]);
            let expected: &[u8] = if written.is_ok() { b"aaaaaaBBB" } else { b"aaaaaaaa" };
            assert_eq!(tree.read_link(file).unwrap(), expected);
        }
        tree.forget(own, 1);
        ended(tree);
    });
}

#[test]
fn a_symlink_becomes_a_file_once() {
    explore(|| {
        let layer = MemoryLayer::new("low").symlink("/link", "target");
        let tree = writable(vec![layer]);
        let link = ino(&tree, "/link");
        thread::scope(|scope| {
            scope.spawn(|| {
                tree.change_kind(link, Kind::File).unwrap();
                tree.write(link, 0, b"TAR").unwrap();
            });
            scope.spawn(|| tree.change_kind(link, Kind::File).unwrap());
        });
        ended(&tree);
        assert_eq!(content(&tree, "/link"), b"TARget");
    });
}

#[test]
fn ranges_are_claimed_punched_and_copied_at_once() {
    explore(|| {
        let tree = tree();
        let (low, f) = (ino(&tree, "/low"), ino(&tree, "/d/f"));
        thread::scope(|scope| {
            scope.spawn(|| tree.copy_range(low, 0, f, 1, 8).unwrap());
            scope.spawn(|| tree.copy_range(f, 0, low, 8, 1).unwrap());
            scope.spawn(|| {
                tree.allocate(low, 0, 2, Allocate::PunchHole).unwrap();
                tree.allocate(low, 0, 12, Allocate::Reserve).unwrap();
            });
        });
        ended(&tree);
        let low = content(&tree, "/low");
        assert_eq!(low.len(), 12);
        assert_eq!(low[..9], *b"\0\0aaaaaaf");
        let f = content(&tree, "/d/f");
        assert!(f == b"faaaaaaaa" || f == b"f\0\0aaaaaa", "{f:?}");
    });
}

#[test]
fn nothing_is_made_in_a_directory_that_is_removed() {
    explore(|| {
        let tree = tree();
        let d = directory(&tree, ROOT_INO, b"new");
        thread::scope(|scope| {
            scope.spawn(|| {
                let made = tree.make_node(d, b"child", Kind::Fifo, CREATION);
                assert_one_of(&made, &[Errno::NOENT, Errno::STALE]);
                if let Ok(made) = made {
                    tree.forget(made.ino, 1);
                }
            });
            scope.spawn(|| {
                assert_one_of(&tree.remove_directory(ROOT_INO, b"new"), &[Errno::NOTEMPTY]);
            });
            scope.spawn(|| {
                let moved = rename(&tree, (ROOT_INO, b"linked"), (d, b"moved"));
                assert_one_of(&moved, &[Errno::NOENT, Errno::STALE]);
            });
        });
        ended(&tree);
        assert_ne!(tree.resolve(b"/linked").is_ok(), tree.resolve(b"/new/moved").is_ok());
    });
}

#[test]
fn directories_do_not_end_up_inside_each_other() {
    explore(|| {
        let tree = tree();
        let (a, b) = (directory(&tree, ROOT_INO, b"a"), directory(&tree, ROOT_INO, b"b"));
        let inner = directory(&tree, a, b"inner");
        thread::scope(|scope| {
            let into = |moved: &'static [u8], to| {
                let result = rename(&tree, (ROOT_INO, moved), (to, moved));
                assert_one_of(&result, &[Errno::INVAL, Errno::NOENT]);
            };
            scope.spawn(move || into(b"a", b));
            scope.spawn(move || into(b"b", inner));
            scope.spawn(move || into(b"d", inner));
        });
        ended(&tree);
    });
}

#[test]
fn names_that_are_fought_for_belong_to_one_node() {
    explore(|| {
        let tree = tree();
        for name in [b"f", b"g"] {
            let made = file(&tree, name);
            tree.forget(made, 1);
        }
        let low = ino(&tree, "/low");
        thread::scope(|scope| {
            scope.spawn(|| rename(&tree, (ROOT_INO, b"f"), (ROOT_INO, b"x")).unwrap());
            scope.spawn(|| rename(&tree, (ROOT_INO, b"g"), (ROOT_INO, b"x")).unwrap());
            scope.spawn(|| match tree.link(low, ROOT_INO, b"x") {
                Ok(_) => tree.forget(low, 1),
                Err(error) => assert_eq!(error.errno(), Errno::EXIST),
            });
            scope.spawn(|| assert_one_of(&tree.unlink(ROOT_INO, b"x"), &[Errno::NOENT]));
        });
        ended(&tree);
    });
}

#[test]
fn names_that_are_exchanged_are_always_there() {
    explore(|| {
        let tree = tree();
        let swap = || {
            tree.rename(ROOT_INO, b"d", ROOT_INO, b"low", Rename::Exchange).unwrap();
        };
        let (d, low) = (ino(&tree, "/d"), ino(&tree, "/low"));
        thread::scope(|scope| {
            scope.spawn(swap);
            scope.spawn(swap);
            scope.spawn(|| {
                for name in [b"d".as_slice(), b"low"] {
                    let found = tree.lookup(ROOT_INO, name).unwrap().ino;
                    assert!([d, low].contains(&found));
                    tree.forget(found, 1);
                }
            });
        });
        ended(&tree);
        assert_eq!((ino(&tree, "/d"), ino(&tree, "/low")), (d, low));
    });
}

#[test]
fn changes_of_one_node_do_not_undo_each_other() {
    explore(|| {
        let tree = tree();
        let low = ino(&tree, "/low");
        thread::scope(|scope| {
            scope.spawn(|| {
                let set = SetAttributes { mode: Some(0o4711), ..SetAttributes::default() };
                tree.set_attributes(low, &set).unwrap();
            });
            scope.spawn(|| {
                let set = SetAttributes { uid: Some(5), size: Some(3), ..SetAttributes::default() };
                tree.set_attributes(low, &set).unwrap();
            });
            scope.spawn(|| tree.set_xattr(low, b"user.a", b"1", SetXattr::Any).unwrap());
            scope.spawn(|| tree.set_xattr(low, b"user.b", b"2", SetXattr::Any).unwrap());
        });
        ended(&tree);
        let meta = stat(&tree, "/low").meta;
        assert_eq!((meta.mode, meta.uid, meta.size), (0o4711, 5, 3));
        assert_eq!(tree.list_xattrs(low).unwrap(), [b"user.a", b"user.b"]);
    });
}

#[test]
fn what_stays_is_listed_once() {
    explore(|| {
        let tree = tree();
        let first = file(&tree, b"first");
        tree.forget(first, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut names = Vec::new();
                let mut at = 2;
                loop {
                    let before = at;
                    // One name a call, as a reader with little room does.
                    tree.read_directory(ROOT_INO, at, &mut |entry| {
                        names.push(String::from_utf8_lossy(entry.name).into_owned());
                        at = entry.cookie;
                        ControlFlow::Break(())
                    })
                    .unwrap();
                    if at == before {
                        break;
                    }
                }
                let once: BTreeSet<_> = names.iter().cloned().collect();
                assert_eq!(once.len(), names.len(), "{names:?}");
                for name in ["d", "low", "first"] {
                    assert!(once.contains(name), "{names:?}");
                }
            });
            scope.spawn(|| tree.unlink(ROOT_INO, b"linked").unwrap());
            scope.spawn(|| {
                let made = file(&tree, b"second");
                tree.forget(made, 1);
                rename(&tree, (ROOT_INO, b"second"), (ino(&tree, "/d"), b"third")).unwrap();
            });
        });
        ended(&tree);
    });
}

#[test]
fn directories_are_first_looked_at_by_several() {
    explore(|| {
        let upper = MemoryLayer::new("up").file("/d/e/other", b"1").file("/x", b"2");
        let low = MemoryLayer::new("low").file("/d/e/deep", b"deep").file("/d/f", b"f");
        let tree = writable(vec![low, upper]);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    assert_eq!(list(&tree, "/d/e"), ["deep", "other"]);
                    assert_eq!(stat(&tree, "/d").nlink, 3);
                });
            }
            scope.spawn(|| {
                let made = make_file(&tree, "/d", "new", b"new");
                assert_eq!(content_of(&tree, made), b"new");
            });
        });
        ended(&tree);
        assert_eq!(list(&tree, "/d"), ["e", "f", "new"]);
    });
}
