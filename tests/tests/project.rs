//! What commands say of definitions and sources without building: graph, why, status, key, log,
//! source. None of these tests needs a guest, a kit or a network.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use outcrop_tests::as_user;
use outcrop_tests::samples::Sampled;

const SYSTEM: &str = "name: sys\nkind: system\narch: x86_64\nstrata:\n- morph: strata/top.morph\n";
const TOP: &str = "name: top\nkind: stratum\nbuild-depends:\n- morph: strata/base.morph\nchunks:\n\
                   - {name: app, build-system: manual}\n\
                   - {name: tool, build-system: manual, build-depends: [app]}\n";
const BASE: &str = "name: base\nkind: stratum\nchunks:\n- {name: libc, build-system: manual}\n";

/// Samples with a small definitions tree in `defs`.
fn project(files: &[(&str, &str)]) -> Sampled {
    let sampled = Sampled::new();
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    for (path, text) in files {
        sampled.scratch.file(&format!("defs/{path}"), text);
    }
    sampled
}

fn small() -> Sampled {
    project(&[("sys.morph", SYSTEM), ("strata/top.morph", TOP), ("strata/base.morph", BASE)])
}

/// Arguments with the definitions of [`project`].
fn on<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--definitions", "defs"]].concat()
}

#[test]
fn the_graph_for_people_for_programs_and_for_graphviz() {
    let sampled = small();
    let said = sampled.outcrop(&on(&["graph", "sys", "--list"])).ok();
    let expected = "strata/base/libc\nstrata/base: strata/base/libc\n\
                    strata/top/app: strata/base\nstrata/top/tool: strata/base strata/top/app\n\
                    strata/top: strata/base strata/top/app strata/top/tool\nsys: strata/top\n";
    assert_eq!(said.stdout, expected);
    let expected = "sys\n└── strata/top\n    ├── strata/base\n    │   └── strata/base/libc\n    \
                    ├── strata/top/app\n    │   └── strata/base (*)\n    \
                    └── strata/top/tool\n        ├── strata/base (*)\n        \
                    └── strata/top/app (*)\n";
    assert_eq!(sampled.outcrop(&on(&["graph", "sys"])).ok().stdout, expected);
    let said = sampled.outcrop(&on(&["graph", "strata/base", "--json"])).ok();
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["component"], "strata/base");
    assert_eq!(lines[1]["kind"], "stratum");
    assert_eq!(lines[1]["needs"], serde_json::json!(["strata/base/libc"]));
    let dot = sampled.outcrop(&on(&["graph", "strata/base", "--dot"])).ok().stdout;
    assert!(dot.starts_with("digraph {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("    \"strata/base\" -> \"strata/base/libc\";\n"), "{dot}");
    sampled.outcrop(&on(&["graph", "sys", "--dot", "--json"])).fails(2);
    let said = sampled.outcrop(&on(&["ls", "strata/base"])).fails(2);
    said.says("strata/base is a stratum, which has no artifact of its own");
}

#[test]
fn the_tree_of_a_long_chain_ends_early() {
    let mut stratum = String::from("name: chain\nkind: stratum\nchunks:\n");
    for number in 0..3000_usize {
        let before = number.checked_sub(1).map(|before| format!("c{before}")).unwrap_or_default();
        stratum +=
            &format!("- {{name: c{number}, build-system: manual, build-depends: [{before}]}}\n");
    }
    let sampled = project(&[("chain.morph", &stratum)]);
    let tree = sampled.outcrop(&on(&["graph", "chain/c2999"])).ok().stdout;
    assert!(tree.ends_with("… (--list shows what is deeper)\n") && tree.len() < 4_000_000);
    let list = sampled.outcrop(&on(&["graph", "chain/c2999", "--list"])).ok().stdout;
    assert_eq!(list.lines().count(), 3000);
    let way = sampled.outcrop(&on(&["why", "chain/c2999", "chain/c0"])).ok().stdout;
    assert_eq!(way.lines().count(), 2999);
    assert!(way.starts_with("chain.morph:3003:"), "{}", &way[..80]);
}

#[test]
fn why_shows_the_way_and_where_each_step_is_said() {
    let sampled = small();
    let said = sampled.outcrop(&on(&["why", "sys", "libc"])).ok();
    assert_eq!(
        said.stdout,
        "sys.morph:5:10: sys needs strata/top\n\
         strata/top.morph:4:10: strata/top needs strata/base\n\
         strata/base.morph:4:3: strata/base needs strata/base/libc\n"
    );
    let said = sampled.outcrop(&on(&["why", "tool", "app", "--json"])).ok();
    let step: serde_json::Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert_eq!((&step["line"], &step["column"]), (&7.into(), &54.into()), "{step}");
    let said = sampled.outcrop(&on(&["why", "libc", "tool"])).fails(1);
    assert!(said.says("strata/base/libc does not need strata/top/tool").stdout.is_empty());
    sampled.outcrop(&on(&["why", "sys", "libd"])).fails(2).says("did you mean `libc`?");
}

#[test]
fn check_tells_everything_for_people_and_for_programs() {
    let sampled = small();
    let said = sampled.outcrop(&["check", "defs"]).ok();
    assert!(said.stdout.is_empty(), "{}", said.stdout);
    said.says("6 components; no errors, no warnings");
    sampled.scratch.file("defs/spare.morph", "kind: chunk\n");
    sampled.scratch.file("defs/bad.morph", "name: bad\nkind: system\nstrata: []\n");
    let unnamed = "spare.morph: warning: the file has no `name`; it is called `spare`\n";
    let said = sampled.outcrop(&on(&["check", "--unused"])).fails(2);
    assert_eq!(said.stdout, format!("bad.morph: error: a system needs `arch`\n{unnamed}"));
    said.says("outcrop: 8 components; 1 error, 1 warning");
    let said = sampled.outcrop(&on(&["check", "--json"])).fails(2);
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["severity"], "error");
    assert_eq!(lines[1]["file"], "spare.morph");
    assert_eq!(lines[1]["line"], serde_json::Value::Null);
    sampled.shell("rm defs/bad.morph");
    let odd = "name: odd\nkind: stratum\nchunks:\n\
               - {name: x, build-system: manual, repo: 'nowhere:x', ref: a}\n";
    sampled.scratch.file("defs/odd.morph", odd);
    let said = sampled.outcrop(&on(&["check"])).fails(2);
    let place = "odd.morph:4:41: error: \"nowhere:x\" is no source: ";
    assert!(said.stdout.starts_with(place), "{}", said.stdout);
    // URLs of submodules count as well, and what is said of an entry once is enough.
    let odd = "name: odd\nkind: stratum\nchunks:\n\
               - {name: x, build-system: manual, repo: /r, ref: a, submodules: {lib: {url: u, submodules: \
               {deep: {url: 'nope:x'}}}}}\n- {name: y, build-system: manual, repo: 'debian:foo'}\n";
    let odd = odd.replace("url: u", "url: /u");
    sampled.scratch.file("defs/odd.morph", &odd);
    let said = sampled.outcrop(&on(&["check"])).fails(2);
    let column = 1 + odd.lines().nth(3).and_then(|line| line.find("'nope:x'")).unwrap();
    let place =
        format!("odd.morph:4:{column}: error: the submodule `deep`: \"nope:x\" is no source: ");
    assert!(said.stdout.contains(&place), "{}", said.stdout);
    assert_eq!(said.stdout.lines().count(), 3, "{}", said.stdout);
    let odd = "name: odd\nkind: stratum\nchunks:\n- {name: y, build-system: manual, repo: 'debian:foo'}\n";
    sampled.scratch.file("defs/odd.morph", odd);
    let said = sampled.outcrop(&on(&["check"])).fails(2);
    let needs = "odd.morph:4:41: error: `debian:foo` needs a `ref` (name the package's version)\n";
    assert!(said.stdout.contains(needs), "{}", said.stdout);
    sampled.shell("rm defs/odd.morph");
    let said = sampled.outcrop(&on(&["check", "--unused"])).ok();
    assert_eq!(said.stdout, format!("{unnamed}spare.morph: warning: no stratum has this chunk\n"));
    sampled.outcrop(&on(&["check", "--strict"])).fails(2).says("1 error, no warnings");
    sampled.outcrop(&["check", "nowhere"]).fails(2).says("nowhere does not exist");
    sampled.outcrop(&on(&["check", "defs"])).fails(2).says("cannot be used with");
}

#[test]
fn check_tells_of_every_source_and_of_each_mistake_once() {
    let sampled = small();
    let said_of = |text: &str| {
        sampled.scratch.file("defs/odd.morph", text);
        let said = sampled.outcrop(&on(&["check"])).fails(2).stdout;
        let errors = said.lines().filter(|line| line.starts_with("odd.morph"));
        errors.map(str::to_owned).collect::<Vec<_>>()
    };
    // Neither another mistake in the line nor a bad repository hides any.
    let odd = "name: odd\nkind: stratum\nchunks:\n\
               - {name: x, build-system: nope, repo: 'a b', ref: a, submodules: {d: {url: u}, e: {url: v}}}\n";
    let told = said_of(odd);
    let parts = ["there is no build system", "\"a b\" is no source", "`d`: \"u\"", "`e`: \"v\""];
    assert_eq!(told.len(), parts.len(), "{told:#?}");
    for part in parts {
        assert_eq!(told.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {told:#?}");
    }
    // What every reader of the file finds is not told once more by who tries the source.
    let cases =
        [("/x.tar", "sha256: 12"), ("/x.tar", "patches: false"), ("/x", "sha: 12\n  ref: a")];
    for (repo, fields) in cases {
        let odd = format!(
            "name: odd\nkind: stratum\nchunks:\n- name: x\n  build-system: manual\n  repo: {repo}\n  \
             {fields}\n"
        );
        let told = said_of(&odd);
        assert_eq!(told.len(), 1, "{told:#?}");
    }
    let secret = odd.replace("'a b', ref: a, ", "'https://me:secret@h/x', ");
    sampled.scratch.file("defs/odd.morph", secret);
    for arguments in [&["check"][..], &["graph", "sys"]] {
        let said = sampled.outcrop(&on(arguments)).fails(2);
        let both = said.stdout + &said.stderr;
        assert!(both.contains("`https://h/x` needs a `ref`"), "{both}");
        assert!(!both.contains("secret"), "{both}");
    }
}

#[test]
fn settings_of_a_tree_that_are_no_plain_file_are_refused() {
    let sampled = small();
    let check = |make: &str| {
        sampled.shell(&format!("rm -f defs/outcrop.toml; {make}"));
        sampled.outcrop(&["check", "defs"])
    };
    check("mkfifo defs/outcrop.toml").fails(2).says("is not a regular file");
    check("ln -s /dev/zero defs/outcrop.toml").fails(2).says("leaves the definitions directory");
    check("ln -s ../elsewhere defs/outcrop.toml; echo 'guests = 1' > elsewhere")
        .fails(2)
        .says("leaves the definitions directory");
    check("head -c 1048577 /dev/zero > defs/outcrop.toml").fails(2).says("larger than 1 MiB");
    check("echo 'guests = 1' > defs/own; ln -s own defs/outcrop.toml").ok();
}

#[test]
fn definitions_that_ybd_took_are_read_when_asked_for() {
    let top = format!("{TOP}- {{name: tool, build-system: manual, prefix: /opt}}\n");
    let sampled =
        project(&[("sys.morph", SYSTEM), ("strata/top.morph", &top), ("strata/base.morph", BASE)]);
    let message = "a second chunk `tool` in this stratum";
    sampled.outcrop(&on(&["graph", "sys"])).fails(2).says(message);
    let said = sampled.outcrop(&on(&["graph", "sys", "--compat", "--list"])).ok();
    assert_eq!(said.stdout.lines().count(), 6);
    said.says(&format!("warning: {message}; they are one"));
    sampled.scratch.file("defs/outcrop.toml", "compat = true\n");
    sampled.outcrop(&on(&["graph", "sys"])).ok();
    sampled.outcrop(&["check", "defs"]).ok().says("no errors, 2 warnings");
    // A chunk of an unknown build system has its place in the graph, and no build.
    sampled.scratch.file("defs/odd.morph", "name: odd\nkind: chunk\nbuild-system: magic\n");
    sampled.outcrop(&on(&["graph", "odd"])).ok().says("the chunk cannot be built");
}

#[test]
fn a_cycle_of_strata_is_shown_with_the_place_of_each_step() {
    let base = format!("{BASE}build-depends:\n- morph: strata/top.morph\n");
    let sampled =
        project(&[("sys.morph", SYSTEM), ("strata/top.morph", TOP), ("strata/base.morph", &base)]);
    let said = sampled.outcrop(&on(&["graph", "sys"])).fails(2);
    assert_eq!(
        said.stderr,
        "outcrop: dependency cycle: strata/base → strata/top → strata/base\n    \
         strata/base.morph:6:10: `strata/base` needs `strata/top`\n    \
         strata/top.morph:4:10: `strata/top` needs `strata/base`\n"
    );
}

#[test]
fn a_cycle_within_a_stratum_is_no_matter_of_order() {
    let top = "name: top\nkind: stratum\nchunks:\n\
               - {name: a, build-system: manual, build-depends: [b]}\n\
               - {name: b, build-system: manual, build-depends: [a]}\n";
    let sampled = project(&[("top.morph", top)]);
    let said = sampled.outcrop(&on(&["graph", "top"])).fails(2);
    assert!(!said.stderr.contains("before"), "{}", said.stderr);
    let steps = "top.morph:4:51: error: dependency cycle: a → b → a\n    \
                 top.morph:4:51: `a` needs `b`\n    top.morph:5:51: `b` needs `a`\n";
    said.says(steps);
}

#[test]
fn commands_that_need_keys_say_that_there_is_no_kit_and_others_need_none() {
    let sampled = small();
    let commands =
        [["key", "sys"], ["status", "sys"], ["why", "sys"], ["ls", "sys"], ["build", "sys"]];
    for arguments in commands {
        let said = sampled.outcrop(&on(&arguments)).fails(3);
        said.says("there is no kit for x86_64").says("outcrop kit create --arch x86_64");
    }
    sampled.outcrop(&on(&["source", "fetch", "sys"])).ok();
    let said = sampled.outcrop(&on(&["log", "libc"])).fails(2);
    assert!(!said.stderr.contains("kit"), "{}", said.stderr);
    said.says("no log of strata/base/libc");
}

/// A stratum with a chunk from the repository of the samples and one that needs it.
fn with_source() -> Sampled {
    let sampled = Sampled::new();
    let repo = sampled.scratch.join("src").display().to_string();
    let stratum = format!(
        "name: all\nkind: stratum\nchunks:\n\
         - {{name: app, build-system: manual, repo: {repo}, ref: v1.0}}\n\
         - {{name: tool, build-system: manual, build-depends: [app]}}\n"
    );
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    sampled.scratch.file("defs/DEFAULTS", "build-systems: {manual: {}}\n");
    sampled.scratch.file("defs/all.morph", stratum);
    sampled
}

#[test]
fn keys_of_ybd_need_no_kit_and_are_digests_of_what_is_explained() {
    let sampled = with_source();
    let arguments = ["key", "all", "--all", "--arch", "x86_64", "--explain", "--format"];
    let said = sampled.outcrop(&on(&[&arguments[..], &["ybd-8"]].concat())).ok();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", said.stdout);
    for (record, name) in lines.chunks(2).zip(["app", "tool", "all"]) {
        let digest = record[0].strip_prefix(&format!("{name}.")).unwrap();
        let sum = format!("test \"$(printf %s '{}' | sha256sum)\" = '{digest}  -'", record[1]);
        sampled.shell(&sum);
    }
    sampled.shell("git -C src rev-parse 'v1.0^{tree}' > tree");
    let tree = std::fs::read_to_string(sampled.scratch.join("tree")).unwrap();
    assert!(lines[1].contains(&format!("\"tree\": \"{}\"", tree.trim())), "{}", lines[1]);
    let said = sampled.outcrop(&on(&[&arguments[..], &["ybd-0"]].concat())).ok();
    assert!(!said.stdout.contains("artifact-version"), "{}", said.stdout);
    for format in ["ybd-9", "ybd-08", "ybd", "outcrop-key-0"] {
        let said = sampled.outcrop(&on(&["key", "all", "--format", format])).fails(2);
        said.says("known are outcrop-key-1 and ybd-0 to ybd-8");
    }
    sampled.shell("rm defs/DEFAULTS");
    let said = sampled.outcrop(&on(&["key", "all", "--format", "ybd-8"])).ok();
    assert!(said.stderr.contains("no build systems of their own"), "{}", said.stderr);
}

/// Of Outcrop's own keys, too, where there is a kit for them.
#[test]
fn keys_depend_on_no_path_no_user_no_locale_and_no_umask() {
    let sampled = with_source();
    sampled.shell("umask 027; mkdir -p elsewhere/deep; cp -r defs elsewhere/deep/other");
    sampled.shell("cd elsewhere/deep/other; git init --quiet; touch -d 2001-01-01 *; chmod 0444 *");
    let kit = outcrop_tests::shared_store().join("kits/x86_64").exists();
    for format in ["ybd-8", "outcrop-key-1"].iter().take(if kit { 2 } else { 1 }) {
        let keys = |script: &str, definitions: &str| {
            let program = outcrop_tests::program().display().to_string();
            let mut command = as_user("sh");
            command
                .args([
                    "-c",
                    &format!("{script}; exec {program} \"$@\""),
                    "sh",
                    "key",
                    "all",
                    "--all",
                ])
                .args(["--arch", "x86_64", "--format", format, "--definitions", definitions])
                .current_dir(sampled.scratch.path());
            if *format == "ybd-8" {
                command.env("OUTCROP_HOME", sampled.scratch.join(".store"));
            }
            outcrop_tests::run(&mut command).ok().stdout
        };
        let usual = keys("umask 022", "defs");
        assert_eq!(usual.lines().count(), 3, "{usual}");
        let other = "elsewhere/deep/other";
        for (script, definitions) in [
            ("umask 077", "defs"),
            ("umask 000; cd elsewhere", "deep/other"),
            ("export LC_ALL=tr_TR.UTF-8 LANG=de_DE TZ=Asia/Tokyo", other),
            ("export USER=somebody LOGNAME=somebody HOME=/nowhere HOSTNAME=elsewhere", other),
        ] {
            assert_eq!(keys(script, definitions), usual, "{script}");
        }
    }
}

#[test]
fn the_newest_log_of_a_component_is_printed_whatever_else_has_its_name() {
    let sampled = small();
    sampled.outcrop(&["store", "list"]).ok();
    let log = |digit: &str, component: &str, text: &str, day: u32| {
        let key = format!("libc.{}", digit.repeat(64));
        let place = format!(".store/logs/{key}.log");
        sampled.scratch.file(&place, format!("# {component}, key {key}\n{text}\n"));
        sampled.shell(&format!("touch -d 2024-01-0{day} {place}"));
    };
    log("a", "strata/base/libc", "old", 1);
    log("b", "strata/base/libc", "new", 2);
    log("c", "strata/other/libc", "another", 3);
    let said = sampled.outcrop(&on(&["log", "libc"])).ok();
    assert!(said.stdout.ends_with("\nnew\n"), "{}", said.stdout);
    let said = sampled.outcrop(&["log", "libc.aaaaaaaa", "--path"]).ok();
    assert!(said.stdout.contains("/logs/libc.aaa"), "{}", said.stdout);
}

#[test]
fn all_sources_that_cannot_be_had_are_told_and_the_others_are_fetched() {
    let sampled = Sampled::new();
    let place = sampled.scratch.path().display().to_string();
    let zeros = "0".repeat(64);
    let chunk =
        |name: &str, source: &str| format!("- {{name: {name}, build-system: manual, {source}}}\n");
    let stratum = [
        "name: all\nkind: stratum\nchunks:\n".to_owned(),
        chunk("checksum", &format!("repo: 'tar:../app.tar.xz', sha256: '{zeros}'")),
        chunk("good", &format!("repo: {place}/src, ref: v1.0")),
        chunk("revision", &format!("repo: {place}/src, ref: v9.9")),
        chunk("server", "repo: 'git://127.0.0.1:1/x', ref: v1.0"),
        chunk("absent", &format!("repo: 'tar:nothing.tar', sha256: '{zeros}'")),
    ];
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    sampled.scratch.file("defs/all.morph", stratum.concat());
    let said = sampled.outcrop(&on(&["source", "fetch", "all"])).fails(2);
    let said = said.says("4 sources cannot be had");
    for (component, why) in [
        ("    all/checksum: ", "the SHA-256 is"),
        ("    all/revision: ", "has no revision v9.9"),
        ("    all/server: ", "127.0.0.1"),
        ("    all/absent: ", "nothing.tar"),
    ] {
        let line = said.stderr.lines().find(|line| line.contains(component));
        assert!(line.is_some_and(|line| line.contains(why)), "{component}\n{}", said.stderr);
    }
    assert!(!said.stderr.contains("all/good: cannot"), "{}", said.stderr);
    let mirrors = sampled.outcrop(&["source", "list"]).ok().stdout;
    assert!(mirrors.contains("/src"), "{mirrors}");
    // Nothing is wrong with the definition of this one, nor with the host.
    let said = sampled.outcrop(&on(&["source", "fetch", "server"])).fails(1);
    assert!(said.stderr.contains("all/server: "), "{}", said.stderr);
}

#[test]
fn an_import_prints_what_a_definition_needs() {
    let sampled = Sampled::new();
    let said = sampled.outcrop(&["source", "import", "app.tar.xz"]).ok();
    let fields: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(fields[0], "repo: tar:SCRATCH/app.tar.xz");
    let digest = fields[1].strip_prefix("sha256: ").unwrap();
    sampled.shell(&format!("echo '{digest}  app.tar.xz' | sha256sum --check --quiet"));
    let said = sampled.outcrop(&["source", "import", "app.tar.xz", "--sha256", &"0".repeat(64)]);
    said.fails(2).says("the SHA-256 is");
    let repo = sampled.scratch.join("src").display().to_string();
    let said = sampled.outcrop(&["source", "import", &repo, "--ref", "v1.0"]).ok();
    let fields: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(fields[2], "unpetrify-ref: v1.0");
    let commit = fields[1].strip_prefix("ref: ").unwrap();
    sampled.shell(&format!("cd src; test \"$(git rev-parse v1.0)\" = {commit}"));
    // The definition that the lines make is fetched from the store alone.
    let place = sampled.scratch.path().display().to_string();
    let lines = said.stdout.replace("SCRATCH", &place).replace('\n', "\n  ");
    let stratum = format!(
        "name: all\nkind: stratum\nchunks:\n- name: src\n  build-system: manual\n  {lines}\n"
    );
    sampled.scratch.file("defs/VERSION", "version: 8\n");
    sampled.scratch.file("defs/all.morph", stratum);
    sampled.shell("mv src gone");
    sampled.outcrop(&on(&["source", "fetch", "all"])).ok();
    let listed = sampled.outcrop(&["source", "list", "--json"]).ok().stdout;
    for line in listed.lines() {
        let mirror: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(mirror["mirror"].is_string() && mirror["url"].is_string(), "{line}");
    }
    assert_eq!(listed.lines().count(), 2, "{listed}");
}
