//! The tree of a failed build, kept for `outcrop shell --failed`.
//!
//! `failed/<key>/` holds what the build has changed anywhere in its sysroot
//! (docs/kept-changes.md); the layers below it are found by the same plan again. Nothing is copied,
//! so a full disk does not prevent it.

use std::path::PathBuf;

use super::error::{BuildError, Result};
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking};
use crate::store::{Artifact, Key, remove_tree};

/// Hands on how a build ended. Where it failed, its tree and its guest's console are kept.
pub async fn keep_on_failure(
    workshop: &Workshop,
    component: &str,
    key: &Key,
    tree: &GuestTree,
    outcome: Result<Artifact>,
) -> Result<Artifact> {
    if outcome.is_err() {
        keep(workshop, component, key, tree).await;
    }
    outcome.map_err(|mut error| {
        workshop.keep_console(key, &mut error);
        error
    })
}

/// Keeps what it can; a failure to keep must not hide the failure of the build.
async fn keep(workshop: &Workshop, component: &str, key: &Key, tree: &GuestTree) {
    let directory = workshop.store.failed_path(key);
    let draft = workshop.store.temporary_path();
    let sysroot = tree.sysroot.clone();
    tree.release_reserve();
    let kept = blocking(move || {
        let outcome = std::fs::create_dir(&draft)
            .map_err(|source| outcrop_fs::Error::host("cannot create", &draft, source))
            .and_then(|()| sysroot.keep(&draft))
            .map_err(BuildError::from)
            .and_then(|()| {
                remove_tree(&directory)?;
                let place = |source| outcrop_fs::Error::host("cannot create", &directory, source);
                Ok(std::fs::rename(&draft, &directory).map_err(place)?)
            });
        if outcome.is_err() {
            // It may be what fills the disk.
            remove_tree(&draft)?;
        }
        outcome
    })
    .await;
    if let Err(error) = kept {
        log::warn!("{component}: the failed tree could not be kept: {error}");
    }
}

/// Where the tree of a failed build is kept; no garbage collection removes it from then on.
pub fn kept(workshop: &Workshop, component: &str, key: &Key) -> Result<PathBuf> {
    let directory = workshop.store.failed_path(key);
    workshop.store.hold(&directory)?;
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(BuildError::Invalid(format!(
        "no failed build of {component} is kept; `outcrop build` keeps the tree when one fails"
    )))
}

/// Forgets the tree of an earlier failure, once the build has succeeded.
pub fn forget(workshop: &Workshop, key: &Key) {
    if let Err(error) = remove_tree(&workshop.store.failed_path(key)) {
        log::warn!("{error}");
    }
}
