//! The tree of a failed build, kept for `outcrop shell --failed`.
//!
//! `failed/<key>/` holds what the build has changed anywhere in its sysroot
//! (docs/sysroot.md, "Keeping changes"); the layers below it are found by the same plan again.

use std::sync::Arc;

use outcrop_fs::capture::{capture_changes, open_changes};
use outcrop_fs::layer::Layer;

use super::error::{BuildError, Result};
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking};
use crate::store::{Key, remove_tree};

/// Keeps what it can; a failure to keep must not hide the failure of the build.
pub async fn keep(workshop: &Workshop, component: &str, key: &Key, tree: &GuestTree) {
    let directory = workshop.store.failed_path(key);
    let draft = workshop.store.temporary_path();
    let sysroot = tree.sysroot.clone();
    let kept = blocking(move || {
        let outcome = std::fs::create_dir(&draft)
            .map_err(|source| outcrop_fs::Error::host("cannot create", &draft, source))
            .and_then(|()| capture_changes(&sysroot, &draft))
            .map_err(BuildError::from)
            .and_then(|_| {
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

/// The layers that bring back what a failed build has changed, if its tree was kept.
pub fn layers(workshop: &Workshop, component: &str, key: &Key) -> Result<Vec<Arc<dyn Layer>>> {
    let directory = workshop.store.failed_path(key);
    workshop.store.hold(&directory)?;
    open_changes(&format!("failed {key}"), &directory)?.ok_or_else(|| {
        BuildError::Invalid(format!(
            "no failed build of {component} is kept; `outcrop build` keeps the tree when one fails"
        ))
    })
}

/// Forgets the tree of an earlier failure, once the build has succeeded.
pub fn forget(workshop: &Workshop, key: &Key) {
    if let Err(error) = remove_tree(&workshop.store.failed_path(key)) {
        log::warn!("{error}");
    }
}
