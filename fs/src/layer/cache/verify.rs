//! Whether what the cache keeps for an archive still is what was put there.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use super::lock;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::layer::indexed::IndexedLayer;

/// Reads an index of a cache, and with it all content of the uncompressed tar that it belongs to;
/// `Error::Malformed` says what is damaged. An index without digests belongs to a plain tar elsewhere,
/// which is not read.
pub fn verify(index: &Path) -> Result<()> {
    match look(index) {
        // Somebody may be replacing or removing tar and index one after the other.
        Err(Error::Malformed { .. }) => {
            let _lock = lock(&index.with_extension("lock")).ok();
            look(index)
        }
        other => other,
    }
}

fn look(path: &Path) -> Result<()> {
    let label = path.display().to_string();
    let index = Index::open(path)?;
    index.verify().map_err(|fault| fault.into_error(&label))?;
    if !index.has_digests() {
        return Ok(());
    }
    let data_path = path.with_extension("tar");
    let label = data_path.display().to_string();
    let data = match File::open(&data_path) {
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::malformed(label, "the uncompressed tar is missing"));
        }
        Err(error) => return Err(Error::host("cannot open", data_path, error)),
    };
    let size = data.metadata().map_err(|e| Error::host("cannot stat", &data_path, e))?.len();
    if size != index.data_size() {
        let problem = format!("it has {size} bytes instead of {}", index.data_size());
        return Err(Error::malformed(label, problem));
    }
    IndexedLayer::from_parts(&label, index, data, None).verify_content()
}
