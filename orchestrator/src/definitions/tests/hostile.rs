//! No input panics, hangs or eats the machine.

use proptest::prelude::*;

use super::super::{Definitions, Files, TextFile, yaml};
use super::{parse, tree};

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
        if let Err(problems) = Definitions::parse(&files) {
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
    assert_eq!(Definitions::parse(&files).map_err(|p| p.to_string()).unwrap().len(), 5);
}

#[test]
fn nesting_ends() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", "")] {
        let deep = open.repeat(100_000) + &close.repeat(100_000);
        let all = message(&deep);
        // The scanner reads ahead in flow style and has a limit of its own.
        let ends = ["nested deeper than 64 levels", "recursion limit exceeded"];
        assert!(ends.iter().any(|end| all.contains(end)), "{all}");
    }
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
fn many_errors_are_bounded() {
    let mut text = String::from("name: s\nkind: stratum\nchunks:\n");
    for i in 0..20_000 {
        text += &format!("- {{name: c{i}, build-system: nonsense, build-depends: [d{i}]}}\n");
    }
    let problems = parse(&[("s.morph", &text)]).unwrap_err();
    assert!(problems.0.len() > 100, "{}", problems.0.len());
    assert!(problems.0.len() <= 1_001, "{}", problems.0.len());
}
