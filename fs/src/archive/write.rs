//! Deterministic tar headers: values in, bytes out.
//!
//! The format is POSIX ustar with pax records only where ustar cannot say something; see
//! `docs/artifacts.md` for which record stands for what.

#![forbid(unsafe_code)]

mod pax;

#[cfg(test)]
mod tests;

use tar::{EntryType, Header};

use crate::error::{Error, Result};
use crate::node::{Device, Kind, Metadata, Timestamp, Xattrs};

/// Everything in a tar stream begins at a multiple of this many bytes.
pub const BLOCK: u64 = 512;

/// The two zero blocks that end an archive.
pub const TRAILER: [u8; 1024] = [0; 1024];

/// Largest number that fits an 8-byte field as octal digits and a NUL.
const OCTAL_7_MAX: u64 = 0o7_777_777;
/// Largest number that fits a 12-byte field as octal digits and a NUL (8 GiB − 1).
const OCTAL_11_MAX: u64 = 0o77_777_777_777;

/// A run of bytes that a sparse file holds; between runs there are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    pub length: u64,
}

/// What a header says about an entry's content.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Directories, devices, fifos.
    None,
    /// A file whose `Metadata::size` bytes follow the header.
    Data,
    /// A file of `Metadata::size` bytes of which only these, ascending and disjoint, follow.
    Sparse(&'a [Extent]),
    /// A symlink's target.
    Target(&'a [u8]),
    /// Another name of the node that was written under this path.
    HardLink(&'a [u8]),
}

/// One entry of an archive.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Relative, `/`-separated, without a slash at either end; empty for the root.
    pub path: &'a [u8],
    pub metadata: &'a Metadata,
    /// Not written for hard links: they belong to the first name.
    pub xattrs: &'a Xattrs,
    pub body: Body<'a>,
}

/// Bytes of zeros that follow `length` bytes of content.
pub const fn padding(length: u64) -> u64 {
    (BLOCK - length % BLOCK) % BLOCK
}

/// Appends all header blocks of an entry (pax records, ustar header, map of a sparse file), and
/// returns how many bytes of content must follow, to be filled up with [`padding`].
///
/// # Errors
/// [`Error::Invalid`] for what tar cannot carry: sockets, names with NUL or empty, `.` or `..`
/// components, extents out of order, a body that does not suit the kind. Nothing is appended then.
pub fn append_header(out: &mut Vec<u8>, entry: &Entry<'_>) -> Result<u64> {
    check_path(entry.path, entry.path)?;
    let meta = entry.metadata;
    let mut header = Header::new_ustar();
    let mut records = pax::Records::default();

    header.set_entry_type(entry_type(entry)?);
    header.set_mode(u32::from(meta.mode & 0o7777));
    set_owner(&mut header, &mut records, meta);
    set_mtime(&mut header, &mut records, meta.mtime);
    set_device(&mut header, meta.kind.device());
    set_link(&mut header, &mut records, entry)?;

    let mut map = Vec::new();
    let stored = match entry.body {
        Body::Sparse(extents) => {
            map = pax::sparse_map(meta.size, extents).ok_or_else(|| {
                invalid(entry.path, "has a map of data that is out of order or beyond its end")
            })?;
            extents.iter().map(|extent| extent.length).sum()
        }
        Body::Data => meta.size,
        Body::None | Body::Target(_) | Body::HardLink(_) => 0,
    };
    let field = stored
        .checked_add(map.len() as u64)
        .ok_or_else(|| invalid(entry.path, "is larger than tar can say"))?;
    if field > OCTAL_11_MAX {
        records.add(b"size", field.to_string().as_bytes());
        header.set_size(0);
    } else {
        header.set_size(field);
    }
    if let Body::Sparse(_) = entry.body {
        set_sparse_name(&mut header, &mut records, entry);
    } else {
        set_name(&mut header, &mut records, entry);
    }
    if !matches!(entry.body, Body::HardLink(_)) {
        for (name, value) in entry.xattrs {
            records.add_xattr(name, value);
        }
    }
    header.set_cksum();

    records.append_to(out);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&map);
    Ok(stored)
}

/// The longest link target that a header itself can say.
pub const LONGEST_TARGET: usize = 100;

/// Appends the entry of GNU tar that says which target the symlink after it has.
pub fn append_gnu_target(out: &mut Vec<u8>, target: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongLink);
    fill(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let length = target.len().saturating_add(1);
    header.set_size(length as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(target);
    let end = out.len().saturating_add(1).saturating_add(padding(length as u64) as usize);
    out.resize(end, 0);
}

fn entry_type(entry: &Entry<'_>) -> Result<EntryType> {
    Ok(match (entry.metadata.kind, entry.body) {
        (Kind::Socket, _) => {
            return Err(invalid(entry.path, "is a socket, which tar cannot carry"));
        }
        (Kind::Directory, Body::None) => EntryType::Directory,
        (Kind::CharDevice(_), Body::None) => EntryType::Char,
        (Kind::BlockDevice(_), Body::None) => EntryType::Block,
        (Kind::Fifo, Body::None) => EntryType::Fifo,
        (Kind::File, Body::Data | Body::Sparse(_)) => EntryType::Regular,
        (Kind::Symlink, Body::Target(_)) => EntryType::Symlink,
        (Kind::Directory, Body::HardLink(_)) => {
            return Err(invalid(entry.path, "is a directory with a second name"));
        }
        (_, Body::HardLink(_)) => EntryType::Link,
        _ => return Err(invalid(entry.path, "has content that does not suit its kind")),
    })
}

fn set_owner(header: &mut Header, records: &mut pax::Records, meta: &Metadata) {
    let (uid, gid) = (u64::from(meta.uid), u64::from(meta.gid));
    if uid > OCTAL_7_MAX {
        records.add(b"uid", uid.to_string().as_bytes());
    }
    if gid > OCTAL_7_MAX {
        records.add(b"gid", gid.to_string().as_bytes());
    }
    header.set_uid(if uid > OCTAL_7_MAX { 0 } else { uid });
    header.set_gid(if gid > OCTAL_7_MAX { 0 } else { gid });
}

fn set_mtime(header: &mut Header, records: &mut pax::Records, mtime: Timestamp) {
    match u64::try_from(mtime.seconds) {
        Ok(seconds) if seconds <= OCTAL_11_MAX => {
            header.set_mtime(seconds);
            if mtime.nanoseconds != 0 {
                records.add(b"mtime", &pax::timestamp(mtime));
            }
        }
        _ => {
            header.set_mtime(0);
            records.add(b"mtime", &pax::timestamp(mtime));
        }
    }
}

/// Numbers beyond 21 bits go into the field in base 256: GNU tar and libarchive read that, while
/// only libarchive knows `SCHILY.devmajor`.
fn set_device(header: &mut Header, device: Device) {
    let field = |number: u32| -> [u8; 8] {
        let [a, b, c, d] = number.to_be_bytes();
        if u64::from(number) > OCTAL_7_MAX {
            return [0x80, 0, 0, 0, a, b, c, d];
        }
        let mut digits = [0; 8];
        for (position, digit) in digits.iter_mut().take(7).enumerate() {
            let shift = 3 * (6 - position);
            *digit = b'0' + ((number >> shift) & 7) as u8;
        }
        digits
    };
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.dev_major = field(device.major);
        ustar.dev_minor = field(device.minor);
    }
}

fn set_link(header: &mut Header, records: &mut pax::Records, entry: &Entry<'_>) -> Result<()> {
    let link = match entry.body {
        Body::Target(target) => {
            if target.contains(&0) {
                return Err(invalid(entry.path, "is a symlink whose target holds a NUL byte"));
            }
            target
        }
        Body::HardLink(first) => {
            check_path(first, entry.path)?;
            first
        }
        Body::None | Body::Data | Body::Sparse(_) => return Ok(()),
    };
    let field = &mut header.as_old_mut().linkname;
    if !fill(field, link) {
        fill_start(field, link);
        records.add_text(b"linkpath", link);
    }
    Ok(())
}

fn set_name(header: &mut Header, records: &mut pax::Records, entry: &Entry<'_>) {
    let name = stored_name(entry);
    let Some(ustar) = header.as_ustar_mut() else { return };
    if fill(&mut ustar.name, &name) {
        return;
    }
    // The split point must be a slash with at most 155 bytes before and 1 to 100 after it.
    let split = (0..name.len().min(156)).rev().find_map(|at| {
        let (prefix, rest) = name.split_at_checked(at)?;
        let rest = rest.strip_prefix(b"/")?;
        let fits = !prefix.is_empty() && !rest.is_empty() && rest.len() <= 100;
        fits.then_some((prefix, rest))
    });
    match split {
        Some((prefix, rest)) => {
            fill(&mut ustar.prefix, prefix);
            fill(&mut ustar.name, rest);
        }
        None => {
            fill_start(&mut ustar.name, &name);
            records.add_text(b"path", &name);
        }
    }
}

/// A reader without knowledge of sparse files must not take map and data for the file: as GNU tar
/// does, the true name stands in the records only.
fn set_sparse_name(header: &mut Header, records: &mut pax::Records, entry: &Entry<'_>) {
    let last = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = b"GNUSparseFile.0/".to_vec();
    name.extend_from_slice(last);
    fill_start(&mut header.as_old_mut().name, &name);
    records.add(b"GNU.sparse.major", b"1");
    records.add(b"GNU.sparse.minor", b"0");
    records.add_text(b"GNU.sparse.name", entry.path);
    records.add(b"GNU.sparse.realsize", entry.metadata.size.to_string().as_bytes());
}

/// The name as it stands in the archive: directories end in a slash, the root is `./`.
fn stored_name(entry: &Entry<'_>) -> Vec<u8> {
    let mut name = entry.path.to_vec();
    if name.is_empty() {
        name.push(b'.');
    }
    if entry.metadata.kind.is_directory() {
        name.push(b'/');
    }
    name
}

/// Copies `text` into a field if it fits; a field that is full needs no NUL.
fn fill(field: &mut [u8], text: &[u8]) -> bool {
    let fits = text.len() <= field.len();
    if fits {
        fill_start(field, text);
    }
    fits
}

fn fill_start(field: &mut [u8], text: &[u8]) {
    for (slot, byte) in field.iter_mut().zip(text) {
        *slot = *byte;
    }
}

fn check_path(path: &[u8], entry: &[u8]) -> Result<()> {
    let bad = |component: &[u8]| matches!(component, b"" | b"." | b"..") || component.contains(&0);
    if !path.is_empty() && path.split(|byte| *byte == b'/').any(bad) {
        return Err(invalid(entry, "has a name that cannot stand in an archive"));
    }
    Ok(())
}

fn invalid(path: &[u8], problem: &str) -> Error {
    Error::Invalid(format!("/{} {problem}", path.escape_ascii()))
}
