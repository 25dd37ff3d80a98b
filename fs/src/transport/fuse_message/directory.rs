//! The replies of READDIR and READDIRPLUS: entries one after the other, as many as fit.

#![forbid(unsafe_code)]

use super::fields::Put;
use super::reply::Entry;
use crate::node::{Ino, Kind};

/// `fuse_dirent` before its name.
const ENTRY_HEADER: usize = 24;
/// Entries begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Bytes of `fuse_entry_out`.
const ATTRIBUTES: usize = 128;

/// The entry did not fit, and nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A listing in the making.
#[derive(Debug)]
pub(crate) struct DirectoryListing<'a> {
    message: &'a mut Vec<u8>,
    /// Length that the message must not exceed.
    limit: usize,
}

impl<'a> DirectoryListing<'a> {
    /// Entries go behind what `message` has already, `room` bytes at most.
    pub(crate) fn new(message: &'a mut Vec<u8>, room: usize) -> Self {
        let limit = message.len().saturating_add(room);
        DirectoryListing { message, limit }
    }

    /// An entry of READDIR. `next` is where to go on after it.
    pub(crate) fn add(&mut self, name: &[u8], ino: Ino, kind: Kind, next: u64) -> Result<(), Full> {
        self.check(name, 0)?;
        self.put(name, ino, kind, next);
        Ok(())
    }

    /// Whether an entry of READDIRPLUS with this name fits: to be asked before a hold is taken.
    pub(crate) fn fits_with_attributes(&self, name: &[u8]) -> bool {
        self.check(name, ATTRIBUTES).is_ok()
    }

    /// An entry of READDIRPLUS; without attributes the kernel looks the name up when it needs them.
    pub(crate) fn add_with_attributes(
        &mut self,
        name: &[u8],
        entry: Option<&Entry>,
        (ino, kind): (Ino, Kind),
        next: u64,
    ) -> Result<(), Full> {
        self.check(name, ATTRIBUTES)?;
        match entry {
            Some(entry) => entry.put(self.message),
            None => self.message.put_zeros(ATTRIBUTES),
        }
        self.put(name, ino, kind, next);
        Ok(())
    }

    fn check(&self, name: &[u8], before: usize) -> Result<(), Full> {
        let length = before.saturating_add(ENTRY_HEADER).saturating_add(name.len());
        let padded = length.checked_next_multiple_of(ALIGNMENT).ok_or(Full)?;
        let end = self.message.len().saturating_add(padded);
        if end > self.limit || u32::try_from(name.len()).is_err() { Err(Full) } else { Ok(()) }
    }

    fn put(&mut self, name: &[u8], ino: Ino, kind: Kind, next: u64) {
        self.message.put_u64(ino);
        self.message.put_u64(next);
        self.message.put_u32(u32::try_from(name.len()).unwrap_or(u32::MAX));
        // The d_type of readdir(3): the type bits of st_mode, shifted down.
        self.message.put_u32(kind.file_type_bits() >> 12);
        self.message.extend_from_slice(name);
        let written = ENTRY_HEADER.saturating_add(name.len());
        self.message.put_zeros(written.next_multiple_of(ALIGNMENT).saturating_sub(written));
    }
}
