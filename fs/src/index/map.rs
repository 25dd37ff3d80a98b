//! The one place that maps a file.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a whole index file for reading.
#[allow(unsafe_code)]
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: index files are written beside and renamed, never changed or truncated in place
    // (docs/index-format.md), so the mapped bytes stay as they are. Every byte is checked before it
    // is believed, so damage on the disk is an error and not undefined behaviour.
    unsafe { Mmap::map(file) }
}
