//! What the command line says: help, results for programs, and errors, compared with
//! `tests/snapshots/`. `OUTCROP_TESTS_REWRITE=1` writes these files anew.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outcrop_tests::console::difference;
use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::samples::Sampled;
use outcrop_tests::{Said, Scratch, as_user, guests_can_run, outcrop, run, wait_until};

/// Every command and subcommand that people see.
const COMMANDS: [&[&str]; 32] = [
    &["mount"],
    &["unmount"],
    &["capture"],
    &["build"],
    &["export"],
    &["boot"],
    &["shell"],
    &["ls"],
    &["cat"],
    &["diff"],
    &["overlaps"],
    &["check"],
    &["graph"],
    &["why"],
    &["status"],
    &["key"],
    &["log"],
    &["kit"],
    &["kit", "create"],
    &["kit", "list"],
    &["kit", "show"],
    &["source"],
    &["source", "fetch"],
    &["source", "import"],
    &["source", "list"],
    &["store"],
    &["store", "list"],
    &["store", "verify"],
    &["store", "gc"],
    &["store", "du"],
    &["completions"],
    &["man"],
];

/// Commands that only lead to others have no example of their own.
const GROUPS: [&str; 3] = ["kit", "source", "store"];

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots")
}

/// Compares with `tests/snapshots/NAME.txt`, or writes it.
#[track_caller]
fn matches_snapshot(name: &str, text: &str) {
    let path = snapshots().join(format!("{name}.txt"));
    if std::env::var_os("OUTCROP_TESTS_REWRITE").is_some() {
        std::fs::create_dir_all(snapshots()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see CONTRIBUTING.md", path.display()));
    if expected != text {
        let wanted: Vec<&str> = expected.lines().collect();
        let found: Vec<&str> = text.lines().collect();
        panic!("{}:\n{}", path.display(), difference(&wanted, &found));
    }
}

/// What a person at a terminal sees, and the exit code.
fn transcript(arguments: &[&str], said: &Said) -> String {
    format!(
        "$ outcrop {}\n{}--- stderr\n{}--- exit code {}\n",
        arguments.join(" "),
        said.stdout,
        said.stderr,
        said.code
    )
}

#[track_caller]
fn never_panics(said: &Said) {
    for text in [&said.stdout, &said.stderr] {
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let sampled = Sampled::new();
    let top = sampled.outcrop(&["--help"]).ok();
    matches_snapshot("help", &top.stdout);
    for command in COMMANDS {
        let arguments = [command, &["--help"]].concat();
        let said = sampled.outcrop(&arguments).ok();
        let name = command.join(" ");
        if !GROUPS.contains(&name.as_str()) {
            assert!(said.stdout.contains("Example: outcrop "), "{name}:\n{}", said.stdout);
        }
        matches_snapshot(&format!("help-{}", command.join("-")), &said.stdout);
    }
    let doctor = sampled.outcrop(&["doctor", "--help"]).ok();
    assert!(doctor.stdout.contains("Example: outcrop doctor"));
}

#[test]
fn bash_completes_commands_and_options() {
    let sampled = Sampled::new();
    let script = sampled.outcrop(&["completions", "bash"]).ok().stdout;
    let complete = |words: &str, at: usize| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _outcrop outcrop \"${{COMP_WORDS[{at}]}}\" ''
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let said = run(std::process::Command::new("bash").args(["--norc", "-c", &ask])).ok();
        said.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("outcrop sta", 1), ["status"]);
    assert_eq!(complete("outcrop build --memory", 2), ["--memory-budget"]);
    assert_eq!(complete("outcrop kit cr", 2), ["create"]);
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let said = sampled.outcrop(&["completions", shell]).ok().stdout;
        assert!(said.contains("memory-budget"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let sampled = Sampled::new();
    sampled.outcrop(&["man", "pages/man1"]).ok();
    for command in COMMANDS {
        let name = format!("outcrop-{}", command.join("-"));
        let path = sampled.scratch.join(&format!("pages/man1/{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        assert!(
            page.contains("Example: outcrop ") || GROUPS.contains(&&*command.join(" ")),
            "{name}"
        );
    }
    assert!(!sampled.scratch.join("pages/man1/outcrop-compile-endpoint.1").exists());
    sampled.scratch.file("taken", "");
    sampled.outcrop(&["man", "taken"]).fails(1).says("cannot write pages to taken: ");
}

#[test]
fn the_list_of_commands_here_is_complete() {
    let top = Sampled::new().outcrop(&["--help"]).ok().stdout;
    let listed = top.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut names: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !["help", "doctor"].contains(name))
        .collect();
    let mut known: Vec<&str> =
        COMMANDS.iter().filter_map(|command| command.first().copied()).collect();
    known.dedup();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn bad_usage_is_one_sentence_and_exit_code_2() {
    let sampled = Sampled::new();
    let cases: [(&str, &[&str]); 20] = [
        ("bad-command", &["frobnicate"]),
        ("bad-option", &["ls", "--frobnicate", "base.tar"]),
        ("bad-format", &["export", "base.tar", "--format", "floppy"]),
        ("bad-layer", &["mount", "--layer", "missing.tar", "root"]),
        ("bad-revision", &["ls", "git:src#v9.9"]),
        ("bad-list", &["ls", "list:src/main.c"]),
        ("bad-archive", &["ls", "tar:src/main.c"]),
        ("bad-path", &["cat", "base.tar", "/etc/nothing"]),
        ("bad-kind", &["cat", "base.tar", "/etc"]),
        ("bad-mountpoint", &["mount", "--layer", "base.tar", "nowhere"]),
        ("bad-artifact", &["ls", "artifact:zlib.0123"]),
        ("no-layers", &["mount", "root"]),
        ("bad-architecture", &["kit", "create", "--arch", "sparc99"]),
        ("bad-architecture-near", &["kit", "show", "x86-64"]),
        ("bad-size", &["store", "gc", "--size", "much"]),
        ("bad-part", &["store", "gc", "--size", "0", "--only", "everything"]),
        ("bad-source", &["source", "import", "missing.tar.gz"]),
        ("bad-source-directory", &["source", "import", "src", "--ref", "v1.0"]),
        ("missing-definitions", &["graph", "all", "--definitions", "nowhere"]),
        ("no-definitions", &["graph", "all", "--definitions", "src"]),
    ];
    for (name, arguments) in cases {
        let said = sampled.outcrop(arguments);
        never_panics(&said);
        assert!(said.stdout.is_empty(), "{name}: {}", said.stdout);
        matches_snapshot(name, &transcript(arguments, &said));
        said.fails(2);
    }
}

#[test]
fn a_directory_without_definitions_is_one_error_whatever_else_is_in_it() {
    let sampled = Sampled::new();
    sampled.shell("mkdir -p bare/closed bare/closed-too; chmod 0 bare/closed bare/closed-too");
    let said = sampled.outcrop(&["graph", "all", "--definitions", "bare"]).fails(2);
    assert_eq!(said.stderr.lines().count(), 2, "{}", said.stderr);
    said.says("bare has no definitions");
    sampled.shell("chmod 0700 bare/closed bare/closed-too");
}

#[test]
fn a_shell_without_a_terminal_says_so_before_it_starts_anything() {
    let sampled = Sampled::new();
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    let stratum = "name: all\nkind: stratum\nchunks:\n- {name: a, build-system: manual}\n";
    sampled.scratch.file("defs/all.morph", stratum);
    // A session of its own has no terminal.
    let mut command = as_user("setsid");
    command.arg("--wait").arg(outcrop_tests::program()).args(["shell", "a", "--definitions"]);
    let said = run(command.arg(sampled.scratch.join("defs"))).fails(2);
    said.says("there is no terminal").says("hint: ").says("--command");
    let mut command = as_user("setsid");
    command.arg("--wait").arg(outcrop_tests::program()).arg("boot");
    let said = run(command.arg(sampled.scratch.file("system.squashfs", b"hsqs"))).fails(2);
    said.says("there is no terminal").says("hint: ").says("--command");
}

/// The writing end of a pipe that nobody reads from any more.
fn closed_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn full_disk() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn a_result_that_nobody_reads_is_no_error_and_one_that_cannot_be_written_is() {
    let sampled = Sampled::new();
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    let stratum = "name: all\nkind: stratum\nchunks:\n- {name: a, build-system: manual}\n";
    sampled.scratch.file("defs/all.morph", stratum);
    sampled.outcrop(&["ls", "app.deb"]).ok();
    let cases: [&[&str]; 15] = [
        &["--version"],
        &["ls", "--help"],
        &["source", "import", "app.tar.xz"],
        &["source", "list"],
        &["store", "du"],
        &["store", "du", "--json"],
        &["store", "verify"],
        &["store", "gc", "--size", "0", "--dry-run"],
        &["overlaps", "-l", "base.tar", "-l", "app.tar.xz"],
        &["graph", "all", "--definitions", "defs"],
        &["why", "all", "a", "--definitions", "defs"],
        &["ls", "base.tar"],
        &["cat", "base.tar", "/etc/motd"],
        &["export", "base.tar", "--format", "tar", "-o", "out.tar"],
        &["doctor"],
    ];
    for arguments in cases {
        let command = || sampled.command(arguments);
        let usual = run(&mut command());
        assert!(!usual.stdout.is_empty(), "{arguments:?} has no result");
        let closed = run(command().stdout(closed_pipe()));
        never_panics(&closed);
        assert_eq!(closed.code, usual.code, "{arguments:?}: {}", closed.stderr);
        let full = run(command().stdout(full_disk()));
        never_panics(&full);
        full.fails(1).says("cannot write: No space left on device");
        for stderr in [closed_pipe(), full_disk()] {
            let silent = run(command().stderr(stderr));
            assert_eq!(silent.code, usual.code, "{arguments:?}");
            assert!(!silent.stdout.is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn a_build_that_nobody_listens_to_goes_on() {
    if !guests_can_run() {
        return;
    }
    for stderr in [closed_pipe(), full_disk()] {
        let scratch = Scratch::new();
        let name = fresh_name("quiet");
        let install = "mkdir -p \"$DESTDIR\"\necho made > \"$DESTDIR/made\"\n";
        let definitions = tree(&scratch, &[(&name, &[], install)]);
        let on = |verb: &str| {
            let mut command = outcrop();
            command.args([verb, &name]).args(["--arch", "x86_64", "--definitions"]);
            command.arg(&definitions);
            command
        };
        let built = run(on("build").stdout(closed_pipe()).stderr(stderr));
        assert_eq!(built.code, 0);
        let status = run(&mut on("status")).ok().stdout;
        assert!(status.starts_with("built "), "{status}");
        for verb in ["key", "status"] {
            run(on(verb).stdout(closed_pipe())).ok();
            run(on(verb).stdout(full_disk())).fails(1).says("cannot write");
        }
    }
    for arguments in [["kit", "list"], ["kit", "show"], ["store", "list"]] {
        run(outcrop().args(arguments).stdout(closed_pipe())).ok();
        let full = run(outcrop().args(arguments).stdout(full_disk()));
        full.fails(1).says("cannot write");
    }
}

#[test]
fn an_image_that_is_not_there_is_told_before_anything_of_the_definitions() {
    let sampled = Sampled::new();
    sampled.scratch.file("VERSION", "version: 8\n");
    sampled.scratch.file("all.morph", "name: all\nkind: junk\n");
    let said = sampled.outcrop(&["boot", "x.squashfs"]).fails(2);
    assert!(said.stderr.starts_with("outcrop: there is no image x.squashfs"), "{}", said.stderr);
}

#[test]
fn a_number_of_guests_that_nobody_means_is_refused() {
    let sampled = Sampled::new();
    for number in ["0", "1025", "99999999999", "-1"] {
        let guests = format!("--guests={number}");
        sampled.outcrop(&["build", "all", &guests]).fails(2).says("--guests");
    }
}

#[test]
fn a_size_that_means_nothing_is_refused() {
    let sampled = Sampled::new();
    let of_tar = ["export", "base.tar", "-f", "tar", "-o", "x", "--size", "5"];
    sampled.outcrop(&of_tar).fails(2).says("not of other formats");
    let none = ["export", "base.tar", "-f", "ext4", "-o", "x", "--size", "0"];
    sampled.outcrop(&none).fails(2).says("0 is not in 1..");
}

#[test]
fn an_unknown_component_suggests_a_near_name() {
    let sampled = Sampled::new();
    let examples = outcrop_tests::examples().join("minimal").display().to_string();
    for verb in ["build", "graph", "key", "log", "shell", "status"] {
        let said = sampled.outcrop(&[verb, "busibox", "--definitions", &examples]);
        never_panics(&said);
        let said = said.fails(2).says("did you mean `busybox`?");
        let lines: Vec<&str> = said.stderr.lines().collect();
        assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{}", said.stderr);
    }
    // As the directory is called.
    let said = sampled.outcrop(&["build", "minimal", "--definitions", &examples]);
    said.fails(2).says("did you mean `minimal-armv7lhf`, `minimal-armv8l64`, `minimal-x86_64`?");
}

#[test]
fn results_for_people_and_for_programs() {
    let sampled = Sampled::new();
    let cases: [(&str, &[&str]); 7] = [
        ("ls", &["ls", "base.tar", "-R"]),
        ("ls-json", &["ls", "base.tar", "-R", "--json"]),
        ("ls-package", &["ls", "app.deb", "-R"]),
        ("ls-list", &["ls", "list:nodes.list", "-R"]),
        ("cat", &["cat", "app.tar.xz", "/etc/motd"]),
        ("overlaps", &["overlaps", "-l", "base.tar", "-l", "app.tar.xz", "-l", "app.deb"]),
        ("store-empty", &["store", "list"]),
    ];
    for (name, arguments) in cases {
        let said = sampled.outcrop(arguments);
        never_panics(&said);
        matches_snapshot(name, &transcript(arguments, &said));
        said.ok();
    }
    let listed = sampled.outcrop(&["ls", "base.tar", "-R", "--json"]).ok().stdout;
    let mut paths = Vec::new();
    for line in listed.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for member in
            ["path", "type", "mode", "uid", "gid", "size", "links", "mtime", "target", "device"]
        {
            assert!(value.get(member).is_some(), "{member} is not in {line}");
        }
        paths.push(value["path"].as_str().unwrap().to_owned());
    }
    assert!(paths.contains(&"/dev/console".to_owned()), "{paths:?}");
}

#[test]
fn overlaps_can_be_a_check() {
    let sampled = Sampled::new();
    sampled.outcrop(&["overlaps", "--check", "-l", "base.tar", "-l", "app.tar.xz"]).fails(1);
    sampled.outcrop(&["overlaps", "--check", "-l", "base.tar", "-l", "list:nodes.list"]).fails(1);
    sampled.outcrop(&["overlaps", "--check", "-l", "base.tar", "-l", "git:src@/usr/src"]).ok();
    sampled.outcrop(&["overlaps", "--check", "base.tar", "git:src@/usr/src"]).ok();
    sampled.outcrop(&["overlaps"]).fails(2).says("nothing to look at was named");
}

#[test]
fn overlaps_of_targets_as_json() {
    let said = Sampled::new().outcrop(&["overlaps", "base.tar", "list:nodes.list", "--json"]).ok();
    let of_bin = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|value| value["path"] == "/bin")
        .unwrap();
    let expected = serde_json::json!({
        "path": "/bin", "shown": "nodes.list", "shown_kind": "symlink",
        "hidden": "base.tar", "hidden_kind": "directory",
    });
    assert_eq!(of_bin, expected);
}

#[test]
fn more_layers_than_the_usual_limit_of_open_files() {
    let sampled = Sampled::new();
    let layers = " -l base.tar".repeat(100);
    let script = format!("ulimit -Sn 64; exec \"$0\" overlaps{layers}");
    let mut command = as_user("sh");
    command
        .args(["-c", &script])
        .arg(outcrop_tests::program())
        .env("OUTCROP_HOME", sampled.scratch.join(".store"))
        .current_dir(sampled.scratch.path());
    run(&mut command).ok();
}

#[test]
fn doctor_has_one_object_for_each_check() {
    let said = Sampled::new().outcrop(&["doctor", "--json"]);
    never_panics(&said);
    assert!([0, 3].contains(&said.code), "{}", said.code);
    let mut required_and_missing = 0;
    for line in said.stdout.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["check"].is_string() && value["required"].is_boolean(), "{line}");
        let ok = value["ok"].as_bool().unwrap();
        assert_eq!(value["problem"].is_null(), ok, "{line}");
        assert_eq!(value["remedy"].is_null(), ok, "{line}");
        required_and_missing += usize::from(!ok && value["required"] == true);
    }
    // A store without a kit lacks at least that.
    assert!(required_and_missing > 0);
    said.fails(3);
}

#[test]
fn doctor_finds_what_mounts_and_exports_find_without_a_path() {
    let script = "PATH=/nonexistent; export PATH; exec \"$0\" doctor";
    let said = run(as_user("/bin/sh").args(["-c", script]).arg(outcrop_tests::program())).stdout;
    for program in ["fusermount3", "mke2fs"] {
        assert!(said.contains(&format!("ok       {program}\n")), "{said}");
    }
    assert!(said.contains("curl: not installed"), "{said}");
}

#[test]
fn ctrl_c_ends_a_fetch_from_a_server_that_says_nothing() {
    if !guests_can_run() {
        return;
    }
    let (silent, repository) = silent_server();
    let scratch = Scratch::new();
    scratch.file("VERSION", "version: 8\n");
    let commit = "1".repeat(40);
    let stratum = format!(
        "name: all\nkind: stratum\nchunks:\n- name: silent\n  repo: {repository}\n  \
         ref: {commit}\n  build-system: manual\n"
    );
    scratch.file("all.morph", stratum);
    let mut command = outcrop();
    command.args(["build", "silent", "--definitions"]).arg(scratch.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let connection = connection_to(&silent);
    let id = child.id().to_string();
    run(as_user("kill").args(["-INT", &id])).ok();
    wait_until("the end", Duration::from_secs(60), || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(connection);
}

/// A server that takes connections and says nothing, and how a git repository there is named.
fn silent_server() -> (std::net::TcpListener, String) {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let repository = format!("git://{}/silent", server.local_addr().unwrap());
    (server, repository)
}

#[track_caller]
fn connection_to(server: &std::net::TcpListener) -> std::net::TcpStream {
    server.set_nonblocking(true).unwrap();
    let mut connection = None;
    wait_until("a connection", Duration::from_secs(60), || {
        connection = server.accept().ok();
        connection.is_some()
    });
    connection.unwrap().0
}

#[test]
fn a_command_without_anything_to_tidy_up_ends_with_the_same_exit_code() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let (server, repository) = silent_server();
        // Whoever runs the tests may have been started by nohup.
        let mut command = as_user("env");
        command.arg("--default-signal=HUP").arg(outcrop_tests::program());
        command.args(["source", "import", &repository, "--ref", "main"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let connection = connection_to(&server);
        run(as_user("kill").args([signal, &child.id().to_string()])).ok();
        wait_until("the end", Duration::from_secs(60), || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        drop(connection);
    }
}

#[test]
fn what_nohup_has_started_lives_on_without_its_terminal() {
    let (server, repository) = silent_server();
    let script = "trap '' HUP; exec \"$0\" source import \"$1\" --ref main";
    let mut command = as_user("sh");
    command.args(["-c", script]).arg(outcrop_tests::program()).arg(&repository);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let connection = connection_to(&server);
    let id = child.id().to_string();
    run(as_user("kill").args(["-HUP", &id])).ok();
    // A signal that counts, after the one that does not: both have the same way to go.
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    run(as_user("kill").args(["-TERM", &id])).ok();
    wait_until("the end", Duration::from_secs(60), || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(connection);
}

#[test]
fn a_shell_has_the_terminal_for_itself() {
    if !guests_can_run() {
        return;
    }
    let scratch = Scratch::new();
    let name = fresh_name("quiet");
    let definitions = tree(&scratch, &[(&name, &[], "true\n")]);
    let shell = format!(
        "{} shell {name} --arch x86_64 --definitions {}",
        outcrop_tests::program().display(),
        definitions.display()
    );
    let mut command = as_user("script");
    command.args(["-qec", &shell, "/dev/null"]).env("TERM", "xterm");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Longer than a progress bar waits before it is drawn again.
    let typed = b"sleep 3; echo ninety-$((90 + 9)); exit\n";
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), typed).unwrap();
    let stdin = child.stdin.take();
    let said = child.wait_with_output().unwrap();
    drop(stdin);
    let seen = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && seen.contains("ninety-99"), "{seen}");
    assert!(!seen.contains("built") && !seen.contains("\x1b[2K"), "{seen}");
}
