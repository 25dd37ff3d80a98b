//! The spool: one nameless sparse file that holds everything written to a sysroot.
//!
//! Offsets are given out once and never again, so a range that was freed can be written late by
//! a thread that still believes in it without harming anybody.

#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, fstatvfs};

use super::content::SpoolRange;
use crate::error::{Errno, Error, Result};

/// Files begin on a page of their own: freeing one gives whole blocks back.
const ALIGNMENT: u64 = 4096;

pub(super) struct Spool {
    file: File,
    /// Where the file was made, for messages: it has no name.
    directory: PathBuf,
    next: AtomicU64,
}

impl Spool {
    pub(super) fn create(directory: &Path) -> Result<Spool> {
        let file = tempfile::tempfile_in(directory)
            .map_err(|source| Error::host("cannot make a spool file in", directory, source))?;
        Ok(Spool { file, directory: directory.to_path_buf(), next: AtomicU64::new(0) })
    }

    /// A range that nobody else has; takes no space until it is written. At least `length` bytes.
    pub(super) fn reserve(&self, length: u64) -> Result<SpoolRange> {
        let length = length.checked_next_multiple_of(ALIGNMENT).ok_or(Errno::FBIG)?;
        let grow = |next: u64| next.checked_add(length).filter(|end| *end <= i64::MAX as u64);
        match self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
            Ok(offset) => Ok(SpoolRange { offset, length }),
            Err(_) => Err(Errno::NOSPC.into()),
        }
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file
            .write_all_at(data, offset)
            .map_err(|source| Error::host("cannot write to the spool in", &self.directory, source))
    }

    /// Fills the buffer. What was reserved and never written reads as zeros.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let doing = "cannot read from the spool in";
                    return Err(Error::host(doing, &self.directory, source));
                }
            }
        }
        Ok(())
    }

    /// Claims space on disk, where the file system can.
    pub(super) fn claim(&self, range: SpoolRange) -> Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), range.offset, range.length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(Error::host("cannot claim space in", &self.directory, errno.into())),
        }
    }

    /// Gives space back. Failing costs space and nothing else, so it is only logged.
    pub(super) fn free(&self, ranges: &[SpoolRange]) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for range in ranges {
            match fallocate(&self.file, flags, range.offset, range.length) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => log::debug!(
                    "cannot give back {} bytes of the spool in {}: {errno}",
                    range.length,
                    self.directory.display()
                ),
            }
        }
    }

    pub(super) fn statistics(&self) -> Result<StatVfs> {
        Ok(fstatvfs(&self.file)?)
    }

    /// Bytes that the spool takes on disk.
    pub(super) fn disk_usage(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }
}
