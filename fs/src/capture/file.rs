//! A capture that ends as a file, whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::index_sink::{IndexSink, builder};
use super::options::{CaptureOptions, CaptureReport, IndexedCapture};
use super::write::{Output, capture, capture_indexed};
use super::write_back::written_back;
use crate::draft::{self, parent};
use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::node::Ino;

/// Captures into the file `tar`, written beside under another name, synced, then renamed. On any
/// error nothing new remains and what was there before stays.
///
/// # Errors
/// As [`capture`], and failures to make, sync or rename the file.
pub fn capture_to_file(
    fs: &dyn Filesystem,
    root: Ino,
    tar: &Path,
    options: &CaptureOptions<'_>,
) -> Result<CaptureReport> {
    let mut draft = draft_beside(tar)?;
    let report = written_back(draft.as_file_mut(), tar, |writer| {
        capture(fs, root, Output { writer, name: tar }, options)
    })?;
    sync(draft.as_file(), tar)?;
    publish(draft, tar)?;
    Ok(report)
}

/// As [`capture_to_file`], with the index that layers are opened through. The index appears
/// first: whoever sees the tar finds its index.
///
/// # Errors
/// As [`capture_to_file`].
pub fn capture_with_index(
    fs: &dyn Filesystem,
    root: Ino,
    tar: &Path,
    index: &Path,
    options: &CaptureOptions<'_>,
) -> Result<IndexedCapture> {
    capture_to_files(fs, root, tar, (index, builder(&tar.display().to_string())), options)
}

pub(super) fn capture_to_files(
    fs: &dyn Filesystem,
    root: Ino,
    tar: &Path,
    (index, sink): (&Path, Box<dyn IndexSink>),
    options: &CaptureOptions<'_>,
) -> Result<IndexedCapture> {
    let mut draft = draft_beside(tar)?;
    let captured = written_back(draft.as_file_mut(), tar, |writer| {
        capture_indexed(fs, root, Output { writer, name: tar }, sink, options)
    })?;
    sync(draft.as_file(), tar)?;
    let mut indexed = draft_beside(index)?;
    indexed
        .write_all(&captured.index)
        .map_err(|source| Error::host("cannot write", index, source))?;
    sync(indexed.as_file(), index)?;
    publish(indexed, index)?;
    publish(draft, tar)?;
    Ok(captured)
}

/// Whether a capture into the file `tar` could begin now: makes a draft beside it, and removes it.
///
/// # Errors
/// Why no draft can be made there, or why it could not be renamed to `tar`.
pub fn can_capture_to(tar: &Path) -> Result<()> {
    draft_beside(tar)?;
    if tar.is_dir() {
        let source = io::ErrorKind::IsADirectory.into();
        return Err(Error::host("cannot create", tar, source));
    }
    Ok(())
}

fn draft_beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    draft::beside(path).map_err(|source| Error::host("cannot create", path, source))
}

fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|source| Error::host("cannot write", path, source))
}

fn publish(draft: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    let fault = |source: io::Error| Error::host("cannot rename to", path, source);
    draft.persist(path).map_err(|error| fault(error.error))?;
    File::open(parent(path)).and_then(|directory| directory.sync_all()).map_err(fault)
}
