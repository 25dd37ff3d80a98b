//! Layers and trees looked at without mounting them, as an ordinary user: OCI images, directories,
//! and how two trees differ.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use outcrop_tests::{Mounted, Said, Scratch, archives, as_user, outcrop, run, samples};
use serde_json::Value;

fn sampled() -> Scratch {
    let scratch = Scratch::new();
    samples::create(&scratch);
    scratch
}

/// `outcrop` among the samples.
fn among(scratch: &Scratch, arguments: &[&str]) -> Said {
    let mut command: Command = outcrop();
    command.args(arguments).env("OUTCROP_HOME", scratch.join(".store"));
    run(command.current_dir(scratch.path()))
}

#[test]
fn an_image_is_listed_and_mounted_with_its_whiteouts() {
    let scratch = sampled();
    let listed = among(&scratch, &["ls", "-R", "oci:image:v1"]).ok().stdout;
    let paths: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(paths, ["/etc", "/etc/motd"]);
    let said = among(&scratch, &["cat", "oci:image", "/etc/motd"]).ok();
    assert_eq!(said.stdout, "the second layer\n");
    let spec = format!("oci:{}:v1", scratch.join("image").display());
    let mounted = Mounted::new(&scratch, ["--layer", &spec]);
    assert_eq!(
        mounted.shell("ls -A \"$MNT/etc\"; cat \"$MNT/etc/motd\"").ok().stdout,
        "motd\nthe second layer\n"
    );
    mounted.end();
    let said = among(&scratch, &["overlaps", "-l", "oci:image:v1"]).ok();
    assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
    assert!(said.stdout.contains("layer 2 of 2"), "{}", said.stdout);
    run(as_user("tar").args(["-C", "image", "-cf", "image.tar", "."]).current_dir(scratch.path()))
        .ok();
    let said = among(&scratch, &["cat", "oci:image.tar:v1,arch=x86_64", "/etc/motd"]).ok();
    assert_eq!(said.stdout, "the second layer\n");
}

#[test]
fn images_that_cannot_be_opened() {
    let scratch = sampled();
    among(&scratch, &["ls", "oci:image:v2"]).fails(2).says("v2").says("v1");
    among(&scratch, &["ls", "oci:work"]).fails(2).says("oci-layout");
    among(&scratch, &["ls", "oci:missing"]).fails(2).says("missing");
    let blobs = scratch.join("image/blobs/sha256");
    for entry in std::fs::read_dir(blobs).unwrap().flatten() {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if bytes.starts_with(b"etc/") {
            bytes[10_000 % 1024] ^= 1;
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
    among(&scratch, &["ls", "oci:image:v1"]).fails(2).says("SHA-256");
}

#[test]
fn a_bare_directory_is_a_layer() {
    let scratch = sampled();
    for name in ["work", "./work", "work/"] {
        let said = among(&scratch, &["ls", name]).ok();
        assert!(said.stdout.contains("/notes"), "{name}: {}", said.stdout);
    }
    assert_eq!(among(&scratch, &["cat", "work", "/notes"]).ok().stdout, "from the host\n");
}

#[test]
fn a_directory_that_is_a_component_too_must_be_told_apart() {
    let scratch = sampled();
    scratch.file("VERSION", "version: 8\n");
    scratch.file(
        "all.morph",
        "name: all\nkind: stratum\nchunks:\n- name: work\n  morph: work.morph\n",
    );
    scratch.file("work.morph", "name: work\nkind: chunk\nbuild-system: manual\n");
    among(&scratch, &["ls", "work"]).fails(2).says("directory").says("component").says("./work");
    assert!(among(&scratch, &["ls", "./work"]).ok().stdout.contains("/notes"));
    assert!(among(&scratch, &["ls", "dir:work"]).ok().stdout.contains("/notes"));
}

#[test]
fn equal_trees_do_not_differ() {
    let scratch = sampled();
    let tar = scratch.file("all.tar", archives::everything());
    let packed = scratch.join("all.tar.gz");
    let script = format!("gzip -c {} > {}", tar.display(), packed.display());
    run(outcrop_tests::as_user("sh").args(["-c", &script])).ok();
    for (from, to) in
        [("all.tar", "all.tar"), ("all.tar", "all.tar.gz"), ("git:src", "git:src#v1.0")]
    {
        let said = among(&scratch, &["diff", from, to]).ok();
        assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{}{}", said.stdout, said.stderr);
    }
}

#[test]
fn differences_are_told_to_people_and_to_programs() {
    let scratch = sampled();
    scratch.file("a.list", "dir /etc 0755 0 0\nfile /etc/f 0644 0 0 one\nsymlink /l 0777 0 0 a\nfile /old 0644 0 0\nchar /c 0600 0 0 1:3\n");
    scratch.file("b.list", "dir /etc 0700 0 0\nfile /etc/f 4755 0 7 two\nsymlink /l 0777 0 0 b\nfile /new 0644 0 0\nfifo /c 0600 0 0\n");
    let said = among(&scratch, &["diff", "list:a.list", "list:b.list"]).fails(1);
    assert_eq!(
        said.stdout,
        "changed /c: character device -> fifo\n\
         changed /etc: mode 0755 -> 0700\n\
         changed /etc/f: mode 0644 -> 4755, owner 0:0 -> 0:7, content\n\
         changed /l: target a -> b\n\
         added   /new\n\
         removed /old\n"
    );
    assert!(said.stderr.contains("1 added, 1 removed, 4 changed"), "{}", said.stderr);
    let said = among(&scratch, &["diff", "--json", "list:a.list", "list:b.list"]).fails(1);
    let lines: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    assert_eq!(of("/etc/f")["aspects"], serde_json::json!(["mode", "owner", "content"]));
    assert_eq!(
        (&of("/etc/f")["from"]["mode"], &of("/etc/f")["to"]["mode"]),
        (&"0644".into(), &"4755".into())
    );
    assert_eq!(of("/new")["change"], "added");
    assert!(of("/new")["from"].is_null() && of("/old")["to"].is_null());
    let ignoring =
        ["diff", "--ignore", "mode,owner", "--ignore", "content", "list:a.list", "list:b.list"];
    let said = among(&scratch, &ignoring).fails(1);
    assert!(!said.stdout.contains("/etc"), "{}", said.stdout);
}

#[test]
fn what_cannot_be_compared_is_bad_input() {
    let scratch = sampled();
    among(&scratch, &["diff", "base.tar", "missing.tar"]).fails(2).says("missing.tar");
    among(&scratch, &["diff", "base.tar"]).fails(2);
}
