//! Whose compilers a component is built by: the host stands in for the kit's, and for no others.

#![forbid(unsafe_code)]

use outcrop_fs::sysroot::Sysroot;

use super::synthetic::LABEL;
use crate::kit::Kit;

/// What compiling goes through; one of them of an artifact makes other objects.
const PROGRAMS: [&str; 6] = ["as", "c++", "cc", "g++", "gcc", "ld"];

/// What a dependency brings in the place of one of the kit's compilers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    pub path: String,
    /// The layer's label.
    pub by: String,
}

/// The first that a build's tree has of something else than its kit; `None`: all are the kit's.
pub fn brought(kit: &Kit, tree: &Sysroot) -> Option<Brought> {
    let packages = kit.packages();
    PROGRAMS.into_iter().find_map(|name| {
        let path = format!("/usr/bin/{name}");
        let found = tree.resolve(path.as_bytes()).ok()?;
        let by = tree.provenance(found.ino)?;
        let is_kit = by == LABEL || packages.iter().any(|package| package.label == by);
        (!is_kit).then(|| Brought { path, by: by.to_owned() })
    })
}
