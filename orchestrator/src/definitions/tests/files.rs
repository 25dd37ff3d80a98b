//! Files and directories of every sort below a definitions directory.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::super::{Definitions, Files, Reading, load};

const CHUNK: &str = "name: c\nkind: chunk\n";

/// A directory with one good definition, and its problems when it is read.
fn problems(prepare: impl FnOnce(&Path)) -> Vec<String> {
    let (files, _outer) = read(prepare);
    let all = Definitions::examine(&files, Reading::Strict).1;
    all.iter().map(ToString::to_string).collect()
}

fn read(prepare: impl FnOnce(&Path)) -> (Files, tempfile::TempDir) {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("outside.morph"), "name: [secret\n").unwrap();
    let directory = outer.path().join("definitions");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("c.morph"), CHUNK).unwrap();
    prepare(&directory);
    (load::read_files(&directory), outer)
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let all = problems(|directory| {
        for name in ["f.morph", "VERSION", "DEFAULTS"] {
            assert!(Command::new("mkfifo").arg(directory.join(name)).status().unwrap().success());
        }
        drop(std::os::unix::net::UnixListener::bind(directory.join("s.morph")).unwrap());
    });
    assert_eq!(
        all,
        [
            "DEFAULTS: error: is not a regular file",
            "VERSION: error: is not a regular file",
            "f.morph: error: is not a regular file",
            "s.morph: error: is not a regular file",
        ]
    );
}

#[test]
fn links_do_not_lead_out() {
    let all = problems(|directory| {
        symlink("../outside.morph", directory.join("a.morph")).unwrap();
        symlink("/dev/zero", directory.join("z.morph")).unwrap();
        symlink(directory.parent().unwrap(), directory.join("up")).unwrap();
        symlink("c.morph", directory.join("inside-c.morph")).unwrap();
    });
    let away = "is a symbolic link that leaves the definitions directory";
    assert_eq!(
        all,
        [
            format!("a.morph: error: {away}"),
            "inside-c.morph:1:7: warning: the name `c` does not contain the file's, `inside-c`"
                .to_owned(),
            format!("z.morph: error: {away}"),
        ]
    );
}

#[test]
fn links_that_lead_nowhere_or_in_circles_are_told() {
    let all = problems(|directory| {
        symlink("loop.morph", directory.join("loop.morph")).unwrap();
        symlink("nothing.morph", directory.join("gone.morph")).unwrap();
        std::fs::create_dir(directory.join("d")).unwrap();
        symlink("..", directory.join("d/around")).unwrap();
        symlink("d", directory.join("directory.morph")).unwrap();
    });
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].starts_with("directory.morph: error: is not a regular file"), "{all:?}");
    assert!(all[1].starts_with("gone.morph: error: cannot be read: No such file"), "{all:?}");
    assert!(all[2].starts_with("loop.morph: error: cannot be read: Too many levels"), "{all:?}");
}

#[test]
fn deep_directories_end() {
    let all = problems(|directory| {
        std::fs::create_dir_all(directory.join(vec!["d"; 100].join("/"))).unwrap();
    });
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].ends_with("d: error: is nested deeper than 64 directories"), "{all:?}");
}

#[test]
fn what_cannot_be_read_hides_no_other_problem_and_makes_none() {
    let all = problems(|directory| {
        symlink("loop.morph", directory.join("loop.morph")).unwrap();
        std::fs::write(directory.join("VERSION"), "version: 8\n").unwrap();
        let entries = "[{morph: loop.morph}, {name: x, morph: loop.morph}, {name: y}]";
        let text = format!("name: s\nkind: stratum\nchunks: {entries}\n");
        std::fs::write(directory.join("s.morph"), text).unwrap();
    });
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("loop.morph: error: cannot be read"), "{all:?}");
    assert!(all[1].contains("`y` has neither `morph` nor `build-system`"), "{all:?}");
}

#[test]
fn many_links_are_read_and_many_broken_ones_end() {
    let (files, _outer) = read(|directory| {
        (0..3_000).for_each(|i| symlink("c.morph", directory.join(format!("c{i}.morph"))).unwrap());
    });
    assert_eq!((files.definitions.len(), files.unreadable.len()), (3_001, 0));
    let (files, _outer) = read(|directory| {
        (0..3_000).for_each(|i| symlink("x", directory.join(format!("c{i}.morph"))).unwrap());
    });
    assert_eq!(files.unreadable.len(), 1_001);
    let rest = files.unreadable.last().unwrap().to_string();
    assert_eq!(rest, ".: error: what else there is was not looked at");
}
