//! Every row of the table in docs/definitions.md of what YBD put up with, and of what it refused, in
//! both ways of reading.

use super::super::{Chunk, Definitions, Reading, StepName};
use super::{published, tree};
use crate::graph::Graph;
use crate::graph::check::check;

const CHUNK: &str = "name: c\nkind: chunk\n";
const SYSTEM: &str = "name: y\nkind: system\narch: x86_64\nstrata: [{morph: s.morph}]\n";

fn stratum(entries: &str) -> String {
    format!("name: s\nkind: stratum\nchunks:\n{entries}")
}

fn told(files: &[(&str, &str)], reading: Reading) -> Vec<String> {
    let mut files = tree("8", files);
    for name in ["VERSION", "DEFAULTS"] {
        let Some(at) = files.definitions.iter().position(|file| file.path == name) else {
            continue;
        };
        let file = Some(files.definitions.remove(at));
        if name == "VERSION" { files.version = file } else { files.defaults = file }
    }
    check(&files, reading, false).problems.iter().map(ToString::to_string).collect()
}

/// What is an error, or with YBD's way of reading a warning with something behind it.
#[track_caller]
fn tolerated(files: &[(&str, &str)], place: &str, message: &str, instead: &str) {
    assert_eq!(told(files, Reading::Strict), [format!("{place}: error: {message}")]);
    let hint = message.find(" (").unwrap_or(message.len());
    let (message, hint) = message.split_at(hint);
    let expected = format!("{place}: warning: {message}; {instead}{hint}");
    assert_eq!(told(files, Reading::Compatible), [expected]);
}

/// What is the same in both.
#[track_caller]
fn same(files: &[(&str, &str)], expected: &str) {
    assert_eq!(told(files, Reading::Strict), [expected]);
    assert_eq!(told(files, Reading::Compatible), [expected]);
}

#[track_caller]
fn compatible(files: &[(&str, &str)]) -> Definitions {
    Definitions::parse(&tree("8", files), Reading::Compatible).unwrap()
}

fn chunk(definitions: &Definitions, path: &str) -> Chunk {
    definitions.get(definitions.find(path).unwrap()).unwrap().chunk().unwrap().clone()
}

#[test]
fn files() {
    same(
        &[("c.morph", "name: 'c\n")],
        "c.morph:1:7: error: while scanning a quoted scalar, found unexpected end of stream",
    );
    tolerated(
        &[("c.morph", "- a list\n")],
        "c.morph:1:1",
        "expected a mapping, found a list",
        "the file is skipped",
    );
    same(&[("c.morph", "# nothing\n")], "c.morph: warning: the file is empty and ignored");
    same(
        &[("c.morph", &format!("{CHUNK}max-job: 1\n"))],
        "c.morph:3:1: error: unknown field `max-job` (did you mean `max-jobs`?)",
    );
    tolerated(
        &[("c.morph", &format!("{CHUNK}strata: []\n"))],
        "c.morph:3:9",
        "a chunk has no field `strata`",
        "it is ignored",
    );
    same(
        &[("c.morph", "name: c\n")],
        "c.morph: warning: the file has no `kind`; it is taken for a chunk",
    );
    same(
        &[("c.morph", "kind: chunk\n")],
        "c.morph: warning: the file has no `name`; it is called `c`",
    );
    same(
        &[("c.morph", "name: d\nkind: chunk\n")],
        "c.morph:1:7: warning: the name `d` does not contain the file's, `c`",
    );
    tolerated(
        &[("VERSION", "version: 9\n"), ("c.morph", CHUNK)],
        "VERSION:1:10",
        "version `9` of the format is not known (versions 0 to 8 are)",
        "the tree is read as version 8",
    );
    tolerated(
        &[("DEFAULTS", "build-systems: [\n"), ("c.morph", CHUNK)],
        "DEFAULTS:2:1",
        "while parsing a node, did not find expected node content",
        "Outcrop's own defaults apply",
    );
}

#[test]
fn a_key_that_stands_twice() {
    let twice = stratum(
        "- {name: a, build-system: manual}\n- name: x\n  build-system: manual\n  \
         build-depends: []\n  build-depends: [a]\n",
    );
    let files = [("s.morph", twice.as_str())];
    let message = "the key `build-depends` stands twice in this mapping";
    tolerated(&files, "s.morph:8:3", message, "the last one counts");
    assert_eq!(chunk(&compatible(&files), "s/x").build_depends.len(), 1);
    let inner = stratum(
        "- {name: a, build-system: manual, repo: r, ref: a, submodules: {m: {url: u}, m: {url: v}}}\n",
    );
    let files = [("s.morph", inner.as_str())];
    let message = "the key `m` stands twice in this mapping";
    tolerated(&files, "s.morph:4:78", message, "the last one counts");
    assert_eq!(chunk(&compatible(&files), "s/a").source.unwrap().submodules["m"].url, "v");
}

#[test]
fn lists_and_steps() {
    same(
        &[("s.morph", "name: s\nkind: stratum\nchunks: {a: b}\n")],
        "s.morph:3:9: error: expected a list, found a mapping",
    );
    same(
        &[("y.morph", "name: y\nkind: system\narch: x86_64\nstrata: s.morph\n")],
        "y.morph:4:9: error: expected a list, found the text `s.morph`",
    );
    // YBD would have run each character.
    same(
        &[("c.morph", &format!("{CHUNK}build-commands: make\n"))],
        "c.morph:3:17: error: expected a list, found the text `make`",
    );
    same(
        &[("c.morph", &format!("{CHUNK}build-commands: [{{a: b}}]\n"))],
        "c.morph:3:18: error: expected text, found a mapping",
    );
    same(
        &[("s.morph", &stratum("- {ref: a}\n"))],
        "s.morph:4:3: error: the entry has neither `name` nor `morph`",
    );
}

#[test]
fn dependencies() {
    let entry = |needs: &str| {
        stratum(&format!("- {{name: x, build-system: manual, build-depends: {needs}}}\n"))
    };
    same(
        &[("s.morph", &entry("[y]"))],
        "s.morph:4:51: error: `x` needs `y`, and s has no such chunk",
    );
    same(
        &[("s.morph", &format!("{}- {{name: y, build-system: manual}}\n", entry("[y]")))],
        "s.morph:4:51: error: `x` needs `y`, which does not stand before it in s (move it up)",
    );
    same(
        &[("s.morph", &entry("[{morph: x}]"))],
        "s.morph:4:51: error: expected text, found a mapping",
    );
    same(
        &[("s.morph", &entry("[x]"))],
        "s.morph:4:51: error: dependency cycle: x → x\n    s.morph:4:51: `x` needs `x`",
    );
    let needs = |name: &str, other: &str| {
        format!(
            "name: {name}\nkind: stratum\nbuild-depends: [{{morph: {other}.morph}}]\n\
             chunks: [{{name: x, build-system: manual}}]\n"
        )
    };
    same(
        &[("a.morph", &needs("a", "b")), ("b.morph", &needs("b", "a"))],
        "a.morph:3:25: error: dependency cycle: a → b → a\n    \
         a.morph:3:25: `a` needs `b`\n    b.morph:3:25: `b` needs `a`",
    );
}

#[test]
fn a_missing_file_of_a_chunk() {
    let text = stratum("- {name: x, morph: d.morph}\n- {name: z, morph: d.morph}\n");
    let files = [("c.morph", CHUNK), ("s.morph", text.as_str())];
    assert_eq!(
        told(&files, Reading::Strict),
        [
            "s.morph:4:20: error: there is no file `d.morph` (did you mean `c.morph`?)",
            "s.morph:5:20: error: there is no file `d.morph` (did you mean `c.morph`?)",
        ]
    );
    // The second entry finds what the first one has made.
    assert_eq!(
        told(&files, Reading::Compatible),
        ["s.morph:4:20: warning: there is no file `d.morph`; the chunk has no instructions \
          (did you mean `c.morph`?)"]
    );
    let definitions = compatible(&files);
    let chunk = chunk(&definitions, "d");
    assert!(chunk.steps.is_empty());
    // Nobody says how to build it: YBD looked at its source.
    assert_eq!(definitions.plan(&chunk, &["configure"]).steps.len(), 3);
    for path in ["../../etc/passwd", "/etc/passwd", "a/../../b"] {
        let text = stratum(&format!("- {{name: x, morph: {path}}}\n"));
        let expected = format!(
            "s.morph:4:20: error: `{path}` leaves the definitions directory; paths are relative \
             to its top"
        );
        same(&[("s.morph", &text)], &expected);
    }
}

#[test]
fn a_skipped_file_is_none() {
    let text = stratum("- {name: c, morph: c.morph}\n");
    let definitions = compatible(&[("c.morph", "just text\n"), ("s.morph", &text)]);
    assert!(chunk(&definitions, "c").steps.is_empty());
    assert_eq!(definitions.warnings.len(), 2, "{:?}", definitions.warnings);
}

#[test]
fn build_systems() {
    let text = stratum("- {name: x}\n");
    let files = [("s.morph", text.as_str())];
    tolerated(
        &files,
        "s.morph:4:3",
        "`x` has neither `morph` nor `build-system` (say `build-system: manual`)",
        "how to build it is detected",
    );
    let definitions = compatible(&files);
    let plan = definitions.plan(&chunk(&definitions, "s/x"), &["setup.py"]);
    assert_eq!(plan.steps[0].name, StepName::Build);
    let text = format!("{CHUNK}build-system: autotols\n");
    let files = [("c.morph", text.as_str())];
    tolerated(
        &files,
        "c.morph:3:15",
        "there is no build system `autotols` (did you mean `autotools`?)",
        "the chunk cannot be built",
    );
    let definitions = compatible(&files);
    let unknown = chunk(&definitions, "c");
    assert_eq!(definitions.unknown_build_system(&unknown), Some("autotols"));
    same(
        &[("c.morph", CHUNK), ("s.morph", &stratum("- {morph: c.morph, build-system: manual}\n"))],
        "s.morph:4:11: warning: `morph` and `build-system` exclude each other",
    );
}

#[test]
fn a_file_that_its_entry_does_not_name() {
    let files = [
        ("s/x.morph", "name: x\nkind: chunk\n"),
        ("s.morph", &stratum("- {name: x, build-system: manual}\n")),
    ];
    same(&files, "s.morph:4:3: warning: `s/x.morph` exists but the entry does not name it");
}

/// Two strata with the chunk `c`.
fn described(first: &str, second: &str) -> Vec<(&'static str, String)> {
    let entry = |fields: &str| format!("- {{name: c, morph: c.morph, {fields}}}\n");
    let second = stratum(&entry(second)).replace("name: s", "name: t");
    vec![("c.morph", CHUNK.to_owned()), ("s.morph", stratum(&entry(first))), ("t.morph", second)]
}

#[test]
fn one_chunk_described_twice() {
    let both = described("repo: r, ref: a", "repo: r, ref: b, prefix: /opt");
    let both: Vec<_> = both.iter().map(|(path, text)| (*path, text.as_str())).collect();
    tolerated(
        &both,
        "t.morph:4:3",
        "`c` is described differently in s.morph: `ref` is not the same",
        "the first entry counts",
    );
    let merged = chunk(&compatible(&both), "c");
    assert_eq!(merged.source.as_ref().unwrap().reference.as_deref(), Some("a"));
    assert_eq!(merged.prefix, None);
    let one = described("repo: r, ref: a, prefix: /old", "prefix: /opt, build-mode: bootstrap");
    let one: Vec<_> = one.iter().map(|(path, text)| (*path, text.as_str())).collect();
    tolerated(
        &one,
        "t.morph:4:3",
        "`c` is described differently in s.morph: `repo` is not the same",
        "what this entry says wins",
    );
    let merged = chunk(&compatible(&one), "c");
    assert_eq!(merged.source.unwrap().reference.as_deref(), Some("a"));
    assert_eq!(merged.prefix.as_deref(), Some("/opt"));
    assert_eq!(merged.build_mode.name(), "bootstrap");
    let text = stratum(&"- {name: x, build-system: manual, repo: r, ref: a}\n".repeat(2));
    let files = [("s.morph", text.as_str())];
    tolerated(&files, "s.morph:5:3", "a second chunk `x` in this stratum", "they are one");
    let definitions = compatible(&files);
    let id = definitions.find("s").unwrap();
    assert_eq!(definitions.get(id).unwrap().stratum().unwrap().members.len(), 1);
}

#[test]
fn sources() {
    let entry = |source: &str| stratum(&format!("- {{name: x, build-system: manual, {source}}}\n"));
    for sha in ["abc".to_owned(), "z".repeat(40)] {
        same(
            &[("s.morph", &entry(&format!("repo: r, ref: a, sha: {sha}")))],
            "s.morph:4:57: error: `sha` must have 40 hexadecimal digits",
        );
    }
    same(
        &[("s.morph", &entry("repo: r"))],
        "s.morph:4:41: error: `r` needs a `ref` (name the commit to build)",
    );
}

#[test]
fn devices_and_artifacts() {
    let device = "devices:\n- {type: d, filename: /x, major: 1, minor: 1, permissions: '0600', uid: 0, gid: 0}\n";
    same(
        &[("c.morph", &format!("{CHUNK}{device}"))],
        "c.morph:4:10: error: there is no device type `d` (c, b and p are known)",
    );
    same(
        &[(
            "s.morph",
            &stratum("- {name: x, build-system: manual, artifacts: {x-libs: s-runtme}}\n"),
        )],
        "s.morph:4:55: error: the stratum has no artifact `s-runtme` (did you mean `s-runtime`?)",
    );
    same(
        &[("c.morph", &format!("{CHUNK}products: [{{artifact: c-x, include: ['a(b']}}]\n"))],
        "c.morph:3:38: error: `a(b` is not a usable regular expression: unclosed group",
    );
}

#[test]
fn integration_scripts_of_one_key() {
    let script = |name: &str| {
        format!(
            "name: {name}\nkind: chunk\nsystem-integration:\n  shared: {{00-x: [echo {name}]}}\n"
        )
    };
    let (a, b) = (script("a"), script("b"));
    let text = stratum("- {name: a, morph: a.morph}\n- {name: b, morph: b.morph}\n");
    let files = [
        ("a.morph", a.as_str()),
        ("b.morph", b.as_str()),
        ("s.morph", text.as_str()),
        ("y.morph", SYSTEM),
        ("z.morph", &SYSTEM.replace("name: y", "name: z")),
    ];
    // Two systems have it; it is told once.
    let message = "y: the integration script `00-x-shared` comes from both a and b";
    let trail = "\n    a.morph:4:18: a has it, too";
    assert_eq!(
        told(&files, Reading::Strict),
        [format!("b.morph:4:18: error: {message}; rename one of them{trail}")]
    );
    assert_eq!(
        told(&files, Reading::Compatible),
        [format!("b.morph:4:18: warning: {message}; that of b replaces that of a{trail}")]
    );
    let definitions = compatible(&files);
    let steps = definitions.integration(definitions.find("y").unwrap()).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].commands, ["echo b"]);
}

#[test]
fn fields_of_a_cluster_s_entries() {
    let cluster = "name: k\nkind: cluster\nsystems:\n- morph: y.morph\n  deploy-default: {A: b}\n";
    let text = stratum("- {name: x, build-system: manual}\n");
    let files = [("k.morph", cluster), ("s.morph", text.as_str()), ("y.morph", SYSTEM)];
    tolerated(
        &files,
        "k.morph:5:3",
        "unknown field `deploy-default` (did you mean `deploy-defaults`?)",
        "it is ignored",
    );
    assert!(compatible(&files).find("k").is_some());
}

#[test]
fn two_components_of_one_name_are_both_staged() {
    let text = |name: &str, needs: &str| {
        format!("name: {name}\nkind: stratum\n{needs}chunks: [{{name: x, build-system: manual}}]\n")
    };
    let needs = "build-depends: [{morph: s.morph}, {morph: t.morph}]\n";
    let (s, t) = (text("s", ""), text("t", ""));
    let files = [("s.morph", s.as_str()), ("t.morph", &t), ("u.morph", &text("u", needs))];
    for reading in [Reading::Strict, Reading::Compatible] {
        let definitions = Definitions::parse(&tree("8", &files), reading).unwrap();
        let graph = Graph::whole(&definitions).unwrap();
        let staged = graph.staged_dependencies(&definitions, definitions.find("u/x").unwrap());
        let paths: Vec<_> = staged.iter().map(|id| definitions.path_of(*id)).collect();
        assert_eq!(paths, ["s/x", "t/x"]);
        // A target is never guessed either.
        assert!(definitions.select("x").is_err());
        assert_eq!(
            definitions.select("v").unwrap_err().to_string(),
            "there is no component `v`; did you mean `s`?"
        );
    }
}

#[test]
fn what_is_right_means_the_same_in_both() {
    let Some(strict) = published::definitions() else { return };
    let files = super::super::load::read_files(&published::directory().unwrap());
    let compatible = Definitions::parse(&files, Reading::Compatible).unwrap();
    assert!(strict.iter().eq(compatible.iter()));
    assert_eq!(strict.warnings, compatible.warnings);
}
