//! Makes the index of a plain tar, checks whether one is valid, and puts files in place.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::Recipe;
use crate::archive::{Interpretation, Seekable, TarReader, import};
use crate::error::{Error, Result};
use crate::index::{Builder, Index, SourceIdentity};
use crate::node::Timestamp;

/// What a file is now.
pub fn identity(file: &File, path: &Path, digest: Option<[u8; 32]>) -> Result<SourceIdentity> {
    let metadata = file.metadata().map_err(|e| Error::host("cannot stat", path, e))?;
    if !metadata.is_file() {
        return Err(Error::Invalid(format!("{} is not a regular file.", path.display())));
    }
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Ok(SourceIdentity {
        size: metadata.len(),
        mtime: Timestamp::new(metadata.mtime(), nanoseconds),
        digest,
    })
}

/// Whether an index made from `recorded` is good for `present`.
fn matches(recorded: &SourceIdentity, present: &SourceIdentity) -> bool {
    if recorded.size != present.size {
        return false;
    }
    match (recorded.digest, present.digest) {
        (Some(recorded), Some(present)) => recorded == present,
        // An artifact: what its name promises was checked when it was stored.
        (Some(_), None) => true,
        (None, _) => recorded.mtime == present.mtime,
    }
}

/// Opens an index if there is one and it belongs to this source and this data file.
pub fn open_valid(path: &Path, source: &SourceIdentity, data_size: u64) -> Result<Option<Index>> {
    match Index::open(path) {
        Ok(index) if matches(index.source(), source) && index.data_size() == data_size => {
            Ok(Some(index))
        }
        Ok(_) => Ok(None),
        // Missing, empty or out of reach: an index is only derived data, and is made anew.
        Err(Error::Host { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The index of a plain tar.
pub fn index_of(
    label: &str,
    data: &File,
    source: &SourceIdentity,
    interpretation: Interpretation,
    digests: bool,
) -> Result<Vec<u8>> {
    let host = |e| Error::host("cannot read", label, e);
    // A duplicate shares its offset with the layer's own handle, which only reads at given offsets.
    let mut file = data.try_clone().map_err(host)?;
    file.rewind().map_err(host)?;
    let size = file.metadata().map_err(host)?.len();
    let mut builder = Builder::new(*source).labelled(label);
    builder.set_data_size(size);
    let mut reader = TarReader::new(label, Seekable::new(file, size));
    import(&mut reader, &mut builder, interpretation, digests)?;
    builder.finish()
}

/// Makes an index anew and puts it in place; keeps it in memory where that is not possible.
pub fn rebuild(
    label: &str,
    data: &File,
    source: &SourceIdentity,
    recipe: &Recipe,
) -> Result<Index> {
    let bytes = index_of(label, data, source, recipe.interpretation, recipe.digests)?;
    publish_or_keep(label, bytes, &recipe.index_path)
}

/// Puts an index in place and maps it; keeps it in memory where that is not possible.
pub fn publish_or_keep(label: &str, bytes: Vec<u8>, path: &Path) -> Result<Index> {
    match publish_bytes(&bytes, path).and_then(|()| Index::open(path)) {
        Ok(index) => Ok(index),
        Err(error) => {
            log::warn!("{label}: the index is kept in memory only: {error}");
            Index::from_bytes(bytes).map_err(|fault| fault.into_error(label))
        }
    }
}

/// Not synced: an index that a crash of the machine damaged fails its checksums and is made anew,
/// while two syncs for each of many layers would take longer than indexing them.
fn publish_bytes(bytes: &[u8], path: &Path) -> Result<()> {
    let mut draft = draft_of(path)?;
    draft.write_all(bytes).map_err(|e| Error::host("cannot write", draft.path(), e))?;
    rename(draft, path)
}

/// A temporary file beside `path`, whose name tells to whom it belongs.
pub fn draft_of(path: &Path) -> Result<NamedTempFile> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".draft-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempfile_in(directory)
        .map_err(|e| Error::host("cannot create a file in", directory, e))
}

/// Syncs a draft and gives it its name.
pub fn publish(draft: NamedTempFile, path: &Path) -> Result<()> {
    draft.as_file().sync_all().map_err(|e| Error::host("cannot sync", draft.path(), e))?;
    rename(draft, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::host("cannot sync", directory, e))
}

fn rename(draft: NamedTempFile, path: &Path) -> Result<()> {
    draft.persist(path).map_err(|e| Error::host("cannot rename to", path, e.error))?;
    Ok(())
}
