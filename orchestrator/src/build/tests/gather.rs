//! What is built around a component that cannot be.

use std::collections::HashSet;

use crate::build::gather::around;
use crate::definitions::tests::parse;
use crate::graph::Graph;

const LOW: &str = "
name: low
kind: stratum
chunks:
- {name: libc, repo: r, ref: a, build-system: manual}
- {name: tool, repo: r, ref: b, build-system: manual, build-depends: [libc]}
- {name: aside, repo: r, ref: c, build-system: manual}
";
const HIGH: &str = "
name: high
kind: stratum
build-depends: [{morph: low.morph}]
chunks:
- {name: daemon, repo: r, ref: d, build-system: manual}
";
const OTHER: &str = "
name: other
kind: stratum
chunks:
- {name: notes, repo: r, ref: e, build-system: manual}
";
const SYSTEM: &str = "
name: system
kind: system
arch: x86_64
strata: [{morph: low.morph}, {morph: high.morph}, {morph: other.morph}]
";

/// Goals and lost components where the sources of some are missing.
fn without(missing: &[&str]) -> (Vec<String>, Vec<String>) {
    let files = [
        ("low.morph", LOW),
        ("high.morph", HIGH),
        ("other.morph", OTHER),
        ("system.morph", SYSTEM),
    ];
    let definitions = parse(&files).unwrap();
    let find = |path: &str| definitions.find(path).unwrap();
    let graph = Graph::new(&definitions, &[find("system")]).unwrap();
    let missing: HashSet<_> = missing.iter().map(|path| find(path)).collect();
    let rest = around(&graph, &missing);
    let paths = |ids: Vec<_>| ids.into_iter().map(|id| definitions.path_of(id).to_owned());
    (paths(rest.goals).collect(), paths(rest.lost).collect())
}

#[test]
fn everything_that_does_not_need_the_missing_is_built() {
    let (goals, lost) = without(&["low/tool"]);
    assert_eq!(goals, ["low/aside", "low/libc", "other"]);
    // A chunk of another stratum needs all of the stratum.
    assert_eq!(lost, ["low", "high/daemon", "high", "system"]);
    let (goals, lost) = without(&["high/daemon"]);
    assert_eq!(goals, ["low", "other"]);
    assert_eq!(lost, ["high", "system"]);
}

#[test]
fn a_missing_source_below_another_is_told_once() {
    let (goals, lost) = without(&["low/libc", "low/tool"]);
    assert_eq!(goals, ["low/aside", "other"]);
    assert_eq!(lost, ["low", "high/daemon", "high", "system"]);
}
