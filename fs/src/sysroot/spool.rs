//! The spool: one nameless sparse file that holds everything written to a sysroot.
//!
//! Offsets are given out once and never again, so a range that was freed can be written late by
//! a thread that still believes in it without harming anybody.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, SeekFrom, StatVfs, fallocate, fstatvfs, linkat, seek,
};

use super::content::SpoolRange;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;

/// Files begin on a page of their own: freeing one gives whole blocks back.
const ALIGNMENT: u64 = 4096;

pub(super) struct Spool {
    file: File,
    /// Where the file was made, for messages: it has no name.
    directory: PathBuf,
    next: AtomicU64,
    /// Nothing is given back any more: it has a name and outlives everybody who would, or it ends
    /// as a whole.
    gives_nothing_back: AtomicBool,
}

impl Spool {
    pub(super) fn create(directory: &Path) -> Result<Spool> {
        let file = tempfile::tempfile_in(directory)
            .map_err(|source| Error::host("cannot make a spool file in", directory, source))?;
        Ok(Spool::new(file, directory, false))
    }

    fn new(file: File, directory: &Path, gives_nothing_back: bool) -> Spool {
        Spool {
            file,
            directory: directory.to_path_buf(),
            next: AtomicU64::new(0),
            gives_nothing_back: AtomicBool::new(gives_nothing_back),
        }
    }

    /// Gives the spool a name, and keeps all of it from now on.
    pub(super) fn keep(&self, path: &Path) -> Result<()> {
        self.give_nothing_back();
        let host = |error| Error::host("cannot keep what was written in", path, error);
        let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let kept = match linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => self.file.try_clone(),
            // The file system knows no nameless files, or it is another one.
            Err(Errno::NOENT | Errno::XDEV | Errno::PERM) => self.copy(path),
            Err(errno) => Err(errno.into()),
        };
        kept.and_then(|file| file.sync_all()).map_err(host)
    }

    fn copy(&self, path: &Path) -> io::Result<File> {
        let copy = File::create_new(path)?;
        self.copy_to(&copy)?;
        Ok(copy)
    }

    /// Copies the data, not the holes.
    fn copy_to(&self, copy: &File) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            at = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            let end = seek(&self.file, SeekFrom::Hole(at))?;
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let part = buffer.len().min(length);
            let part = buffer.get_mut(..part).unwrap_or_default();
            let read = self.file.read_at(part, at)?;
            if read == 0 {
                break;
            }
            copy.write_all_at(part.get(..read).unwrap_or_default(), at)?;
            at = at.saturating_add(read as u64);
        }
        Ok(())
    }

    /// Copies what another spool has to the same offsets of this one, which has nothing yet.
    pub(super) fn take_over(&self, other: &Spool) -> Result<()> {
        let fault = |source| Error::host("cannot copy what was kept to", &self.directory, source);
        other.copy_to(&self.file).map_err(fault)?;
        let size = other.file.metadata().map_err(fault)?.len();
        self.next.store(size.next_multiple_of(ALIGNMENT), Ordering::Relaxed);
        Ok(())
    }

    /// A spool that was kept; it is never changed.
    pub(super) fn open_kept(path: &Path) -> Result<Spool> {
        let file = File::open(path).map_err(|source| Error::host("cannot open", path, source))?;
        Ok(Spool::new(file, path, true))
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

    /// Hands a range on to a sink, as [`Spool::read`] reads it.
    pub(super) fn read_to(&self, offset: u64, length: u64, sink: &mut dyn DataSink) -> Result<()> {
        let taken = sink.file(&self.file, offset, length).map_err(|source| {
            Error::host("cannot read from the spool in", &self.directory, source)
        })?;
        sink.zeros(length.saturating_sub(taken))
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
        if self.gives_nothing_back.load(Ordering::Relaxed) {
            return;
        }
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

    /// From now on, space that nobody needs any more stays until the file itself ends.
    pub(super) fn give_nothing_back(&self) {
        self.gives_nothing_back.store(true, Ordering::Relaxed);
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
