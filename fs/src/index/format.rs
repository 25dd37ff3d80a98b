//! Fixed structures of the index file, as docs/index-format.md lays them out.

#![forbid(unsafe_code)]

use xxhash_rust::xxh3::xxh3_64;

use crate::node::Timestamp;

pub(super) const MAGIC: [u8; 8] = *b"OUTCRIDX";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_SIZE: usize = 512;
pub(super) const RECORD_SIZE: usize = 64;
/// The unit of checksums.
pub(super) const BLOCK_SIZE: usize = 64 * 1024;
pub(super) const SECTIONS: usize = 10;

pub(super) const LINK_GROUP_SIZE: usize = 8;
pub(super) const LINK_MEMBER_SIZE: usize = 4;
pub(super) const EXTENSION_SIZE: usize = 16;
pub(super) const SPARSE_RUN_SIZE: usize = 24;
pub(super) const DIGEST_SIZE: usize = 32;
pub(super) const WHITEOUT_SIZE: usize = 12;
pub(super) const CHECKSUM_SIZE: usize = 8;

const FLAG_SOURCE_DIGEST: u32 = 1;
const CHECKED_HEADER: usize = HEADER_SIZE - 8;

/// Bits of a record's flags.
pub(super) const OPAQUE: u32 = 1;
pub(super) const SPARSE: u32 = 2;
pub(super) const IMPLIED: u32 = 4;

/// `S_IFMT >> 12` of a record that is a further name of another record's node.
pub(super) const LINK_TYPE: u16 = 0;

/// What an index was made from, and so what it is valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Bytes.
    pub size: u64,
    pub mtime: Timestamp,
    /// SHA-256 of the source, where it is known; then `mtime` does not matter.
    pub digest: Option<[u8; 32]>,
}

/// A stretch of a sparse file that holds data; all three in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseRun {
    pub file_offset: u64,
    pub data_offset: u64,
    pub length: u64,
}

/// The sections, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Records,
    Strings,
    LinkGroups,
    LinkMembers,
    Extensions,
    Xattrs,
    SparseRuns,
    Digests,
    Whiteouts,
    Checksums,
}

/// Where a section lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    pub offset: u64,
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub source: SourceIdentity,
    pub data_size: u64,
    pub file_length: u64,
    pub sections: [Extent; SECTIONS],
    pub checksums_checksum: u64,
}

impl Header {
    pub fn section(&self, section: Section) -> Extent {
        self.sections.get(section as usize).copied().unwrap_or_default()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_SIZE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.source.digest.is_some() { FLAG_SOURCE_DIGEST } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.source.size.to_le_bytes());
        out.extend_from_slice(&self.source.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&self.source.mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.source.digest.unwrap_or_default());
        out.extend_from_slice(&self.data_size.to_le_bytes());
        out.extend_from_slice(&self.file_length.to_le_bytes());
        for extent in &self.sections {
            out.extend_from_slice(&extent.offset.to_le_bytes());
            out.extend_from_slice(&extent.length.to_le_bytes());
        }
        out.resize(CHECKED_HEADER - 8, 0);
        out.extend_from_slice(&self.checksums_checksum.to_le_bytes());
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads and checks a header; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Header, &'static str> {
        const SHORT: &str = "the index is shorter than its header";
        let bytes = bytes.get(..HEADER_SIZE).ok_or(SHORT)?;
        let mut fields = Fields(bytes);
        if fields.array::<8>().ok_or(SHORT)? != MAGIC {
            return Err("this is not an index: the magic number is missing");
        }
        if fields.u32().ok_or(SHORT)? != VERSION {
            return Err("the index has another version");
        }
        let (checked, stored) = bytes.split_at_checked(CHECKED_HEADER).ok_or(SHORT)?;
        if Fields(stored).u64().ok_or(SHORT)? != xxh3_64(checked) {
            return Err("the checksum of the index header is wrong");
        }
        let parse = |fields: &mut Fields| -> Option<Header> {
            let flags = fields.u32()?;
            let size = fields.u64()?;
            let mtime = Timestamp::new(fields.i64()?, fields.u32()?);
            fields.u32()?;
            let digest: [u8; 32] = fields.array()?;
            let digest = (flags & FLAG_SOURCE_DIGEST != 0).then_some(digest);
            let data_size = fields.u64()?;
            let file_length = fields.u64()?;
            let mut sections = [Extent::default(); SECTIONS];
            for extent in &mut sections {
                *extent = Extent { offset: fields.u64()?, length: fields.u64()? };
            }
            let checksums_checksum = Fields(checked.get(CHECKED_HEADER - 8..)?).u64()?;
            let source = SourceIdentity { size, mtime, digest };
            Some(Header { source, data_size, file_length, sections, checksums_checksum })
        };
        parse(&mut fields).ok_or(SHORT)
    }
}

/// One name of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub name_offset: u32,
    pub name_length: u16,
    pub st_mode: u16,
    pub parent: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub first: u64,
    pub second: u64,
    pub extension: u32,
    pub digest: u32,
    pub link_group: u32,
    pub flags: u32,
}

impl Record {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name_offset.to_le_bytes());
        out.extend_from_slice(&self.name_length.to_le_bytes());
        out.extend_from_slice(&self.st_mode.to_le_bytes());
        out.extend_from_slice(&self.parent.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.gid.to_le_bytes());
        out.extend_from_slice(&self.mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&self.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.second.to_le_bytes());
        out.extend_from_slice(&self.extension.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.link_group.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
    }

    /// `None` only where fewer than [`RECORD_SIZE`] bytes are given.
    pub fn decode(bytes: &[u8]) -> Option<Record> {
        let mut fields = Fields(bytes);
        let name_offset = fields.u32()?;
        let name_length = fields.u16()?;
        let st_mode = fields.u16()?;
        let parent = fields.u32()?;
        let uid = fields.u32()?;
        let gid = fields.u32()?;
        let nanoseconds = fields.u32()?;
        let seconds = fields.i64()?;
        Some(Record {
            name_offset,
            name_length,
            st_mode,
            parent,
            uid,
            gid,
            mtime: Timestamp { seconds, nanoseconds },
            first: fields.u64()?,
            second: fields.u64()?,
            extension: fields.u32()?,
            digest: fields.u32()?,
            link_group: fields.u32()?,
            flags: fields.u32()?,
        })
    }

    pub fn is_link(&self) -> bool {
        self.st_mode >> 12 == LINK_TYPE
    }
}

/// The lower and the upper half of a payload.
pub(super) fn halves(payload: u64) -> (u32, u32) {
    ((payload & 0xffff_ffff) as u32, (payload >> 32) as u32)
}

pub(super) fn from_halves(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

/// Little-endian numbers one after the other; `None` at the end of the bytes.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}
