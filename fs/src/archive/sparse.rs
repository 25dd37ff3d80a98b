//! Sparse maps: where the stored bytes of a file with holes belong.

#![forbid(unsafe_code)]

use super::number;
use crate::index::SparseRun;

/// Offset in the file and length, as a map lists them.
pub(super) type Piece = (u64, u64);

/// Lays pieces one after the other from `data_offset` on; checks them against the file's size and
/// against the bytes stored.
pub(super) fn runs(
    pieces: &[Piece],
    size: u64,
    data_offset: u64,
    stored: u64,
) -> Result<Vec<SparseRun>, &'static str> {
    let mut runs = Vec::new();
    let (mut end, mut used) = (0_u64, 0_u64);
    for &(file_offset, length) in pieces {
        if file_offset < end {
            return Err("its sparse map is not in order");
        }
        end = file_offset.checked_add(length).ok_or("its sparse map is absurd")?;
        if end > size {
            return Err("its sparse map exceeds its size");
        }
        let data_offset = data_offset.checked_add(used).ok_or("its sparse map is absurd")?;
        used = used.checked_add(length).ok_or("its sparse map is absurd")?;
        if used > stored {
            return Err("its sparse map exceeds the bytes stored");
        }
        if length > 0 {
            runs.push(SparseRun { file_offset, data_offset, length });
        }
    }
    Ok(runs)
}

/// The alternating numbers of the pax formats 0.0 and 0.1.
pub(super) fn pieces(numbers: &[u64]) -> Result<Vec<Piece>, &'static str> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("its sparse map is odd");
    }
    Ok(pairs.iter().map(|&[offset, length]| (offset, length)).collect())
}

/// Reads the map that the pax format 1.0 puts before the data: decimal numbers, one a line, the
/// first of which counts the pairs that follow.
#[derive(Default)]
pub(super) struct MapReader {
    line: Vec<u8>,
    expected: Option<u64>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// Takes a block; tells whether the map is complete. What follows it in the block is padding.
    pub fn push(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        const BAD: &str = "its sparse map is malformed";
        for &byte in block {
            if byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err(BAD);
                }
                self.line.push(byte);
                continue;
            }
            let number = number::decimal(&self.line).ok_or(BAD)?;
            self.line.clear();
            match self.expected {
                None => self.expected = Some(number.checked_mul(2).ok_or(BAD)?),
                Some(_) => self.numbers.push(number),
            }
            if self.expected == Some(self.numbers.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn finish(self) -> Result<Vec<Piece>, &'static str> {
        pieces(&self.numbers)
    }
}
