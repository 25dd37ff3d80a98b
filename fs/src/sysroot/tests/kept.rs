//! Changes that were kept: restored over the same layers, refused over others.

use std::fs;
use std::path::Path;

use super::layer::MemoryLayer;
use super::*;
use crate::capture::{CaptureOptions, Output, capture};
use crate::error::Error;
use crate::node::ROOT_INO;

fn layers() -> Vec<MemoryLayer> {
    vec![
        MemoryLayer::new("low").file("/etc/motd", "hello").file("/big", vec![7; 100_000]),
        MemoryLayer::new("high").file("/bin/\u{e9}", "x").link("/bin/\u{e9}", "/bin/again"),
    ]
}

/// A sysroot over [`layers`] with some of every kind of change.
fn changed() -> Sysroot {
    let sysroot = writable(layers());
    make_file(&sysroot, "/etc", "new", &[9; 50_000]);
    sysroot.write(ino(&sysroot, "/big"), 5000, b"changed").unwrap();
    sysroot.unlink(ino(&sysroot, "/bin"), b"again").unwrap();
    let (etc, root) = (ino(&sysroot, "/etc"), ROOT_INO);
    sysroot.rename(root, b"etc", root, b"moved", Rename::Replace).unwrap();
    sysroot.make_symlink(etc, b"link", b"\xff", CREATION).unwrap();
    sysroot.set_xattr(etc, b"user.\xfe", b"\x00\xff", SetXattr::Any).unwrap();
    sysroot
}

fn tar_of(sysroot: &Sysroot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let output = Output { writer: &mut bytes, name: Path::new("memory") };
    capture(sysroot, ROOT_INO, output, &CaptureOptions::default()).unwrap();
    bytes
}

#[test]
fn what_was_kept_gives_the_artifact_as_often_as_wanted() {
    let sysroot = changed();
    let expected = tar_of(&sysroot);
    let directory = tempfile::tempdir().unwrap();
    sysroot.keep(directory.path()).unwrap();
    // Neither the end of the old tree nor that of a restored one gives the spool's space back.
    drop(sysroot);
    for _ in 0..2 {
        let restored =
            Sysroot::restore(stack(layers()), directory.path(), Options::default()).unwrap();
        assert!(tar_of(&restored) == expected);
        assert_errno(restored.unlink(ROOT_INO, b"big"), Errno::ROFS);
    }
}

#[test]
fn other_layers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    changed().keep(directory.path()).unwrap();
    let mut fewer = layers();
    fewer.pop();
    let mut longer = layers();
    longer[0] = MemoryLayer::new("low").file("/etc/motd", "hello").file("/big", vec![7; 100_001]);
    let mut without = layers();
    without[0] = MemoryLayer::new("low").file("/etc/motd", "hello");
    for (layers, word) in [(fewer, "2 layers"), (longer, "low: /big"), (without, "low: /big")] {
        let error = Sysroot::restore(stack(layers), directory.path(), Options::default())
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_damaged_journal_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    changed().keep(directory.path()).unwrap();
    let path = directory.path().join("changes.jsonl");
    let good = fs::read_to_string(&path).unwrap();
    let second = good.lines().nth(1).unwrap();
    let cases = [
        (good.replace("\"version\":1", "\"version\":2"), "line 1"),
        (good.replace(second, "{}"), "line 2"),
        (good.replace(second, &second[..second.len() / 2]), "line 2"),
        (good.replace("\"new\"", "\"a/b\""), "no file can have"),
        (String::new(), "line 1"),
    ];
    for (text, word) in cases {
        fs::write(&path, text).unwrap();
        let error = Sysroot::restore(stack(layers()), directory.path(), Options::default())
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn a_read_only_tree_has_nothing_to_keep() {
    let directory = tempfile::tempdir().unwrap();
    assert_errno(read_only(layers()).keep(directory.path()), Errno::INVAL);
}

#[test]
fn a_restored_tree_can_be_changed_without_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let sysroot = changed();
    let expected = tar_of(&sysroot);
    sysroot.keep(directory.path()).unwrap();
    drop(sysroot);
    for _ in 0..2 {
        let zones = vec![zone("/", Policy::Scratch), zone("/bin", Policy::Capture)];
        let options = Options { zones, spool_directory: None };
        let restored = Sysroot::restore(stack(layers()), directory.path(), options).unwrap();
        assert!(tar_of(&restored) == expected);
        restored.write(ino(&restored, "/moved/new"), 10, b"overwritten").unwrap();
        restored.unlink(ROOT_INO, b"big").unwrap();
        let made = make_file(&restored, "/", "more", &[1; 20_000]);
        assert_ne!(made, ino(&restored, "/moved/new"), "no two nodes share a number");
        assert_eq!(
            content(&restored, "/moved/new")[..24],
            *b"\t\t\t\t\t\t\t\t\t\toverwritten\t\t\t"
        );
        assert_eq!(content(&restored, "/more"), [1; 20_000]);
    }
    let zones = vec![zone("/bin", Policy::Capture)];
    let options = Options { zones, spool_directory: None };
    let mixed = Sysroot::restore(stack(layers()), directory.path(), options);
    assert_errno(mixed.map(drop), Errno::INVAL);
}
