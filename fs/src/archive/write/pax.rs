//! Pax extended headers: `LENGTH KEY=VALUE\n` records in a file of type `x` before the entry.

use tar::{EntryType, Header};

use super::{BLOCK, Extent, fill_start, padding};
use crate::node::Timestamp;

/// The records of one entry, in the order added.
#[derive(Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    binary: bool,
}

impl Records {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        append_record(&mut self.bytes, key, value);
    }

    /// A record that POSIX wants in UTF-8; anything else is kept raw and declared as such.
    pub fn add_text(&mut self, key: &[u8], value: &[u8]) {
        self.binary |= std::str::from_utf8(value).is_err();
        self.add(key, value);
    }

    /// GNU tar's spelling: `%` and `=` of the name are escaped, because the first `=` ends a key.
    pub fn add_xattr(&mut self, name: &[u8], value: &[u8]) {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in name {
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'=' => key.extend_from_slice(b"%3D"),
                other => key.push(*other),
            }
        }
        self.add(&key, value);
    }

    /// Appends the extended header's blocks; nothing if there are no records.
    pub fn append_to(self, out: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            return;
        }
        let mut body = Vec::with_capacity(self.bytes.len() + 32);
        if self.binary {
            append_record(&mut body, b"hdrcharset", b"BINARY");
        }
        body.extend_from_slice(&self.bytes);

        let mut header = Header::new_ustar();
        fill_start(&mut header.as_old_mut().name, b"././@PaxHeader");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        let zeros = padding(body.len() as u64) as usize;
        out.append(&mut body);
        out.resize(out.len().saturating_add(zeros), 0);
    }
}

/// A record's length counts its own digits.
fn append_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + decimal_digits(length) {
        length = rest + decimal_digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Seconds with as many decimals as needed. Decimals count away from zero, so half a second
/// before 1970 is `-0.5`.
pub(super) fn timestamp(time: Timestamp) -> Vec<u8> {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (false, n) => ("", time.seconds.unsigned_abs(), n),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, n) => {
            ("-", time.seconds.unsigned_abs().saturating_sub(1), 1_000_000_000u32.saturating_sub(n))
        }
    };
    let mut text = format!("{sign}{seconds}");
    if nanoseconds != 0 {
        let decimals = format!("{nanoseconds:09}");
        text.push('.');
        text.push_str(decimals.trim_end_matches('0'));
    }
    text.into_bytes()
}

/// The map that precedes a sparse file's data in GNU's format 1.0: decimal lines (count, then
/// offset and length of each run), filled up to whole blocks. `None` if the extents are not
/// ascending, disjoint and inside the file.
pub(super) fn sparse_map(size: u64, extents: &[Extent]) -> Option<Vec<u8>> {
    let mut end = 0;
    let mut lines = String::new();
    for extent in extents {
        if extent.offset < end {
            return None;
        }
        end = extent.offset.checked_add(extent.length)?;
        lines.push_str(&format!("{}\n{}\n", extent.offset, extent.length));
    }
    if end > size {
        return None;
    }
    // An empty run at the end tells readers where a trailing hole ends.
    let trailing = end < size;
    if trailing {
        lines.push_str(&format!("{size}\n0\n"));
    }
    let mut map = format!("{}\n", extents.len() + usize::from(trailing)).into_bytes();
    map.extend_from_slice(lines.as_bytes());
    let blocks = (map.len() as u64).div_ceil(BLOCK);
    map.resize((blocks * BLOCK) as usize, 0);
    Some(map)
}
