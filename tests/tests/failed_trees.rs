//! What a failed build leaves for `outcrop shell --failed`: the very tree, whatever it was that
//! failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::small_disk::SmallDisk;
use outcrop_tests::{Scratch, as_user, guests_can_run, outcrop, run, shared_store, skip};

fn build(definitions: &Path, target: &str) -> Command {
    let mut command = outcrop();
    command.args(["build", target, "--arch", "x86_64", "--definitions"]).arg(definitions);
    command
}

/// What a script prints in the tree that the failed build of `name` has left.
fn in_failed(definitions: &Path, name: &str, script: &str) -> String {
    let mut shell = outcrop();
    shell.args(["shell", "--failed", name, "--arch", "x86_64", "--command", script]);
    run(shell.arg("--definitions").arg(definitions)).ok().stdout
}

#[test]
fn everything_that_the_build_changed_is_kept() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (low, high) = (fresh_name("low"), fresh_name("high"));
    let below = "mkdir -p \"$DESTDIR/srv/data/deep\" \"$DESTDIR/srv/old\"\n\
                 echo one > \"$DESTDIR/srv/data/one\"\necho two > \"$DESTDIR/srv/data/two\"\n\
                 echo deep > \"$DESTDIR/srv/data/deep/file\"\necho old > \"$DESTDIR/srv/old/file\"\n";
    let above = "echo half > \"$DESTDIR/half\"\necho object > result.o\n\
                 rm /srv/data/one\necho more >> /srv/data/two\nchmod 0600 /srv/data/two\n\
                 mv /srv/data/deep /srv/moved\nrm -r /srv/old\nmkdir /srv/old\nmknod /srv/null c 1 3\n\
                 ln -s nowhere /etc/dangling\nfalse\n";
    let definitions = tree(&scratch, &[(&low, &[], below), (&high, &[&low], above)]);
    let said = run(&mut build(&definitions, &high)).fails(1);
    assert!(said.stderr.contains("shell --failed"), "{}", said.stderr);
    let look = "pwd; cat result.o \"$DESTDIR/half\"; cd /srv; find . | sort; cat data/two moved/file; \
                stat -c '%a %F %t:%T' data/two null; readlink /etc/dangling";
    let seen = in_failed(&definitions, &high, look);
    let expected = format!(
        "/{high}.build\nobject\nhalf\n.\n./data\n./data/two\n./moved\n./moved/file\n./null\n./old\n\
         two\nmore\ndeep\n600 regular file 0:0\n644 character special file 1:3\nnowhere\n"
    );
    assert_eq!(seen, expected);
}

#[test]
fn a_tree_that_cannot_be_published_is_kept() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("device");
    // Where the device is to be made there is a file.
    let script = "mkdir \"$DESTDIR/dev\"\necho in the way > \"$DESTDIR/dev/null\"\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let path = format!("defs/strata/all/{name}.morph");
    let plain = std::fs::read_to_string(scratch.join(&path)).unwrap();
    let devices = "devices:\n- {type: c, filename: /dev/null, permissions: '0666', major: 1, \
                   minor: 3, uid: 0, gid: 0}\n";
    scratch.file(&path, format!("{plain}{devices}"));
    run(&mut build(&definitions, &name)).fails(1).says("cannot make the device /dev/null");
    assert_eq!(in_failed(&definitions, &name, "cat \"$DESTDIR/dev/null\""), "in the way\n");
    // Another definition has another key, of which no build has failed.
    let mut shell = outcrop();
    scratch.file(&path, plain);
    shell.args(["shell", "--failed", &name, "--arch", "x86_64", "--command", "true"]);
    run(shell.arg("--definitions").arg(&definitions)).fails(2).says("no failed build");
}

/// A store on a small disk; what a store has that is large comes from elsewhere.
fn small_store(disk: &SmallDisk) -> PathBuf {
    let store = disk.place.join("store");
    run(as_user("mkdir").args(["-m", "0700"]).arg(&store)).ok();
    for part in ["kits", "layers"] {
        run(as_user("ln").arg("-s").arg(shared_store().join(part)).arg(&store)).ok();
    }
    run(as_user("cp").arg(shared_store().join("version")).arg(&store)).ok();
    store
}

/// Where a build can fill the disk, if that can be tried here.
fn with_small_store(size: &str) -> Option<(Scratch, SmallDisk, PathBuf)> {
    if !guests_can_run() {
        return None;
    }
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(&scratch, size) else {
        skip("mounting a small file system needs root");
        return None;
    };
    let store = small_store(&disk);
    Some((scratch, disk, store))
}

#[test]
fn a_build_that_fills_the_disk_does_not_cost_the_tree() {
    let Some((scratch, disk, store)) = with_small_store("24m") else { return };
    let name = fresh_name("filler");
    let script =
        "echo before > \"$DESTDIR/before\"\nhead -c 40000000 /dev/urandom > \"$DESTDIR/large\"\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let said = run(build(&definitions, &name).env("OUTCROP_HOME", &store)).fails(1);
    assert!(!said.stderr.contains("could not be kept"), "{}", said.stderr);
    disk.resize("200m");
    let look = format!("cat /{name}.inst/before");
    let mut shell = outcrop();
    shell.args(["shell", "--failed", &name, "--arch", "x86_64", "--command", &look]);
    shell.arg("--definitions").arg(&definitions).env("OUTCROP_HOME", &store);
    assert_eq!(run(&mut shell).ok().stdout, "before\n");
}

#[test]
fn a_full_disk_does_not_cost_the_tree() {
    let Some((scratch, disk, store)) = with_small_store("44m") else { return };
    let name = fresh_name("large");
    // Fits once, not twice.
    let script =
        "head -c 25000000 /dev/urandom > \"$DESTDIR/large\"\necho whole > \"$DESTDIR/end\"\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let said = run(build(&definitions, &name).env("OUTCROP_HOME", &store)).fails(1);
    assert!(said.stderr.contains("No space left"), "{}", said.stderr);
    assert!(said.stderr.contains("shell --failed"), "{}", said.stderr);
    disk.resize("200m");
    let look = format!("cd /{name}.inst; cat end; stat -c %s large");
    let mut shell = outcrop();
    shell.args(["shell", "--failed", &name, "--arch", "x86_64", "--command", &look]);
    shell.arg("--definitions").arg(&definitions).env("OUTCROP_HOME", &store);
    assert_eq!(run(&mut shell).ok().stdout, "whole\n25000000\n");
    run(build(&definitions, &name).env("OUTCROP_HOME", &store)).ok();
    assert_eq!(std::fs::read_dir(store.join("failed")).unwrap().count(), 0);
}

#[test]
fn what_a_guest_wrote_and_nobody_could_store_fails_the_build() {
    let Some((scratch, disk, store)) = with_small_store("24m") else { return };
    let name = fresh_name("lost");
    // No command hears of it: the kernel writes the mapping later. At the end there is room again.
    let script = "head -c 30000000 /dev/urandom > /large || true\n\
                  python3 - \"$DESTDIR/mapped\" <<END\n\
                  import mmap, sys\n\
                  file = open(sys.argv[1], 'w+b')\n\
                  file.truncate(3000000)\n\
                  mapping = mmap.mmap(file.fileno(), 3000000)\n\
                  mapping[:] = b'm' * 3000000\n\
                  mapping.close()\n\
                  END\n\
                  sync\nrm /large\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    run(build(&definitions, &name).env("OUTCROP_HOME", &store))
        .fails(1)
        .says("not everything that the guest wrote could be stored");
    let artifacts = store.join("artifacts");
    assert!(!artifacts.exists() || std::fs::read_dir(artifacts).unwrap().next().is_none());
    disk.resize("200m");
    run(build(&definitions, &name).env("OUTCROP_HOME", &store)).ok();
}
