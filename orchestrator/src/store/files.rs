//! The few file operations that the store's promises rest on.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::error::{Context, Error, Result};

/// Makes a directory and its parents, for the owner alone.
pub fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context("cannot make the directory", path)
}

/// Brings a directory's names to disk.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).context("cannot sync", path)
}

/// Brings a file's content to disk.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).context("cannot sync", path)
}

/// Writes a file whole or not at all: beside, synced, renamed.
pub fn write_beside(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut beside =
        tempfile::NamedTempFile::new_in(parent).context("cannot make a file in", parent)?;
    beside
        .write_all(content)
        .and_then(|()| beside.as_file().sync_all())
        .context("cannot write", path)?;
    beside.persist(path).map_err(|error| Error::io("cannot write", path, error.error))?;
    sync_directory(parent)
}

/// Removes a file or a tree, unreadable directories included. What is absent is removed already.
///
/// A directory on another file system than `path` itself is an error: it is a mount.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) => remove_below(path, &meta, meta.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("cannot examine", path, error)),
    }
}

fn remove_below(path: &Path, meta: &fs::Metadata, device: u64) -> Result<()> {
    if !meta.is_dir() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("cannot remove", path, error))
            }
            _ => Ok(()),
        };
    }
    if meta.dev() != device {
        return Err(Error::Damaged {
            path: path.to_owned(),
            problem: "something is still mounted here; unmount it with fusermount3 -u".to_owned(),
        });
    }
    if meta.mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .context("cannot change the mode of", path)?;
    }
    for item in fs::read_dir(path).context("cannot read", path)? {
        let item = item.context("cannot read", path)?.path();
        match fs::symlink_metadata(&item) {
            Ok(meta) => remove_below(&item, &meta, device)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("cannot examine", item, error)),
        }
    }
    fs::remove_dir(path).context("cannot remove", path)
}

/// Bytes on disk below a directory (blocks, not sizes); what vanishes meanwhile counts nothing.
pub fn disk_usage(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks().saturating_mul(512);
    if !meta.is_dir() {
        return own;
    }
    let Ok(items) = fs::read_dir(path) else { return own };
    items.flatten().fold(own, |sum, item| {
        let same = item.metadata().is_ok_and(|below| below.dev() == meta.dev());
        sum.saturating_add(if same { disk_usage(&item.path()) } else { 0 })
    })
}
