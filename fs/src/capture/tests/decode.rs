//! Reads a stream back with the `tar` crate and an own view of pax records: what a test compares.

use std::collections::BTreeMap;
use std::io::Read;

use tar::{Archive, EntryType};

use crate::filesystem::Filesystem;
use crate::node::ROOT_INO;
use crate::{Device, Kind, Metadata, Timestamp, Xattrs};

use super::memory::MemoryTree;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub path: Vec<u8>,
    pub meta: Metadata,
    pub target: Option<Vec<u8>>,
    pub hard_link: Option<Vec<u8>>,
    pub xattrs: Xattrs,
    pub content: Vec<u8>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn decode(stream: &[u8]) -> Vec<Decoded> {
    let mut archive = Archive::new(stream);
    let mut records = Records::new();
    let mut all = Vec::new();
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        if entry.header().entry_type() == EntryType::XHeader {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            records = parse_records(&bytes);
        } else {
            all.push(decode_entry(entry, std::mem::take(&mut records)));
        }
    }
    all
}

/// Not by the `tar` crate: it ends a value at the first newline.
fn parse_records(mut bytes: &[u8]) -> Records {
    let mut records = Records::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let record = bytes[space + 1..length].strip_suffix(b"\n").unwrap();
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        let value = record[equals + 1..].to_vec();
        assert_eq!(records.insert(record[..equals].to_vec(), value), None);
        bytes = &bytes[length..];
    }
    records
}

fn decode_entry(mut entry: tar::Entry<'_, &[u8]>, records: Records) -> Decoded {
    let text = |key: &str| records.get(key.as_bytes()).cloned();
    let number = |key: &str| text(key).map(|value| String::from_utf8(value).unwrap());
    let header = entry.header().clone();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let sparse = number("GNU.sparse.realsize");
    if let Some(size) = &sparse {
        content = expand(&content, size.parse().unwrap());
    }
    let kind_of = header.entry_type();
    let ustar = header.as_ustar().unwrap();
    let device = Device { major: field(&ustar.dev_major), minor: field(&ustar.dev_minor) };
    let link = text("linkpath").or_else(|| entry.link_name_bytes().map(|name| name.to_vec()));
    let path = text("GNU.sparse.name").or_else(|| text("path"));
    let mut path = path.unwrap_or_else(|| entry.path_bytes().to_vec());
    if kind_of == EntryType::Directory {
        assert_eq!(path.pop(), Some(b'/'));
    }
    let seconds = header.mtime().unwrap() as i64;
    let xattrs = records.iter().filter_map(|(key, value)| {
        let name = String::from_utf8_lossy(key.strip_prefix(b"SCHILY.xattr.")?).into_owned();
        Some((name.replace("%3D", "=").replace("%25", "%").into_bytes(), value.clone()))
    });
    Decoded {
        path: if path == b"." { Vec::new() } else { path },
        meta: Metadata {
            kind: match kind_of {
                EntryType::Regular | EntryType::Link => Kind::File,
                EntryType::Directory => Kind::Directory,
                EntryType::Symlink => Kind::Symlink,
                EntryType::Char => Kind::CharDevice(device),
                EntryType::Block => Kind::BlockDevice(device),
                EntryType::Fifo => Kind::Fifo,
                other => panic!("unexpected {other:?}"),
            },
            mode: header.mode().unwrap() as u16,
            uid: number("uid").map_or(header.uid().unwrap() as u32, |id| id.parse().unwrap()),
            gid: number("gid").map_or(header.gid().unwrap() as u32, |id| id.parse().unwrap()),
            mtime: number("mtime").map_or(Timestamp::new(seconds, 0), |text| time(&text)),
            size: content.len() as u64,
        },
        target: link.clone().filter(|_| kind_of == EntryType::Symlink),
        hard_link: link.filter(|_| kind_of == EntryType::Link),
        xattrs: xattrs.collect(),
        content,
    }
}

fn field(bytes: &[u8; 8]) -> u32 {
    if bytes[0] & 0x80 != 0 {
        return u32::from_be_bytes(bytes[4..].try_into().unwrap());
    }
    u32::from_str_radix(std::str::from_utf8(&bytes[..7]).unwrap(), 8).unwrap()
}

fn time(text: &str) -> Timestamp {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (seconds, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole: i128 = seconds.parse().unwrap();
    let fraction: i128 = format!("{decimals:0<9}").parse().unwrap();
    let total = sign * (whole * 1_000_000_000 + fraction);
    let seconds = total.div_euclid(1_000_000_000) as i64;
    Timestamp::new(seconds, total.rem_euclid(1_000_000_000) as u32)
}

/// GNU's sparse format 1.0.
fn expand(stored: &[u8], size: usize) -> Vec<u8> {
    let mut lines = stored.split(|byte| *byte == b'\n');
    let mut consumed = 0;
    let mut number = || {
        let line = lines.next().unwrap();
        consumed += line.len() + 1;
        std::str::from_utf8(line).unwrap().parse::<usize>().unwrap()
    };
    let count = number();
    let runs: Vec<_> = (0..count).map(|_| (number(), number())).collect();
    let mut data = &stored[consumed.div_ceil(512) * 512..];
    let mut content = vec![0; size];
    for (offset, length) in runs {
        content[offset..offset + length].copy_from_slice(&data[..length]);
        data = &data[length..];
    }
    assert!(data.is_empty());
    content
}

/// What [`decode`] must give for a tree, by an independent recursion.
pub fn expected(tree: &MemoryTree) -> Vec<Decoded> {
    let mut all = vec![];
    describe(tree, ROOT_INO, b"", &mut BTreeMap::new(), &mut all);
    all
}

fn describe(
    tree: &MemoryTree,
    ino: u64,
    path: &[u8],
    seen: &mut BTreeMap<u64, Vec<u8>>,
    all: &mut Vec<Decoded>,
) {
    let mut meta = tree.attributes(ino).unwrap().meta;
    let node = &tree.nodes[(ino - ROOT_INO) as usize].1;
    let hard_link = seen.get(&ino).cloned();
    seen.insert(ino, hard_link.clone().unwrap_or_else(|| path.to_vec()));
    let mut content = Vec::new();
    if hard_link.is_some() {
        meta.kind = Kind::File;
    } else if meta.kind == Kind::File {
        content = tree.content(ino);
    }
    meta.size = content.len() as u64;
    let first = hard_link.is_none();
    all.push(Decoded {
        path: path.to_vec(),
        meta,
        target: (first && meta.kind == Kind::Symlink).then(|| node.target.clone()),
        hard_link,
        xattrs: if first { node.xattrs.clone() } else { Xattrs::new() },
        content,
    });
    let mut names: Vec<_> = node.names.iter().collect();
    names.sort_by_key(|(name, child)| {
        let slash: &[u8] =
            if tree.attributes(**child).unwrap().meta.kind.is_directory() { b"/" } else { b"" };
        [name.as_slice(), slash].concat()
    });
    for (name, child) in names {
        let path = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
        describe(tree, *child, &path, seen, all);
    }
}
