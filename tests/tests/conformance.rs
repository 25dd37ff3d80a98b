//! POSIX conformance: `pjdfstest` on a mount as an ordinary user, and in guests as root over each
//! transport, against the list of what is not expected to hold.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use outcrop_tests::suites::{in_guest, installed, on_mount};
use outcrop_tests::{Scratch, guests_can_run};

/// The suite: https://crates.io/crates/pjdfstest
const PROGRAM: &str = "pjdfstest";
/// Cases that are not expected to pass somewhere, each with its reason.
const EXPECTED: &str = include_str!("conformance.txt");

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

/// Everything passes but what is listed; what is listed and passes is a failure, too. A case that one
/// run of the suite skipped may have been tried in another.
fn check(place: &str, runs: usize, report: &str) {
    let summaries: Vec<&str> = report.lines().filter(|line| line.starts_with("Summary")).collect();
    eprintln!("pjdfstest, {place}: {}", summaries.join("; "));
    assert_eq!(summaries.len(), runs, "{place}: summaries in\n{report}");
    let good = summaries.iter().all(|summary| summary.starts_with("Summary: 0 failed"));
    assert!(good, "{place}:\n{report}");
    let with = |wanted: &str| -> BTreeSet<&str> {
        verdicts(report).filter(|(_, verdict)| *verdict == wanted).map(|(case, _)| case).collect()
    };
    let skipped: BTreeSet<&str> = with("skipped").difference(&with("ok")).copied().collect();
    assert_eq!(skipped, expected(place, "skipped"), "{place}: what is skipped");
    // The suite says nothing of a listed case that it does not have.
    let failed = with("failed as expected");
    assert_eq!(failed, expected(place, "fails"), "{place}: what fails");
}

#[test]
fn a_mount_passes_what_an_ordinary_user_can_try() {
    let Some(program) = installed(PROGRAM) else { return };
    let scratch = Scratch::new();
    let users = [("nobody", "nogroup"), ("daemon", "daemon")];
    let configuration = scratch.file("pjdfstest.toml", configuration("mount", users));
    let report = on_mount(&scratch, &program, |mountpoint, suite| {
        suite.arg("-c").arg(configuration).arg("-p").arg(mountpoint).arg("-s").arg("/dev/shm");
    });
    check("mount", 1, &report);
}

/// Some cases remount what they try. The suite refuses that for its own root, so it gets another one,
/// in memory, where a directory of the guest's root is bound. They run first and on their own: other
/// cases leave removed files open, which keep any file system from becoming read-only.
const IN_GUEST: &str = r#"for user in nobody:65534:nogroup tests:1234:tests; do
  IFS=: read -r name id group <<END
$user
END
  grep -q "^$name:" /etc/passwd || echo "$name:x:$id:$id::/:/bin/sh" >> /etc/passwd
  grep -q "^$group:" /etc/group || echo "$group:x:$id:" >> /etc/group
done
mkdir -m 755 /tried
root=/run/root
mkdir "$root"
for directory in tried usr etc dev proc; do
  mkdir "$root/$directory"
  test "$directory" = etc || mount --bind "/$directory" "$root/$directory"
done
mkdir -m 1777 "$root/tmp"
cp /etc/passwd /etc/group "$root/etc/"
for link in bin lib lib64 sbin; do ln -s "usr/$link" "$root/$link"; done
cp suite pjdfstest.toml "$root/"
sed 's/allow_remount = false/allow_remount = true/' pjdfstest.toml > "$root/remounting.toml"
chroot "$root" ./suite -c remounting.toml -p /tried -s /tmp erofs
chroot "$root" ./suite -c pjdfstest.toml -p /tried -s /tmp
umount "$root"/tried "$root"/usr "$root"/dev "$root"/proc"#;

fn guest_passes(transport: &str) {
    let (true, Some(program)) = (guests_can_run(), installed(PROGRAM)) else { return };
    let scratch = Scratch::new();
    let users = [("nobody", "nogroup"), ("tests", "tests")];
    let configuration = configuration(transport, users);
    let file = ("pjdfstest.toml", configuration.as_str());
    check(transport, 2, &in_guest(&scratch, transport, &program, file, IN_GUEST));
}

#[test]
fn a_guest_passes_over_virtiofs() {
    guest_passes("virtiofs");
}

#[test]
fn a_guest_passes_over_9p() {
    guest_passes("9p");
}
