//! The sections of an index file: bounds and checksums before anything else.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use xxhash_rust::xxh3::xxh3_64;

use super::{Fault, Result};
use crate::index::format::{BLOCK_SIZE, CHECKSUM_SIZE, Fields, HEADER_SIZE, Header, Section};

pub enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

/// An index file's bytes, of which only verified ones are given out.
pub struct Sections {
    bytes: Bytes,
    pub header: Header,
    /// One bit for each block of the body whose checksum was found right.
    verified: Box<[AtomicU64]>,
}

impl Sections {
    /// Checks the header, the checksums' own checksum, and that all sections lie in the file.
    pub fn new(bytes: Bytes) -> Result<Sections> {
        let all = bytes.all();
        let header =
            Header::decode(all).map_err(|problem| Fault::Damaged { offset: 0, problem })?;
        if header.file_length != all.len() as u64 {
            return Err(Fault::Damaged {
                offset: all.len() as u64,
                problem: "its length is wrong",
            });
        }
        let checksums = header.section(Section::Checksums);
        let damaged = |problem| Fault::Damaged { offset: checksums.offset, problem };
        for extent in &header.sections {
            let end = extent.offset.checked_add(extent.length);
            let inside = extent.offset >= HEADER_SIZE as u64
                && end.is_some_and(|end| end <= header.file_length);
            if !inside {
                return Err(damaged("a section lies outside the file"));
            }
        }
        let table = range(checksums.offset, checksums.length).and_then(|r| all.get(r));
        let table = table.ok_or_else(|| damaged("the checksums lie outside the file"))?;
        if xxh3_64(table) != header.checksums_checksum {
            return Err(damaged("the checksum of the checksums is wrong"));
        }
        let blocks =
            checksums.offset.saturating_sub(HEADER_SIZE as u64).div_ceil(BLOCK_SIZE as u64);
        if checksums.length != blocks.saturating_mul(CHECKSUM_SIZE as u64) {
            return Err(damaged("the number of checksums is wrong"));
        }
        let words = (table.len() / CHECKSUM_SIZE).div_ceil(64);
        let verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Sections { bytes, header, verified })
    }

    pub fn item(&self, section: Section, number: u64, size: usize) -> Result<&[u8]> {
        let offset = number.checked_mul(size as u64).ok_or(SHORT)?;
        self.bytes_in(section, offset, size as u64)
    }

    /// Verified bytes of a section.
    pub fn bytes_in(&self, section: Section, offset: u64, length: u64) -> Result<&[u8]> {
        let extent = self.header.section(section);
        let outside = || damaged(extent.offset, "a reference leads outside its section");
        let end = offset.checked_add(length).ok_or_else(outside)?;
        if end > extent.length {
            return Err(outside());
        }
        let start = extent.offset.checked_add(offset).ok_or_else(outside)?;
        let range = range(start, length).ok_or_else(outside)?;
        self.verify_range(&range)?;
        self.bytes.all().get(range).ok_or_else(outside)
    }

    fn verify_range(&self, range: &Range<usize>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let first = range.start.saturating_sub(HEADER_SIZE) / BLOCK_SIZE;
        let last = range.end.saturating_sub(HEADER_SIZE).saturating_sub(1) / BLOCK_SIZE;
        (first..=last).try_for_each(|block| self.verify_block(block))
    }

    fn verify_block(&self, block: usize) -> Result<()> {
        let word = self.verified.get(block / 64).ok_or(SHORT)?;
        let bit = 1_u64 << (block % 64);
        // Relaxed is enough: the bytes never change, so a late bit only costs a second check.
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let checksums = self.header.section(Section::Checksums);
        let body_end = usize::try_from(checksums.offset).map_err(|_| SHORT)?;
        let start = block.saturating_mul(BLOCK_SIZE).saturating_add(HEADER_SIZE);
        let end = start.saturating_add(BLOCK_SIZE).min(body_end);
        let all = self.bytes.all();
        let bytes = all.get(start..end).ok_or(SHORT)?;
        let stored = block.saturating_mul(CHECKSUM_SIZE).saturating_add(body_end);
        let stored = all.get(stored..).and_then(|rest| Fields(rest).u64()).ok_or(SHORT)?;
        if xxh3_64(bytes) != stored {
            return Err(damaged(start as u64, "the checksum of a block is wrong"));
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    /// Verifies every block.
    pub fn verify(&self) -> Result<()> {
        let end = usize::try_from(self.header.section(Section::Checksums).offset);
        self.verify_range(&(HEADER_SIZE..end.unwrap_or(usize::MAX)))
    }
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

pub const SHORT: Fault = Fault::Damaged { offset: 0, problem: "a structure is cut short" };

pub const fn damaged(offset: u64, problem: &'static str) -> Fault {
    Fault::Damaged { offset, problem }
}

fn range(offset: u64, length: u64) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    Some(start..end)
}
