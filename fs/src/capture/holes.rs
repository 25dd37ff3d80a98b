//! Where a file is written as holes: its content alone decides (docs/artifacts.md).

use crate::archive::write::Extent;
use crate::error::{Errno, Error, Result};
use crate::filesystem::{Filesystem, Seek};
use crate::node::Ino;

/// A hole is one such block of zeros, or several.
const UNIT: u64 = 64 << 10;

/// Bytes of a block that are looked at first: where there is data, most blocks begin with some.
const PROBE: usize = 64;

/// Where a file of `size` bytes has data, if it has holes worth a map; `None` where it is to be
/// written whole. Extents are whole blocks of 512 bytes (the last may end at the end of the file):
/// `sqfstar` 4.5 loses its way behind a run of another length.
pub fn extents(fs: &dyn Filesystem, ino: Ino, size: u64) -> Result<Option<Vec<Extent>>> {
    // What follows the last whole block is data.
    let whole = size - size % UNIT;
    let mut extents = Vec::new();
    let mut buffer = Vec::new();
    let (mut at, mut data_end) = (0, 0);
    while at < whole {
        if at >= data_end {
            let Some((start, end)) = next_data(fs, ino, at, size)? else { break };
            (at, data_end) = (start - start % UNIT, end);
            if at >= whole {
                break;
            }
        }
        if has_data(fs, ino, at, &mut buffer)? {
            append(&mut extents, Extent { offset: at, length: UNIT });
        }
        at = at.saturating_add(UNIT);
    }
    append(&mut extents, Extent { offset: whole, length: size - whole });
    let stored: u64 = extents.iter().map(|extent| extent.length).sum();
    Ok((stored < size).then_some(extents))
}

/// The first run at or after `from` that the tree does not know to be a hole.
fn next_data(fs: &dyn Filesystem, ino: Ino, from: u64, size: u64) -> Result<Option<(u64, u64)>> {
    let start = match fs.seek(ino, from, Seek::Data) {
        Ok(start) if start < size => start,
        Ok(_) | Err(Error::Os(Errno::NXIO)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = fs.seek(ino, start, Seek::Hole)?;
    if start < from || end <= start {
        return Err(Error::Os(Errno::IO));
    }
    Ok(Some((start, end)))
}

/// Whether a block is anything but zeros. A file that is shorter than it was has data: reading it
/// for the stream then says so.
fn has_data(fs: &dyn Filesystem, ino: Ino, offset: u64, buffer: &mut Vec<u8>) -> Result<bool> {
    let mut probe = [0; PROBE];
    if fs.read(ino, offset, &mut probe)? < PROBE || !is_zero(&probe) {
        return Ok(true);
    }
    buffer.resize(UNIT as usize, 0);
    Ok(fs.read(ino, offset, buffer)? < buffer.len() || !is_zero(buffer))
}

/// By pieces, which the compiler compares many bytes at once.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(1024).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

fn append(extents: &mut Vec<Extent>, new: Extent) {
    match extents.last_mut() {
        Some(last) if last.offset.saturating_add(last.length) == new.offset => {
            last.length = last.length.saturating_add(new.length);
        }
        _ if new.length > 0 => extents.push(new),
        _ => {}
    }
}
