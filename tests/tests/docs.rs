//! The documentation is true: its examples run, its pages are listed, its links lead somewhere.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use outcrop_tests::console::{Block, blocks, compare, pages, script};
use outcrop_tests::{Scratch, as_user, guests_can_run, home, run, samples, shared_store};

/// Pages that teach the command line, and so must have an example that runs here.
const TEACHING: [&str; 4] =
    ["docs/layers.md", "docs/sysroot.md", "docs/operations.md", "docs/export.md"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn all_blocks() -> Vec<Block> {
    let found = |(name, text): (String, String)| {
        blocks(&name, &text).unwrap_or_else(|problem| panic!("{problem}"))
    };
    pages(&repository()).into_iter().flat_map(found).collect()
}

/// Runs the blocks, each in a new directory with the samples, and fails with all differences.
fn run_blocks(blocks: &[Block], shared: bool) {
    let mut problems = String::new();
    for block in blocks {
        if let Err(problem) = run_block(block, shared) {
            problems += &format!("\n{problem}");
        }
    }
    assert!(problems.is_empty(), "the documentation says something else:\n{problems}");
}

fn run_block(block: &Block, shared: bool) -> Result<(), String> {
    let scratch = Scratch::new();
    samples::create(&scratch);
    let store = if shared { shared_store() } else { scratch.join(".store") };
    let path =
        format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", home().join("bin").display());
    let mut command = as_user("sh");
    command
        .args(["-c", &script(block)])
        .env("PATH", path)
        .env("HOME", scratch.path())
        .env("OUTCROP_HOME", store)
        .env("EXAMPLES", outcrop_tests::examples())
        .current_dir(scratch.path());
    let said = run(&mut command);
    unmount_below(scratch.path());
    compare(block, &said.stdout)
}

/// Takes away what an example that failed half-way has left mounted.
fn unmount_below(directory: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for place in table.lines().filter_map(|line| line.split(' ').nth(4)) {
        if Path::new(place).starts_with(directory) {
            let _ = as_user("fusermount3").args(["-uz", place]).status();
        }
    }
}

fn tagged(tag: &str) -> Vec<Block> {
    all_blocks().into_iter().filter(|block| block.tag == tag).collect()
}

#[test]
fn examples_print_what_the_pages_say() {
    let found = tagged("");
    for page in TEACHING {
        let has = found.iter().any(|block| block.place.starts_with(&format!("{page}:")));
        assert!(has, "{page} has no example that runs");
    }
    run_blocks(&found, false);
}

#[test]
fn examples_with_guests_print_what_the_pages_say() {
    let found = tagged("guest");
    if !found.is_empty() && guests_can_run() {
        run_blocks(&found, true);
    }
}

#[test]
fn slow_examples_are_run_elsewhere() {
    let mut texts = Vec::new();
    for directory in ["scripts", "tests/tests"] {
        for entry in std::fs::read_dir(repository().join(directory)).unwrap().flatten() {
            // Of the systems that the demo can build, the pages show the usual one.
            let text = std::fs::read_to_string(entry.path());
            texts.extend(text.map(|text| text.replace("\"$system\"", "minimal-x86_64")));
        }
    }
    for block in all_blocks() {
        assert!(
            ["", "guest", "slow"].contains(&block.tag.as_str()),
            "{}: {}",
            block.place,
            block.tag
        );
        let Some(step) = block.steps.first() else { panic!("{} is empty", block.place) };
        let elsewhere = texts.iter().any(|text| text.contains(&step.command));
        assert!(
            block.tag != "slow" || elsewhere,
            "{}: no script and no test runs `{}`",
            block.place,
            step.command
        );
    }
}

#[test]
fn the_architecture_page_lists_every_page() {
    let architecture = std::fs::read_to_string(repository().join("docs/architecture.md")).unwrap();
    for (name, _) in pages(&repository()) {
        let Some(page) = name.strip_prefix("docs/") else { continue };
        let link = format!("]({page})");
        assert!(
            page == "architecture.md" || architecture.contains(&link),
            "docs/architecture.md does not link to {page}"
        );
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for (name, text) in pages(&repository()) {
        let directory = repository().join(&name).parent().unwrap().to_owned();
        for rest in text.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else { continue };
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            assert!(directory.join(file).exists(), "{name}: {target} leads nowhere");
        }
    }
}
