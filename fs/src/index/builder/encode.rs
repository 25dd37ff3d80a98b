//! Lays collected nodes out as an index file.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::super::format::{
    BLOCK_SIZE, DIGEST_SIZE, EXTENSION_SIZE, Extent, HEADER_SIZE, Header, IMPLIED,
    LINK_MEMBER_SIZE, OPAQUE, RECORD_SIZE, Record, SECTIONS, SPARSE, SPARSE_RUN_SIZE, from_halves,
};
use super::{Builder, Held, Inode, ROOT};
use crate::error::{Error, Result};
use crate::node::{Kind, Xattrs};

#[derive(Default)]
struct Sections {
    records: Vec<Record>,
    strings: Vec<u8>,
    link_groups: Vec<u8>,
    link_members: Vec<u8>,
    extensions: Vec<u8>,
    xattrs: Vec<u8>,
    sparse_runs: Vec<u8>,
    digests: Vec<u8>,
    whiteouts: Vec<u8>,
}

/// Equal names, targets and xattr sets are stored once.
#[derive(Default)]
struct Interned<'a> {
    strings: HashMap<&'a [u8], u32>,
    xattrs: HashMap<Vec<u8>, u32>,
}

struct TooLarge;

pub(super) fn encode(builder: Builder) -> Result<Vec<u8>> {
    let mut sections = Sections::default();
    lay_out(&builder.inodes, &mut sections).map_err(|TooLarge| {
        Error::malformed(
            builder.label.clone(),
            "the tree is too large for an index (2^32 entries, 4 GiB of names)",
        )
    })?;
    Ok(assemble(&builder, &sections))
}

fn lay_out(inodes: &[Inode], out: &mut Sections) -> Result<(), TooLarge> {
    let mut interned = Interned::default();
    // For each record its inode; a directory's children are appended when its turn comes, which
    // is breadth-first order.
    let mut order: Vec<u32> = vec![ROOT];
    let mut names: Vec<(u32, &[u8])> = vec![(0, b"")];
    let mut holders: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut first_name: Vec<Option<u32>> = vec![None; inodes.len()];

    let mut position = 0_usize;
    while let (Some(&number), Some(&(parent, name))) = (order.get(position), names.get(position)) {
        let record_number = to_u32(position)?;
        position = position.saturating_add(1);
        let Some(inode) = inodes.get(number as usize) else { continue };
        let name_offset = intern(&mut out.strings, &mut interned.strings, name)?;
        let name_length = u16::try_from(name.len()).map_err(|_| TooLarge)?;
        let identity = Record { name_offset, name_length, parent, ..Record::default() };

        if let Some(slot) = first_name.get_mut(number as usize) {
            if let Some(holder) = *slot {
                holders.entry(holder).or_insert_with(|| vec![holder]).push(record_number);
                out.records.push(Record { first: from_halves(holder, 0), ..identity });
                continue;
            }
            *slot = Some(record_number);
        }

        let mut record = describe(inode, identity, out, &mut interned)?;
        if let Held::Directory(directory) = &inode.content {
            let first_child = to_u32(order.len())?;
            let mut subdirectories = 0_u32;
            for (name, child) in &directory.children {
                order.push(*child);
                names.push((record_number, name));
                let is_directory = inodes
                    .get(*child as usize)
                    .is_some_and(|inode| inode.metadata.kind.is_directory());
                subdirectories = subdirectories.saturating_add(u32::from(is_directory));
            }
            let count = to_u32(directory.children.len())?;
            record.first = from_halves(first_child, count);
            record.second = from_halves(subdirectories, 0);
            if directory.opaque {
                record.flags |= OPAQUE;
            }
            if !directory.explicit {
                record.flags |= IMPLIED;
            }
            for name in &directory.whiteouts {
                let offset = intern(&mut out.strings, &mut interned.strings, name)?;
                out.whiteouts.extend_from_slice(&record_number.to_le_bytes());
                out.whiteouts.extend_from_slice(&offset.to_le_bytes());
                out.whiteouts.extend_from_slice(&to_u32(name.len())?.to_le_bytes());
            }
        }
        out.records.push(record);
    }
    write_links(holders, out)
}

fn write_links(holders: HashMap<u32, Vec<u32>>, out: &mut Sections) -> Result<(), TooLarge> {
    let mut groups: Vec<(u32, Vec<u32>)> = holders.into_iter().collect();
    groups.sort_unstable();
    for (group, (holder, members)) in groups.into_iter().enumerate() {
        let first = to_u32(out.link_members.len() / LINK_MEMBER_SIZE)?;
        out.link_groups.extend_from_slice(&first.to_le_bytes());
        out.link_groups.extend_from_slice(&to_u32(members.len())?.to_le_bytes());
        for member in members {
            out.link_members.extend_from_slice(&member.to_le_bytes());
        }
        if let Some(record) = out.records.get_mut(holder as usize) {
            record.link_group = to_u32(group)?.checked_add(1).ok_or(TooLarge)?;
        }
    }
    Ok(())
}

/// Fills in everything that does not depend on other nodes.
fn describe<'a>(
    inode: &'a Inode,
    identity: Record,
    out: &mut Sections,
    interned: &mut Interned<'a>,
) -> Result<Record, TooLarge> {
    let metadata = &inode.metadata;
    let mut record = Record {
        st_mode: (metadata.st_mode() & 0xffff) as u16,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        second: metadata.size,
        ..identity
    };
    match &inode.content {
        Held::Nothing | Held::Directory(_) => {}
        Held::Data { offset } => record.first = *offset,
        Held::Sparse(_) => record.flags |= SPARSE,
        Held::Target(target) => {
            let offset = intern(&mut out.strings, &mut interned.strings, target)?;
            record.first = from_halves(offset, to_u32(target.len())?);
        }
    }
    if let Kind::CharDevice(device) | Kind::BlockDevice(device) = metadata.kind {
        record.first = from_halves(device.major, device.minor);
    }
    if let Some(digest) = &inode.digest {
        out.digests.extend_from_slice(digest);
        record.digest = to_u32(out.digests.len() / DIGEST_SIZE)?;
    }
    record.extension = extend(inode, out, interned)?;
    Ok(record)
}

/// Stores xattrs and sparse runs; the number of the extension + 1, or 0.
fn extend(inode: &Inode, out: &mut Sections, interned: &mut Interned<'_>) -> Result<u32, TooLarge> {
    let runs = match &inode.content {
        Held::Sparse(runs) => runs.as_slice(),
        _ => &[],
    };
    if inode.xattrs.is_empty() && runs.is_empty() {
        return Ok(0);
    }
    let packed = pack_xattrs(&inode.xattrs)?;
    let xattr_offset = match interned.xattrs.get(&packed) {
        Some(&offset) => offset,
        None => {
            let offset = to_u32(out.xattrs.len())?;
            out.xattrs.extend_from_slice(&packed);
            interned.xattrs.insert(packed, offset);
            offset
        }
    };
    let first_run = to_u32(out.sparse_runs.len() / SPARSE_RUN_SIZE)?;
    for run in runs {
        out.sparse_runs.extend_from_slice(&run.file_offset.to_le_bytes());
        out.sparse_runs.extend_from_slice(&run.data_offset.to_le_bytes());
        out.sparse_runs.extend_from_slice(&run.length.to_le_bytes());
    }
    let numbers = [xattr_offset, to_u32(inode.xattrs.len())?, first_run, to_u32(runs.len())?];
    for number in numbers {
        out.extensions.extend_from_slice(&number.to_le_bytes());
    }
    to_u32(out.extensions.len() / EXTENSION_SIZE)
}

fn pack_xattrs(xattrs: &Xattrs) -> Result<Vec<u8>, TooLarge> {
    let mut packed = Vec::new();
    for (name, value) in xattrs {
        let name_length = u16::try_from(name.len()).map_err(|_| TooLarge)?;
        packed.extend_from_slice(&name_length.to_le_bytes());
        packed.extend_from_slice(&to_u32(value.len())?.to_le_bytes());
        packed.extend_from_slice(name);
        packed.extend_from_slice(value);
    }
    Ok(packed)
}

fn intern<'a>(
    strings: &mut Vec<u8>,
    known: &mut HashMap<&'a [u8], u32>,
    text: &'a [u8],
) -> Result<u32, TooLarge> {
    if let Some(&offset) = known.get(text) {
        return Ok(offset);
    }
    let offset = to_u32(strings.len())?;
    strings.extend_from_slice(text);
    known.insert(text, offset);
    Ok(offset)
}

fn to_u32(number: usize) -> Result<u32, TooLarge> {
    u32::try_from(number).ok().filter(|&n| n < u32::MAX).ok_or(TooLarge)
}

fn assemble(builder: &Builder, sections: &Sections) -> Vec<u8> {
    let mut records = Vec::with_capacity(sections.records.len().saturating_mul(RECORD_SIZE));
    for record in &sections.records {
        record.encode(&mut records);
    }
    let body_parts = [
        &records,
        &sections.strings,
        &sections.link_groups,
        &sections.link_members,
        &sections.extensions,
        &sections.xattrs,
        &sections.sparse_runs,
        &sections.digests,
        &sections.whiteouts,
    ];
    let mut extents = [Extent::default(); SECTIONS];
    let mut file = vec![0; HEADER_SIZE];
    for (extent, part) in extents.iter_mut().zip(body_parts) {
        *extent = Extent { offset: file.len() as u64, length: part.len() as u64 };
        file.extend_from_slice(part);
    }
    let mut checksums = Vec::new();
    for block in file.get(HEADER_SIZE..).unwrap_or_default().chunks(BLOCK_SIZE) {
        checksums.extend_from_slice(&xxh3_64(block).to_le_bytes());
    }
    if let Some(last) = extents.last_mut() {
        *last = Extent { offset: file.len() as u64, length: checksums.len() as u64 };
    }
    file.extend_from_slice(&checksums);
    let header = Header {
        source: builder.source,
        data_size: builder.data_size.unwrap_or(builder.source.size),
        file_length: file.len() as u64,
        sections: extents,
        checksums_checksum: xxh3_64(&checksums),
    };
    if let Some(front) = file.get_mut(..HEADER_SIZE) {
        front.copy_from_slice(&header.encode());
    }
    file
}
