use std::collections::HashSet;
use std::convert::Infallible;

use super::explain::{Past, explain};
use super::*;
use crate::definitions::tests::{published, tree};
use crate::definitions::{Detail, Reading, TextFile};

const DEFAULTS: &str =
    "build-systems: {make: {build-commands: [make], install-commands: [make install]}}";
const ZLIB: &str = "{name: zlib, kind: chunk, build-system: manual,
configure-commands: [./configure, touch stamp], build-commands: [make]}";
const CORE: &str = "
name: core
kind: stratum
chunks:
- {name: libc, repo: r, ref: a, build-system: make}
- {name: zlib, morph: zlib.morph, repo: r, ref: a, build-depends: [libc]}
";
const NET: &str = "
name: net
kind: stratum
build-depends: [{morph: core.morph}]
chunks:
- {name: ssh, repo: r, ref: a, build-system: manual}
";
const APPS: &str = "
name: apps
kind: stratum
build-depends: [{morph: net.morph}]
chunks:
- {name: shell, repo: r, ref: a, build-system: make}
";
const SYSTEM: &str = "
name: sys
kind: system
arch: x86_64
strata: [{morph: core.morph}, {morph: apps.morph}]
";

/// Definitions with what their keys depend on besides.
#[derive(Clone)]
struct State {
    files: Vec<(&'static str, String)>,
    defaults: String,
    kit: &'static str,
    /// Chunks with another source than usual.
    edited: Vec<&'static str>,
}

fn state() -> State {
    let files = [
        ("zlib.morph", ZLIB),
        ("core.morph", CORE),
        ("net.morph", NET),
        ("apps.morph", APPS),
        ("sys.morph", SYSTEM),
    ];
    State {
        files: files.map(|(path, text)| (path, text.to_owned())).to_vec(),
        defaults: DEFAULTS.to_owned(),
        kit: "kit-a",
        edited: Vec::new(),
    }
}

impl State {
    fn with(mut self, from: &str, to: &str) -> State {
        let texts = self.files.iter_mut().map(|(_, text)| text).chain([&mut self.defaults]);
        let mut found = 0;
        for text in texts.filter(|text| text.contains(from)) {
            *text = text.replace(from, to);
            found += 1;
        }
        assert_eq!(found, 1, "`{from}` is not in one file");
        self
    }

    fn keys(&self) -> (Definitions, Graph, Keys) {
        let files: Vec<(&str, &str)> = self.files.iter().map(|(p, t)| (*p, t.as_str())).collect();
        let mut files = tree("8", &files);
        let text = self.defaults.clone().into_bytes();
        files.defaults = Some(TextFile { path: "DEFAULTS".to_owned(), text });
        let definitions = Definitions::parse(&files, Reading::Strict).unwrap();
        let graph = Graph::whole(&definitions).unwrap();
        let kit = |_: &Component| self.kit.to_owned();
        let context = KeyContext { arch: Arch::find("x86_64").unwrap(), kit: &kit };
        let source = |component: &Component| {
            let tree = match self.edited.contains(&component.path.as_str()) {
                true => "5678",
                false => "1234",
            };
            Ok::<_, Infallible>(SourceIdentity { tree: tree.to_owned(), time: 1 })
        };
        let keys = Keys::compute(&definitions, &graph, &context, source).unwrap();
        (definitions, graph, keys)
    }
}

fn has_artifact(component: &Component) -> bool {
    matches!(component.detail, Detail::Chunk(_) | Detail::System(_))
}

/// The store after everything was built at `created`, as its descriptions tell it.
fn build(past: &mut Past, built: &mut HashSet<String>, state: &State, created: u64) {
    let (definitions, _, keys) = state.keys();
    for (id, component) in definitions.iter().filter(|(_, c)| has_artifact(c)) {
        let record = keys.get(id).unwrap();
        if built.insert(record.key.to_string()) {
            let stored = |inputs: &KeyInputs| KeyInputs::from_texts(&inputs.to_texts());
            past.add_artifact(&record.key.to_string(), created, stored(&record.inputs));
            for (name, inputs) in keys.strata_below(component) {
                past.add_stratum(&name, stored(inputs));
            }
        }
    }
}

/// What is said of a state, one line for each component: itself, the reason, its changes, and in
/// parentheses what it follows.
fn said(past: &Past, built: &HashSet<String>, state: &State) -> Vec<String> {
    let (definitions, graph, keys) = state.keys();
    let lacks = |id: &ComponentId| !built.contains(&keys.key(*id).unwrap().to_string());
    let artifacts = definitions.iter().filter(|(_, c)| has_artifact(c)).map(|(id, _)| id);
    let to_build: HashSet<ComponentId> = artifacts.filter(lacks).collect();
    let explained = explain(&definitions, &graph, &keys, past, &to_build);
    let value = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    let line = |explanation: explain::Explanation| {
        let mut line = definitions.path_of(explanation.component).to_owned();
        line += if explanation.to_build { " " } else { " (not to build) " };
        line += explanation.reason.name();
        for change in explanation.changes {
            let place = change.place();
            line += &format!("; {place}: {} -> {}", value(&change.before), value(&change.after));
        }
        let because: Vec<&str> =
            explanation.because.iter().map(|&id| definitions.path_of(id)).collect();
        if !because.is_empty() {
            line += &format!(" ({})", because.join(" "));
        }
        line
    };
    explained.into_iter().map(line).collect()
}

/// What is said after `before` was built and turned into `after`.
fn explained(before: &State, after: &State) -> Vec<String> {
    let (mut past, mut built) = (Past::default(), HashSet::new());
    build(&mut past, &mut built, before, 1);
    said(&past, &built, after)
}

#[test]
fn a_source_is_the_root_and_what_is_made_with_it_follows() {
    let mut after = state();
    after.edited.push("zlib");
    let expected = [
        r#"zlib changed; source.tree: "1234" -> "5678""#,
        "net/ssh follows (zlib)",
        "apps/shell follows (zlib)",
        "sys follows (zlib)",
    ];
    assert_eq!(explained(&state(), &after), expected);
}

#[test]
fn everything_built_needs_no_explanation() {
    assert!(explained(&state(), &state()).is_empty());
}

#[test]
fn a_step_of_the_defaults_is_the_same_change_of_all_that_use_it() {
    let after = state().with("make: {build-commands: [make]", "make: {build-commands: [make -k]");
    let expected = [
        r#"core/libc changed; steps[build].commands[0]: "make" -> "make -k""#,
        "zlib follows (core/libc)",
        "net/ssh follows (core/libc)",
        r#"apps/shell changed; steps[build].commands[0]: "make" -> "make -k""#,
        "sys follows (core/libc apps/shell)",
    ];
    assert_eq!(explained(&state(), &after), expected);
}

#[test]
fn a_command_put_in_between_is_one_change() {
    let after = state().with("[./configure,", "[./configure, ./fix,");
    let said = explained(&state(), &after);
    assert_eq!(said[0], r#"zlib changed; steps[configure].commands[1]: - -> "./fix""#);
}

#[test]
fn a_prefix_is_followed_through_the_dependencies_of_dependencies() {
    let after = state().with("ref: a, build-depends: [libc]", "ref: a, prefix: /opt");
    let expected = [
        "zlib changed; dependencies[core/libc]",
        "net/ssh follows (zlib)",
        "apps/shell follows (zlib)",
        "sys follows (zlib)",
    ];
    let said = explained(&state(), &after);
    assert_eq!(said[1..], expected[1..]);
    assert!(said[0].ends_with(r#" -> -; prefix: "/usr" -> "/opt""#), "{}", said[0]);
    assert!(said[0].starts_with(expected[0]), "{}", said[0]);
}

#[test]
fn a_dependency_more_or_less_is_a_change_of_its_own() {
    let less = state().with("build-depends: [{morph: core.morph}]\n", "");
    let said = explained(&less, &state());
    assert!(said[0].starts_with("net/ssh changed; dependencies[core]: - -> \""), "{said:#?}");
    assert!(said[1].starts_with("net (not to build) changed; dependencies[core]: - -> "));
    assert_eq!(said[2..], ["apps/shell follows (net/ssh net)", "sys follows (net/ssh net)"]);
    let said = explained(&state(), &less);
    assert!(said[0].starts_with("net/ssh changed; dependencies[core]: \""), "{said:#?}");
    assert!(said[0].ends_with(" -> -"), "{said:#?}");
}

#[test]
fn a_new_member_of_a_stratum_changes_those_that_are_built_with_the_stratum() {
    let new = "- {name: extra, repo: r, ref: a, build-system: manual}\n";
    let after = state().with("- {name: libc,", &format!("{new}- {{name: libc,"));
    let said = explained(&state(), &after);
    let starts = [
        "core/extra never built",
        "core (not to build) changed; members[core/extra]: - -> ",
        "net/ssh follows (core)",
        "apps/shell follows (core)",
        "sys follows (core)",
    ];
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (line, start) in said.iter().zip(starts) {
        assert!(line.starts_with(start), "{said:#?}");
    }
}

#[test]
fn another_kit_is_one_reason_for_all_and_nothing_follows() {
    let after = State { kit: "kit-b", ..state() };
    let said = explained(&state(), &after);
    assert_eq!(said.len(), 5);
    for line in said {
        assert!(line.ends_with(r#" changed; kit: "kit-a" -> "kit-b""#), "{line}");
    }
}

#[test]
fn several_roots_are_told_apart() {
    let mut after = state().with("{name: ssh,", "{name: ssh, prefix: /opt,");
    after.edited.push("zlib");
    let expected = [
        r#"zlib changed; source.tree: "1234" -> "5678""#,
        r#"net/ssh changed; prefix: "/usr" -> "/opt" (zlib)"#,
        "apps/shell follows (zlib net/ssh)",
        "sys follows (zlib net/ssh)",
    ];
    assert_eq!(explained(&state(), &after), expected);
}

#[test]
fn a_stratum_more_or_less_is_a_change_of_the_system() {
    let before = state().with(", {morph: apps.morph}]", "]");
    let said = explained(&before, &state());
    let [system] = said.as_slice() else { panic!("{said:#?}") };
    assert!(system.starts_with("sys changed; strata[apps]: - -> {"), "{system}");
    let said = explained(&state(), &before);
    assert!(said[0].starts_with("sys changed; strata[apps]: {"), "{said:#?}");
}

#[test]
fn what_was_built_again_already_is_still_the_reason_of_the_others() {
    let (mut past, mut built) = (Past::default(), HashSet::new());
    build(&mut past, &mut built, &state(), 1);
    let mut after = state();
    after.edited.push("zlib");
    let (definitions, _, keys) = after.keys();
    let record = keys.get(definitions.find("zlib").unwrap()).unwrap();
    built.insert(record.key.to_string());
    past.add_artifact(&record.key.to_string(), 2, record.inputs.clone());
    let said = said(&past, &built, &after);
    let expected = [
        r#"zlib (not to build) changed; source.tree: "1234" -> "5678""#,
        "net/ssh follows (zlib)",
        "apps/shell follows (zlib)",
        "sys follows (zlib)",
    ];
    assert_eq!(said, expected);
}

/// As programs before this one left it: without what went into strata.
#[test]
fn artifacts_that_do_not_tell_of_strata_are_followed_to_what_is_to_be_built() {
    let (mut past, mut built) = (Past::default(), HashSet::new());
    let (definitions, _, keys) = state().keys();
    for (id, _) in definitions.iter().filter(|(_, c)| has_artifact(c)) {
        let record = keys.get(id).unwrap();
        past.add_artifact(&record.key.to_string(), 1, record.inputs.clone());
        built.insert(record.key.to_string());
    }
    let mut after = state();
    after.edited.push("zlib");
    let told = said(&past, &built, &after);
    assert_eq!(
        told[1..],
        ["net/ssh follows (zlib)", "apps/shell follows (zlib)", "sys follows (zlib)"]
    );
    // Where zlib is there, nothing tells what else of the stratum changed.
    let (definitions, _, keys) = after.keys();
    built.insert(keys.key(definitions.find("zlib").unwrap()).unwrap().to_string());
    let told = said(&past, &built, &after);
    assert!(told[0].starts_with("core (not to build) changed; staging: "), "{told:#?}");
    assert_eq!(told[1], "net/ssh follows (core)");
}

#[test]
fn the_newest_artifact_is_what_is_compared_with() {
    let (mut past, mut built) = (Past::default(), HashSet::new());
    build(&mut past, &mut built, &state(), 5);
    build(&mut past, &mut built, &state().with("name: zlib, kind", "name: zlib-ng, kind"), 4);
    let after = state().with("[./configure,", "[./configure --static,");
    let told = said(&past, &built, &after);
    let expected =
        r#"zlib changed; steps[configure].commands[0]: "./configure" -> "./configure --static""#;
    assert_eq!(told[0], expected);
}

#[test]
fn the_published_gnome_system_is_explained() {
    let Some(definitions) = published::definitions() else { return };
    let target = definitions.select("gnome-system-x86_64").unwrap();
    let graph = Graph::new(&definitions, &[target]).unwrap();
    let compute = |kit: &str, edited: Option<ComponentId>| {
        let kit = |_: &Component| kit.to_owned();
        let context = KeyContext { arch: Arch::find("x86_64").unwrap(), kit: &kit };
        let edited = edited.map(|id| definitions.path_of(id));
        let source = |component: &Component| {
            let time = i64::from(edited == Some(component.path.as_str()));
            Ok::<_, Infallible>(SourceIdentity { tree: "tree".to_owned(), time })
        };
        Keys::compute(&definitions, &graph, &context, source).unwrap()
    };
    let before = compute("kit-a", None);
    let mut past = Past::default();
    let artifacts: Vec<ComponentId> = graph
        .order()
        .iter()
        .copied()
        .filter(|&id| definitions.get(id).is_some_and(has_artifact))
        .collect();
    for &id in &artifacts {
        let record = before.get(id).unwrap();
        past.add_artifact(&record.key.to_string(), 1, record.inputs.clone());
        for (name, inputs) in before.strata_below(definitions.get(id).unwrap()) {
            past.add_stratum(&name, inputs.clone());
        }
    }
    let explained = |after: &Keys| {
        let changed = |id: &ComponentId| before.key(*id) != after.key(*id);
        let to_build: HashSet<ComponentId> = artifacts.iter().copied().filter(changed).collect();
        (to_build.len(), explain(&definitions, &graph, after, &past, &to_build))
    };
    let (number, said) = explained(&compute("kit-b", None));
    assert_eq!((number, said.len()), (artifacts.len(), artifacts.len()));
    for explanation in &said {
        let fields: Vec<String> = explanation.changes.iter().map(Change::place).collect();
        assert_eq!((fields, explanation.because.len()), (vec!["kit".to_owned()], 0));
    }
    // From the lowest chunk everything follows, through all strata.
    let lowest = artifacts[0];
    let (number, said) = explained(&compute("kit-a", Some(lowest)));
    assert!(number > artifacts.len() / 2, "{number}");
    for explanation in &said {
        let expected = if explanation.component == lowest { vec![] } else { vec![lowest] };
        assert_eq!(explanation.because, expected, "{}", definitions.path_of(explanation.component));
    }
    assert_eq!(said.len(), number);
}
