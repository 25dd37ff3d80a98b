//! `fsx`: random reads, writes, truncations and mappings of one file of a layer, each checked, on a
//! mount as an ordinary user and in guests as root over each transport. It begins with truncating the
//! file: what the layer holds must not come back when it grows.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use outcrop_tests::suites::{BROUGHT, in_guest, installed, on_mount, seeds};
use outcrop_tests::{Scratch, guests_can_run};

/// The suite: <https://crates.io/crates/fsx>
const PROGRAM: &str = "fsx";
const ON_A_MOUNT: u32 = 50_000;
/// With each of two seeds, over each transport: an emulated guest takes its time.
const IN_A_GUEST: u32 = 25_000;

/// What QEMU's 9p server cannot do is left out there. Nothing is empty: fallocate(2) refuses that.
fn configuration(can_allocate: bool) -> String {
    let mut text = String::from(
        "flen = 262144\n[opsize]\nmin = 1\nmax = 65536\n[weights]\nread = 10\nwrite = 10\nmapread = 10\n\
         mapwrite = 10\ninvalidate = 1\ntruncate = 10\nfsync = 1\nfdatasync = 1\nclose_open = 1\n\
         copy_file_range = 5\nsendfile = 5\n",
    );
    if can_allocate {
        text.push_str("punch_hole = 5\nposix_fallocate = 5\n");
    }
    text
}

fn check(place: &str, seed: &str, report: &str) {
    assert!(report.contains("completed A-OK"), "{place}, seed {seed}:\n{report}");
}

#[test]
fn a_file_on_a_mount_is_what_was_written() {
    let Some(program) = installed(PROGRAM) else { return };
    for seed in seeds() {
        let scratch = Scratch::new();
        let configuration = scratch.file("fsx.toml", configuration(true));
        let report = on_mount(&scratch, &program, |mountpoint, suite| {
            suite.args(["-N", &ON_A_MOUNT.to_string(), "-S", &seed, "-f"]).arg(configuration);
            suite.arg("-P").arg(mountpoint).arg(mountpoint.join(BROUGHT));
        });
        check("mount", &seed, &report);
    }
}

fn guest_reads_what_it_wrote(transport: &str) {
    let (true, Some(program)) = (guests_can_run(), installed(PROGRAM)) else { return };
    for seed in seeds() {
        let scratch = Scratch::new();
        let script = format!("./suite -N {IN_A_GUEST} -S {seed} -f fsx.toml -P / {BROUGHT}");
        let file = configuration(transport != "9p");
        let report = in_guest(&scratch, transport, &program, ("fsx.toml", &file), &script);
        check(transport, &seed, &report);
    }
}

#[test]
fn a_guest_reads_what_it_wrote_over_virtiofs() {
    guest_reads_what_it_wrote("virtiofs");
}

#[test]
fn a_guest_reads_what_it_wrote_over_9p() {
    guest_reads_what_it_wrote("9p");
}
