//! No input panics, hangs or eats the machine.

use proptest::prelude::*;

use super::super::{
    Arch, Component, Definitions, Files, Problem, Reading, Severity, TextFile, yaml,
};
use super::{parse, tree};
use crate::graph::Graph;
use crate::graph::check::{Checked, check};
use crate::keys::{KeyContext, Keys, SourceIdentity, ybd};

const SEED: &str = "
name: s
kind: stratum
description: |
  Some text
   with indentation
build-depends: [{morph: t.morph}]
products:
- artifact: s-x
  include: ['a.*', \"b\\n\"]
chunks:
- &anchor {name: x, build-system: manual, repo: r, ref: 1.0}
- <<: *anchor
  name: y # comment
  submodules: {sub/module: {url: u}}
  build-depends:
  - x
  artifacts: {y-libs: s-runtime}
- ? name
  : z
  morph: >-
    c.morph
";

fn feed(text: Vec<u8>) {
    for path in ["VERSION", "DEFAULTS", "s.morph"] {
        let file = TextFile { path: path.to_owned(), text: text.clone() };
        let mut files = Files::default();
        match path {
            "VERSION" => files.version = Some(file),
            "DEFAULTS" => files.defaults = Some(file),
            _ => files.definitions = vec![file],
        }
        if let Err(problems) = Definitions::parse(&files, Reading::Strict) {
            assert!(!problems.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        feed(bytes);
    }

    #[test]
    fn random_yaml(text in "[-a-c:?,&*!|>'\"%@{}\\[\\] \n\t#<~0]{0,80}") {
        feed(text.into_bytes());
    }

    #[test]
    fn mutations(edits in prop::collection::vec((0..SEED.len(), any::<u8>(), 0..4u8), 1..6)) {
        let mut bytes = SEED.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let Some(last) = bytes.len().checked_sub(1) else { break };
            let at = at.min(last);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, b" \n-:{}[]&*#'\"\\|>?!"[usize::from(byte) % 18]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        feed(bytes);
    }
}

/// On a stack that no recursion along a chain or down a deep document would fit on.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    on_a_stack_of(256, run);
}

fn on_a_stack_of(kibibytes: usize, run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(kibibytes << 10).spawn(run).unwrap();
    thread.join().unwrap();
}

fn message(text: &str) -> String {
    parse(&[("s.morph", text)]).unwrap_err().to_string()
}

#[test]
fn the_seed_is_good() {
    let files = tree(
        "8",
        &[
            ("s.morph", SEED),
            ("t.morph", "{name: t, kind: stratum, chunks: []}"),
            ("c.morph", "{name: c, kind: chunk}"),
        ],
    );
    assert_eq!(
        Definitions::parse(&files, Reading::Strict).map_err(|p| p.to_string()).unwrap().len(),
        5
    );
}

#[test]
fn nesting_ends() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
        let deep = open.repeat(100_000) + &close.repeat(100_000);
        on_a_small_stack(move || {
            let all = message(&deep);
            // The scanner reads ahead in flow style and has a limit of its own.
            let ends = ["nested deeper than 64 levels", "recursion limit exceeded"];
            assert!(ends.iter().any(|end| all.contains(end)), "{all}");
        });
    }
}

#[test]
fn aliases_do_not_nest_deeper() {
    let mut text = String::from("name: k\nkind: cluster\nsystems:\n- morph: y.morph\n  deploy:\n");
    text += "    one:\n      A0: &a0 [x]\n";
    for i in 1..1_000 {
        text += &format!("      A{i}: &a{i} [*a{}]\n", i - 1);
    }
    // serde_yaml goes down 128 levels before it ends.
    on_a_stack_of(1024, move || {
        let all = message(&text);
        assert!(all.contains("nested deeper than 64 levels"), "{all}");
    });
}

#[test]
fn expressions_do_not_nest_deeper_and_are_not_too_many() {
    let chunk = |include: &str| {
        format!("name: s\nkind: chunk\nproducts:\n- artifact: s-x\n  include: [{include}]\n")
    };
    let deep = chunk(&format!("'{}a{}'", "(".repeat(200), ")".repeat(200)));
    let many = chunk(&vec!["a{99}"; 5_000].join(", ").replace("a{99}", "'a{99}'"));
    on_a_small_stack(move || {
        assert!(message(&deep).contains("is not a usable regular expression"));
        assert!(message(&many).contains("there are 5000 regular expressions"));
    });
}

#[test]
fn expressions_that_are_too_large_together_are_told_by_a_check() {
    let include = vec!["'.{9000}'"; 900].join(", ");
    let chunk =
        format!("name: c\nkind: chunk\nproducts:\n- artifact: c-x\n  include: [{include}]\n");
    let problems = check(&tree("8", &[("c.morph", &chunk)]), Reading::Strict, false).problems;
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    let text = problem.to_string();
    assert!(text.starts_with("c.morph:4:3: error: these rules cannot be used: "), "{text}");
}

#[test]
fn defaults_of_deployments_are_not_copied_without_end() {
    let many = |line: &dyn Fn(usize) -> String| (0..20_000).map(line).collect::<String>();
    let cluster = format!(
        "name: k\nkind: cluster\nsystems:\n- morph: y.morph\n  deploy-defaults:\n{}  deploy:\n{}",
        many(&|i| format!("    P{i}: x\n")),
        many(&|i| format!("    d{i}: {{type: tar}}\n")),
    );
    let all = parse(&[
        ("k.morph", &cluster),
        ("s.morph", "{name: s, kind: stratum, chunks: []}"),
        ("y.morph", "{name: y, kind: system, arch: x86_64, strata: [{morph: s.morph}]}"),
    ]);
    let all = all.unwrap_err().to_string();
    assert!(all.contains("k.morph:4:3: error: the deployments have too many parameters"), "{all}");
}

#[test]
fn keys_that_stand_twice_are_bounded() {
    let text = String::from("name: c\nkind: chunk\n") + &"name: c\n".repeat(100_000);
    for reading in [Reading::Strict, Reading::Compatible] {
        let files = tree("8", &[("c.morph", &text)]);
        let (_, problems) = Definitions::examine(&files, reading);
        assert_eq!(problems.len(), 50);
    }
}

#[test]
fn a_chain_of_ten_thousand_needs_no_stack() {
    let mut text =
        String::from("name: s\nkind: stratum\nchunks:\n- {name: c0, build-system: manual}\n");
    for i in 1..10_000 {
        text += &format!("- {{name: c{i}, build-system: manual, build-depends: [c{}]}}\n", i - 1);
    }
    on_a_small_stack(move || {
        let system = "{name: y, kind: system, arch: x86_64, strata: [{morph: s.morph}]}";
        let files = tree("8", &[("s.morph", &text), ("y.morph", system)]);
        let Checked { definitions, problems } = check(&files, Reading::Strict, true);
        assert_eq!(problems, []);
        let graph = Graph::whole(&definitions).unwrap();
        assert_eq!(graph.critical_path(|_| 1).len(), 10_002);
        let last = definitions.find("s/c9999").unwrap();
        assert_eq!(graph.staged_dependencies(&definitions, last).len(), 9_999);
        let arch = Arch::find("x86_64").unwrap();
        let context = KeyContext { arch, kit: &|_| String::new() };
        let none = |_: &Component| Err::<SourceIdentity, _>("no chunk has a source");
        let keys = Keys::compute(&definitions, &graph, &context, none).unwrap();
        assert!(keys.key(last).is_some());
        let none = |_: &Component| Err::<String, _>("no chunk has a source");
        let keys = ybd::keys(&definitions, &graph, arch, ybd::Version::NEWEST, none).unwrap();
        assert_eq!(keys.len(), 10_002);
    });
}

#[test]
fn a_cycle_of_ten_thousand_is_told_in_few_words() {
    let mut files = Vec::new();
    for i in 0..10_000 {
        let text = format!(
            "name: s{i}\nkind: stratum\nbuild-depends: [{{morph: s{}.morph}}]\nchunks: []\n",
            (i + 1) % 10_000
        );
        files.push((format!("s{i}.morph"), text));
    }
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let files = tree("8", &files);
    on_a_small_stack(move || {
        let problems = check(&files, Reading::Strict, false).problems;
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let cycles: Vec<_> = problems.iter().filter(is_error).collect();
        assert_eq!(cycles.len(), 1, "{cycles:?}");
        assert!(cycles[0].message.starts_with("dependency cycle: s0 → s1 → "), "{cycles:?}");
        assert!(cycles[0].message.contains("→ (9980 more) → s0\n"), "{cycles:?}");
        assert!(cycles[0].message.ends_with("and 9980 more"), "{cycles:?}");
    });
}

#[test]
fn an_alias_bomb_ends() {
    let mut bomb = String::from("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for i in 1..20 {
        let alias = format!("*x{}", i - 1);
        bomb += &format!("x{i}: &x{i} [{}]\n", vec![alias; 10].join(", "));
    }
    // One way through serde_yaml, one straight to the exact reader.
    for text in
        [bomb.clone(), format!("{bomb}<<: {{}}\n"), format!("name: c\nkind: cluster\n{bomb}")]
    {
        let all = message(&text);
        assert!(all.contains("too large once its aliases are expanded"), "{all}");
    }
}

#[test]
fn an_alias_to_itself_ends() {
    let all = message("name: &a [*a]\nkind: chunk\n");
    assert!(all.contains("the alias names an anchor that is not complete here"), "{all}");
}

#[test]
fn a_huge_file_is_refused() {
    let text = format!("name: {}\n", "x".repeat(yaml::MAX_FILE));
    assert_eq!(message(&text), "s.morph: error: the file is too large to be a definition");
}

#[test]
fn a_huge_scalar_is_not_quoted_in_full() {
    let text = format!("name: c\nkind: chunk\nmax-jobs: {}\n", "9".repeat(1 << 20));
    assert!(message(&text).len() < 300);
}

#[test]
fn messages_are_bounded_whatever_they_quote() {
    let long = "x".repeat(1 << 20);
    let cases = [
        format!("name: {long}/\nkind: chunk\n"),
        format!("name: s\nkind: {long}\n"),
        format!("name: c\nkind: chunk\ndescription: &a {long}\nbuild-mode: *a\nbuild-system: *a\n"),
    ];
    for text in cases {
        let problems = parse(&[("s.morph", &text)]).unwrap_err();
        assert!(problems.to_string().len() < 10_000, "{}", problems.to_string().len());
    }
    let mut stratum = "name: s\nkind: stratum\nchunks:\n".to_owned();
    for number in 0..2_000 {
        let next = (number + 1) % 2_000;
        stratum +=
            &format!("- {{name: c{number}, build-system: manual, build-depends: [c{next}]}}\n");
    }
    let problems = parse(&[("s.morph", &stratum)]).unwrap_err().to_string();
    assert!(problems.contains("dependency cycle: ") && problems.contains("\n    and 1980 more"));
    assert!(problems.len() < 10_000, "{}", problems.len());
}

#[test]
fn many_errors_are_bounded() {
    let mut text = String::from("name: s\nkind: stratum\nchunks:\n");
    for i in 0..20_000 {
        text += &format!("- {{name: c{i}, build-system: nonsense, build-depends: [d{i}]}}\n");
    }
    let problems = parse(&[("s.morph", &text)]).unwrap_err();
    assert!(problems.0.len() > 100, "{}", problems.0.len());
    assert!(problems.0.len() <= 1_001, "{}", problems.0.len());
}

#[test]
fn many_warnings_hide_no_error() {
    let mut stratum = String::from("name: a\nkind: stratum\nchunks:\n");
    for number in 0..1_200 {
        stratum += &format!("- {{name: c{number}, build-system: manual}}\n");
    }
    let last = "name: z\nkind: stratum\nchunks: [{name: x, build-system: autotols}]\n";
    let files = super::tree("0", &[("a.morph", &stratum), ("z.morph", last)]);
    let problems = Definitions::parse(&files, Reading::Strict).unwrap_err().0;
    let errors: Vec<String> = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("autotols"), "{errors:?}");
}
