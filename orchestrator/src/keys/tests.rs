use std::convert::Infallible;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::definitions::tests::{parse, published};
use crate::definitions::{Files, Reading, TextFile};

const X86_64: &str = "x86_64";

fn identity(_: &Component) -> Result<SourceIdentity, Infallible> {
    Ok(SourceIdentity {
        tree: "907939e111269d9cf548e43f7d23da36d0b62bef".into(),
        time: 1_300_000_000,
    })
}

fn compute(definitions: &Definitions) -> Keys {
    let graph = Graph::whole(definitions).unwrap();
    let kit = |_: &Component| "kit-a".to_owned();
    let context = KeyContext { arch: Arch::find(X86_64).unwrap(), kit: &kit };
    Keys::compute(definitions, &graph, &context, identity).unwrap()
}

fn record(files: &[(&str, &str)], path: &str) -> KeyRecord {
    let definitions = parse(files).unwrap();
    compute(&definitions).get(definitions.find(path).unwrap()).unwrap().clone()
}

/// A fenced block of docs/keys.md.
fn block(language: &str) -> &'static str {
    let document = include_str!("../../../docs/keys.md");
    let fence = format!("```{language}\n");
    document.split(&fence).nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_documented_example_is_true() {
    let record = record(&[("demo.morph", block("yaml"))], "demo/hello");
    let documented: KeyInputs = serde_json::from_str(block("json")).unwrap();
    assert_eq!(record.inputs, documented);
    let document = include_str!("../../../docs/keys.md");
    assert!(document.contains(&format!("`{}`", record.key)), "{}", record.key);
}

/// What another implementation of the canonical text and of SHA-256 says.
fn python(inputs: &KeyInputs) -> Option<String> {
    let program = "import sys,json,hashlib\n\
        text = json.dumps(json.load(sys.stdin), sort_keys=True, ensure_ascii=False, \
        separators=(',', ':'))\n\
        print(hashlib.sha256(text.encode()).hexdigest())";
    let child = Command::new("python3")
        .args(["-c", program])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: there is no python3 to compute digests independently");
        return None;
    };
    let json = serde_json::to_string(inputs).unwrap();
    child.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn another_implementation_computes_the_same_digests() {
    let odd = "quote \" backslash \\ tab \t newline \n bell \u{7} delete \u{7f} ä € 😀";
    let inputs = KeyInputs(
        [
            ("text".to_owned(), Value::from(odd)),
            (odd.to_owned(), Value::List(vec![Value::Null, Value::Boolean(true)])),
            ("number".to_owned(), Value::Number(-5)),
        ]
        .into(),
    );
    for inputs in [inputs, record(&FILES, "system").inputs, record(&FILES, "base").inputs] {
        let Some(digest) = python(&inputs) else { return };
        assert_eq!(digest, inputs.digest().to_string());
    }
}

const CHUNK: &str = "
name: zlib
kind: chunk
description: A library
build-system: cmake
max-jobs: 4
configure-commands: [./configure]
devices: [{type: c, filename: /dev/null, major: 1, minor: 3, permissions: '0666', uid: 0, gid: 0}]
products: [{artifact: zlib-extra, include: ['etc/.*']}]
system-integration: {zlib-libs: {00-ldconfig: [ldconfig]}}
";
const BASE: &str = "
name: base
kind: stratum
chunks:
- {name: first, repo: r, ref: a, build-system: manual}
- name: zlib
  morph: zlib.morph
  repo: upstream:zlib
  ref: aaaa
  unpetrify-ref: master
  build-depends: [first]
  build-mode: staging
  prefix: /opt
  artifacts: {zlib-libs: base-runtime}
";
const TOP: &str = "
name: top
kind: stratum
build-depends: [{morph: base.morph}]
chunks:
- {name: daemon, repo: r, ref: a, build-system: manual}
products: [{artifact: -daemon, include: ['daemon-.*']}]
";
const SYSTEM: &str = "
name: system
kind: system
arch: x86_64
strata:
- {morph: base.morph, artifacts: [base-runtime]}
- {morph: top.morph}
configuration-extensions: [set-hostname]
";
const FILES: [(&str, &str); 4] =
    [("zlib.morph", CHUNK), ("base.morph", BASE), ("top.morph", TOP), ("system.morph", SYSTEM)];

/// Which of chunk, its dependent, its stratum and the system get a new key by an edit.
fn changed(edit: (&str, &str)) -> String {
    let edited: Vec<(&str, String)> =
        FILES.iter().map(|(path, text)| (*path, text.replace(edit.0, edit.1))).collect();
    let edited: Vec<(&str, &str)> = edited.iter().map(|(p, t)| (*p, t.as_str())).collect();
    assert_ne!(edited, FILES, "`{}` is not in the definitions", edit.0);
    let (before, after) = (parse(&FILES).unwrap(), parse(&edited).unwrap());
    let (a, b) = (compute(&before), compute(&after));
    ["zlib", "top/daemon", "base", "top", "system"]
        .into_iter()
        .filter(|path| {
            let key = |d: &Definitions, k: &Keys| k.key(d.find(path).unwrap()).unwrap().clone();
            key(&before, &a).digest != key(&after, &b).digest
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn what_changes_a_build_changes_its_key_and_those_above() {
    for edit in [
        ("cmake", "manual"),
        ("./configure", "./configure --static"),
        ("[./configure]", "[]"),
        ("max-jobs: 4", "max-jobs: 1"),
        ("minor: 3", "minor: 5"),
        ("'0666'", "'0660'"),
        ("/dev/null", "/dev/zero"),
        ("prefix: /opt", "prefix: /usr/local"),
        ("build-mode: staging", "build-mode: test"),
        ("name: zlib\n", "name: zlib-ng\n"),
        ("build-depends: [first]", "build-depends: []"),
    ] {
        assert_eq!(changed(edit), "zlib top/daemon base top system", "{edit:?}");
    }
}

#[test]
fn what_changes_only_splitting_or_assembly_rebuilds_no_chunk() {
    assert_eq!(changed(("etc/.*", "var/.*")), "base system");
    assert_eq!(changed(("[ldconfig]", "[ldconfig -v]")), "system");
    assert_eq!(changed(("00-ldconfig", "01-ldconfig")), "system");
    assert_eq!(changed(("{zlib-libs: base-runtime}", "{zlib-libs: base-devel}")), "base system");
    assert_eq!(changed(("daemon-.*", "daemon-bins")), "top system");
    assert_eq!(changed(("artifacts: [base-runtime]", "artifacts: [base-devel]")), "system");
    assert_eq!(changed(("- {morph: top.morph}", "")), "system");
    let dependency = ("build-depends: [{morph: base.morph}]", "build-depends: []");
    assert_eq!(changed(dependency), "top/daemon top system");
}

#[test]
fn what_changes_nothing_changes_no_key() {
    for edit in [
        ("A library", "A well-known library"),
        ("max-jobs: 4", "max-jobs: 8"),
        ("unpetrify-ref: master", "unpetrify-ref: main"),
        ("upstream:zlib", "https://example.org/zlib.git"),
        // The tree is what counts, and it comes from outside.
        ("ref: aaaa", "ref: bbbb"),
        ("[set-hostname]", "[fstab]"),
        ("repo: r, ref: a, build-system: manual", "ref: a, build-system: manual, repo: r"),
    ] {
        assert_eq!(changed(edit), "", "{edit:?}");
    }
}

#[test]
fn context_and_sources_are_covered() {
    let definitions = parse(&FILES).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    let zlib = definitions.find("zlib").unwrap();
    let digest = |kit: &str, tree: &str, time: i64| {
        let kit = |_: &Component| kit.to_owned();
        let context = KeyContext { arch: Arch::find(X86_64).unwrap(), kit: &kit };
        let source =
            |_: &Component| Ok::<_, Infallible>(SourceIdentity { tree: tree.into(), time });
        let keys = Keys::compute(&definitions, &graph, &context, source).unwrap();
        keys.key(zlib).unwrap().digest
    };
    let base = digest("kit", "tree", 1);
    assert_eq!(base, digest("kit", "tree", 1));
    assert_ne!(base, digest("other", "tree", 1));
    assert_ne!(base, digest("kit", "other", 1));
    assert_ne!(base, digest("kit", "tree", 2));

    let text = SYSTEM.replace("x86_64", "ppc64");
    let other = parse(&[FILES[0], FILES[1], FILES[2], ("system.morph", &text)]).unwrap();
    let kit = |_: &Component| "kit".to_owned();
    let context = KeyContext { arch: Arch::find(X86_64).unwrap(), kit: &kit };
    let graph = Graph::whole(&other).unwrap();
    let error = Keys::compute(&other, &graph, &context, identity).unwrap_err().to_string();
    assert_eq!(error, "the system system is for ppc64, but x86_64 was asked for");
}

#[test]
fn a_failing_source_names_the_chunk() {
    let definitions = parse(&FILES).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    let kit = |_: &Component| "kit".to_owned();
    let context = KeyContext { arch: Arch::find(X86_64).unwrap(), kit: &kit };
    let error = Keys::compute(&definitions, &graph, &context, |_| Err("no such commit"));
    assert_eq!(error.unwrap_err().to_string(), "the source of base/first: no such commit");
}

#[test]
fn a_difference_is_named_by_its_innermost_field() {
    let edited = CHUNK.replace("[./configure]", "[./configure, echo]");
    let before = record(&FILES, "zlib").inputs;
    let after = record(&[("zlib.morph", &edited), FILES[1]], "zlib").inputs;
    let changes = before.diff(&after);
    assert_eq!(
        changes,
        [Change {
            field: ["steps", "0", "commands", "1"].map(str::to_owned).to_vec(),
            before: None,
            after: Some("echo".into()),
        }]
    );
    assert!(before.diff(&before).is_empty());
}

#[test]
fn the_whole_published_gnome_system_gets_keys() {
    let Some(definitions) = published::definitions() else { return };
    let target = definitions.select("gnome-system-x86_64").unwrap();
    let graph = Graph::new(&definitions, &[target]).unwrap();
    let kit = |_: &Component| "kit".to_owned();
    let context = KeyContext { arch: Arch::find(X86_64).unwrap(), kit: &kit };
    let keys = Keys::compute(&definitions, &graph, &context, identity).unwrap();
    let distinct: std::collections::HashSet<_> =
        graph.order().iter().map(|&id| keys.key(id).unwrap()).collect();
    assert_eq!(distinct.len(), 505);
}

#[test]
fn detection_covers_the_recipes() {
    let file = |path: &str, text: &str| TextFile { path: path.into(), text: text.into() };
    let stratum = "{name: s, kind: stratum, chunks: [{name: c, repo: r, ref: a}]}";
    let digest = |defaults: &str| {
        let files = Files {
            version: Some(file("VERSION", "version: 5")),
            defaults: Some(file("DEFAULTS", defaults)),
            definitions: vec![file("s.morph", stratum)],
            unreadable: Vec::new(),
        };
        let definitions = Definitions::parse(&files, Reading::Strict).unwrap();
        let keys = compute(&definitions);
        keys.key(definitions.find("s/c").unwrap()).unwrap().digest
    };
    let make = "build-systems: {make: {indicators: [Makefile], build-commands: [make]}}";
    assert_eq!(digest(make), digest(make));
    assert_ne!(digest(make), digest(&make.replace("[make]", "[make -k]")));
    assert_ne!(digest(make), digest(&make.replace("Makefile", "GNUmakefile")));
}
