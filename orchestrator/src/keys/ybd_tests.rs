use std::convert::Infallible;

use super::inputs::Digest;
use super::ybd::{Record, Version, keys};
use super::*;
use crate::definitions::tests::tree;
use crate::definitions::{Reading, TextFile};

const TREE: &str = "907939e111269d9cf548e43f7d23da36d0b62bef";

const HELLO: (&str, &str) = (
    "strata/demo/hello.morph",
    "
name: hello
kind: chunk
build-commands: [make]
install-commands: ['make DESTDIR=\"$DESTDIR\" install']
",
);
const DEMO: (&str, &str) = (
    "strata/demo.morph",
    "
name: demo
kind: stratum
chunks:
- {name: hello, morph: strata/demo/hello.morph, repo: r, ref: a}
- {name: world, repo: r, ref: a, build-system: make, build-depends: [hello]}
",
);
const TOP: (&str, &str) = (
    "strata/top.morph",
    "
name: top
kind: stratum
build-depends: [{morph: strata/demo.morph}]
chunks:
- name: tool
  morph: strata/top/tool.morph
  repo: r
  ref: a
  submodules: {lib: {url: 'upstream:lib'}}
",
);
const TOOL: (&str, &str) = (
    "strata/top/tool.morph",
    "
name: tool
kind: chunk
max-jobs: 1
devices: [{type: c, filename: /dev/null, major: 1, minor: 3, permissions: '0666', uid: 0, gid: 0}]
configure-commands: []
",
);
const SYSTEM: (&str, &str) = (
    "systems/sys.morph",
    "{name: sys, kind: system, arch: x86_64, strata: [{morph: strata/top.morph}]}",
);
const OTHER: (&str, &str) = (
    "systems/arm.morph",
    "{name: arm, kind: system, arch: armv7l, strata: [{morph: strata/demo.morph}]}",
);
const CLUSTER: (&str, &str) = (
    "clusters/all.morph",
    "
name: all
kind: cluster
systems: [{morph: systems/sys.morph, subsystems: [{morph: systems/arm.morph}]}]
",
);
const DEFAULTS: &str = "
build-systems:
  manual: {strip-commands: []}
  make: {build-commands: [make], strip-commands: []}
";

/// The record of a component at a version of YBD's keys.
fn record(files: &[(&str, &str)], defaults: Option<&str>, path: &str, version: u32) -> Record {
    let mut files = tree("8", files);
    files.defaults = defaults
        .map(|text| TextFile { path: "DEFAULTS".to_owned(), text: text.as_bytes().to_vec() });
    let definitions = Definitions::parse(&files, Reading::Strict).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    let arch = Arch::find("x86_64").unwrap();
    let tree = |_: &Component| Ok::<_, Infallible>(TREE.to_owned());
    let version = Version::new(version).unwrap();
    let keys = keys(&definitions, &graph, arch, version, tree).unwrap();
    keys[&definitions.find(path).unwrap()].clone().unwrap()
}

/// What went into the key of a component of all files.
fn members(path: &str, version: u32) -> serde_json::Value {
    // As they are loaded.
    let files = [CLUSTER, DEMO, HELLO, TOP, TOOL, OTHER, SYSTEM];
    let record = record(&files, Some(DEFAULTS), path, version);
    let digest = Digest::of(record.text.as_bytes()).to_string();
    assert!(record.key.ends_with(&format!(".{digest}")), "{record:?}");
    serde_json::from_str(&record.text).unwrap()
}

fn names(path: &str, version: u32) -> String {
    let members = members(path, version);
    members.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
}

/// The stratum of YBD's example, in a tree without `DEFAULTS`.
fn hello_alone() -> String {
    DEMO.1.split_inclusive('\n').filter(|line| !line.contains("world")).collect()
}

/// The example was computed by YBD itself.
#[test]
fn a_chunk_s_text_and_key_are_those_of_ybd() {
    let record = record(&[HELLO, (DEMO.0, &hello_alone())], None, "strata/demo/hello", 8);
    assert_eq!(
        record.text,
        r#"{"arch": "x86_64", "artifact-version": 8, "build-commands": ["make"], "default-build-systems": {"build-commands": [], "configure-commands": [], "install-commands": [], "strip-commands": []}, "install-commands": ["make DESTDIR=\"$DESTDIR\" install"], "tree": "907939e111269d9cf548e43f7d23da36d0b62bef"}"#
    );
    let expected = "hello.0edf888bc0d49760148e47fffbd90aeeb24034d6458ea019ee47692aa2a27697";
    assert_eq!(record.key, expected);
}

#[test]
fn a_stratum_s_text_is_that_of_ybd() {
    let text = record(&[HELLO, (DEMO.0, &hello_alone())], None, "strata/demo", 8).text;
    assert_eq!(
        text,
        r#"{"arch": "x86_64", "artifact-version": 8, "default-build-systems": {"build-commands": [], "configure-commands": [], "install-commands": [], "strip-commands": []}, "strata/demo/hello": "hello.0edf888bc0d49760148e47fffbd90aeeb24034d6458ea019ee47692aa2a27697"}"#
    );
}

#[test]
fn only_numbers_that_there_were_are_versions() {
    assert!(Version::new(9).is_none());
    assert_eq!(Version::new(8).unwrap().to_string(), "ybd-8");
}

#[test]
fn the_version_and_the_build_systems_come_with_version_1() {
    assert_eq!(names("strata/demo/hello", 0), "arch build-commands install-commands tree");
    for version in 1..=8 {
        assert_eq!(members("strata/demo/hello", version)["artifact-version"], version);
    }
    let all = serde_json::json!({
        "make": {"build-commands": ["make"], "strip-commands": []}, "manual": {"strip-commands": []},
    });
    let systems = |path, version| members(path, version)["default-build-systems"].clone();
    assert_eq!(systems("strata/demo/world", 1), all);
    assert_eq!(systems("strata/demo", 1), all);
    for version in 2..=8 {
        assert_eq!(systems("strata/demo/world", version), all["make"]);
        assert_eq!(systems("strata/demo/hello", version), all["manual"]);
        assert_eq!(systems("strata/demo", version), all["manual"]);
    }
}

#[test]
fn paths_lose_their_ending_with_version_4() {
    for version in 1..=3 {
        let expected = "arch artifact-version default-build-systems strata/demo/hello.morph world";
        assert_eq!(names("strata/demo", version), expected);
        let all = names("clusters/all", version);
        assert!(all.ends_with("systems/arm.morph systems/sys.morph"), "{all}");
    }
    for version in 4..=8 {
        let expected =
            "arch artifact-version default-build-systems strata/demo/hello strata/demo/world";
        assert_eq!(names("strata/demo", version), expected);
    }
}

#[test]
fn strata_keep_their_dependencies_with_version_5() {
    let depends = |version| names("strata/top", version).contains("strata/demo");
    for version in 0..=4 {
        assert!(!depends(version), "{version}");
        // A chunk has those of its stratum all the same.
        assert!(names("strata/top/tool", version).contains("strata/demo"), "{version}");
    }
    for version in 5..=8 {
        assert!(depends(version), "{version}");
    }
    // Without a system that comes later, nothing takes them away.
    let files = [HELLO, DEMO, TOP, TOOL];
    assert!(
        record(&files, Some(DEFAULTS), "strata/top", 3).text.contains("\"strata/demo.morph\": ")
    );
}

#[test]
fn devices_come_with_version_6_and_jobs_with_version_7() {
    for version in 0..=8 {
        let members = members("strata/top/tool", version);
        assert_eq!(members.get("devices").is_some(), version >= 6, "{version}");
        assert_eq!(members.get("max-jobs").is_some(), version >= 7, "{version}");
        assert_eq!(members["submodules"]["lib"]["url"], "upstream:lib");
        assert!(members.get("configure-commands").is_none(), "an empty list");
    }
    let members = members("strata/top/tool", 8);
    assert_eq!(members["devices"][0]["permissions"], "0666");
    assert_eq!(members["max-jobs"], "single");
}

#[test]
fn a_system_of_another_architecture_is_false() {
    let members = members("clusters/all", 8);
    assert_eq!(members["systems/arm"], false);
    assert!(members["systems/sys"].as_str().unwrap().starts_with("sys."));
}
