//! Requests and replies in guest memory.
//!
//! The guest may change its memory at any time, so requests are copied out before they are looked
//! at, and replies are only written to.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

use super::session::ReplySpace;
use crate::error::{Errno, Result};
use crate::filesystem::DataSink;

/// Parts of memory that one system call may fill (`UIO_MAXIOV`).
const MOST_PARTS: usize = 1024;
const ZEROS: [u8; 4096] = [0; 4096];

/// The parts of guest memory that a request offers for its reply.
pub(super) struct GuestReply<'a> {
    parts: Vec<VolatileSlice<'a>>,
    room: usize,
    /// Part and offset in it that come next.
    part: usize,
    offset: usize,
}

impl<'a> GuestReply<'a> {
    pub(super) fn new(parts: Vec<VolatileSlice<'a>>) -> Self {
        let room = parts.iter().fold(0, |room: usize, part| room.saturating_add(part.len()));
        GuestReply { parts, room, part: 0, offset: 0 }
    }

    /// What comes next, `limit` bytes at most, as parts that may be written to.
    fn next_parts(&self, limit: usize) -> Vec<VolatileSlice<'a>> {
        let mut left = limit;
        let mut offset = self.offset;
        let mut parts = Vec::new();
        for part in self.parts.iter().skip(self.part).take(MOST_PARTS) {
            let length = part.len().saturating_sub(offset).min(left);
            if length > 0
                && let Ok(part) = part.subslice(offset, length)
            {
                parts.push(part);
            }
            offset = 0;
            left = left.saturating_sub(length);
            if left == 0 {
                break;
            }
        }
        parts
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let Some(part) = self.parts.get(self.part) else { return };
            let rest = part.len().saturating_sub(self.offset);
            if left < rest {
                self.offset = self.offset.saturating_add(left);
                return;
            }
            left = left.saturating_sub(rest);
            self.part = self.part.saturating_add(1);
            self.offset = 0;
        }
    }
}

impl DataSink for GuestReply<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut taken = 0;
            for part in self.next_parts(rest.len()) {
                let (now, later) = rest.split_at_checked(part.len()).ok_or(Errno::IO)?;
                part.copy_from(now);
                rest = later;
                taken += now.len();
            }
            if taken == 0 {
                return Err(Errno::NOBUFS.into());
            }
            self.advance(taken);
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.bytes(ZEROS.get(..now).unwrap_or_default())?;
            left = left.saturating_sub(now as u64);
        }
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length.saturating_sub(done)).unwrap_or(usize::MAX);
            let parts = self.next_parts(wanted);
            if parts.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            match read_into(file, offset.saturating_add(done), &parts) {
                Ok(0) => break,
                Ok(count) => {
                    self.advance(count);
                    done = done.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl ReplySpace for GuestReply<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn go_to(&mut self, position: usize) {
        (self.part, self.offset) = (0, 0);
        self.advance(position);
    }
}

/// preadv(2) into guest memory.
#[allow(unsafe_code)]
fn read_into(file: &File, offset: u64, parts: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let guards: Vec<_> = parts.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let vectors: Vec<libc::iovec> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count = i32::try_from(vectors.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: each vector is a part of the mapping that its `VolatileSlice` borrows, so it stays
    // mapped and writable for the call. No Rust reference to that memory exists; the guest shares it
    // and may see or change the bytes at any time, as with any device.
    let read = unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
#[path = "guest_memory_tests.rs"]
mod tests;
