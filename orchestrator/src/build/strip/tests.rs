use std::process::Command;
use std::sync::Arc;

use outcrop_fs::filesystem::{Creation, SetXattr};
use outcrop_fs::node::{ROOT_INO, Timestamp};
use outcrop_fs::sysroot::{Options, Policy, Sysroot, Zone};

use super::*;

const MTIME: Timestamp = Timestamp::new(1_234_567, 89);

/// A program with symbols and debug information, if the host can make one.
fn program() -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("a.c"), directory.path().join("a"));
    std::fs::write(&source, "int main(void) { return 7; }\n").unwrap();
    match Command::new("gcc").arg("-g").arg(&source).arg("-o").arg(&program).status() {
        Ok(status) => assert!(status.success()),
        Err(_) => {
            eprintln!("skipped: there is no gcc to make ELF files with");
            return None;
        }
    }
    Some(std::fs::read(program).unwrap())
}

fn tree() -> Arc<Sysroot> {
    let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Capture }];
    Arc::new(Sysroot::new(Vec::new(), Options { zones, spool_directory: None }).unwrap())
}

fn add(tree: &Sysroot, name: &str, mode: u16, bytes: &[u8]) -> Ino {
    let creation = Creation { mode, uid: 12, gid: 34 };
    let ino = tree.make_node(ROOT_INO, name.as_bytes(), Kind::File, creation).unwrap().ino;
    tree.write(ino, 0, bytes).unwrap();
    tree.set_xattr(ino, b"security.capability", b"cap", SetXattr::Any).unwrap();
    let mtime = Some(SetTime::At(MTIME));
    tree.set_attributes(ino, &SetAttributes { mtime, ..SetAttributes::default() }).unwrap();
    ino
}

fn content(tree: &Sysroot, ino: Ino) -> Vec<u8> {
    let mut bytes = vec![0; tree.attributes(ino).unwrap().meta.size as usize];
    assert_eq!(tree.read(ino, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

#[test]
fn programs_and_libraries_are_stripped_and_keep_everything_else() {
    let Some(program) = program() else { return };
    let tree = tree();
    let stripped = [("tool", 0o4755), ("lib.so.1", 0o644), ("m.cmxs", 0o600), ("n.node", 0o644)];
    let stripped = stripped.map(|(name, mode)| (add(&tree, name, mode, &program), mode));
    tree.link(stripped[0].0, ROOT_INO, b"tool.so").unwrap();
    let left = [("data", 0o644), ("half", 0o700), ("library.o", 0o644)];
    let left = left.map(|(name, mode)| add(&tree, name, mode, &program));
    let script = add(&tree, "script", 0o755, b"#!/bin/sh\n");
    let summary = strip_tree(tree.as_ref(), ROOT_INO).unwrap();
    assert_eq!(summary.files, 4, "a file with two names counts once");
    for (ino, mode) in stripped {
        let meta = tree.attributes(ino).unwrap().meta;
        assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime), (mode, 12, 34, MTIME));
        assert_eq!(tree.get_xattr(ino, b"security.capability").unwrap(), b"cap");
        assert!(content(&tree, ino).len() < program.len());
    }
    for ino in left {
        assert!(content(&tree, ino) == program);
    }
    assert_eq!(content(&tree, script), b"#!/bin/sh\n");
    assert_eq!(strip_tree(tree.as_ref(), ROOT_INO).unwrap(), Summary::default());
}

#[test]
fn what_was_stripped_runs() {
    use std::os::unix::fs::PermissionsExt;
    let Some(program) = program() else { return };
    let tree = tree();
    let ino = add(&tree, "tool", 0o755, &program);
    assert!(strip_tree(tree.as_ref(), ROOT_INO).unwrap().saved > 0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tool");
    std::fs::write(&path, content(&tree, ino)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Command::new(&path).status().unwrap().code(), Some(7));
}

/// The build id of a program; the linker's is a sum of debug information, too.
fn build_id(program: &[u8]) -> Vec<u8> {
    let mark =
        [&4u32.to_ne_bytes()[..], &20u32.to_ne_bytes(), &3u32.to_ne_bytes(), b"GNU\0"].concat();
    let at = program.windows(16).position(|bytes| bytes == mark).expect("a build id");
    program[at + 16..at + 36].to_vec()
}

#[test]
fn programs_that_differ_in_debug_information_alone_become_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let sources = [
        "int main(void) { return 7; }\n",
        "int  main(void) {  return   7; }\n",
        "int main(void) { return 8; }\n",
    ];
    let mut programs = Vec::new();
    for source in sources {
        let path = directory.path().join("a.c");
        std::fs::write(&path, source).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-Wl,--build-id=sha1", "a.c", "-o", "a"]).current_dir(directory.path());
        match gcc.status() {
            Ok(status) => assert!(status.success()),
            Err(_) => return eprintln!("skipped: there is no gcc to make ELF files with"),
        }
        programs.push(std::fs::read(directory.path().join("a")).unwrap());
    }
    assert!(build_id(&programs[0]) != build_id(&programs[1]), "columns are in the linker's sum");
    let tree = tree();
    let names = ["a", "b", "c"];
    let inos = [0, 1, 2].map(|number| add(&tree, names[number], 0o755, &programs[number]));
    assert_eq!(strip_tree(tree.as_ref(), ROOT_INO).unwrap().files, 3);
    let [first, second, other] = inos.map(|ino| content(&tree, ino));
    assert!(first == second);
    let ids = [build_id(&first), build_id(&other), build_id(&programs[0])];
    assert!(ids[0] != ids[1] && ids[0] != ids[2], "{ids:?}");
    assert!(ids.iter().all(|id| id.iter().any(|byte| *byte != 0)));
}
