//! Every row of the table of problems: what is said, and where.

use super::super::{Definitions, Files, Problem, Reading, Severity, TextFile};
use super::{parse, tree};

fn shown(result: Result<Definitions, super::Problems>) -> Vec<String> {
    match result {
        Ok(definitions) => definitions.warnings.iter().map(Problem::to_string).collect(),
        Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
    }
}

fn stratum_with(entry: &str) -> String {
    format!("name: s\nkind: stratum\nchunks:\n- name: first\n  build-system: manual\n{entry}")
}

/// Parses a stratum with an additional entry and expects exactly one problem.
#[track_caller]
fn entry(text: &str, expected: &str) {
    let all = shown(parse(&[("s.morph", &stratum_with(text)), ("c.morph", CHUNK)]));
    assert_eq!(all, [expected]);
}

#[track_caller]
fn chunk(text: &str, expected: &str) {
    let text = format!("name: c\nkind: chunk\n{text}");
    assert_eq!(shown(parse(&[("c.morph", &text)])), [expected]);
}

#[track_caller]
fn file(text: &str, expected: &str) {
    assert_eq!(shown(parse(&[("c.morph", text)])), [expected]);
}

const CHUNK: &str = "name: c\nkind: chunk\n";

#[test]
fn yaml_itself() {
    let all = shown(parse(&[("a.morph", "name: [a\nkind: chunk\n"), ("b.morph", "a: 'x\n")]));
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("a.morph:2:"), "{all:?}");
    assert!(all[1].starts_with("b.morph:"), "{all:?}");
    file("just text", "c.morph:1:1: error: expected a mapping, found the text `just text`");
    file("- a list", "c.morph:1:1: error: expected a mapping, found a list");
    file("# nothing\n\n", "c.morph: warning: the file is empty and ignored");
    file(
        "name: c\nkind: chunk\nname: d\n",
        "c.morph:3:1: error: the key `name` stands twice in this mapping",
    );
    file(
        "name: c\nkind: chunk\n---\nname: d\n",
        "c.morph:3:1: error: a second document starts here; a definition is one document",
    );
    file(
        "name: c\nkind: chunk\nbuild-system: man\0ual\n",
        "c.morph:3:18: error: the character U+0000 cannot stand in YAML \
         (in double quotes it can be written as \\x00)",
    );
    let all = shown(parse(&[("c.morph", &format!("\u{feff}{CHUNK}"))]));
    assert_eq!(all, [] as [&str; 0]);
    let text = TextFile { path: "c.morph".into(), text: b"name: c\nkind: \xff".to_vec() };
    let files = Files { definitions: vec![text], ..Files::default() };
    let expected = ["c.morph:2:7: error: the file is not UTF-8 here"];
    assert_eq!(shown(Definitions::parse(&files, Reading::Strict)), expected);
}

#[test]
fn all_errors_of_a_file_are_shown() {
    let text = "name: c\nkind: chunk\nbuild-comands: [make]\nmax-jobs: many\ninstall-commands: \
                make\nconfigure-commands:\n- {a: b}\n- ok\n";
    assert_eq!(
        shown(parse(&[("c.morph", text)])),
        [
            "c.morph:3:1: error: unknown field `build-comands` (did you mean `build-commands`?)",
            "c.morph:4:11: error: expected a number from 0 to 4294967295, found the text `many`",
            "c.morph:5:19: error: expected a list, found the text `make`",
            "c.morph:7:3: error: expected text, found a mapping",
        ]
    );
}

#[test]
fn what_follows_from_an_error_is_not_another_one() {
    chunk(
        "devices:\n- {type: p, filename: /x, permissions: '0600', uid: 0, gid: -1}\n",
        "c.morph:4:61: error: expected a number from 0 to 4294967295, found the text `-1`",
    );
    let text = "name: c\nkind: chunk\ndevices:\n\
                - {type: p, filename: /x, permissions: '0600', uid: 0, gid: -1}\n\
                - {type: p, filename: /y, permissions: '0600', uid: 0}\n";
    assert_eq!(
        shown(parse(&[("c.morph", text)])),
        [
            "c.morph:4:61: error: expected a number from 0 to 4294967295, found the text `-1`",
            "c.morph:5:3: error: the field `gid` is missing",
        ]
    );
}

#[test]
fn a_file_with_errors_is_not_a_missing_file() {
    let stratum = "name: t\nkind: stratum\nchunks:\n- name: a\n  morph: a.morph\n\
                   - {name: b, build-system: manual, build-depends: [a]}\n";
    let system = "name: y\nkind: system\narch: x86_64\nstrata: [{morph: t.morph}]\n";
    let of = |version, a: &str, t: &str| {
        let files = [("a.morph", a), ("t.morph", t), ("y.morph", system)];
        shown(Definitions::parse(&tree(version, &files), Reading::Strict))
    };
    let good = "name: a\nkind: chunk\n";
    assert_eq!(of("8", good, stratum), [""; 0]);
    let misspelt = "a.morph:3:1: error: unknown field `max-job` (did you mean `max-jobs`?)";
    let detected = stratum.replace("build-system: manual, ", "");
    for (version, stratum) in [("1", detected.as_str()), ("8", stratum)] {
        let bad = format!("{good}max-job: 1\n");
        assert_eq!(of(version, &bad, stratum), [misspelt], "version {version}");
    }
    let bad = format!("{stratum}chunk: 1\n");
    let misspelt = "t.morph:7:1: error: unknown field `chunk` (did you mean `chunks`?)";
    assert_eq!(of("8", good, &bad), [misspelt]);
    let renamed = stratum.replace("morph: a.", "morph: b.");
    let missing = "t.morph:5:10: error: there is no file `b.morph` (did you mean `a.morph`?)";
    assert_eq!(of("8", good, &renamed), [missing]);
}

#[test]
fn build_systems_of_a_defaults_file_with_errors_are_not_unknown() {
    let mut files = tree("8", &[("c.morph", "name: c\nkind: chunk\nbuild-system: mine\n")]);
    let text = "build-systems: {mine: {build-commands: [make]}}\nsplit-rules: 7\n";
    files.defaults = Some(TextFile { path: "DEFAULTS".into(), text: text.into() });
    assert_eq!(
        shown(Definitions::parse(&files, Reading::Strict)),
        ["DEFAULTS:2:14: error: expected a mapping, found the text `7`"]
    );
}

#[test]
fn kinds_names_and_fields() {
    file("name: c\n", "c.morph: warning: the file has no `kind`; it is taken for a chunk");
    file("kind: chunk\n", "c.morph: warning: the file has no `name`; it is called `c`");
    file(
        "name: c\nkind: junk\n",
        "c.morph:2:7: error: there is no kind `junk` (chunk, stratum, system and cluster are known)",
    );
    file("name: c\nkind: chunk\nstrata: []\n", "c.morph:3:9: error: a chunk has no field `strata`");
    file(
        "name: c\nkind: stratum\nchunks: [{name: x, build-system: manual}]\nbuild-commands: []\n",
        "c.morph:4:17: error: a stratum has no field `build-commands`",
    );
    file(
        "name: xyz\nkind: chunk\n",
        "c.morph:1:7: warning: the name `xyz` does not contain the file's, `c`",
    );
    file(
        "name: c/d\nkind: chunk\n",
        "c.morph:1:7: error: `c/d` cannot be a name: it contains a slash",
    );
    file("name: c\nkind: stratum\n", "c.morph: error: a stratum needs `chunks`");
    file("name: c\nkind: system\narch: x86_64\n", "c.morph: error: a system needs `strata`");
    file(
        "name: c\nkind: stratum\nchunks: {a: b}\n",
        "c.morph:3:9: error: expected a list, found a mapping",
    );
}

#[test]
fn entries_of_a_stratum() {
    entry("- {ref: a}\n", "s.morph:6:3: error: the entry has neither `name` nor `morph`");
    entry(
        "- name: c\n  morph: d.morph\n",
        "s.morph:7:10: error: there is no file `d.morph` (did you mean `c.morph`?)",
    );
    entry(
        "- name: s\n  morph: s.morph\n",
        "s.morph:7:10: error: `s.morph` is a stratum, not a chunk",
    );
    entry(
        "- name: x\n  morph: ../x.morph\n",
        "s.morph:7:10: error: `../x.morph` leaves the definitions directory; paths are relative to \
         its top",
    );
    entry(
        "- name: x\n",
        "s.morph:6:3: error: `x` has neither `morph` nor `build-system` (say `build-system: \
         manual`)",
    );
    entry(
        "- {name: c, morph: c.morph, build-system: manual}\n",
        "s.morph:6:20: warning: `morph` and `build-system` exclude each other",
    );
    entry(
        "- {name: x, build-system: autotols}\n",
        "s.morph:6:27: error: there is no build system `autotols` (did you mean `autotools`?)",
    );
    entry(
        "- {name: x, build-system: manual, build-mode: bootstap}\n",
        "s.morph:6:47: error: there is no build mode `bootstap` (did you mean `bootstrap`?)",
    );
    entry(
        "- {name: x, build-system: manual, prefix: ../up}\n",
        "s.morph:6:43: error: the prefix `../up` is not an absolute path without `..`",
    );
    entry(
        "- {name: x, build-system: manual, prefix: '/a:b'}\n",
        "s.morph:6:43: error: the prefix `/a:b` cannot stand in PATH, because of its colon",
    );
    entry(
        "- {name: first, build-system: manual}\n",
        "s.morph:6:3: error: a second chunk `first` in this stratum",
    );
    entry(
        "- {name: x, build-system: manual, artifacts: {x-libs: s-runtme}}\n",
        "s.morph:6:55: error: the stratum has no artifact `s-runtme` (did you mean `s-runtime`?)",
    );
}

#[test]
fn dependencies_of_an_entry() {
    entry(
        "- name: x\n  build-system: manual\n  build-depends:\n  - fist\n",
        "s.morph:9:5: error: `x` needs `fist`, and s has no such chunk (did you mean `first`?)",
    );
    entry(
        "- {name: x, build-system: manual, build-depends: [y]}\n- {name: y, build-system: manual}\n",
        "s.morph:6:51: error: `x` needs `y`, which does not stand before it in s (move it up)",
    );
    entry(
        "- {name: x, build-system: manual, build-depends: [x]}\n",
        "s.morph:6:51: error: dependency cycle: x → x\n    s.morph:6:51: `x` needs `x`",
    );
    entry(
        "- {name: x, build-system: manual, build-depends: [{morph: first}]}\n",
        "s.morph:6:51: error: expected text, found a mapping",
    );
}

#[test]
fn a_cycle_is_shown_with_each_step() {
    let all = shown(parse(&[(
        "s.morph",
        "name: s\nkind: stratum\nchunks:\n\
         - {name: a, build-system: manual, build-depends: [c]}\n\
         - {name: b, build-system: manual, build-depends: [a]}\n\
         - name: c\n  build-system: manual\n  build-depends:\n  - a\n  - b\n\
         - {name: d, build-system: manual, build-depends: [e]}\n\
         - {name: e, build-system: manual}\n",
    )]));
    assert_eq!(
        all,
        [
            "s.morph:4:51: error: dependency cycle: a → c → a\n    \
             s.morph:4:51: `a` needs `c`\n    s.morph:9:5: `c` needs `a`",
            "s.morph:11:51: error: `d` needs `e`, which does not stand before it in s (move it up)",
        ]
    );
    // Two steps of one cycle point forward: it is told once.
    let all = shown(parse(&[(
        "s.morph",
        "name: s\nkind: stratum\nchunks:\n\
         - {name: a, build-system: manual, build-depends: [b]}\n\
         - {name: b, build-system: manual, build-depends: [c]}\n\
         - {name: c, build-system: manual, build-depends: [a]}\n",
    )]));
    assert_eq!(
        all,
        ["s.morph:4:51: error: dependency cycle: a → b → c → a\n    \
          s.morph:4:51: `a` needs `b`\n    s.morph:5:51: `b` needs `c`\n    \
          s.morph:6:51: `c` needs `a`"]
    );
}

#[test]
fn sources() {
    entry(
        "- {name: x, build-system: manual, repo: r, ref: a, sha: abc}\n",
        "s.morph:6:57: error: `sha` must have 40 hexadecimal digits",
    );
    entry(
        "- {name: x, build-system: manual, repo: upstream:x}\n",
        "s.morph:6:41: error: `upstream:x` needs a `ref` (name the commit to build)",
    );
    entry(
        "- {name: x, build-system: manual, repo: 'tar:/x.bin'}\n",
        "s.morph:6:41: error: the source is an archive without `sha256` \
         (add what `sha256sum` says of it)",
    );
    // An alias may lead to an archive.
    let digest = "1".repeat(64);
    let entry_of = |repo: &str| {
        format!("- {{name: x, build-system: manual, repo: '{repo}', sha256: '{digest}'}}\n")
    };
    for repo in ["upstream:x", "tar:/x.bin"] {
        let found = shown(super::parse(&[("s.morph", &stratum_with(&entry_of(repo)))]));
        assert!(found.is_empty(), "{found:?}");
    }
    entry(
        "- {name: x, build-system: manual, prefix: /}\n",
        "s.morph:6:43: error: the prefix `/` is the whole tree; name a directory such as `/usr`",
    );
    entry(
        "- {name: x, build-system: manual, ref: a}\n",
        "s.morph:6:3: error: the entry says what to take but has no `repo`",
    );
    entry(
        "- {name: x, build-system: manual, repo: 'https://example.org/x-1.tar.gz'}\n",
        "s.morph:6:41: error: the source is an archive without `sha256` (add what `sha256sum` says \
         of it)",
    );
    let pinned = format!(
        "- {{name: x, build-system: manual, repo: x.tar.xz, sha256: {}}}\n",
        "A0".repeat(32)
    );
    let definitions = parse(&[("s.morph", &stratum_with(&pinned))]).unwrap();
    let id = definitions.find("s/x").unwrap();
    let source = definitions.get(id).unwrap().chunk().unwrap().source.clone().unwrap();
    assert_eq!(source.sha256.unwrap(), "a0".repeat(32));
    assert!(
        parse(&[(
            "s.morph",
            &stratum_with(
                "- {name: x, build-system: manual, repo: 'debian:zlib=1:1.2.13.dfsg-1'}\n"
            )
        )])
        .is_ok()
    );
}

#[test]
fn one_chunk_in_two_strata() {
    let stratum = |name: &str, rest: &str| {
        format!(
            "name: {name}\nkind: stratum\nchunks:\n- {{name: c, morph: c.morph, repo: r, {rest}}}\n"
        )
    };
    let parse = |a: &str, b: &str| {
        shown(parse(&[
            ("c.morph", CHUNK),
            ("s.morph", &stratum("s", a)),
            ("t.morph", &stratum("t", b)),
        ]))
    };
    assert_eq!(
        parse("ref: a", "ref: b"),
        ["t.morph:4:3: error: `c` is described differently in s.morph: `ref` is not the same"]
    );
    assert_eq!(
        parse("ref: a", "ref: a, prefix: /opt"),
        ["t.morph:4:3: error: `c` is described differently in s.morph: `prefix` is not the same"]
    );
    assert_eq!(parse("ref: a, unpetrify-ref: v1", "ref: a"), [""; 0]);
}

#[test]
fn chunk_fields() {
    chunk(
        "build-system: autotols\n",
        "c.morph:3:15: error: there is no build system `autotols` (did you mean `autotools`?)",
    );
    chunk("max-jobs: 0\n", "c.morph:3:11: error: `max-jobs` must be at least 1");
    chunk(
        "max-jobs: 010\n",
        "c.morph:3:11: error: a number with a zero in front means different things to different \
         readers; write 10",
    );
    chunk("build-commands:\n- make\n-\n", "c.morph:5:2: error: this command is empty");
    for scalar in ["5", "1.5", "~", "null"] {
        let message = format!("c.morph:4:3: error: this command is `{scalar}`, which is no text");
        chunk(&format!("build-commands:\n- {scalar}\n- true\n"), &message);
    }
    let device = |text: &str| format!("devices:\n- {{filename: /dev/x, uid: 0, gid: 0, {text}}}\n");
    chunk(
        &device("type: d, major: 1, minor: 1, permissions: '0600'"),
        "c.morph:4:44: error: there is no device type `d` (c, b and p are known)",
    );
    chunk(
        &device("type: c, major: 1, minor: 1, permissions: rw"),
        "c.morph:4:80: error: `rw` is not an octal mode up to 7777 (for example '0600')",
    );
    chunk(
        &device("type: c, permissions: '0600'"),
        "c.morph:4:3: error: a device needs `major` and `minor`",
    );
    chunk(
        &device("type: c, major: 4096, minor: 1, permissions: '0600'"),
        "c.morph:4:54: error: Linux has no `major` 4096; it goes up to 4095",
    );
    chunk(
        &device("type: b, major: 4095, minor: 1048576, permissions: '0600'"),
        "c.morph:4:67: error: Linux has no `minor` 1048576; it goes up to 1048575",
    );
    let largest = device("type: b, major: 4095, minor: 1048575, permissions: '0600'");
    let text = format!("name: c\nkind: chunk\n{largest}");
    assert_eq!(shown(parse(&[("c.morph", &text)])), [""; 0]);
    chunk(
        "devices: [{type: p, filename: ../x, permissions: '0600', uid: 0, gid: 0}]\n",
        "c.morph:3:31: error: `../x` is not an absolute path without `..`",
    );
    chunk("products: [{artifact: c-x}]\n", "c.morph:3:12: error: the field `include` is missing");
    chunk(
        "products:\n- artifact: c-x\n  include:\n  - a(b\n",
        "c.morph:6:5: error: `a(b` is not a usable regular expression: unclosed group",
    );
    chunk(
        "products:\n- artifact: c-x\n  include:\n  - a)(b\n",
        "c.morph:6:5: error: `a)(b` is not a usable regular expression: unopened group",
    );
}

#[test]
fn systems_and_clusters() {
    let system =
        "name: y\nkind: system\narch: x86_46\nstrata: [{morph: s.morph, artifacts: [s-x]}]\n";
    let cluster = "name: k\nkind: cluster\nsystems:\n- morph: y.morph\n- morph: s.morph\n- {}\n";
    let all =
        shown(parse(&[("k.morph", cluster), ("s.morph", &stratum_with("")), ("y.morph", system)]));
    // The cluster cannot be read, so its references are not looked at yet.
    assert_eq!(
        all,
        [
            "k.morph:6:3: error: the field `morph` is missing",
            "y.morph:3:7: error: there is no architecture `x86_46` (did you mean `x86_64`?)",
            "y.morph:4:39: warning: the stratum has no artifact `s-x`; it selects nothing",
        ]
    );
    let cluster = cluster.replace("- {}\n", "");
    let system = system.replace("x86_46", "x86_64");
    let all = shown(parse(&[
        ("k.morph", &cluster),
        ("s.morph", &stratum_with("")),
        ("y.morph", &system),
    ]));
    assert_eq!(all[0], "k.morph:5:10: error: `s.morph` is a stratum, not a system");
}

#[test]
fn versions() {
    let parse =
        |version| shown(Definitions::parse(&tree(version, &[("c.morph", CHUNK)]), Reading::Strict));
    assert_eq!(parse("0"), [""; 0]);
    assert_eq!(
        parse("9"),
        ["VERSION:1:10: error: version `9` of the format is not known (versions 0 to 8 are)"]
    );
    assert_eq!(
        parse("new"),
        ["VERSION:1:10: error: version `new` of the format is not known (versions 0 to 8 are)"]
    );
    let old =
        "name: s\nkind: stratum\nchunks: [{name: x, morph: x.morph, repo: r, ref: a}, {name: y}]\n";
    let at =
        |version| shown(Definitions::parse(&tree(version, &[("s.morph", old)]), Reading::Strict));
    assert_eq!(
        at("1"),
        ["s.morph:3:27: warning: there is no file `x.morph`; the chunk has no instructions"]
    );
    assert_eq!(at("2"), ["s.morph:3:27: error: there is no file `x.morph`"]);
}

#[test]
fn a_file_that_its_entry_does_not_name() {
    let definitions = parse(&[
        ("s.morph", "name: s\nkind: stratum\nchunks: [{name: x, build-system: manual}]\n"),
        ("s/x.morph", "name: x\nkind: chunk\nbuild-commands: [make]\n"),
    ])
    .unwrap();
    assert_eq!(
        definitions.warnings.iter().map(Problem::to_string).collect::<Vec<_>>(),
        ["s.morph:3:10: warning: `s/x.morph` exists but the entry does not name it"]
    );
    let default = definitions.get(definitions.find("s/x.default").unwrap()).unwrap();
    assert!(default.chunk().unwrap().steps.is_empty());
    assert_eq!(definitions.warnings[0].severity, Severity::Warning);
}

#[test]
fn defaults_are_checked() {
    let mut files = tree("8", &[("c.morph", CHUNK)]);
    let text = "build-systems:\n  x:\n    build-comands: [make]\nsplit-rules:\n  chunk:\n  - \
                artifact: -a\n    include: ['[']\n";
    files.defaults = Some(TextFile { path: "DEFAULTS".into(), text: text.into() });
    let all = shown(Definitions::parse(&files, Reading::Strict));
    assert_eq!(
        all[0],
        "DEFAULTS:3:20: error: a build system has no field `build-comands` (did you mean \
         `build-commands`?)"
    );
    assert!(all[1].starts_with("DEFAULTS:7:15: error: `[` is not a usable"), "{all:?}");
}

#[test]
fn what_says_something_of_a_source_needs_one() {
    let entry = "name: s\nkind: stratum\nchunks:\n- {name: a, build-system: manual, patches: true, \
                 unpetrify-ref: m, submodules: {m: {url: u}}}\n";
    let last = entry.lines().last().unwrap();
    let all = ["patches", "unpetrify-ref", "submodules"].map(|field| {
        let value = last.find(field).unwrap() + field.len() + ": ".len();
        let column = value + 1;
        format!("s.morph:4:{column}: warning: `{field}` has no effect without `repo`")
    });
    assert_eq!(shown(parse(&[("s.morph", entry)])), all);
    let entry = entry.replace("patches", "repo: 'debian:a=1', patches");
    assert_eq!(shown(parse(&[("s.morph", &entry)])), [""; 0]);
}

#[test]
fn what_came_with_a_later_version() {
    let stratum = "name: s\nkind: stratum\nchunks:\n- {name: a, build-system: manual, repo: r, \
                   ref: e, submodules: {m: {url: u}}}\n";
    let system = "name: t\nkind: system\narch: armv5l\nstrata: [{morph: s.morph}]\n\
                  configuration-extensions: [fstab, extensions/install-essential-files]\n";
    let chunk = "name: c\nkind: chunk\nstrip-commands: []\npost-strip-commands: []\n";
    let files = [("c.morph", chunk), ("s.morph", stratum), ("t.morph", system)];
    let warned = |version: &str| {
        let mut files = tree(version, &files);
        files.defaults =
            Some(TextFile { path: "DEFAULTS".into(), text: b"build-systems: {}\n".to_vec() });
        shown(Definitions::parse(&files, Reading::Strict))
    };
    let all = [
        (7, "DEFAULTS: warning: `DEFAULTS`"),
        (5, "c.morph:3:17: warning: `strip-commands`"),
        (5, "c.morph:4:22: warning: `post-strip-commands`"),
        (6, "s.morph:4:27: warning: `build-system` in a stratum"),
        (8, "s.morph:4:64: warning: `submodules`"),
        (3, "t.morph:3:7: warning: the architecture `armv5l`"),
        (3, "t.morph:5:35: warning: `install-essential-files`"),
    ];
    for version in 0..=8 {
        let expected = all
            .iter()
            .filter(|(came, _)| version < *came)
            .map(|(came, what)| format!("{what} came with version {came}; this is {version}"));
        assert_eq!(warned(&version.to_string()), expected.collect::<Vec<_>>());
    }
}

#[test]
fn deployments_say_how_and_where_to() {
    let cluster = "name: c\nkind: cluster\nsystems:\n- morph: y.morph\n  deploy-defaults: {location: /x}\n  \
                   deploy:\n    a: {type: tar}\n    b: {upgrade-type: ssh-rsync}\n    c:\n      \
                   upgrade-type: ssh-rsync\n      upgrade-location: h\n  subsystems:\n  - morph: y.morph\n    \
                   deploy: {d: {type: tar}, e: {}, f: {type: , location: x}, g: {type: [tar]}}\n";
    let system = "name: y\nkind: system\narch: x86_64\nstrata: [{morph: s.morph}]\n";
    let stratum = "name: s\nkind: stratum\nchunks: [{name: a, build-system: manual}]\n";
    let all = shown(parse(&[("c.morph", cluster), ("s.morph", stratum), ("y.morph", system)]));
    let said = "warning: the deployment has neither `type` and `location` nor `upgrade-type` and \
                `upgrade-location`";
    let places = ["8:8", "14:33", "14:40", "14:66"];
    assert_eq!(all, places.map(|place| format!("c.morph:{place}: {said}")));
}
