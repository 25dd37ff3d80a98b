//! The published Baserock definitions, if they are on this machine.

use std::path::PathBuf;

use super::super::{Definitions, Kind, Problems, Reading, Severity, load};
use crate::graph::check::check;

/// The directory with the published definitions; says so when there is none.
pub(crate) fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os("OUTCROP_TEST_DEFINITIONS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/baserock-definitions")),
        PathBuf::from,
    );
    if directory.join("VERSION").is_file() {
        return Some(directory);
    }
    eprintln!(
        "SKIPPED: no definitions in {}; set OUTCROP_TEST_DEFINITIONS to a checkout of them",
        directory.display()
    );
    None
}

pub(crate) fn definitions() -> Option<Definitions> {
    let loaded = load::load(&directory()?, Reading::Strict);
    Some(loaded.unwrap_or_else(|Problems(all)| {
        panic!("{}", all.iter().map(|p| format!("{p}\n")).collect::<String>())
    }))
}

#[test]
fn the_published_tree_has_nothing_wrong() {
    let Some(directory) = directory() else { return };
    let files = load::read_files(&directory);
    let told = |unused| {
        let problems = check(&files, Reading::Strict, unused).problems;
        assert!(problems.iter().all(|p| p.severity == Severity::Warning), "{problems:?}");
        problems.len()
    };
    // As another program has counted.
    assert_eq!(told(true) - told(false), 6, "files of chunks that no stratum has");
}

#[test]
fn the_published_tree_loads() {
    let Some(definitions) = definitions() else { return };
    assert_eq!(definitions.version, 8);
    assert_eq!(definitions.len(), 1359);
    let count = |kind| definitions.iter().filter(|(_, c)| c.kind() == kind).count();
    assert_eq!(count(Kind::Chunk), 503 + 583);
    assert_eq!(count(Kind::Stratum), 146);
    assert_eq!(count(Kind::System), 87);
    assert_eq!(count(Kind::Cluster), 40);
    assert!(definitions.warnings.len() < 10, "{:?}", definitions.warnings);
}
