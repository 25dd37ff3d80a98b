//! Room that is set aside on the store's disk.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Room for the journal of some 10,000 changed nodes: what a full disk still has to take. It is
/// free again when this is dropped.
#[derive(Debug)]
pub struct Reserve {
    file: File,
}

impl Reserve {
    pub const BYTES: u64 = 4 << 20;

    /// On the disk of `directory`. Nothing where that file system cannot set room aside.
    pub fn new(directory: &Path) -> io::Result<Reserve> {
        let file = tempfile::tempfile_in(directory)?;
        match fallocate(&file, FallocateFlags::empty(), 0, Self::BYTES) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(Reserve { file }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the room back.
    pub fn release(&self) {
        if let Err(error) = self.file.set_len(0) {
            log::debug!("room that was set aside is not free: {error}");
        }
    }
}
