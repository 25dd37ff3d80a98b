//! One test for each rule of the merge (docs/sysroot.md).

use super::layer::MemoryLayer;
use super::*;
use crate::layer::Entry;
use crate::node::{Metadata, ROOT_INO};
use crate::sysroot::merge::{FIRST_LOWER_INO, Source};

fn two(lower: MemoryLayer, upper: MemoryLayer) -> Sysroot {
    read_only(vec![lower, upper])
}

#[test]
fn no_layers_make_an_empty_root() {
    let sysroot = read_only(vec![]);
    assert_eq!(stat(&sysroot, "/").meta, Metadata::default_directory());
    assert_eq!(stat(&sysroot, "/").nlink, 2);
    assert!(list(&sysroot, "/").is_empty());
    assert_errno(sysroot.lookup(ROOT_INO, b"a"), Errno::NOENT);
}

#[test]
fn the_later_file_wins() {
    let sysroot = two(
        MemoryLayer::new("low").file("/a/f", "old"),
        MemoryLayer::new("high").file("/a/f", "new"),
    );
    assert_eq!(content(&sysroot, "/a/f"), b"new");
    assert_eq!(sysroot.provenance(ino(&sysroot, "/a/f")), Some("high"));
}

#[test]
fn directories_merge_and_the_later_ones_metadata_wins() {
    let sysroot = two(
        MemoryLayer::new("low").directory("/d").mode("/d", 0o700).file("/d/low", "1"),
        MemoryLayer::new("high")
            .directory("/d")
            .mode("/d", 0o1777)
            .owner("/d", 5, 6)
            .xattr("/d", "user.x", b"y")
            .file("/d/high", "2"),
    );
    assert_eq!(list(&sysroot, "/d"), ["high", "low"]);
    let directory = stat(&sysroot, "/d");
    assert_eq!((directory.meta.mode, directory.meta.uid, directory.meta.gid), (0o1777, 5, 6));
    assert_eq!(sysroot.get_xattr(directory.ino, b"user.x").unwrap(), b"y");
    assert_eq!(sysroot.provenance(ino(&sysroot, "/d/low")), Some("low"));
}

#[test]
fn the_topmost_layers_root_describes_the_root() {
    let sysroot = two(
        MemoryLayer::new("low").mode("/", 0o700),
        MemoryLayer::new("high").mode("/", 0o711).owner("/", 1, 2),
    );
    let root = stat(&sysroot, "/");
    assert_eq!((root.ino, root.meta.mode, root.meta.gid), (ROOT_INO, 0o711, 2));
}

#[test]
fn a_directory_is_described_by_the_topmost_layer_that_knows_it() {
    let low = || {
        MemoryLayer::new("low")
            .directory("/d")
            .mode("/", 0o700)
            .mode("/d", 0o1777)
            .xattr("/d", "user.a", b"1")
    };
    let high = || MemoryLayer::new("high").file("/d/f", "").implied("/").implied("/d");
    let check = |layers: Vec<MemoryLayer>, root: u16, directory: u16, label: &str| {
        // Whoever asks first, and by name or by number.
        let by_name = read_only(layers);
        let found = by_name.lookup(ROOT_INO, b"d").unwrap();
        assert_eq!((stat(&by_name, "/").meta.mode, found.meta.mode), (root, directory));
        assert_eq!(by_name.provenance(found.ino), Some(label));
        let by_number = Sysroot::new(by_name.tree.layers().to_vec(), Options::default()).unwrap();
        assert_eq!(by_number.attributes(found.ino).unwrap(), found);
        by_number.list_xattrs(found.ino).unwrap().len()
    };
    assert_eq!(check(vec![low(), high()], 0o700, 0o1777, "low"), 1);
    assert_eq!(check(vec![low(), high(), high()], 0o700, 0o1777, "low"), 1);
    assert_eq!(check(vec![high(), low()], 0o700, 0o1777, "low"), 1);
    assert_eq!(check(vec![high(), high().mode("/d", 0o711)], 0o755, 0o711, "high"), 0);
    let described = MemoryLayer::new("described").file("/d/g", "").implied("/");
    assert_eq!(check(vec![low(), described, high()], 0o700, 0o755, "described"), 0);
}

#[test]
fn a_file_over_a_directory_replaces_it_whole() {
    let sysroot = two(
        MemoryLayer::new("low").file("/d/f", "hidden"),
        MemoryLayer::new("high").file("/d", "file"),
    );
    assert_eq!(content(&sysroot, "/d"), b"file");
    assert_errno(sysroot.resolve(b"/d/f"), Errno::NOTDIR);
}

#[test]
fn a_directory_over_a_file_replaces_it() {
    let sysroot = two(
        MemoryLayer::new("low").file("/d", "file"),
        MemoryLayer::new("high").file("/d/f", "shown"),
    );
    assert_eq!(list(&sysroot, "/d"), ["f"]);
}

#[test]
fn a_file_between_two_directories_cuts_the_lower_off() {
    let sysroot = read_only(vec![
        MemoryLayer::new("low").file("/d/low", ""),
        MemoryLayer::new("middle").file("/d", "file"),
        MemoryLayer::new("high").file("/d/high", ""),
    ]);
    assert_eq!(list(&sysroot, "/d"), ["high"]);
}

#[test]
fn a_symlink_is_not_followed_by_the_merge() {
    let sysroot = two(
        MemoryLayer::new("low").symlink("/bin", "usr/bin"),
        MemoryLayer::new("high").file("/bin/sh", ""),
    );
    assert_eq!(stat(&sysroot, "/bin").meta.kind, Kind::Directory);
}

#[test]
fn a_whiteout_hides_the_lower_name_only() {
    let sysroot = read_only(vec![
        MemoryLayer::new("low").file("/d/a", "").file("/d/b", ""),
        MemoryLayer::new("middle").directory("/d").whiteout("/d/a"),
        MemoryLayer::new("high").file("/d/c", ""),
    ]);
    assert_eq!(list(&sysroot, "/d"), ["b", "c"]);
    assert_errno(sysroot.resolve(b"/d/a"), Errno::NOENT);
}

#[test]
fn a_directory_made_again_after_a_whiteout_is_empty_below() {
    let sysroot = two(
        MemoryLayer::new("low").file("/d/old", ""),
        MemoryLayer::new("high").whiteout("/d").file("/d/new", ""),
    );
    assert_eq!(list(&sysroot, "/d"), ["new"]);
    assert_errno(sysroot.resolve(b"/d/old"), Errno::NOENT);
}

#[test]
fn an_opaque_directory_hides_what_is_below() {
    let sysroot = read_only(vec![
        MemoryLayer::new("low").file("/d/sub/old", ""),
        MemoryLayer::new("middle").directory("/d").opaque("/d").file("/d/m", ""),
        MemoryLayer::new("high").file("/d/h", ""),
    ]);
    assert_eq!(list(&sysroot, "/d"), ["h", "m"]);
    assert_eq!(stat(&sysroot, "/d").nlink, 2);
}

#[test]
fn an_opaque_root_hides_all_lower_layers() {
    let sysroot = two(
        MemoryLayer::new("low").file("/old", ""),
        MemoryLayer::new("high").opaque("/").file("/new", ""),
    );
    assert_eq!(list(&sysroot, "/"), ["new"]);
}

#[test]
fn an_opaque_directory_that_is_only_implied_is_described_by_what_it_hides() {
    let low = || {
        MemoryLayer::new("low")
            .mode("/", 0o700)
            .file("/d/old", "")
            .mode("/d", 0o1777)
            .xattr("/d", "user.a", b"1")
    };
    let implied = || MemoryLayer::new("implied").file("/d/older", "").implied("/d").implied("/");
    let opaque =
        || MemoryLayer::new("opaque").file("/d/f", "").implied("/d").implied("/").opaque("/d");
    let check = |layers: Vec<MemoryLayer>, mode: u16, label: &str, names: &[&str]| {
        // Whoever asks first, and by name or by number.
        let by_name = read_only(layers);
        let found = by_name.lookup(ROOT_INO, b"d").unwrap();
        assert_eq!((found.meta.mode, by_name.provenance(found.ino)), (mode, Some(label)));
        assert_eq!(list(&by_name, "/d"), names);
        assert_errno(by_name.resolve(b"/d/old"), Errno::NOENT);
        let by_number = Sysroot::new(by_name.tree.layers().to_vec(), Options::default()).unwrap();
        assert_eq!(by_number.attributes(found.ino).unwrap(), found);
        let xattrs = by_number.list_xattrs(found.ino).unwrap();
        assert_eq!(!xattrs.is_empty(), label == "low");
    };
    check(vec![low(), opaque()], 0o1777, "low", &["f"]);
    check(vec![low(), opaque(), opaque()], 0o1777, "low", &["f"]);
    check(vec![low(), implied(), opaque(), implied()], 0o1777, "low", &["f", "older"]);
    // Nothing shows through what is no directory, or through a whiteout.
    let file = MemoryLayer::new("file").file("/d", "");
    check(vec![low(), file, opaque()], 0o755, "opaque", &["f"]);
    let gone = MemoryLayer::new("gone").whiteout("/d");
    check(vec![low(), gone, opaque()], 0o755, "opaque", &["f"]);
    check(vec![low(), opaque().whiteout("/d")], 0o755, "opaque", &["f"]);
    let described = MemoryLayer::new("described").file("/d/f", "").mode("/d", 0o711).opaque("/d");
    check(vec![low(), described, opaque()], 0o711, "described", &["f"]);
}

#[test]
fn an_opaque_root_that_is_only_implied_keeps_the_lower_roots_metadata() {
    let sysroot = read_only(vec![
        MemoryLayer::new("low").mode("/", 0o700).file("/old", ""),
        MemoryLayer::new("middle").implied("/").file("/older", ""),
        MemoryLayer::new("high").implied("/").opaque("/").file("/new", ""),
    ]);
    assert_eq!(list(&sysroot, "/"), ["new"]);
    assert_eq!(stat(&sysroot, "/").meta.mode, 0o700);
    assert_eq!(sysroot.provenance(ROOT_INO), Some("low"));
}

#[test]
fn nlink_counts_visible_names_only() {
    let sysroot = two(
        MemoryLayer::new("low")
            .file("/a", "linked")
            .link("/a", "/b")
            .link("/a", "/d/c")
            .link("/a", "/e/f"),
        MemoryLayer::new("high").file("/b", "other").file("/d", "not a directory"),
    );
    let linked = stat(&sysroot, "/a");
    assert_eq!(linked.nlink, 2, "/b and /d/c are hidden");
    assert_eq!(linked.ino, ino(&sysroot, "/e/f"));
    assert_eq!(stat(&sysroot, "/b").nlink, 1);
}

#[test]
fn a_directorys_nlink_counts_merged_subdirectories_once() {
    let sysroot = two(
        MemoryLayer::new("low").directory("/d/a").directory("/d/b").directory("/d/c"),
        MemoryLayer::new("high").directory("/d/a").directory("/d/x").file("/d/c", ""),
    );
    assert_eq!(stat(&sysroot, "/d").nlink, 2 + 3);
    assert_eq!(stat(&sysroot, "/d/b").nlink, 2);
}

#[test]
fn numbers_are_computed_from_layer_and_entry() {
    let sysroot = two(MemoryLayer::new("low").file("/a", ""), MemoryLayer::new("high"));
    assert_eq!(ino(&sysroot, "/a"), Source { layer: 0, entry: Entry(1) }.ino());
    assert!(ino(&sysroot, "/a") >= FIRST_LOWER_INO);
}

#[test]
fn a_number_means_the_same_before_anybody_looked_the_path_up() {
    let layers = || {
        vec![
            MemoryLayer::new("low").file("/usr/lib/a/x", "1").file("/usr/lib/b/y", "2"),
            MemoryLayer::new("high").file("/usr/lib/b/z", "3").link("/usr/lib/b/z", "/z"),
        ]
    };
    let warm = read_only(layers());
    for path in ["/usr", "/usr/lib", "/usr/lib/a", "/usr/lib/a/x", "/usr/lib/b", "/z"] {
        let expected = stat(&warm, path);
        let cold = read_only(layers());
        assert_eq!(cold.attributes(expected.ino).unwrap(), expected, "{path}");
    }
    let cold = read_only(layers());
    assert!(cold.lookup(ino(&warm, "/usr/lib/b"), b"y").is_ok());
    let parent = cold.lookup(ino(&warm, "/usr/lib/b"), b"..").unwrap();
    assert_eq!(parent.ino, ino(&warm, "/usr/lib"));
}

#[test]
fn numbers_that_nobody_gave_out_are_stale() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/a", "")]);
    for number in [0, 2, 77, 1 << 40, (1 << 40) + 99, 9 << 40, u64::MAX] {
        assert_errno(sysroot.attributes(number), Errno::STALE);
        assert_errno(sysroot.write(number, 0, b"x"), Errno::STALE);
        assert_errno(sysroot.get_xattr(number, b"user.a"), Errno::STALE);
        assert!(sysroot.lookup(number, b"a").is_err());
        assert!(sysroot.read_directory(number, 0, &mut |_| panic!("no names")).is_err());
        sysroot.forget(number, 5);
    }
}

#[test]
fn a_read_only_sysroot_refuses_every_change() {
    let sysroot = read_only(vec![MemoryLayer::new("low").file("/d/f", "x")]);
    let (file, directory) = (ino(&sysroot, "/d/f"), ino(&sysroot, "/d"));
    assert!(sysroot.is_immutable());
    assert_errno(sysroot.open_for_writing(file), Errno::ROFS);
    assert_errno(sysroot.write(file, 0, b"y"), Errno::ROFS);
    assert_errno(sysroot.unlink(directory, b"f"), Errno::ROFS);
    assert_errno(sysroot.make_directory(directory, b"new", CREATION), Errno::ROFS);
    assert_errno(sysroot.make_node(directory, b"new", Kind::File, CREATION), Errno::ROFS);
    assert_errno(sysroot.set_xattr(file, b"user.a", b"", SetXattr::Any), Errno::ROFS);
    assert_errno(sysroot.rename(directory, b"f", directory, b"g", Rename::Replace), Errno::ROFS);
    let set = SetAttributes { mode: Some(0), ..SetAttributes::default() };
    assert_errno(sysroot.set_attributes(file, &set), Errno::ROFS);
}

#[test]
fn overlaps_name_both_owners() {
    let sysroot = read_only(vec![
        MemoryLayer::new("low")
            .file("/same", "equal")
            .file("/d/differs", "abc")
            .file("/d/replaced/f", "")
            .file("/d/grown", "")
            .symlink("/l", "x")
            .file("/gone", "1"),
        MemoryLayer::new("high")
            .file("/same", "equal")
            .file("/d/differs", "abd")
            .file("/d/replaced", "")
            .file("/d/grown/f", "")
            .symlink("/l", "y")
            .whiteout("/gone"),
        MemoryLayer::new("top").file("/gone", "2"),
    ]);
    let told = |o: super::super::Overlap| {
        (String::from_utf8(o.path).unwrap(), o.shown, o.hidden, o.hidden_kind)
    };
    let pair = |path: &str, kind| (path.to_owned(), "high".to_owned(), "low".to_owned(), kind);
    let expected = [
        pair("/d/differs", Kind::File),
        pair("/d/grown", Kind::File),
        pair("/d/replaced", Kind::Directory),
        pair("/l", Kind::Symlink),
    ];
    let found: Vec<_> = sysroot.overlaps().unwrap().into_iter().map(told).collect();
    assert_eq!(found, expected);
}

#[test]
fn names_longer_than_new_ones_may_be_are_served() {
    let name = "n".repeat(300);
    let path = format!("/d/{name}");
    let sysroot = writable(vec![MemoryLayer::new("low").file(&path, "long")]);
    assert_eq!(list(&sysroot, "/d"), std::slice::from_ref(&name));
    assert_eq!(content(&sysroot, &path), b"long");
    let directory = ino(&sysroot, "/d");
    sysroot.rename(directory, name.as_bytes(), directory, b"short", Rename::Replace).unwrap();
    assert_eq!(content(&sysroot, "/d/short"), b"long");
}
