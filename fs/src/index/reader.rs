//! Searches a mapped index; every number is checked before it is followed.

#![forbid(unsafe_code)]

mod sections;

use std::fs::File;
use std::path::Path;

use self::sections::{Bytes, SHORT, Sections, damaged};
use super::format::{
    DIGEST_SIZE, EXTENSION_SIZE, Fields, IMPLIED, LINK_GROUP_SIZE, LINK_MEMBER_SIZE, OPAQUE,
    RECORD_SIZE, Record, SPARSE, SPARSE_RUN_SIZE, Section, SourceIdentity, SparseRun,
    WHITEOUT_SIZE, halves,
};
use super::map;
use crate::error::{Errno, Error};
use crate::node::{Device, Kind, Metadata, Xattrs};

/// Why an index gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The question was wrong (`ENOTDIR`, `ESTALE`, …).
    Os(Errno),
    /// The index is damaged near this byte of the file; making it anew helps.
    Damaged { offset: u64, problem: &'static str },
}

impl Fault {
    pub fn into_error(self, label: &str) -> Error {
        match self {
            Fault::Os(errno) => Error::Os(errno),
            Fault::Damaged { offset, problem } => Error::Malformed {
                layer: label.to_owned(),
                path: None,
                offset: Some(offset),
                problem: format!("its index is damaged: {problem}"),
            },
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// A node, with where its content is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The number of the record that holds it.
    pub number: u32,
    pub parent: u32,
    pub metadata: Metadata,
    pub payload: Payload,
    extension: u32,
    digest: u32,
    link_group: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Data { offset: u64 },
    Sparse,
    Target { offset: u32, length: u32 },
    Directory { first: u32, count: u32, subdirectories: u32, opaque: bool, implied: bool },
    Nothing,
}

/// An open index.
pub struct Index {
    sections: Sections,
}

impl Index {
    /// Maps an index file and checks its header; costs nothing more.
    pub fn open(path: &Path) -> crate::error::Result<Index> {
        let file = File::open(path).map_err(|e| Error::host("cannot open", path, e))?;
        let mapped = map::map(&file).map_err(|e| Error::host("cannot map", path, e))?;
        Sections::new(Bytes::Mapped(mapped))
            .map(|sections| Index { sections })
            .map_err(|fault| fault.into_error(&path.display().to_string()))
    }

    /// An index that is kept in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Index> {
        Ok(Index { sections: Sections::new(Bytes::Owned(bytes))? })
    }

    pub fn source(&self) -> &SourceIdentity {
        &self.sections.header.source
    }

    /// Size in bytes of the file that data offsets point into.
    pub fn data_size(&self) -> u64 {
        self.sections.header.data_size
    }

    /// Names in the tree, the root included.
    pub fn entry_count(&self) -> u64 {
        self.sections.header.section(Section::Records).length / RECORD_SIZE as u64
    }

    /// Whether the content of any file is known by its SHA-256.
    pub fn has_digests(&self) -> bool {
        self.sections.header.section(Section::Digests).length > 0
    }

    /// Bytes of the whole index.
    pub fn size(&self) -> u64 {
        self.sections.header.file_length
    }

    /// The node of a number that was given out; `ESTALE` for any other.
    pub fn node(&self, number: u64) -> Result<Node> {
        let number = u32::try_from(number).map_err(|_| Fault::Os(Errno::STALE))?;
        if u64::from(number) >= self.entry_count() {
            return Err(Fault::Os(Errno::STALE));
        }
        let record = self.record(number)?;
        if record.is_link() {
            return Err(Fault::Os(Errno::STALE));
        }
        self.decode_node(number, &record)
    }

    /// A number's directory; `ENOTDIR` for everything else: first child, count of children.
    pub fn directory(&self, number: u64) -> Result<(u32, u32)> {
        match self.node(number)?.payload {
            Payload::Directory { first, count, .. } => Ok((first, count)),
            _ => Err(Fault::Os(Errno::NOTDIR)),
        }
    }

    /// Finds a child by binary search.
    pub fn lookup(&self, directory: u64, name: &[u8]) -> Result<Option<u32>> {
        let (first, count) = self.directory(directory)?;
        let (mut low, mut high) = (0_u32, count);
        while low < high {
            let middle = low.midpoint(high);
            let (number, record) = self.nth_child(first, middle)?;
            match self.name(&record)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle.saturating_add(1),
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.holder(number, &record).map(Some),
            }
        }
        Ok(None)
    }

    /// The `position`-th child of a directory as [`Index::directory`] describes it.
    pub fn child(&self, first: u32, position: u32) -> Result<(&[u8], u32)> {
        let (number, record) = self.nth_child(first, position)?;
        Ok((self.name(&record)?, self.holder(number, &record)?))
    }

    /// Number of names that a node has.
    pub fn link_count(&self, node: &Node) -> Result<u32> {
        Ok(self.link_group(node)?.map_or(1, |(_, count)| count))
    }

    /// Every (directory, name) of a node.
    pub fn names(&self, node: &Node) -> Result<Vec<(u32, Vec<u8>)>> {
        let Some((first, count)) = self.link_group(node)? else {
            let record = self.record(node.number)?;
            return Ok(vec![(record.parent, self.name(&record)?.to_vec())]);
        };
        let mut names = Vec::new();
        for position in 0..count {
            let at = u64::from(first).saturating_add(u64::from(position));
            let item = self.sections.item(Section::LinkMembers, at, LINK_MEMBER_SIZE)?;
            let member = Fields(item).u32().ok_or(SHORT)?;
            let record = self.record(member)?;
            if self.holder(member, &record)? != node.number {
                return Err(damaged(self.record_offset(member), "a link group is inconsistent"));
            }
            names.push((record.parent, self.name(&record)?.to_vec()));
        }
        Ok(names)
    }

    pub fn target(&self, node: &Node) -> Result<&[u8]> {
        match node.payload {
            Payload::Target { offset, length } => {
                self.sections.bytes_in(Section::Strings, u64::from(offset), u64::from(length))
            }
            _ => Err(Fault::Os(Errno::INVAL)),
        }
    }

    pub fn has_xattrs(&self, node: &Node) -> Result<bool> {
        Ok(self.extension(node)?.is_some_and(|extension| extension.xattr_count > 0))
    }

    pub fn xattrs(&self, node: &Node) -> Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        let Some(extension) = self.extension(node)? else { return Ok(xattrs) };
        let mut at = u64::from(extension.xattr_offset);
        for _ in 0..extension.xattr_count {
            let mut lengths = Fields(self.sections.bytes_in(Section::Xattrs, at, 6)?);
            let name_length = u64::from(lengths.u16().ok_or(SHORT)?);
            let value_length = u64::from(lengths.u32().ok_or(SHORT)?);
            at = at.saturating_add(6);
            let name = self.sections.bytes_in(Section::Xattrs, at, name_length)?;
            at = at.saturating_add(name_length);
            let value = self.sections.bytes_in(Section::Xattrs, at, value_length)?;
            at = at.saturating_add(value_length);
            xattrs.insert(name.to_vec(), value.to_vec());
        }
        Ok(xattrs)
    }

    pub fn digest(&self, node: &Node) -> Result<Option<[u8; 32]>> {
        let Some(at) = node.digest.checked_sub(1) else { return Ok(None) };
        Fields(self.sections.item(Section::Digests, u64::from(at), DIGEST_SIZE)?)
            .array()
            .map(Some)
            .ok_or(SHORT)
    }

    /// Number of sparse runs of a sparse file.
    pub fn run_count(&self, node: &Node) -> Result<u32> {
        Ok(self.extension(node)?.map_or(0, |extension| extension.run_count))
    }

    /// A run by its position, checked to lie within the file.
    pub fn run(&self, node: &Node, position: u32) -> Result<SparseRun> {
        let Some(extension) = self.extension(node)? else { return Err(SHORT) };
        let at = u64::from(extension.first_run).saturating_add(u64::from(position));
        let mut fields = Fields(self.sections.item(Section::SparseRuns, at, SPARSE_RUN_SIZE)?);
        let run = SparseRun {
            file_offset: fields.u64().ok_or(SHORT)?,
            data_offset: fields.u64().ok_or(SHORT)?,
            length: fields.u64().ok_or(SHORT)?,
        };
        let end = run.file_offset.checked_add(run.length);
        if end.is_none_or(|end| end > node.metadata.size) {
            return Err(damaged(at, "a sparse run exceeds its file"));
        }
        Ok(run)
    }

    /// The position of the first run that ends after `offset`.
    pub fn run_at(&self, node: &Node, offset: u64) -> Result<u32> {
        let (mut low, mut high) = (0, self.run_count(node)?);
        while low < high {
            let middle = low.midpoint(high);
            let run = self.run(node, middle)?;
            if run.file_offset.saturating_add(run.length) <= offset {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    pub fn has_whiteout(&self, directory: u64, name: &[u8]) -> Result<bool> {
        self.directory(directory)?;
        let section = self.sections.header.section(Section::Whiteouts);
        let (mut low, mut high) = (0, section.length / WHITEOUT_SIZE as u64);
        while low < high {
            let middle = low.midpoint(high);
            let mut fields =
                Fields(self.sections.item(Section::Whiteouts, middle, WHITEOUT_SIZE)?);
            let owner = u64::from(fields.u32().ok_or(SHORT)?);
            let offset = u64::from(fields.u32().ok_or(SHORT)?);
            let length = u64::from(fields.u32().ok_or(SHORT)?);
            let found = (owner, self.sections.bytes_in(Section::Strings, offset, length)?);
            match found.cmp(&(directory, name)) {
                std::cmp::Ordering::Less => low = middle.saturating_add(1),
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Verifies every block.
    pub fn verify(&self) -> Result<()> {
        self.sections.verify()
    }

    fn nth_child(&self, first: u32, position: u32) -> Result<(u32, Record)> {
        let number = first.checked_add(position).ok_or(SHORT)?;
        Ok((number, self.record(number)?))
    }

    fn name(&self, record: &Record) -> Result<&[u8]> {
        let length = u64::from(record.name_length);
        self.sections.bytes_in(Section::Strings, u64::from(record.name_offset), length)
    }

    /// The number of the record that holds a record's node.
    fn holder(&self, number: u32, record: &Record) -> Result<u32> {
        if !record.is_link() {
            return Ok(number);
        }
        let (holder, _) = halves(record.first);
        if self.record(holder)?.is_link() {
            return Err(damaged(self.record_offset(number), "a link points to a link"));
        }
        Ok(holder)
    }

    /// The number of the directory that holds a node's first name. A directory is never a link: one
    /// that says so could lead a walk upwards down again, without end.
    pub fn parent(&self, number: u64) -> Result<u32> {
        let parent = self.node(number)?.parent;
        if self.record(parent)?.is_link() {
            return Err(damaged(self.record_offset(parent), "a directory is a link"));
        }
        Ok(parent)
    }

    fn record(&self, number: u32) -> Result<Record> {
        let bytes = self.sections.item(Section::Records, u64::from(number), RECORD_SIZE)?;
        let record = Record::decode(bytes).ok_or(SHORT)?;
        // The root is its own parent; all others come after theirs, so no walk upwards is endless.
        let in_order = if number == 0 { record.parent == 0 } else { record.parent < number };
        if !in_order {
            return Err(damaged(self.record_offset(number), "a parent comes after its child"));
        }
        Ok(record)
    }

    fn record_offset(&self, number: u32) -> u64 {
        let start = self.sections.header.section(Section::Records).offset;
        start.saturating_add(u64::from(number).saturating_mul(RECORD_SIZE as u64))
    }

    fn decode_node(&self, number: u32, record: &Record) -> Result<Node> {
        let (low, high) = halves(record.first);
        let device = Device { major: low, minor: high };
        let kind = Kind::from_mode(u32::from(record.st_mode), device)
            .ok_or_else(|| damaged(self.record_offset(number), "a node has an unknown type"))?;
        let payload = match kind {
            Kind::File if record.flags & SPARSE != 0 => Payload::Sparse,
            Kind::File => Payload::Data { offset: record.first },
            Kind::Symlink => Payload::Target { offset: low, length: high },
            Kind::Directory => {
                if high > 0 && low <= number {
                    return Err(damaged(
                        self.record_offset(number),
                        "a directory's children come before it",
                    ));
                }
                let (subdirectories, _) = halves(record.second);
                let opaque = record.flags & OPAQUE != 0;
                let implied = record.flags & IMPLIED != 0;
                Payload::Directory { first: low, count: high, subdirectories, opaque, implied }
            }
            _ => Payload::Nothing,
        };
        let size = match kind {
            Kind::File | Kind::Symlink => record.second,
            _ => 0,
        };
        let metadata = Metadata {
            kind,
            mode: record.st_mode & 0o7777,
            uid: record.uid,
            gid: record.gid,
            mtime: record.mtime,
            size,
        };
        Ok(Node {
            number,
            parent: record.parent,
            metadata,
            payload,
            extension: record.extension,
            digest: record.digest,
            link_group: record.link_group,
        })
    }

    fn link_group(&self, node: &Node) -> Result<Option<(u32, u32)>> {
        let Some(at) = node.link_group.checked_sub(1) else { return Ok(None) };
        let mut fields =
            Fields(self.sections.item(Section::LinkGroups, u64::from(at), LINK_GROUP_SIZE)?);
        Ok(Some((fields.u32().ok_or(SHORT)?, fields.u32().ok_or(SHORT)?)))
    }

    fn extension(&self, node: &Node) -> Result<Option<Extension>> {
        let Some(at) = node.extension.checked_sub(1) else { return Ok(None) };
        let mut fields =
            Fields(self.sections.item(Section::Extensions, u64::from(at), EXTENSION_SIZE)?);
        Ok(Some(Extension {
            xattr_offset: fields.u32().ok_or(SHORT)?,
            xattr_count: fields.u32().ok_or(SHORT)?,
            first_run: fields.u32().ok_or(SHORT)?,
            run_count: fields.u32().ok_or(SHORT)?,
        }))
    }
}

struct Extension {
    xattr_offset: u32,
    xattr_count: u32,
    first_run: u32,
    run_count: u32,
}
