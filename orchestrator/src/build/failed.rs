//! The tree of a failed build, kept for `outcrop shell --failed`.
//!
//! `failed/<key>/` holds `build` and `inst`, each a tar with its index. What a build changed elsewhere
//! in its sysroot is not kept.

use std::path::Path;

use outcrop_fs::capture::CaptureOptions;
use outcrop_fs::layer::Layer;
use outcrop_fs::layer::indexed::IndexedLayer;
use std::sync::Arc;

use super::chunk::ChunkJob;
use super::error::{BuildError, Result};
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking};
use crate::store::Key;

const ZONES: [&str; 2] = ["build", "inst"];

/// Keeps what it can; a failure to keep must not hide the failure of the build.
pub async fn keep(workshop: &Workshop, job: &ChunkJob, tree: &GuestTree) {
    let directory = workshop.store.failed_path(&job.key);
    let draft = workshop.store.temporary_path();
    let sysroot = tree.sysroot.clone();
    let name = job.name.clone();
    let kept = blocking(move || {
        let host = |source| {
            BuildError::FileSystem(outcrop_fs::Error::host("cannot create", &draft, source))
        };
        std::fs::create_dir(&draft).map_err(host)?;
        for zone in ZONES {
            let place = format!("{name}.{zone}");
            let root = sysroot.resolve(format!("/{place}").as_bytes())?.ino;
            let options = CaptureOptions { prefix: place.as_bytes(), ..CaptureOptions::default() };
            outcrop_fs::capture::capture_with_index(
                sysroot.as_ref(),
                root,
                &draft.join(format!("{zone}.tar")),
                &draft.join(format!("{zone}.index")),
                &options,
            )?;
        }
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::rename(&draft, &directory).map_err(host)
    })
    .await;
    if let Err(error) = kept {
        log::warn!("{}: the failed tree could not be kept: {error}", job.component);
    }
}

/// The layers of a failed build's own zones, if its tree was kept.
pub fn layers(workshop: &Workshop, key: &Key) -> Result<Option<Vec<Arc<dyn Layer>>>> {
    let directory = workshop.store.failed_path(key);
    if !workshop.store.hold(&directory)? {
        return Ok(None);
    }
    let open = |zone: &str| -> Result<Arc<dyn Layer>> {
        let label = format!("failed {key}, {zone}");
        let file = |extension: &str| -> std::path::PathBuf {
            Path::new(&directory).join(format!("{zone}.{extension}"))
        };
        Ok(Arc::new(IndexedLayer::open(&label, &file("tar"), &file("index"))?))
    };
    Ok(Some(ZONES.iter().map(|zone| open(zone)).collect::<Result<_>>()?))
}

/// Forgets the tree of an earlier failure, once the build has succeeded.
pub fn forget(workshop: &Workshop, key: &Key) {
    let _ = std::fs::remove_dir_all(workshop.store.failed_path(key));
}
