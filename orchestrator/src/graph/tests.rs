use std::collections::BTreeSet;

use proptest::prelude::*;

use super::reach::{ComponentSet, Reach};
use super::*;
use crate::definitions::tests::{parse, published};
use crate::definitions::{FilesAgain, Kind};

/// BASEROCK definitions at master, measured with another implementation of the format:
/// system, records, chunks, strata, longest chain.
const PUBLISHED: [(&str, usize, usize, usize, usize); 9] = [
    ("gnome-system-x86_64", 505, 452, 52, 69),
    ("gnome-system-armv7lhf-jetson", 500, 449, 50, 69),
    ("devel-system-x86_64-vagrant", 470, 429, 40, 59),
    ("openstack-system-x86_64", 467, 431, 35, 59),
    ("java-build-system-x86_64-generic", 412, 369, 42, 56),
    ("ivi-system-x86_64", 410, 353, 56, 64),
    ("build-system-x86_64", 255, 230, 24, 51),
    ("minimal-system-x86_64-generic", 96, 90, 5, 44),
    ("initramfs-x86_64", 29, 26, 2, 14),
];

#[test]
fn published_systems_have_the_known_closures() {
    let Some(definitions) = published::definitions() else { return };
    for row in PUBLISHED {
        let target = definitions.select(row.0).unwrap();
        let graph = Graph::new(&definitions, &[target]).unwrap();
        let count = |kind| {
            let of_kind = |id: &&ComponentId| definitions.get(**id).unwrap().kind() == kind;
            graph.order().iter().filter(of_kind).count()
        };
        let chain = graph.critical_path(|_| 1).len();
        let found = (row.0, graph.len(), count(Kind::Chunk), count(Kind::Stratum), chain);
        assert_eq!(found, row);
    }
}

fn id(definitions: &Definitions, path: &str) -> ComponentId {
    definitions.find(path).unwrap()
}

fn paths(definitions: &Definitions, ids: &[ComponentId]) -> Vec<String> {
    ids.iter().map(|&id| definitions.path_of(id).to_owned()).collect()
}

const TOOLS: &str = "
name: tools
kind: stratum
chunks:
- {name: stage1, repo: r, ref: a, build-system: manual, build-mode: bootstrap, prefix: /tools}
- {name: stage2, repo: r, ref: b, build-system: manual, build-mode: bootstrap, prefix: /tools, build-depends: [stage1]}
- {name: libc, repo: r, ref: c, build-system: manual, build-depends: [stage2]}
- {name: compiler, repo: r, ref: d, build-system: manual, build-depends: [libc]}
";
const BASE: &str = "
name: base
kind: stratum
build-depends: [{morph: tools.morph}]
chunks:
- {name: zlib, repo: r, ref: e, build-system: manual}
- {name: alpha, repo: r, ref: f, build-system: manual, build-depends: [zlib]}
";
const TOP: &str = "
name: top
kind: stratum
build-depends: [{morph: base.morph}]
chunks:
- {name: daemon, repo: r, ref: 9, build-system: manual}
";

fn staged(definitions: &Definitions, path: &str) -> Vec<String> {
    let graph = Graph::whole(definitions).unwrap();
    paths(definitions, &graph.staged_dependencies(definitions, id(definitions, path)))
}

#[test]
fn bootstrap_chunks_are_seen_only_by_name_or_by_their_own() {
    let definitions =
        parse(&[("tools.morph", TOOLS), ("base.morph", BASE), ("top.morph", TOP)]).unwrap();
    let staged = |path| staged(&definitions, path);
    assert_eq!(staged("tools/stage1"), Vec::<String>::new());
    assert_eq!(staged("tools/stage2"), ["tools/stage1"]);
    // Named directly: stage2; what stage2 was built with stays out.
    assert_eq!(staged("tools/libc"), ["tools/stage2"]);
    assert_eq!(staged("tools/compiler"), ["tools/libc"]);
    assert_eq!(staged("base/zlib"), ["tools/libc", "tools/compiler"]);
    assert_eq!(staged("top/daemon"), ["tools/libc", "tools/compiler", "base/zlib", "base/alpha"]);
}

fn reach_is_what_walking_finds(definitions: &Definitions) -> usize {
    let graph = Graph::whole(definitions).unwrap();
    let mut reach = Reach::new(&graph, definitions);
    let mut found = 0;
    for &id in graph.order() {
        let walked = match definitions.get(id).unwrap().kind() {
            Kind::Chunk => graph.staged_dependencies(definitions, id),
            Kind::System => graph.system_chunks(definitions, id),
            _ => Vec::new(),
        };
        let mut walked: Vec<_> = walked.iter().map(|&id| reach.place(id).unwrap()).collect();
        walked.sort_unstable();
        let set = reach.needs(id);
        assert_eq!(set.iter().collect::<Vec<_>>(), walked, "{}", definitions.path_of(id));
        assert_eq!(set.last(), walked.last().copied());
        found += walked.len();
    }
    found
}

#[test]
fn sets_of_all_components_are_what_walking_from_each_finds() {
    let small = parse(&[("tools.morph", TOOLS), ("base.morph", BASE), ("top.morph", TOP)]).unwrap();
    assert_eq!(reach_is_what_walking_finds(&small), 12);
    let Some(published) = published::definitions() else { return };
    assert!(reach_is_what_walking_finds(&published) > 10_000);
}

proptest! {
    #[test]
    fn sets_of_components_are_sets(
        one in prop::collection::btree_set(0usize..300, 0..40),
        other in prop::collection::btree_set(0usize..300, 0..40),
    ) {
        let set = |places: &BTreeSet<usize>| {
            let mut set = ComponentSet::default();
            places.iter().for_each(|&place| set.insert(place));
            set
        };
        let after = |change: fn(&mut ComponentSet, &ComponentSet)| {
            let mut changed = set(&one);
            change(&mut changed, &set(&other));
            changed.iter().collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(after(ComponentSet::add), &one | &other);
        prop_assert_eq!(after(ComponentSet::remove), &one - &other);
        prop_assert_eq!(after(ComponentSet::keep), &one & &other);
        prop_assert_eq!(set(&one).last(), one.last().copied());
    }
}

#[test]
fn every_staged_chunk_follows_what_it_was_built_from() {
    let Some(definitions) = published::definitions() else { return };
    let graph = Graph::new(&definitions, &[definitions.select("gnome-system-x86_64").unwrap()]);
    let graph = graph.unwrap();
    let mut pairs = 0;
    for &chunk in graph.order() {
        let staged = graph.staged_dependencies(&definitions, chunk);
        let place: HashMap<_, _> = staged.iter().zip(0..).collect();
        for (i, id) in staged.iter().enumerate() {
            for dependency in graph.dependencies(*id) {
                if let Some(&j) = place.get(&dependency) {
                    assert!(j < i);
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 1000, "only {pairs} pairs were compared");
}

#[test]
fn a_cycle_is_printed_by_names() {
    let a = "{name: a, kind: stratum, build-depends: [{morph: b.morph}],
        chunks: [{name: x, repo: r, ref: a, build-system: manual}]}";
    let b = a.replace("name: a", "name: b").replace("b.morph", "a.morph");
    let definitions = parse(&[("a.morph", a), ("b.morph", &b)]).unwrap();
    let cycle = Graph::whole(&definitions).unwrap_err();
    assert_eq!(cycle.to_string(), "dependency cycle: a → b → a");
}

#[test]
fn the_shortest_way_leads_through_what_is_needed() {
    let definitions =
        parse(&[("tools.morph", TOOLS), ("base.morph", BASE), ("top.morph", TOP)]).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    let way = |from, to| {
        let way = graph.shortest_way(id(&definitions, from), id(&definitions, to));
        way.map(|way| paths(&definitions, &way))
    };
    assert_eq!(way("top", "base/zlib").unwrap(), ["top", "base", "base/zlib"]);
    assert_eq!(way("base/alpha", "tools/libc").unwrap(), ["base/alpha", "tools", "tools/libc"]);
    assert_eq!(way("top", "top").unwrap(), ["top"]);
    assert_eq!(way("base/zlib", "base/alpha"), None);
}

#[test]
fn places_of_references_are_found_in_the_files() {
    let files = [("tools.morph", TOOLS), ("base.morph", BASE), ("top.morph", TOP)];
    let definitions = parse(&files).unwrap();
    let text = |file: &str| {
        files.iter().find(|(path, _)| *path == file).map(|(_, text)| (*text).to_owned())
    };
    let place = |from, to| {
        let (from, to) = (id(&definitions, from), id(&definitions, to));
        definitions.reference(from, to, &mut FilesAgain::new(text)).unwrap().to_string()
    };
    // Lines begin with an empty one.
    assert_eq!(place("top", "base"), "top.morph:4:25");
    assert_eq!(place("base", "base/alpha"), "base.morph:7:3");
    assert_eq!(place("base/alpha", "base/zlib"), "base.morph:7:72");
    // Said for all chunks of the stratum.
    assert_eq!(place("base/alpha", "tools"), "base.morph:4:25");
    let (top, base) = (id(&definitions, "top"), id(&definitions, "base"));
    let unread = definitions.reference(top, base, &mut FilesAgain::new(|_: &str| None));
    assert_eq!(unread.unwrap().to_string(), "top.morph");
}

#[test]
fn a_chain_of_ten_thousand_is_no_trouble() {
    let mut stratum = String::from("name: s\nkind: stratum\nchunks:\n");
    for i in 0..10_000 {
        stratum += &format!("- {{name: c{i}, repo: r, ref: a, build-system: manual");
        if i > 0 {
            stratum += &format!(", build-depends: [c{}]", i - 1);
        }
        stratum += "}\n";
    }
    let definitions = parse(&[("s.morph", &stratum)]).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    assert_eq!(graph.critical_path(|_| 1).len(), 10_001);
    let last = id(&definitions, "s/c9999");
    assert_eq!(graph.staged_dependencies(&definitions, last).len(), 9_999);
}

#[test]
fn the_critical_path_follows_the_weights() {
    let definitions =
        parse(&[("tools.morph", TOOLS), ("base.morph", BASE), ("top.morph", TOP)]).unwrap();
    let graph = Graph::whole(&definitions).unwrap();
    let weight = |id| match definitions.path_of(id) {
        "base/zlib" => 100,
        "top/daemon" => 10,
        _ => 1,
    };
    let remaining = graph.remaining(weight);
    // zlib, alpha, base, daemon, top.
    assert_eq!(remaining[&id(&definitions, "base/zlib")], 100 + 1 + 1 + 10 + 1);
    let path = paths(&definitions, &graph.critical_path(weight));
    assert_eq!(path[path.len() - 5..], ["base/zlib", "base/alpha", "base", "top/daemon", "top"]);
}
