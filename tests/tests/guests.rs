//! Real guests: what their root can do over each transport, what lands in the capture, and what happens when
//! something dies.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::own_store::Own;
use outcrop_tests::{
    Said, Scratch, guest_arch, guests_can_run, outcrop, processes_with, run, shared_store,
    wait_until,
};

const LONG: Duration = Duration::from_secs(180);

fn build(definitions: &Path, target: &str) -> Command {
    let mut command = outcrop();
    command.args(["build", target, "--arch", "x86_64", "--definitions"]).arg(definitions);
    over_transport(&mut command);
    command
}

/// All but the fidelity table runs over one transport at a time.
fn over_transport(command: &mut Command) {
    if let Some(transport) = std::env::var_os("OUTCROP_TEST_TRANSPORT") {
        command.arg("--transport").arg(transport);
    }
}

fn inspect(verb: &str, definitions: &Path, target: &str, path: &str) -> Said {
    let mut command = outcrop();
    command.args([verb, target, path, "--arch", &guest_arch(), "--definitions"]).arg(definitions);
    run(&mut command)
}

/// The transports, in the order of the columns of docs/guests.md.
const TRANSPORTS: [&str; 2] = ["9p", "virtiofs"];

/// The rows of docs/guests.md: what is said to hold over each transport.
fn documented() -> BTreeMap<String, [String; 2]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guests.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("<!-- fidelity -->").nth(1).expect("docs/guests.md has no table");
    let table = table.split("<!-- end -->").next().unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            match cells.as_slice() {
                ["", operation, over_9p, over_virtiofs, _, ""] if !operation.starts_with('-') => {
                    let holds = [*over_9p, *over_virtiofs].map(str::to_owned);
                    Some(((*operation).to_owned(), holds))
                }
                _ => None,
            }
        })
        .filter(|(operation, _)| operation != "operation in the guest")
        .collect()
}

#[test]
fn every_row_of_the_fidelity_table_is_as_documented() {
    if !guests_can_run() {
        return;
    }
    for (column, transport) in TRANSPORTS.into_iter().enumerate() {
        match transport == "virtiofs" && guest_arch() == "s390x" {
            true => virtiofs_is_refused_for_its_byte_order(),
            false => check_fidelity(column, transport),
        }
    }
}

/// QEMU does not see what our server writes into the guest's memory (docs/virtiofs.md).
#[test]
fn a_program_in_memory_that_held_another_one_runs_its_own_code() {
    // Over 9p QEMU itself writes.
    if !guests_can_run() || std::env::var("OUTCROP_TEST_TRANSPORT").is_ok_and(|it| it != "virtiofs")
    {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("recycled");
    let script = "cd /usr/bin
        run() { said=$($1 --version) && [ -n \"$said\" ] || { echo \"$1: $said\"; exit 1; }; }
        for round in 1 2; do
            for program in basename cat comm cut dirname expand fmt fold head join nl od paste pr sort tac tail tr uniq wc; do
                for other in perl python3 bash sed awk grep gzip tar find xz; do run $other; done
                echo 3 > /proc/sys/vm/drop_caches
                run $program
            done
        done
        mkdir \"$DESTDIR/d\"";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let mut build = outcrop();
    build.args(["build", &name, "--arch", &guest_arch(), "--transport", "virtiofs"]);
    run(build.arg("--definitions").arg(&definitions)).ok();
}

fn virtiofs_is_refused_for_its_byte_order() {
    let scratch = Scratch::new();
    let name = fresh_name("order");
    let definitions = tree(&scratch, &[(&name, &[], "true")]);
    let build = |more: &[&str]| {
        let mut build = outcrop();
        build.args(["build", &name, "--arch", &guest_arch()]).args(more);
        run(build.arg("--definitions").arg(&definitions))
    };
    build(&["--transport", "virtiofs"]).fails(3).says("big-endian").says("--transport 9p");
    let built = build(&[]).ok();
    assert!(built.stderr.contains("over 9p, which is slower"), "{}", built.stderr);
}

fn check_fidelity(column: usize, transport: &str) {
    let scratch = Scratch::new();
    let name = fresh_name("fidelity");
    let python = include_str!("fidelity.py");
    let script = format!(
        "mkdir \"$DESTDIR/d\"\ncd \"$DESTDIR/d\"\ncat > /fidelity.py <<'END'\n{python}\nEND\n\
         python3 /fidelity.py > \"$DESTDIR/results.json\""
    );
    let definitions = tree(&scratch, &[(&name, &[], &script)]);
    let mut build = outcrop();
    build.args(["build", &name, "--arch", &guest_arch(), "--transport", transport]);
    run(build.arg("--definitions").arg(&definitions)).ok();
    let results = inspect("cat", &definitions, &name, "/results.json").ok().stdout;
    let found: BTreeMap<String, String> = serde_json::from_str(&results).unwrap();
    let documented = documented();
    for (row, result) in &found {
        let holds = documented.get(row).unwrap_or_else(|| panic!("{row} is not documented"));
        if holds[column] == "yes" {
            assert_eq!(result, "ok", "{row} is documented to hold over {transport}");
        } else {
            assert_ne!(result, "ok", "{row} is documented not to hold over {transport}, and does");
        }
    }
    assert_eq!(found.len(), documented.len(), "{documented:?}");
    check_capture(&definitions, &name);
    check_captured_content(&documented, column, &definitions, &name);
}

/// What the guest's root did is in the artifact.
fn check_capture(definitions: &Path, name: &str) {
    let mut command = outcrop();
    command.args(["ls", "-R", name, "/d", "--arch", &guest_arch(), "--definitions"]);
    command.arg(definitions);
    let listed = run(&mut command).ok().stdout;
    let line = |path: &str| {
        let found = listed.lines().find(|line| line.split(" -> ").next().unwrap().ends_with(path));
        found.unwrap_or_else(|| panic!("{path} is not in\n{listed}")).to_owned()
    };
    let fields =
        |path: &str| -> Vec<String> { line(path).split_whitespace().map(str::to_owned).collect() };
    assert_eq!(fields("/d/owned")[..4], ["-rw-r--r--", "1", "12345", "54321"]);
    assert_eq!(fields("/d/special")[0], "-rwsr-sr-x");
    assert_eq!(fields("/d/sticky")[0], "drwxrwxrwt");
    assert!(line("/d/symlink").ends_with("/d/symlink -> ../a target"));
    assert_eq!(fields("/d/first")[1], "2");
    let device = fields("/d/char");
    assert_eq!((device[0].as_str(), device[4].as_str()), ("crw--w----", "5,1"));
    assert_eq!(fields("/d/block")[4], "300,70000");
    assert!(fields("/d/fifo")[0].starts_with('p'));
    assert_eq!(fields("/d/suid")[..4], ["-rwsr-xr-x", "2", "4321", "4321"]);
    let mapped = inspect("cat", definitions, name, "/d/mapped").ok();
    assert_eq!(mapped.stdout.as_bytes()[4096..4100], *b"seen");
}

/// What only some transports carry, as far as it is documented to hold over this one.
fn check_captured_content(
    documented: &BTreeMap<String, [String; 2]>,
    column: usize,
    definitions: &Path,
    name: &str,
) {
    let holds = |row: &str| documented[row][column] == "yes";
    let content = |file: &str| inspect("cat", definitions, name, &format!("/d/{file}")).ok().stdout;
    let exchanged = if holds("RENAME_EXCHANGE") { ["r", "l"] } else { ["l", "r"] };
    assert_eq!(["left", "right"].map(content), exchanged);
    if holds("O_TMPFILE") {
        assert_eq!(content("named"), "kept");
    }
    if holds("fallocate") {
        let expected = format!("xx{}xx{}", "\0".repeat(6), "\0".repeat(65526));
        assert!(content("allocated") == expected);
    }
    if holds("punched holes, SEEK_HOLE") {
        let expected = ["x".repeat(8192), "\0".repeat(16384), "x".repeat(40960)].concat();
        assert!(content("holes") == expected);
    }
    assert_eq!(content("copy"), "0123456789".repeat(1000)[5..]);
    let capability = [0x0200_0001_u32, 1024, 0, 0, 0].map(u32::to_le_bytes).concat();
    let xattrs: [(&str, &str, &[u8]); 3] = [
        ("user.* xattrs", "SCHILY.xattr.user.comment=", b"kept\n"),
        ("trusted.* xattrs", "SCHILY.xattr.trusted.comment=", b"kept\n"),
        ("security.* xattrs", "SCHILY.xattr.security.capability=", &capability),
    ];
    let tar = artifact(name);
    for (row, record, value) in xattrs {
        let record = [record.as_bytes(), value].concat();
        let found = tar.windows(record.len()).any(|bytes| bytes == record);
        assert_eq!(found, holds(row), "{row} in the artifact");
    }
}

/// The artifact of a chunk, as the tar that the store keeps.
fn artifact(name: &str) -> Vec<u8> {
    let shards = std::fs::read_dir(shared_store().join("artifacts")).unwrap().flatten();
    let places = shards.flat_map(|shard| std::fs::read_dir(shard.path()).unwrap().flatten());
    let mut ours =
        places.filter(|place| place.file_name().to_string_lossy().starts_with(&format!("{name}.")));
    std::fs::read(ours.next().unwrap().path().join("artifact.tar")).unwrap()
}

#[test]
fn where_virtiofs_cannot_be_9p_is_taken_and_said_so() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("falls-back");
    let definitions = tree(&scratch, &[(&name, &[], "echo here > \"$DESTDIR/file\"\n")]);
    // A QEMU that was built without the device.
    let script = "#!/bin/sh\ncase \"$*\" in *vhost-user-fs*) exit 1 ;; esac\n\
                  exec /usr/bin/qemu-system-x86_64 \"$@\"\n";
    let qemu = scratch.file("bin/qemu-system-x86_64", script);
    run(Command::new("chmod").arg("755").arg(&qemu)).ok();
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", scratch.join("bin").display());
    let with = |transport: &str| {
        let mut build = outcrop();
        build.args(["build", &name, "--arch", "x86_64", "--transport", transport, "--definitions"]);
        run(build.arg(&definitions).env("PATH", &path))
    };
    with("virtiofs").fails(3).says("has no device vhost-user-fs-pci");
    with("auto").ok().says("over 9p, which is slower").says("has no device vhost-user-fs-pci");
    assert_eq!(inspect("cat", &definitions, &name, "/file").ok().stdout, "here\n");
}

#[test]
fn dependencies_are_staged_and_a_second_build_does_nothing() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (low, high) = (fresh_name("low"), fresh_name("high"));
    let below = format!("mkdir -p \"$DESTDIR/lib\"\necho low > \"$DESTDIR/lib/{low}\"\n");
    // The dependency's /lib is reached through the kit's link, and the compiler still works.
    let above = format!(
        "test \"$(cat /usr/lib/{low})\" = low\ntest -L /lib\n\
         echo 'int main(void) {{ return 0; }}' > t.c\ngcc t.c -o t\n./t\n\
         cp /lib/{low} \"$DESTDIR/copy\"\n"
    );
    let definitions = tree(&scratch, &[(&low, &[], &below), (&high, &[&low], &above)]);
    let first = run(&mut build(&definitions, &high)).ok();
    assert!(first.stderr.contains("2 to build"), "{}", first.stderr);
    assert_eq!(inspect("cat", &definitions, &high, "/copy").ok().stdout, "low\n");
    let second = run(&mut build(&definitions, &high)).ok();
    assert!(second.stderr.contains("0 to build"), "{}", second.stderr);
    assert_eq!(first.stdout, second.stdout);
}

/// Through a stratum, which has no artifact that could tell what it was made of.
#[test]
fn why_tells_what_changed_since_the_build_and_what_follows() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let (low, high) = (fresh_name("low"), fresh_name("high"));
    let definitions = tree(&scratch, &[(&low, &[], "echo first > \"$DESTDIR/low\"")]);
    let above = format!(
        "name: top\nkind: stratum\nbuild-depends:\n- morph: strata/all.morph\nchunks:\n\
         - {{name: {high}, build-system: manual}}\n"
    );
    scratch.file("defs/strata/top.morph", above);
    let why = || {
        let mut command = outcrop();
        command.args(["why", &high, "--arch", "x86_64", "--definitions"]).arg(&definitions);
        run(&mut command).ok()
    };
    assert_eq!(
        why().stdout,
        format!("never built:\n    strata/all/{low}\n    strata/top/{high}\n")
    );
    run(&mut build(&definitions, &high)).ok();
    let said = why();
    assert!(said.stdout.is_empty(), "{}", said.stdout);
    said.says(&format!("nothing is to be built: the store has strata/top/{high}"));
    tree(&scratch, &[(&low, &[], "echo second > \"$DESTDIR/low\"")]);
    let change = r#"steps[install].commands[0] was "echo first > \"$DESTDIR/low\"\n" and is "echo second > \"$DESTDIR/low\"\n""#;
    let follows = format!("strata/top/{high}: because strata/all/{low} changed\n");
    assert_eq!(why().stdout, format!("strata/all/{low}: {change}\n{follows}"));
    run(&mut build(&definitions, &low)).ok();
    assert_eq!(why().stdout, format!("strata/all/{low} (built already): {change}\n{follows}"));
}

#[test]
fn a_failed_build_shows_its_log_keeps_its_tree_and_publishes_nothing() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("fails");
    let script = "echo half > \"$DESTDIR/half\"\necho the last words >&2\nfalse\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let said = run(&mut build(&definitions, &name)).fails(1);
    assert!(said.stderr.contains("the last words"), "{}", said.stderr);
    assert!(said.stderr.contains("install failed: exit status 1"), "{}", said.stderr);
    assert!(said.stderr.contains("shell --failed"), "{}", said.stderr);
    inspect("cat", &definitions, &name, "/half").fails(2).says("not built");
    let mut log = outcrop();
    log.args(["log", &name, "--definitions"]).arg(&definitions);
    assert!(run(&mut log).ok().stdout.contains("the last words"));
    let mut shell = outcrop();
    let look = format!("cat /{name}.inst/half");
    shell.args(["shell", "--failed", &name, "--command", &look, "--definitions"]).arg(&definitions);
    over_transport(&mut shell);
    assert_eq!(run(&mut shell).ok().stdout, "half\n");
    nothing_is_left();
}

#[test]
fn without_qemu_it_is_the_host_that_lacks_something() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("unstarted");
    let definitions = tree(&scratch, &[(&name, &[], "true\n")]);
    let programs = scratch.directory("programs");
    for program in ["fusermount3", "setpriv"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{program}"), programs.join(program)).unwrap();
    }
    let said = run(build(&definitions, &name).env("PATH", &programs)).fails(3);
    said.says("cannot run qemu-system-x86_64").says("outcrop doctor");
    let mut shell = outcrop();
    shell.args(["shell", &name, "--arch", "x86_64", "--command", "true", "--definitions"]);
    run(shell.arg(&definitions).env("PATH", &programs)).fails(3).says("cannot run qemu");
}

/// Starts a build of `name` that hangs in its command, and waits until it does.
fn hanging(mut build: Command, store: &Path, name: &str) -> Child {
    let child = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let logs = store.join("logs");
    wait_until("the command", LONG, || {
        // A new store has no logs yet.
        std::fs::read_dir(&logs).into_iter().flatten().flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with(name)
                && std::fs::read_to_string(entry.path()).is_ok_and(|log| log.contains("sleep"))
        })
    });
    child
}

/// Processes of the orchestrator that builds `name`: the setpriv in front of it is not one.
fn orchestrator(name: &str) -> String {
    let output = Command::new("pgrep").args(["-f", &format!("bin/outcrop build {name}")]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_whitespace().last().expect("the orchestrator runs").to_owned()
}

fn nothing_is_left() {
    let store = shared_store().display().to_string();
    wait_until("the end of QEMU", LONG, || {
        processes_with("qemu-system").iter().all(|line| !line.contains(&store))
    });
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&format!("{store}/run/")), "{mounts}");
}

#[test]
fn signals_leave_no_qemu_no_mount_and_no_temporary_file() {
    if !guests_can_run() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let name = fresh_name("stops");
        let own = Own::new(&[(&name, &[], "sleep 1000\n")]);
        let child = hanging(own.build(&name), &own.store(), &name);
        let store = own.store().display().to_string();
        let qemu_runs = || processes_with("qemu-system").iter().any(|line| line.contains(&store));
        assert!(qemu_runs());
        run(Command::new("kill").args([&format!("-{signal}"), &orchestrator(&name)])).ok();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        wait_until("the end of QEMU", LONG, || !qemu_runs());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&store), "{mounts}");
        for directory in ["run", "tmp"] {
            let entries = std::fs::read_dir(own.store().join(directory)).unwrap();
            let left: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "after SIG{signal}: {left:?}");
        }
    }
}

#[test]
fn a_killed_qemu_is_told_as_such() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("loses-qemu");
    let definitions = tree(&scratch, &[(&name, &[], "sleep 1000\n")]);
    let child = hanging(build(&definitions, &name), &shared_store(), &name);
    let parent = orchestrator(&name);
    run(Command::new("pkill").args(["-KILL", "-P", &parent, "qemu-system"])).ok();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("QEMU"), "{stderr}");
    inspect("ls", &definitions, &name, "/").fails(2);
}

#[test]
fn a_panicking_guest_is_told_as_such() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("panics");
    let script = "echo 1 > /proc/sys/kernel/sysrq\necho c > /proc/sysrq-trigger\nsleep 1000\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let said = run(&mut build(&definitions, &name)).fails(1);
    assert!(said.stderr.contains("panic"), "{}", said.stderr);
}

#[test]
fn after_a_killed_orchestrator_the_next_run_works() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("killed");
    let script =
        "if test -e /killed-once; then true; fi\nsleep 20\necho done > \"$DESTDIR/done\"\n";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let child = hanging(build(&definitions, &name), &shared_store(), &name);
    run(Command::new("kill").args(["-KILL", &orchestrator(&name)])).ok();
    let _ = child.wait_with_output();
    wait_until("the end of QEMU", LONG, || {
        processes_with("qemu-system").iter().all(|line| !line.contains(&format!("{name}.")))
    });
    run(&mut build(&definitions, &name)).ok();
    assert_eq!(inspect("cat", &definitions, &name, "/done").ok().stdout, "done\n");
    run(outcrop().args(["store", "verify"])).ok();
}

/// What config.guess asks.
#[test]
fn programs_are_told_of_the_machine_that_they_are_for() {
    if !guests_can_run() {
        return;
    }
    let arch = guest_arch();
    let expected = match arch.as_str() {
        "armv5l" => "armv8l",
        "armv7lhf" => "armv7l",
        "armv8l64" => "aarch64",
        "ppc64l" => "ppc64le",
        "x86_32" => "i686",
        same => same,
    };
    let scratch = Scratch::new();
    let name = fresh_name("machine");
    let script = "mkdir -p \"$DESTDIR\"; uname -m > \"$DESTDIR/machine\"";
    let definitions = tree(&scratch, &[(&name, &[], script)]);
    let of_tree = |verb: &str| {
        let mut command = outcrop();
        command.args([verb, &name, "--arch", &arch, "--definitions"]).arg(&definitions);
        command
    };
    run(&mut of_tree("build")).ok();
    assert_eq!(run(of_tree("cat").arg("/machine")).ok().stdout.trim(), expected);
}
