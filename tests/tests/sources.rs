//! Fetching sources as a user does it: interrupted, offline, by several at once, from branches that
//! move. The servers are on this machine.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::Duration;

use outcrop_tests::definitions::fresh_name;
use outcrop_tests::git_server::GitServer;
use outcrop_tests::samples::Sampled;
use outcrop_tests::{Said, as_user, guests_can_run, outcrop, run, wait_until};
use serde_json::Value;

/// Samples, and definitions in `defs` with one stratum `all` of chunks with these sources.
fn project(chunks: &[(&str, &str)]) -> Sampled {
    let sampled = Sampled::new();
    define(&sampled, chunks);
    sampled
}

fn define(sampled: &Sampled, chunks: &[(&str, &str)]) {
    let chunk = |(name, source): &(&str, &str)| {
        format!("- {{name: {name}, build-system: manual, {source}}}\n")
    };
    let chunks: String = chunks.iter().map(chunk).collect();
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    sampled.scratch.file("defs/all.morph", format!("name: all\nkind: stratum\nchunks:\n{chunks}"));
}

fn on<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--definitions", "defs"]].concat()
}

fn fetch(sampled: &Sampled, options: &[&str]) -> Said {
    sampled.outcrop(&[&on(&["source", "fetch", "all"]), options].concat())
}

fn objects(said: &Said) -> Vec<Value> {
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Component and one member of each source.
fn members<'a>(objects: &'a [Value], member: &str) -> Vec<(&'a str, &'a str)> {
    let text = |object: &'a Value, member: &str| object[member].as_str().unwrap_or("none");
    objects.iter().map(|object| (text(object, "component"), text(object, member))).collect()
}

/// Adds a commit to the sample repository `src`, and gives its id.
fn commit(sampled: &Sampled, content: &str) -> String {
    sampled.shell(&format!(
        "cd src; echo {content} > news; git add news
         git -c user.name=Sample -c user.email=sample@localhost commit -q -m News"
    ));
    revision(sampled, "main")
}

fn revision(sampled: &Sampled, name: &str) -> String {
    let mut git = as_user("git");
    git.arg("-C").arg(sampled.scratch.join("src")).args(["rev-parse", name]);
    run(&mut git).ok().stdout.trim().to_owned()
}

/// A repository with more in it than a server says at once.
fn large_repository(sampled: &Sampled) {
    sampled.shell(
        "git init -q -b main large; cd large
         head -c 2000000 /dev/urandom > noise; git add .
         git -c user.name=Sample -c user.email=sample@localhost commit -q -m Large",
    );
}

fn names_in(sampled: &Sampled, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sampled.scratch.join(directory)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn start(sampled: &Sampled, arguments: &[&str]) -> Child {
    sampled.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_interrupted_clone_leaves_no_mirror_and_the_next_run_goes_on() {
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let sampled = Sampled::new();
        large_repository(&sampled);
        let server = GitServer::new(sampled.scratch.path());
        let place = sampled.scratch.path().display().to_string();
        define(
            &sampled,
            &[
                ("large", &format!("repo: '{}', ref: main", server.url("large"))),
                ("small", &format!("repo: {place}/src, ref: v1.0")),
            ],
        );
        server.fall_silent_after(500_000);
        let mut child = start(&sampled, &on(&["source", "fetch", "all"]));
        let has_small = || names_in(&sampled, ".store/mirrors").len() == 1;
        wait_until("half a clone", Duration::from_secs(60), || {
            server.is_silent() && sampled.scratch.join(".store/mirrors").exists() && has_small()
        });
        run(as_user("kill").args([signal, &child.id().to_string()])).ok();
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert!(has_small(), "{signal}: {:?}", names_in(&sampled, ".store/mirrors"));
        server.speak();
        let said = fetch(&sampled, &["--json"]).ok();
        let states = [("all/large", "fetched"), ("all/small", "present")];
        assert_eq!(members(&objects(&said), "state"), states, "{signal}");
        assert!(names_in(&sampled, ".store/tmp").is_empty(), "{signal}: drafts are left");
        sampled.shell("for m in .store/mirrors/*; do git -C $m fsck --full --strict; done");
        let connections = server.connections();
        let said = fetch(&sampled, &["--json"]).ok();
        let states = [("all/large", "present"), ("all/small", "present")];
        assert_eq!(members(&objects(&said), "state"), states);
        assert_eq!(server.connections(), connections, "what is there was asked for again");
    }
}

#[test]
fn an_interrupted_fetch_leaves_the_mirror_as_it_was_and_the_next_run_goes_on() {
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let sampled = Sampled::new();
        let server = GitServer::new(sampled.scratch.path());
        let define_at = |commit: &str| {
            define(&sampled, &[("src", &format!("repo: '{}', ref: {commit}", server.url("src")))]);
        };
        let first = revision(&sampled, "main");
        define_at(&first);
        fetch(&sampled, &[]).ok();
        sampled.shell("head -c 2000000 /dev/urandom > src/noise");
        sampled.shell("git -C src add noise");
        let second = commit(&sampled, "large");
        define_at(&second);
        server.fall_silent_after(500_000);
        let mut child = start(&sampled, &on(&["source", "fetch", "all"]));
        wait_until("half a fetch", Duration::from_secs(60), || server.is_silent());
        run(as_user("kill").args([signal, &child.id().to_string()])).ok();
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        sampled.shell("git -C .store/mirrors/* fsck --full --strict");
        define_at(&first);
        let said = fetch(&sampled, &["--json", "--offline"]).ok();
        assert_eq!(members(&objects(&said), "commit"), [("all/src", first.as_str())]);
        server.speak();
        define_at(&second);
        let said = fetch(&sampled, &["--json"]).ok();
        assert_eq!(members(&objects(&said), "state"), [("all/src", "fetched")]);
        assert_eq!(members(&objects(&said), "commit"), [("all/src", second.as_str())]);
        sampled.shell("git -C .store/mirrors/* fsck --full --strict");
        let mirror = &names_in(&sampled, ".store/mirrors")[0];
        for name in names_in(&sampled, &format!(".store/mirrors/{mirror}/objects/pack")) {
            assert!(name.ends_with(".pack") || name.ends_with(".idx"), "{signal}: {name} is left");
        }
    }
}

#[test]
fn processes_at_once_fetch_a_repository_once() {
    let sampled = Sampled::new();
    large_repository(&sampled);
    let server = GitServer::new(sampled.scratch.path());
    define(&sampled, &[("large", &format!("repo: '{}', ref: main", server.url("large")))]);
    server.fall_silent_after(500_000);
    let fetch = || start(&sampled, &on(&["source", "fetch", "all", "--json"]));
    let mut children = vec![fetch()];
    wait_until("half a clone", Duration::from_secs(60), || server.is_silent());
    children.extend([fetch(), fetch()]);
    server.speak();
    for child in children {
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let object: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(object["commit"].as_str().map(str::len), Some(40), "{object}");
    }
    assert_eq!(server.connections(), 1);
    sampled.shell("for m in .store/mirrors/*; do git -C $m fsck --full --strict; done");
}

fn all_print_the_same(children: Vec<Child>) {
    let mut printed: Vec<Vec<u8>> = Vec::new();
    for child in children {
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        printed.push(said.stdout);
    }
    printed.dedup();
    assert_eq!(printed.len(), 1);
}

#[test]
fn processes_at_once_import_an_archive_once() {
    let sampled = Sampled::new();
    let import = ["source", "import", "app.tar.xz"];
    let children: Vec<Child> = (0..4).map(|_| start(&sampled, &import)).collect();
    all_print_the_same(children);
    assert_eq!(names_in(&sampled, ".store/mirrors").len(), 1);
    sampled.shell("for m in .store/mirrors/*; do git -C $m fsck --full --strict; done");
}

#[test]
fn offline_nothing_is_asked_of_a_server_and_everything_missing_is_told() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    let zeros = "0".repeat(64);
    let sampled = Sampled::new();
    let place = sampled.scratch.path().display().to_string();
    define(
        &sampled,
        &[
            ("git", &format!("repo: 'git://{address}/x', ref: main, unpetrify-ref: main")),
            ("archive", &format!("repo: 'http://{address}/x.tar', sha256: '{zeros}'")),
            ("package", "repo: 'debian:hello', ref: 2.10-3"),
            ("local", &format!("repo: 'file://{place}/src', ref: v1.0")),
        ],
    );
    sampled.outcrop(&["store", "list"]).ok();
    sampled.kit("x86_64-one", "package", "kernel");
    sampled.shell("ln -s x86_64-one .store/kits/x86_64");
    let told = |said: Said| {
        for missing in ["    all/git: ", "    all/archive: http://", "    all/package: debian:"] {
            let line = said.stderr.lines().find(|line| line.contains(missing));
            let why = "is not in the store, and nothing is fetched offline";
            assert!(line.is_some_and(|line| line.ends_with(why)), "{missing}\n{}", said.stderr);
        }
        assert!(!said.stderr.contains("all/local: file"), "{}", said.stderr);
        said.says("3 sources cannot be had").says("outcrop source fetch all --definitions defs")
    };
    let run = |command| {
        told(sampled.outcrop(&on(&[command, "all", "--arch", "x86_64", "--offline"])).fails(3))
    };
    for command in ["key", "build"] {
        run(command);
    }
    // What can be said without them is.
    let states = ["to build  all/local", "no source all/archive", "no source all/git"];
    let said = run("status");
    for state in states {
        assert!(said.stdout.lines().any(|line| line == state), "{state}: {}", said.stdout);
    }
    assert!(run("why").stdout.contains("all/local"));
    let said = told(fetch(&sampled, &["--offline", "--track-branches", "--json"]).fails(3));
    let said = said.says("--definitions defs --track-branches\n");
    assert_eq!(objects(&said).iter().filter(|object| object["state"] == "failed").count(), 3);
    // With everything else there.
    let local = on(&["key", "local", "--arch", "x86_64", "--offline"]);
    assert!(sampled.outcrop(&local).ok().stdout.starts_with("local."));
    sampled.scratch.file("defs/outcrop.toml", "offline = true\n");
    told(fetch(&sampled, &[]).fails(3)).says("--definitions defs --offline=false");
    let repo = format!("git://{address}/x");
    let import = on(&["source", "import", &repo, "--ref", "main"]);
    sampled.outcrop(&import).fails(3).says("nothing is fetched offline");
    let refused = server.accept().map(|(_, peer)| peer);
    assert!(refused.is_err(), "{refused:?} connected");
    // The same server is asked once it may be.
    let mut child = start(&sampled, &on(&["source", "fetch", "git", "--offline=false"]));
    wait_until("a connection", Duration::from_secs(60), || server.accept().is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_tracked_branch_is_resolved_anew_and_its_key_changes() {
    let sampled = Sampled::new();
    let (server, pinned) = (GitServer::new(sampled.scratch.path()), revision(&sampled, "v1.0"));
    let repo = format!("repo: '{}', ref: {pinned}", server.url("src"));
    define(
        &sampled,
        &[("moves", &format!("{repo}, unpetrify-ref: main")), ("stays", &repo), ("other", &repo)],
    );
    sampled.outcrop(&["store", "list"]).ok();
    sampled.kit("x86_64-one", "package", "kernel");
    sampled.shell("ln -s x86_64-one .store/kits/x86_64");
    let newest = commit(&sampled, "one");
    let commits = |options: &[&str]| {
        let said = fetch(&sampled, &[options, &["--json"]].concat()).ok();
        let objects = objects(&said);
        let of = |component: &str| {
            let found = objects.iter().find(|object| object["component"] == component).unwrap();
            found["commit"].as_str().unwrap().to_owned()
        };
        ([of("all/moves"), of("all/stays")], said)
    };
    let key = |options: &[&str]| {
        let key = on(&["key", "moves", "--arch", "x86_64", "--explain"]);
        sampled.outcrop(&[&key, options].concat()).ok().stdout
    };
    assert_eq!(commits(&[]).0, [pinned.clone(), pinned.clone()]);
    let fixed = key(&[]);
    let (found, said) = commits(&["--track-branches"]);
    assert_eq!(found, [newest.clone(), pinned.clone()]);
    said.says(&format!("all/moves: branch main is at {newest}"))
        .says(&format!("all/stays: there is no branch to track; {pinned} is taken"));
    let first = key(&["--track-branches=moves"]);
    assert_ne!(first.lines().next(), fixed.lines().next());
    let from =
        |text: &str| -> Value { serde_json::from_str(text.lines().last().unwrap()).unwrap() };
    assert_eq!(from(&first)["from"]["branch"], "main");
    assert_eq!(from(&first)["from"]["commit"].as_str(), Some(newest.as_str()));
    assert_eq!(from(&fixed)["from"]["ref"].as_str(), Some(pinned.as_str()));
    // The branch moves: what is tracked does, what is pinned does not.
    let moved = commit(&sampled, "two");
    sampled.scratch.file("defs/outcrop.toml", "track-branches = [\"all/moves\"]\n");
    let offline = key(&["--offline"]);
    assert_eq!(offline, first, "the mirror counts where nothing is asked");
    let second = key(&[]);
    assert_eq!(from(&second)["from"]["commit"].as_str(), Some(moved.as_str()));
    assert_ne!(first.lines().next(), second.lines().next());
    assert_eq!(commits(&[]).0, [moved, pinned]);
    sampled.scratch.file("defs/outcrop.toml", "track-branches = false\n");
    assert_eq!(key(&[]), fixed);
}

#[test]
fn branches_that_cannot_be_tracked_are_told() {
    let sampled = project(&[]);
    let place = sampled.scratch.path().display().to_string();
    let pinned = revision(&sampled, "v1.0");
    let repo = format!("repo: {place}/src, ref: {pinned}");
    define(
        &sampled,
        &[
            ("gone", &format!("{repo}, unpetrify-ref: passing")),
            ("bad", &format!("{repo}, unpetrify-ref: 'main~1'")),
            ("empty", "prefix: /usr"),
        ],
    );
    sampled.shell("cd src; git branch passing");
    fetch(&sampled, &["--track-branches=gone"]).ok();
    // The mirror keeps a branch that its repository has no longer; tracking is not deceived by that.
    sampled.shell("cd src; git branch -D passing");
    let said = fetch(&sampled, &["--track-branches"]).fails(2);
    said.says("has no branch passing").says("\"main~1\" cannot be the name of a branch");
    fetch(&sampled, &["--track-branches=nothing"]).fails(2).says("no component `nothing`");
    fetch(&sampled, &["--track-branches=empty"]).fails(2).says("all/empty: it has no source");
    fetch(&sampled, &["--track-branches=all"]).fails(2).says("all: it is not a chunk");
    sampled.scratch.file("defs/outcrop.toml", "guests = 1\ntrack-branches = 3\n");
    fetch(&sampled, &[]).fails(2).says("outcrop.toml:2:18: ").says("a list of chunks is needed");
}

#[test]
fn sha_is_built_instead_of_ref() {
    let sampled = Sampled::new();
    let place = sampled.scratch.path().display().to_string();
    let first = revision(&sampled, "v1.0");
    let second = commit(&sampled, "one");
    let sha = second.to_uppercase();
    define(&sampled, &[("pinned", &format!("repo: {place}/src, ref: {first}, sha: {sha}"))]);
    let said = fetch(&sampled, &["--json"]).ok();
    assert_eq!(members(&objects(&said), "commit"), [("all/pinned", second.as_str())]);
    let tree = revision(&sampled, "main^{tree}");
    assert_eq!(members(&objects(&said), "tree"), [("all/pinned", tree.as_str())]);
    define(&sampled, &[("pinned", &format!("repo: {place}/src, ref: {first}, sha: abc"))]);
    fetch(&sampled, &[]).fails(2).says("`sha` must have 40 hexadecimal digits");
}

#[test]
fn a_tracked_branch_is_what_is_built_and_recorded() {
    if !guests_can_run() {
        return;
    }
    let sampled = Sampled::new();
    let (name, place) = (fresh_name("tracked"), sampled.scratch.path().display().to_string());
    let pinned = revision(&sampled, "v1.0");
    let newest = commit(&sampled, &name);
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    let chunk = "kind: chunk\nbuild-system: manual\ninstall-commands:\n\
                 - install -D -m 0644 news \"$DESTDIR/news\"\n";
    sampled.scratch.file("defs/chunk.morph", format!("name: {name}\n{chunk}"));
    let stratum = format!(
        "name: all\nkind: stratum\nchunks:\n- name: {name}\n  morph: chunk.morph\n  \
         repo: {place}/src\n  ref: {pinned}\n  unpetrify-ref: main\n"
    );
    sampled.scratch.file("defs/all.morph", stratum);
    let on = |command: &str| {
        let mut outcrop = outcrop();
        let definitions = sampled.scratch.join("defs");
        outcrop.args([command, &name, "--arch", "x86_64", "--track-branches", "--definitions"]);
        outcrop.arg(definitions);
        outcrop
    };
    let key = run(&mut on("build")).ok().stdout;
    // The pinned commit has no such file.
    assert_eq!(run(on("cat").arg("/news")).ok().stdout, format!("{name}\n"));
    let listed = run(outcrop().args(["store", "list", "--json"])).ok().stdout;
    let objects = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let described = objects.into_iter().find(|object| object["key"] == key.trim()).unwrap();
    assert_eq!(described["source"]["commit"], newest.as_str(), "{described}");
    assert_eq!(described["source"]["branch"], "main");
}

#[test]
fn an_alias_leads_to_a_series_of_archives() {
    let sampled = Sampled::new();
    sampled.shell(
        "for v in 1.9 1.10; do mkdir app-$v; echo $v > app-$v/version; tar cf app-$v.tar app-$v; done",
    );
    let import = |archives: &[&str]| {
        sampled.outcrop(&[&["source", "import", "--series", "app-tarball"], archives].concat())
    };
    let said = import(&["app-1.10.tar", "app-1.9.tar"]).ok();
    let fields: Vec<&str> = said.stdout.lines().collect();
    let commit = fields[1].strip_prefix("ref: ").unwrap();
    let newest = fields[5].strip_prefix("ref: ").unwrap();
    assert_eq!(fields[2], "unpetrify-ref: app-1.9");
    assert_eq!((fields[4], fields[6]), ("repo: series:app-tarball", "unpetrify-ref: app-1.10"));
    let repo = "repo: 'upstream:app-tarball'";
    define(
        &sampled,
        &[
            ("by-tag", &format!("{repo}, ref: app-1.9")),
            ("by-commit", &format!("{repo}, ref: {newest}")),
        ],
    );
    let alias = "[aliases]\n\"upstream:app-tarball\" = \"series:app-tarball\"\n";
    sampled.scratch.file("defs/outcrop.toml", alias);
    // Nobody could fetch it again.
    sampled.outcrop(&["store", "gc", "--size", "0"]).ok();
    let said = fetch(&sampled, &["--json", "--offline"]).ok();
    let found = [("all/by-commit", newest), ("all/by-tag", commit)];
    assert_eq!(members(&objects(&said), "commit"), found);
    // What is refused says why and leaves the series alone.
    sampled.shell("cp app-1.9.tar app-1.8.tar; cp app-1.9.tar app-1.10.tar; head -c 700 app-1.9.tar > app-2.tar");
    import(&["app-1.8.tar"]).fails(2).says("only later releases can be added");
    import(&["app-1.10.tar"]).fails(2).says("another archive as app-1.10");
    import(&["app-2.tar"]).fails(2).says("app-2.tar: the archive cannot be used");
    import(&["work"]).fails(2).says("there is no archive in work");
    import(&["src/main.c"]).fails(2).says("is not an archive on this machine");
    sampled
        .outcrop(&["source", "import", "app-1.9.tar", "app-1.8.tar"])
        .fails(2)
        .says("--series NAME");
    let said = fetch(&sampled, &["--json"]).ok();
    assert_eq!(members(&objects(&said), "commit"), found);
    sampled.scratch.file("defs/outcrop.toml", alias.replace("series:app", "series:other"));
    fetch(&sampled, &[]).fails(3).says("outcrop source import --series other-tarball ARCHIVE");
}

#[test]
fn processes_at_once_add_to_a_series() {
    let sampled = Sampled::new();
    sampled.shell("mkdir app; echo 1 > app/f; for v in 1 2 3; do tar cf app-$v.tar app; done");
    let import = ["source", "import", "--series", "app", "app-1.tar", "app-2.tar", "app-3.tar"];
    let children: Vec<Child> = (0..3).map(|_| start(&sampled, &import)).collect();
    all_print_the_same(children);
    sampled.shell("git -C .store/mirrors/series_app fsck --full --strict");
}

#[test]
fn submodules_are_imported_with_a_repository() {
    let sampled = project(&[]);
    sampled.shell(
        "git init -q -b main outer; cd outer
         git -c protocol.file.allow=always submodule add -q ../src lib
         git -c user.name=Sample -c user.email=sample@localhost commit -q -m Outer",
    );
    let repo = sampled.scratch.join("outer").display().to_string();
    sampled.outcrop(&["source", "import", &repo, "--ref", "main"]).ok();
    let source = format!("repo: '{repo}', ref: main");
    define(&sampled, &[("outer", &source)]);
    sampled.shell("mv src gone");
    fetch(&sampled, &["--offline"]).ok();
    // One that cannot be had keeps nobody from the rest.
    sampled.shell(
        "cd outer; git mv lib other; git config -f .gitmodules submodule.lib.url /nowhere; git add .
         git -c user.name=Sample -c user.email=sample@localhost commit -q -m Broken",
    );
    let mut git = as_user("git");
    git.arg("-C").arg(&repo).args(["rev-parse", "HEAD"]);
    let broken = run(&mut git).ok().stdout.trim().to_owned();
    let said = sampled.outcrop(&["source", "import", &repo, "--ref", &broken]).ok();
    said.says("not all submodules were imported: ");
}
