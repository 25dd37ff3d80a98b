//! Test suites of others, run on a mount by an ordinary user and in guests by root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::definitions::{fresh_name, sourced};
use crate::{Scratch, archives, as_user, outcrop, run, skip};

const FIXED_SEED: &str = "20161107";

/// A file that a layer brings, where the program runs: what it held must not show again.
pub const BROUGHT: &str = "brought";
const BROUGHT_CONTENT: &[u8] = &[0xa5; 64 << 10];

/// The fixed seed and one that nobody has tried before, or the one to be tried again. Each is told
/// when it is taken: what it does may end without a report.
pub fn seeds() -> impl Iterator<Item = String> {
    let seeds = match std::env::var("OUTCROP_TEST_SEED") {
        Ok(seed) => vec![seed],
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            vec![FIXED_SEED.to_owned(), now.subsec_nanos().to_string()]
        }
    };
    seeds.into_iter().inspect(|seed| eprintln!("seed {seed}"))
}

/// The suite's program, from PATH or where `cargo install` puts it; says so where there is none.
pub fn installed(name: &str) -> Option<PathBuf> {
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(cargo);
    let found = places.find_map(|place| Some(place.join(name)).filter(|program| program.is_file()));
    if found.is_none() {
        skip(&format!("{name} is not installed: cargo install {name}"));
    }
    found
}

/// Runs the program as the ordinary user over a new mount with nothing but `BROUGHT`, whose path
/// `arguments` gets, and gives what it printed.
pub fn on_mount(
    scratch: &Scratch,
    program: &Path,
    arguments: impl FnOnce(&Path, &mut Command),
) -> String {
    let layer = scratch.file("layer.tar", archives::files(&[(BROUGHT, BROUGHT_CONTENT)]));
    let mountpoint = scratch.directory("mnt");
    // Where the user can reach it.
    let copy = scratch.join("suite");
    std::fs::copy(program, &copy).unwrap();
    let mut mount = outcrop();
    mount.args(["mount", "--background", "--rw", "--layer"]).arg(layer).arg(&mountpoint);
    run(&mut mount).ok();
    let mut suite = as_user(copy);
    arguments(&mountpoint, &mut suite);
    let said = run(&mut suite);
    run(outcrop().arg("unmount").arg(&mountpoint)).ok();
    said.stdout + &said.stderr
}

/// Runs a script as root in a guest, in a directory with the program, as `./suite`, `BROUGHT`, and
/// `file`. Gives what it printed, whatever it ended with.
pub fn in_guest(
    scratch: &Scratch,
    transport: &str,
    program: &Path,
    file: (&str, &str),
    script: &str,
) -> String {
    let source = scratch.directory("source");
    std::fs::copy(program, source.join("suite")).unwrap();
    std::fs::write(source.join(BROUGHT), BROUGHT_CONTENT).unwrap();
    std::fs::write(source.join(file.0), file.1).unwrap();
    let archive = scratch.join("source.tar");
    let mut tar = Command::new("tar");
    run(tar.arg("cf").arg(&archive).arg("-C").arg(scratch.path()).arg("source")).ok();
    let name = fresh_name("suite");
    // Not to the sysroot, which a suite may want to remount.
    let script = format!("( {script}\n) > /run/report 2>&1 || true\ncp /run/report \"$DESTDIR/\"");
    let definitions = sourced(scratch, &name, &archive, &script);
    let mut build = outcrop();
    build.args(["build", &name, "--arch", "x86_64", "--transport", transport, "--definitions"]);
    run(build.arg(&definitions)).ok();
    let mut cat = outcrop();
    run(cat.args(["cat", &name, "/report", "--definitions"]).arg(&definitions)).ok().stdout
}
