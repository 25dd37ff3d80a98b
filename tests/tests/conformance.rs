//! POSIX conformance: `pjdfstest` on a mount as an ordinary user, and in guests as root over each
//! transport, against the list of what is not expected to hold.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::definitions::{fresh_name, sourced};
use outcrop_tests::{Scratch, archives, as_user, guests_can_run, outcrop, run, skip};

/// The suite: https://crates.io/crates/pjdfstest
const PROGRAM: &str = "pjdfstest";
/// Cases that are not expected to pass somewhere, each with its reason.
const EXPECTED: &str = include_str!("conformance.txt");

/// The suite's program, from PATH or where `cargo install` puts it.
fn program() -> Option<PathBuf> {
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(cargo).map(|place| place.join(PROGRAM));
    found.into_iter().find(|program| program.is_file())
}

/// What is not expected in `place` (`fails` or `skipped`), by case.
fn expected(place: &str, verdict: &str) -> BTreeSet<&'static str> {
    let lines = EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut cases = BTreeSet::new();
    for line in lines {
        let fields: Vec<&str> = line.splitn(4, char::is_whitespace).collect();
        let [places, how, case, reason] = fields[..] else { panic!("not four fields: {line}") };
        assert!(["fails", "skipped"].contains(&how) && !reason.is_empty(), "{line}");
        if how == verdict && places.split(',').any(|listed| listed == place) {
            cases.insert(case);
        }
    }
    cases
}

/// The suite's configuration. A case that is expected to fail and passes is a failure, too.
fn configuration(place: &str, users: [(&str, &str); 2]) -> String {
    let [first, second] = users.map(|(user, group)| format!("[{user:?}, {group:?}]"));
    let mut text = String::from(
        "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n\
         [settings]\nnaptime = 0.01\nallow_remount = false\nexpected_failures = [\n",
    );
    for case in expected(place, "fails") {
        writeln!(text, "  {case:?},").unwrap();
    }
    write!(text, "]\n[dummy_auth]\nentries = [{first}, {second}]\n").unwrap();
    text
}

/// Each case of a report and its verdict.
fn verdicts(report: &str) -> impl Iterator<Item = (&str, &str)> {
    let cases = report.lines().filter(|line| line.contains("::") && !line.starts_with(['\t', ' ']));
    cases
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(case, rest)| (case, rest.trim()))
}

/// Everything passes but what is listed; what is listed and passes is a failure, too.
fn check(place: &str, report: &str) {
    let summary = report.lines().rfind(|line| line.starts_with("Summary"));
    let summary = summary.unwrap_or_else(|| panic!("{place}: no summary in\n{report}"));
    eprintln!("pjdfstest, {place}: {summary}");
    assert!(summary.starts_with("Summary: 0 failed"), "{place}:\n{report}");
    let skipped: BTreeSet<&str> = verdicts(report)
        .filter(|(_, verdict)| *verdict == "skipped")
        .map(|(case, _)| case)
        .collect();
    assert_eq!(skipped, expected(place, "skipped"), "{place}: what is skipped");
}

#[test]
fn a_mount_passes_what_an_ordinary_user_can_try() {
    let Some(program) = program() else {
        return skip("pjdfstest is not installed: cargo install pjdfstest");
    };
    let scratch = Scratch::new();
    let empty = scratch.file("empty.tar", archives::files(&[]));
    let configuration = scratch.file(
        "pjdfstest.toml",
        configuration("mount", [("nobody", "nogroup"), ("daemon", "daemon")]),
    );
    let mountpoint = scratch.directory("mnt");
    let program = {
        let copy = scratch.join(PROGRAM);
        fs::copy(program, &copy).unwrap();
        copy
    };
    let mut mount = outcrop();
    mount.args(["mount", "--background", "--rw", "--layer"]).arg(empty).arg(&mountpoint);
    run(&mut mount).ok();
    let mut suite = as_user(program);
    suite.arg("-c").arg(configuration).arg("-p").arg(&mountpoint).arg("-s").arg("/dev/shm");
    let said = run(&mut suite);
    run(outcrop().arg("unmount").arg(&mountpoint)).ok();
    check("mount", &said.stdout);
}

fn in_guest(transport: &str) {
    if !guests_can_run() {
        return;
    }
    let Some(program) = program() else {
        return skip("pjdfstest is not installed: cargo install pjdfstest");
    };
    let scratch = Scratch::new();
    let users = [("nobody", "nogroup"), ("tests", "tests")];
    let source = scratch.directory("source");
    fs::copy(program, source.join(PROGRAM)).unwrap();
    fs::write(source.join("pjdfstest.toml"), configuration(transport, users)).unwrap();
    let archive = scratch.join("source.tar");
    run(Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(scratch.path()).arg("source"))
        .ok();
    let name = fresh_name("conformance");
    // The suite ends with 1 where anything failed; the report is wanted all the same.
    let script = "for user in nobody:65534:nogroup tests:1234:tests; do
  IFS=: read -r name id group <<END
$user
END
  grep -q \"^$name:\" /etc/passwd || echo \"$name:x:$id:$id::/:/bin/sh\" >> /etc/passwd
  grep -q \"^$group:\" /etc/group || echo \"$group:x:$id:\" >> /etc/group
done
mkdir -m 755 /tried
./pjdfstest -c pjdfstest.toml -p /tried -s /tmp > \"$DESTDIR/report\" 2>&1 || true";
    let definitions = sourced(&scratch, &name, &archive, script);
    let mut build = outcrop();
    build.args(["build", &name, "--arch", "x86_64", "--transport", transport, "--definitions"]);
    run(build.arg(&definitions)).ok();
    let mut cat = outcrop();
    let said = run(cat.args(["cat", &name, "/report", "--definitions"]).arg(&definitions)).ok();
    check(transport, &said.stdout);
}

#[test]
fn a_guest_passes_over_virtiofs() {
    in_guest("virtiofs");
}

#[test]
fn a_guest_passes_over_9p() {
    in_guest("9p");
}
