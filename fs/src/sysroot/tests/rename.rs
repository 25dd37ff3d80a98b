//! Rename: what moves, and what is refused.

use super::layer::MemoryLayer;
use super::*;
use crate::node::ROOT_INO;

fn sample() -> Sysroot {
    writable(vec![
        MemoryLayer::new("low").file("/a/b/c/deep", "1").file("/a/f", "f").directory("/empty"),
        MemoryLayer::new("high").file("/a/b/c/high", "2").file("/g", "g"),
    ])
}

fn rename(sysroot: &Sysroot, from: &str, to: &str, how: Rename) -> Result<()> {
    let split = |path: &str| {
        let (parent, name) = path.rsplit_once('/').unwrap();
        (ino(sysroot, parent), name.as_bytes().to_vec())
    };
    let ((parent, name), (new_parent, new_name)) = (split(from), split(to));
    sysroot.rename(parent, &name, new_parent, &new_name, how)
}

#[test]
fn a_merged_directory_moves_with_everything_below_and_copies_nothing() {
    let sysroot = sample();
    let before = stat(&sysroot, "/a/b/c");
    rename(&sysroot, "/a/b", "/moved", Rename::Replace).unwrap();
    assert_eq!(stat(&sysroot, "/moved/c"), before);
    assert_eq!(content(&sysroot, "/moved/c/deep"), b"1");
    assert_eq!(content(&sysroot, "/moved/c/high"), b"2");
    assert_errno(sysroot.resolve(b"/a/b"), Errno::NOENT);
    assert_eq!(ino(&sysroot, "/moved/.."), ROOT_INO);
    assert_eq!((stat(&sysroot, "/a").nlink, stat(&sysroot, "/").nlink), (2, 5));
    assert_eq!(sysroot.changes.read().nodes.len(), 3, "the parents and the directory itself");
}

#[test]
fn a_directory_cannot_move_into_itself() {
    let sysroot = sample();
    assert_errno(rename(&sysroot, "/a", "/a/x", Rename::Replace), Errno::INVAL);
    assert_errno(rename(&sysroot, "/a", "/a/b/c/x", Rename::Replace), Errno::INVAL);
    assert_errno(rename(&sysroot, "/a", "/a/b", Rename::Exchange), Errno::INVAL);
    assert_errno(rename(&sysroot, "/a/b/c", "/a", Rename::Exchange), Errno::INVAL);
}

#[test]
fn kinds_must_agree_and_directories_be_empty() {
    let sysroot = sample();
    assert_errno(rename(&sysroot, "/g", "/empty", Rename::Replace), Errno::ISDIR);
    assert_errno(rename(&sysroot, "/empty", "/g", Rename::Replace), Errno::NOTDIR);
    assert_errno(rename(&sysroot, "/empty", "/a", Rename::Replace), Errno::NOTEMPTY);
    rename(&sysroot, "/a", "/empty", Rename::Replace).unwrap();
    assert_eq!(list(&sysroot, "/"), ["g", "empty"]);
    assert_eq!(content(&sysroot, "/empty/f"), b"f");
}

#[test]
fn replacing_a_held_file_keeps_it_alive() {
    let sysroot = sample();
    let held = sysroot.lookup(ROOT_INO, b"g").unwrap();
    rename(&sysroot, "/a/f", "/g", Rename::Replace).unwrap();
    assert_eq!(content(&sysroot, "/g"), b"f");
    assert_eq!(content_of(&sysroot, held.ino), b"g");
    assert_eq!(sysroot.attributes(held.ino).unwrap().nlink, 0);
}

#[test]
fn two_names_of_one_node_stay_as_they_are() {
    let sysroot = sample();
    sysroot.link(ino(&sysroot, "/g"), ROOT_INO, b"h").unwrap();
    rename(&sysroot, "/g", "/h", Rename::Replace).unwrap();
    assert_eq!(list(&sysroot, "/"), ["a", "empty", "g", "h"]);
}

#[test]
fn noreplace_exchange_and_whiteout() {
    let sysroot = sample();
    assert_errno(rename(&sysroot, "/g", "/a/f", Rename::NoReplace), Errno::EXIST);
    assert_errno(rename(&sysroot, "/g", "/absent", Rename::Exchange), Errno::NOENT);
    assert_errno(rename(&sysroot, "/g", "/h", Rename::Unsupported), Errno::INVAL);
    assert_errno(rename(&sysroot, "/absent", "/h", Rename::Replace), Errno::NOENT);
    rename(&sysroot, "/g", "/a/b", Rename::Exchange).unwrap();
    assert_eq!(content(&sysroot, "/a/b"), b"g");
    assert_eq!(content(&sysroot, "/g/c/deep"), b"1");
    assert_eq!((stat(&sysroot, "/a").nlink, stat(&sysroot, "/").nlink), (2, 5));
    rename(&sysroot, "/g", "/a/b", Rename::Exchange).unwrap();
    assert_eq!(content(&sysroot, "/a/b/c/deep"), b"1");
}
