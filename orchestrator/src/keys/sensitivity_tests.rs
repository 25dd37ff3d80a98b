//! Every field of the format, whose keys it changes, and whose it does not.

use std::convert::Infallible;

use super::*;
use crate::definitions::tests::tree;
use crate::definitions::{
    BuildSystem, Chunk, Cluster, ClusterSystem, Defaults, Deployment, Device, Member, Reading,
    Source, SplitRule, StepName, Stratum, Submodule, System, SystemStratum, TextFile,
};

const DEFAULTS: &str = "
build-systems:
  make: {indicators: [Makefile], build-commands: [make], strip-commands: [strip]}
  manual: {}
split-rules:
  chunk: [{artifact: -bins, include: [usr/bin/.*]}, {artifact: -misc, include: ['.*']}]
  stratum: [{artifact: -runtime, include: ['.*-bins']}, {artifact: -rest, include: ['.*']}]
";
const ZLIB: &str = "
name: zlib
kind: chunk
description: A library
max-jobs: 4
devices: [{type: c, filename: /dev/zero, major: 1, minor: 5, permissions: '0666', uid: 10, gid: 20}]
products: [{artifact: zlib-extra, include: ['etc/.*']}]
system-integration: {zlib-bins: {00-ldconfig: [ldconfig]}}
";
const CORE: &str = "
name: core
kind: stratum
description: The core
chunks:
- {name: first, repo: r, ref: a, build-system: manual}
- {name: second, repo: r, ref: a, build-system: manual}
- name: zlib
  morph: zlib.morph
  repo: upstream:zlib
  ref: aaaa
  unpetrify-ref: master
  sha: 1111111111111111111111111111111111111111
  submodules: {lib: {url: 'upstream:lib', submodules: {deep: {url: 'upstream:deep'}}}}
  build-depends: [first, second]
  build-mode: staging
  prefix: /opt
  artifacts: {zlib-bins: core-runtime}
- {name: maker, repo: r, ref: a, build-system: make, prefix: /usr}
";
const TOP: &str = "
name: top
kind: stratum
build-depends: [{morph: core.morph}]
chunks:
- {name: daemon, repo: r, ref: a, build-system: manual}
products: [{artifact: -daemon, include: ['daemon-.*']}]
";
const SYSTEM: &str = "
name: sys
kind: system
arch: x86_64
strata:
- {morph: core.morph, artifacts: [core-runtime]}
- {name: label, morph: top.morph}
configuration-extensions: [set-hostname]
";
const CLUSTER: &str = "
name: all
kind: cluster
systems:
- morph: sys.morph
  deploy: {machine: {type: tar, location: machine.tar}}
  deploy-defaults: {HOSTNAME: machine}
  subsystems: [{morph: sys.morph, deploy: {rescue: {type: initramfs, location: boot}}}]
";
const FILES: [(&str, &str); 6] = [
    ("DEFAULTS", DEFAULTS),
    ("zlib.morph", ZLIB),
    ("core.morph", CORE),
    ("top.morph", TOP),
    ("sys.morph", SYSTEM),
    ("all.morph", CLUSTER),
];

/// All components that a row may name.
const COMPONENTS: [&str; 9] =
    ["core/first", "core/second", "zlib", "core/maker", "top/daemon", "core", "top", "sys", "all"];

/// zlib, and what is made from it.
const FROM_ZLIB: &str = "zlib top/daemon core top sys all";
const FROM_MAKER: &str = "core/maker top/daemon core top sys all";
const FROM_CORE: &str = "core sys all";
const NOTHING: &str = "";

fn definitions(files: &[(&str, String)]) -> Definitions {
    let (defaults, rest): (Vec<_>, Vec<_>) =
        files.iter().partition(|(path, _)| *path == "DEFAULTS");
    let rest: Vec<(&str, &str)> = rest.into_iter().map(|(p, t)| (*p, t.as_str())).collect();
    let mut files = tree("8", &rest);
    files.defaults = defaults
        .first()
        .map(|(path, text)| TextFile { path: (*path).to_owned(), text: text.clone().into() });
    Definitions::parse(&files, Reading::Strict).unwrap_or_else(|problems| panic!("{problems}"))
}

fn digests(definitions: &Definitions, tree: &str, time: i64, kit: &str) -> Vec<String> {
    let graph = Graph::whole(definitions).unwrap();
    let kit = |_: &Component| kit.to_owned();
    let context = KeyContext { arch: Arch::find("x86_64").unwrap(), kit: &kit };
    let source = |component: &Component| {
        let tree = if component.path == "zlib" { tree } else { "other" };
        Ok::<_, Infallible>(SourceIdentity { tree: tree.to_owned(), time })
    };
    let keys = Keys::compute(definitions, &graph, &context, source).unwrap();
    let digest = |path: &&str| {
        let id = definitions.find(path);
        id.map_or("none".to_owned(), |id| keys.key(id).unwrap().digest.to_string())
    };
    COMPONENTS.iter().map(digest).collect()
}

fn changed(before: &[String], after: &[String]) -> String {
    let pairs = COMPONENTS.iter().zip(before.iter().zip(after));
    let changed = pairs.filter(|(_, (a, b))| a != b).map(|(path, _)| *path);
    changed.collect::<Vec<_>>().join(" ")
}

/// Whose keys an edit of one file changes.
fn edited(file: &str, from: &str, to: &str) -> String {
    let whole: Vec<(&str, String)> = FILES.map(|(path, text)| (path, text.to_owned())).to_vec();
    let edit = |(path, text): &(&'static str, String)| {
        let text = if *path == file { text.replacen(from, to, 1) } else { text.clone() };
        (*path, text)
    };
    let after: Vec<(&str, String)> = whole.iter().map(edit).collect();
    assert_ne!(whole, after, "{file} has no `{from}`");
    let digests = |files| digests(&definitions(files), "tree", 1, "kit");
    changed(&digests(&whole), &digests(&after))
}

/// Names of a type's fields. It does not compile where one is missing.
macro_rules! fields {
    ($($type:ident { $($field:ident),* $(,)? })*) => {{
        $(let _ = |value: $type| { let $type { $($field: _),* } = value; };)*
        vec![$($(concat!(stringify!($type), ".", stringify!($field))),*),*]
    }};
}

/// Every field of the model. What says what a component is: name, path, kind and the file of its
/// description are in the rows of [`Component`].
fn model() -> Vec<&'static str> {
    fields! {
        Component { path, name, description, file, detail }
        Chunk {
            source, build_system, detected, build_mode, prefix, max_jobs, steps, build_depends, products,
            integration, devices,
        }
        Source { repo, reference, unpetrify_ref, sha, sha256, patches, submodules }
        Submodule { url, submodules }
        Device { kind, filename, major, minor, permissions, uid, gid }
        SplitRule { artifact, include }
        Stratum { build_depends, members, products }
        Member { chunk, artifacts }
        System { arch, strata, configuration_extensions }
        SystemStratum { stratum, artifacts }
        Cluster { systems }
        ClusterSystem { system, deployments, subsystems }
        Deployment { label, parameters }
        BuildSystem { steps, strip, indicators }
        Defaults { build_systems, chunk_rules, stratum_rules }
    }
}

/// An edit, the field that it is about, and whose keys it changes.
struct Row {
    field: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    changes: &'static str,
}

const fn row(
    field: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    changes: &'static str,
) -> Row {
    Row { field, file, from, to, changes }
}

/// `COMPONENTS` in the order of the list.
const EVERYTHING: &str = "core/first core/second zlib core/maker top/daemon core top sys all";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("Component.name", "zlib.morph", "name: zlib\n", "name: zlib-ng\n", FROM_ZLIB),
    row("Component.path", "core.morph", "{name: maker,", "{name: maker-2,", FROM_MAKER),
    row("Component.description", "zlib.morph", "A library", "A known library", NOTHING),
    row("Component.description", "core.morph", "The core", "Core", NOTHING),
    row("Component.file", "core.morph", "kind: stratum\n", "kind: stratum\n\n# A comment moves lines.\n", NOTHING),
    row("Component.detail", "top.morph", "chunks:\n", "chunks:\n- {name: more, build-system: manual}\n", "top sys all"),

    row("Chunk.source", "core.morph", "  repo: upstream:zlib\n  ref: aaaa\n  unpetrify-ref: master\n  sha: 1111111111111111111111111111111111111111\n", "", FROM_ZLIB),
    row("Chunk.build_system", "core.morph", "ref: a, build-system: make", "ref: a, build-system: manual", FROM_MAKER),
    row("Chunk.build_mode", "core.morph", "build-mode: staging", "build-mode: test", FROM_ZLIB),
    row("Chunk.build_mode", "core.morph", "  build-mode: staging\n", "", NOTHING),
    row("Chunk.prefix", "core.morph", "prefix: /opt", "prefix: /srv", FROM_ZLIB),
    // What is the default may be said.
    row("Chunk.prefix", "core.morph", ", prefix: /usr}", "}", NOTHING),
    row("Chunk.max_jobs", "zlib.morph", "max-jobs: 4", "max-jobs: 1", FROM_ZLIB),
    row("Chunk.max_jobs", "zlib.morph", "max-jobs: 4", "max-jobs: 8", NOTHING),
    row("Chunk.max_jobs", "zlib.morph", "max-jobs: 4\n", "", NOTHING),
    row("Chunk.build_depends", "core.morph", "build-depends: [first, second]", "build-depends: [second, first]", NOTHING),
    row("Chunk.build_depends", "core.morph", "build-depends: [first, second]", "build-depends: [first]", FROM_ZLIB),
    row("Chunk.products", "zlib.morph", "products: [", "products: [] #[", FROM_CORE),
    row("Chunk.integration", "zlib.morph", "[ldconfig]", "[ldconfig -v]", "sys all"),
    row("Chunk.integration", "zlib.morph", "00-ldconfig", "01-ldconfig", "sys all"),
    row("Chunk.integration", "zlib.morph", "{zlib-bins: {00", "{zlib-misc: {00", "sys all"),
    row("Chunk.devices", "zlib.morph", "devices:", "devices: []\n#", FROM_ZLIB),

    row("Source.repo", "core.morph", "upstream:zlib", "https://example.org/zlib.git", NOTHING),
    // The tree is what counts, and it comes from outside.
    row("Source.reference", "core.morph", "ref: aaaa", "ref: bbbb", NOTHING),
    row("Source.unpetrify_ref", "core.morph", "unpetrify-ref: master", "unpetrify-ref: main", NOTHING),
    row("Source.sha", "core.morph", "sha: 1111111111111111111111111111111111111111", "sha: 2222222222222222222222222222222222222222", NOTHING),
    row("Source.sha256", "core.morph", "  sha: 1111111111111111111111111111111111111111\n", "  sha256: 1111111111111111111111111111111111111111111111111111111111111111\n", NOTHING),
    row("Source.patches", "core.morph", "  repo: upstream:zlib", "  patches: true\n  repo: upstream:zlib", NOTHING),
    // Their commits are in the tree.
    row("Source.submodules", "core.morph", "  submodules: {lib: {url: 'upstream:lib', submodules: {deep: {url: 'upstream:deep'}}}}\n", "", NOTHING),
    row("Submodule.url", "core.morph", "upstream:lib", "upstream:lib2", NOTHING),
    row("Submodule.submodules", "core.morph", "upstream:deep", "upstream:deep2", NOTHING),

    row("Device.kind", "zlib.morph", "type: c", "type: b", FROM_ZLIB),
    row("Device.filename", "zlib.morph", "/dev/zero", "/dev/null", FROM_ZLIB),
    row("Device.major", "zlib.morph", "major: 1", "major: 2", FROM_ZLIB),
    row("Device.minor", "zlib.morph", "minor: 5", "minor: 6", FROM_ZLIB),
    row("Device.permissions", "zlib.morph", "'0666'", "'0660'", FROM_ZLIB),
    row("Device.permissions", "zlib.morph", "'0666'", "'666'", NOTHING),
    row("Device.uid", "zlib.morph", "uid: 10", "uid: 11", FROM_ZLIB),
    row("Device.gid", "zlib.morph", "gid: 20", "gid: 21", FROM_ZLIB),

    row("SplitRule.artifact", "zlib.morph", "zlib-extra", "zlib-more", FROM_CORE),
    row("SplitRule.include", "zlib.morph", "etc/.*", "var/.*", FROM_CORE),

    row("Stratum.build_depends", "top.morph", "build-depends: [{morph: core.morph}]\n", "", "top/daemon top sys all"),
    row("Stratum.members", "core.morph", "- {name: maker, repo: r, ref: a, build-system: make, prefix: /usr}\n", "", FROM_MAKER),
    row("Stratum.products", "top.morph", "'daemon-.*'", "'daemon-bins'", "top sys all"),
    row("Member.chunk", "core.morph", "name: first, repo: r, ref: a, build-system: manual}\n- {name: second, repo: r, ref: a, build-system: manual}", "name: second, repo: r, ref: a, build-system: manual}\n- {name: first, repo: r, ref: a, build-system: manual}", NOTHING),
    row("Member.artifacts", "core.morph", "zlib-bins: core-runtime", "zlib-bins: core-rest", FROM_CORE),

    row("System.strata", "sys.morph", "- {name: label, morph: top.morph}\n", "", "sys all"),
    row("System.strata", "sys.morph", "name: label, ", "", NOTHING),
    row("System.configuration_extensions", "sys.morph", "[set-hostname]", "[fstab]", NOTHING),
    row("SystemStratum.stratum", "sys.morph", "label, morph: top.morph", "label, morph: core.morph", "sys all"),
    row("SystemStratum.artifacts", "sys.morph", "artifacts: [core-runtime]", "artifacts: [core-rest]", "sys all"),
    row("SystemStratum.artifacts", "sys.morph", "artifacts: [core-runtime]", "artifacts: [core-runtime, core-runtime]", NOTHING),

    row("Cluster.systems", "all.morph", "systems:\n", "systems:\n- {morph: sys.morph, deploy: {third: {type: tar, location: x}}}\n", "all"),
    row("ClusterSystem.system", "sys.morph", "name: sys\n", "name: sys-2\n", "sys all"),
    row("ClusterSystem.deployments", "all.morph", "  deploy: {machine: {type: tar, location: machine.tar}}\n", "", "all"),
    row("ClusterSystem.subsystems", "all.morph", "  subsystems: [{morph: sys.morph, deploy: {rescue: {type: initramfs, location: boot}}}]\n", "", "all"),
    row("Deployment.label", "all.morph", "rescue:", "spare:", "all"),
    row("Deployment.parameters", "all.morph", "HOSTNAME: machine", "HOSTNAME: other", "all"),
    row("Deployment.parameters", "all.morph", "location: boot", "location: boot2", "all"),

    row("BuildSystem.strip", "DEFAULTS", "strip-commands: [strip]", "strip-commands: []", FROM_MAKER),
    // Nothing is detected since version 6.
    row("BuildSystem.indicators", "DEFAULTS", "indicators: [Makefile]", "indicators: [GNUmakefile]", NOTHING),
    row("Defaults.build_systems", "DEFAULTS", "  manual: {}", "  manual: {}\n  unused: {build-commands: [x]}", NOTHING),
    row("Defaults.chunk_rules", "DEFAULTS", "usr/bin/.*", "bin/.*", "core top sys all"),
    row("Defaults.stratum_rules", "DEFAULTS", "'.*-bins'", "'.*-libs'", "core top sys all"),
];

/// Fields that other tests are about: lists of steps and detection below, and the architecture, for
/// which no two systems share a key.
const ELSEWHERE: [&str; 4] = ["Chunk.detected", "Chunk.steps", "BuildSystem.steps", "System.arch"];

#[test]
fn every_field_of_the_model_has_a_row() {
    let model = model();
    for field in &model {
        let has_row = ROWS.iter().any(|row| row.field == *field);
        assert!(has_row != ELSEWHERE.contains(field), "{field} needs a row, and in one place");
    }
    for row in ROWS {
        assert!(model.contains(&row.field), "the model has no {}", row.field);
    }
}

#[test]
fn each_field_changes_whose_keys_it_must_and_no_others() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let found = edited(row.file, row.from, row.to);
        if found != row.changes {
            wrong.push(format!("{}, {:?}: [{found}], not [{}]", row.field, row.from, row.changes));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_list_of_steps_changes_its_chunk_s_key_and_an_empty_one_does_not() {
    for name in StepName::ALL {
        let field = name.field();
        let list = |commands: &str| format!("max-jobs: 4\n{field}: {commands}\n");
        assert_eq!(edited("zlib.morph", "max-jobs: 4\n", &list("[x]")), FROM_ZLIB, "{field}");
        assert_eq!(edited("zlib.morph", "max-jobs: 4\n", &list("[]")), NOTHING, "{field}");
    }
}

#[test]
fn each_list_of_steps_of_a_build_system_changes_the_keys_of_those_that_use_it() {
    for name in StepName::ALL {
        let field = name.field();
        let from = match name {
            StepName::Build => "build-commands: [make]",
            StepName::Strip => "strip-commands: [strip]",
            _ => "indicators: [Makefile]",
        };
        let found = edited("DEFAULTS", from, &format!("{field}: [x]"));
        // How is no matter: what was installed is stripped without running these commands.
        let expected = if name == StepName::Strip { NOTHING } else { FROM_MAKER };
        assert_eq!(found, expected, "{field}");
    }
}

#[test]
fn the_key_of_a_chunk_that_is_detected_covers_what_detection_depends_on() {
    let digest = |indicator: &str, entry: &str| {
        let stratum = format!("name: s\nkind: stratum\nchunks: [{entry}]\n");
        let mut files = tree("8", &[("s.morph", &stratum)]);
        let text = format!("build-systems: {{make: {{indicators: [{indicator}]}}}}\n").into();
        files.defaults = Some(TextFile { path: "DEFAULTS".to_owned(), text });
        let definitions = Definitions::parse(&files, Reading::Compatible).unwrap();
        let graph = Graph::whole(&definitions).unwrap();
        let context =
            KeyContext { arch: Arch::find("x86_64").unwrap(), kit: &|_| "kit".to_owned() };
        let none = |_: &Component| Err::<SourceIdentity, _>("no chunk has a source");
        let keys = Keys::compute(&definitions, &graph, &context, none).unwrap();
        keys.key(definitions.find("s/x").unwrap()).unwrap().digest.to_string()
    };
    let (detected, named) = ("{name: x}", "{name: x, build-system: manual}");
    assert_ne!(digest("Makefile", detected), digest("GNUmakefile", detected));
    assert_eq!(digest("Makefile", named), digest("GNUmakefile", named));
    assert_ne!(digest("Makefile", detected), digest("Makefile", named));
}

#[test]
fn sources_kits_and_architectures_are_covered() {
    let files: Vec<(&str, String)> = FILES.map(|(path, text)| (path, text.to_owned())).to_vec();
    let whole = definitions(&files);
    let usual = digests(&whole, "tree", 1, "kit");
    assert_eq!(changed(&usual, &digests(&whole, "edited", 1, "kit")), FROM_ZLIB);
    assert_eq!(changed(&usual, &digests(&whole, "tree", 2, "kit")), EVERYTHING);
    assert_eq!(changed(&usual, &digests(&whole, "tree", 1, "another")), EVERYTHING);
    let parts: Vec<(&str, String)> =
        files.into_iter().filter(|(path, _)| !["sys.morph", "all.morph"].contains(path)).collect();
    let parts = definitions(&parts);
    let graph = Graph::whole(&parts).unwrap();
    let keys_for = |arch: &str| {
        let kit = |_: &Component| "kit".to_owned();
        let context = KeyContext { arch: Arch::find(arch).unwrap(), kit: &kit };
        let source = |_: &Component| {
            Ok::<_, Infallible>(SourceIdentity { tree: "tree".to_owned(), time: 1 })
        };
        Keys::compute(&parts, &graph, &context, source).unwrap()
    };
    let (a, b) = (keys_for("x86_64"), keys_for("ppc64"));
    for &id in graph.order() {
        assert_ne!(a.key(id), b.key(id), "{}", parts.path_of(id));
    }
}
