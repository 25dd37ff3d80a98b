//! The same random operations on a layered mount and on tmpfs, as an ordinary user: results, errors
//! and trees must be the same, and so must what is captured.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

use outcrop_tests::suites::seeds;
use outcrop_tests::{Mounted, Scratch, as_user, give_to_user, run, skip};

const OPERATIONS: &str = "4000";
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: i64 = 0x0102_1994;

fn script(scratch: &Scratch) -> Command {
    let path = scratch.join("differential.py");
    if !path.exists() {
        scratch.file("differential.py", include_str!("differential.py"));
    }
    let mut command = as_user("python3");
    command.arg(path);
    command
}

#[test]
fn a_layered_mount_answers_as_tmpfs_does() {
    let memory = Path::new("/dev/shm");
    if !rustix::fs::statfs(memory).is_ok_and(|about| about.f_type == TMPFS) {
        return skip("/dev/shm is not a tmpfs");
    }
    for seed in seeds() {
        let scratch = Scratch::new();
        let place = tempfile::Builder::new().prefix("outcrop-").tempdir_in(memory).unwrap();
        give_to_user(place.path());
        let other = place.path();
        run(script(&scratch).arg("populate").arg(other).arg(&seed)).ok();
        let (layer, capture) = (scratch.join("layer.tar"), scratch.join("capture.tar"));
        let mut tar = as_user("tar");
        tar.args(["--xattrs", "--xattrs-include=user.*", "-cf"]).arg(&layer);
        run(tar.arg("-C").arg(other).arg(".")).ok();

        let arguments = ["--rw".as_ref(), "--layer".as_ref(), layer.as_os_str()];
        let captured = ["--capture".as_ref(), capture.as_os_str()];
        let mounted = Mounted::new(&scratch, arguments.into_iter().chain(captured));
        let mut both = script(&scratch);
        both.arg("run").arg(&mounted.mountpoint).arg(other).args([&seed, OPERATIONS]);
        let said = run(&mut both);
        eprintln!("{}{}", said.stdout, said.stderr);
        said.ok();
        mounted.end();

        let mounted = Mounted::new(&scratch, ["--layer".as_ref(), capture.as_os_str()]);
        run(script(&scratch).arg("compare").arg(&mounted.mountpoint).arg(other)).ok();
        mounted.end();
    }
}
