//! Bad input gives one clear sentence, exit code 2, and loses nothing.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use outcrop_tests::{Scratch, archives, as_user, outcrop, run};
use tar::EntryType;

fn ls(path: &std::path::Path) -> outcrop_tests::Said {
    run(outcrop().arg("ls").arg("-R").arg(path))
}

#[test]
fn truncated_and_corrupt_tarballs() {
    let scratch = Scratch::new();
    let whole = archives::everything();
    let cut = scratch.file("cut.tar", &whole[..whole.len() / 2 + 100]);
    let said = ls(&cut).fails(2);
    assert!(said.stderr.contains("cut.tar"), "{}", said.stderr);
    let mut flipped = whole.clone();
    flipped[20] ^= 0x40;
    let flipped = scratch.file("flipped.tar", &flipped);
    ls(&flipped).fails(2).says("flipped.tar");
    let packed = scratch.join("cut.tar.gz");
    let script = format!(
        "gzip -c '{}' | head -c 300 > '{}'",
        scratch.file("w.tar", &whole).display(),
        packed.display()
    );
    run(as_user("sh").args(["-c", &script])).ok();
    ls(&packed).fails(2).says("cut.tar.gz");
}

#[test]
fn hostile_names_are_refused_with_entry_and_place() {
    let scratch = Scratch::new();
    let cases = [
        ("dotdot", archives::hostile("../../etc/passwd", EntryType::Regular, ""), ".."),
        ("nowhere", archives::hostile("link", EntryType::Link, "missing"), "missing"),
        ("dot", archives::hostile(".", EntryType::Char, ""), "."),
    ];
    for (name, bytes, wanted) in cases {
        let path = scratch.file(&format!("{name}.tar"), bytes);
        let said = ls(&path).fails(2);
        assert!(said.stderr.contains(wanted), "{name}: {}", said.stderr);
        assert!(said.stderr.contains(&format!("{name}.tar")), "{name}: {}", said.stderr);
    }
}

#[test]
fn a_file_below_a_symlink_of_the_same_archive_never_leaves_the_tree() {
    let scratch = Scratch::new();
    let mut bytes = archives::hostile("out", EntryType::Symlink, "/tmp");
    bytes.truncate(512);
    bytes.extend(archives::hostile("out/file", EntryType::Regular, ""));
    let path = scratch.file("through.tar", bytes);
    ls(&path).fails(2).says("out/file");
}

#[test]
fn names_cannot_forge_lines_or_move_the_cursor() {
    let scratch = Scratch::new();
    let tar = scratch.file("evil.tar", archives::files(&[("a\n\x1b[2Jb", b"")]));
    let said = ls(&tar).ok().stdout;
    assert!(said.ends_with("/a\\n\\u{1b}[2Jb\n"), "{said:?}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn duplicate_names_are_one_entry_and_the_last_wins() {
    let scratch = Scratch::new();
    let tar = scratch.file("twice.tar", archives::files(&[("f", b"first"), ("f", b"second")]));
    let said = run(outcrop().arg("cat").arg(&tar).arg("/f")).ok();
    assert_eq!(said.stdout, "second");
    assert_eq!(ls(&tar).ok().stdout.lines().count(), 1);
}

#[test]
fn an_absurd_size_is_refused() {
    let scratch = Scratch::new();
    let mut bytes = archives::files(&[("f", b"")]);
    // The size field, octal: 8 GiB less one, in an archive of a few blocks.
    bytes[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = bytes[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    ls(&scratch.file("absurd.tar", bytes)).fails(2).says("absurd.tar");
}

#[test]
fn layers_that_are_not_there() {
    let scratch = Scratch::new();
    let repo = scratch.directory("repo");
    run(as_user("git").args(["init", "-q", "."]).current_dir(&repo)).ok();
    let spec = format!("git:{}#no-such-branch", repo.display());
    run(outcrop().args(["ls", &spec])).fails(2).says("no-such-branch");
    let mountpoint = scratch.directory("mnt");
    for missing in ["missing.tar", "missing.tar.xz", "./missing.deb"] {
        run(outcrop().args(["ls", missing])).fails(2).says("missing").says("No such file");
    }
    run(outcrop().args(["mount", "-l", "/no/such.tar"]).arg(&mountpoint)).says("/no/such.tar");
    run(outcrop().arg("mount").arg(&mountpoint)).fails(2).says("--layer");
}

#[test]
fn mountpoints_that_cannot_be_used() {
    let scratch = Scratch::new();
    let tar = scratch.file("a.tar", archives::files(&[("f", b"1")]));
    let mount =
        |place: std::path::PathBuf| run(outcrop().arg("mount").arg("-l").arg(&tar).arg(place));
    mount(scratch.join("missing")).fails(2).says("does not exist");
    mount(tar.clone()).fails(2).says("not a directory");
}

fn definitions(scratch: &Scratch, files: &[(&str, &str)]) -> std::path::PathBuf {
    for (path, text) in files {
        scratch.file(&format!("defs/{path}"), text);
    }
    scratch.join("defs")
}

#[test]
fn definitions_are_refused_with_line_and_column() {
    let scratch = Scratch::new();
    let directory = definitions(
        &scratch,
        &[
            ("VERSION", "version: 8\n"),
            ("a.morph", "name: a\nkind: chunk\ninstal-commands:\n- true\n"),
            ("b.morph", "name: b\nkind: stratum\nchunks: [\n"),
        ],
    );
    let said = run(outcrop().args(["build", "a", "--definitions"]).arg(&directory)).fails(2);
    assert!(said.stderr.contains("a.morph:3:1"), "{}", said.stderr);
    assert!(said.stderr.contains("install-commands"), "{}", said.stderr);
    assert!(said.stderr.contains("b.morph:"), "{}", said.stderr);
}

#[test]
fn usage_errors_have_exit_code_2() {
    run(outcrop().arg("frobnicate")).fails(2);
    run(outcrop().args(["export", "x", "--format", "floppy"])).fails(2);
}

#[test]
fn kits_that_cannot_be_made() {
    let scratch = Scratch::new();
    let create = |arch: &str| {
        let mut command = outcrop();
        command.env("OUTCROP_HOME", scratch.join("store")).args(["kit", "create", "--arch", arch]);
        command
    };
    run(&mut create("armv8l46"))
        .fails(2)
        .says("there are kits for: armv5l, armv7lhf, armv8l64, ")
        .says("did you mean `armv8l64`?");
    run(outcrop().args(["doctor", "--arch", "armv8l46"])).fails(2).says("did you mean `armv8l64`?");
    // An archive that is not there, as a Debian archive of this machine.
    let gone = scratch.join("gone/debian");
    let sources = format!(
        "Types: deb\nURIs: file:{}\nSuites: bookworm\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        gone.display()
    );
    let sources = scratch.file("gone.sources", sources);
    let said = run(create("armv8l64").arg("--sources").arg(&sources)).fails(3);
    said.says("the package indexes for arm64 cannot be fetched")
        .says("gone/debian")
        .says("--sources");
    run(outcrop().env("OUTCROP_HOME", scratch.join("store")).args(["kit", "list"])).ok();
    assert!(!scratch.join("store/kits/armv8l64").exists());
}

#[test]
fn a_qemu_without_the_machine_is_told() {
    if !outcrop_tests::guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = outcrop_tests::definitions::fresh_name("no-machine");
    let definitions = outcrop_tests::definitions::tree(&scratch, &[(&name, &[], "true")]);
    // As where the machine is not compiled in.
    let script = "#!/bin/sh\n/usr/bin/qemu-system-x86_64 \"$@\" | grep -v '^pc '\n";
    let qemu = scratch.file("bin/qemu-system-x86_64", script);
    run(as_user("chmod").arg("755").arg(&qemu)).ok();
    let mut build = outcrop();
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", scratch.join("bin").display());
    build.env("PATH", &path).args(["build", &name, "--arch", "x86_64", "--definitions"]);
    let said = run(build.arg(&definitions)).fails(3);
    said.says("qemu-system-x86_64 has no machine type pc").says("install Debian's qemu-system-x86");
    let mut doctor = outcrop();
    let said = run(doctor.env("PATH", path).args(["doctor", "--arch", "x86_64"])).fails(3);
    assert!(said.stdout.contains("MISSING  qemu-system-x86_64: "), "{}", said.stdout);
}
