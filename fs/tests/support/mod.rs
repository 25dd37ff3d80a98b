//! What the tests of layers share: a flat picture of a tree, and raw tar entries.

#![allow(dead_code)]

pub mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use outcrop_fs::filesystem::DataSink;
use outcrop_fs::layer::{Entry, Layer};
use outcrop_fs::{Kind, Metadata, Xattrs};

/// Everything that a layer says of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub metadata: Metadata,
    pub xattrs: Xattrs,
    /// A file's bytes or a symlink's target.
    pub content: Vec<u8>,
    /// All paths of the node.
    pub names: BTreeSet<Vec<u8>>,
}

/// Walks a layer and checks on the way that its answers agree with each other.
pub fn flatten(layer: &dyn Layer) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut paths = BTreeMap::from([(Entry::ROOT, Vec::new())]);
    let mut waiting = vec![(Entry::ROOT, Vec::new())];
    while let Some((entry, path)) = waiting.pop() {
        let metadata = layer.metadata(entry).unwrap();
        if metadata.kind.is_directory() {
            paths.insert(entry, path.clone());
            let mut children = Vec::new();
            layer
                .children(entry, 0, &mut |name, child| {
                    children.push((name.to_vec(), child));
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert!(children.is_sorted_by(|a, b| a.0 < b.0));
            assert_eq!(layer.child_count(entry).unwrap(), children.len() as u64);
            let mut subdirectories = 0;
            for (name, child) in children {
                assert_eq!(layer.lookup(entry, &name).unwrap(), Some(child));
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&name);
                if layer.metadata(child).unwrap().kind.is_directory() {
                    assert_eq!(layer.parent(child).unwrap(), entry);
                    subdirectories += 1;
                }
                waiting.push((child, below));
            }
            assert_eq!(layer.subdirectories(entry).unwrap(), subdirectories);
        }
        let content = match metadata.kind {
            Kind::File => read_all(layer, entry),
            Kind::Symlink => layer.read_link(entry).unwrap(),
            _ => Vec::new(),
        };
        let xattrs = layer.xattrs(entry).unwrap();
        assert_eq!(layer.has_xattrs(entry).unwrap(), !xattrs.is_empty());
        let one = Seen { metadata, xattrs, content, names: BTreeSet::new() };
        seen.insert(path, (entry, one));
    }
    seen.iter()
        .map(|(path, (entry, one))| {
            let names = layer.names(*entry).unwrap();
            assert_eq!(layer.link_count(*entry).unwrap() as usize, names.len());
            let names = names
                .into_iter()
                .map(|(directory, name)| {
                    let directory = paths.get(&directory).unwrap();
                    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
                    [directory.as_slice(), slash, name.as_slice()].concat()
                })
                .collect();
            (path.clone(), Seen { names, ..one.clone() })
        })
        .collect()
}

#[derive(Default)]
struct Collected(Vec<u8>);

impl DataSink for Collected {
    fn bytes(&mut self, bytes: &[u8]) -> outcrop_fs::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> outcrop_fs::Result<()> {
        self.0.resize(self.0.len() + count as usize, 0);
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> std::io::Result<u64> {
        let mut bytes = vec![0; length as usize];
        let count = file.read_at(&mut bytes, offset)?;
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count as u64)
    }
}

/// Reads a file in odd pieces, and checks its data runs against its bytes.
pub fn read_all(layer: &dyn Layer, entry: Entry) -> Vec<u8> {
    let size = layer.metadata(entry).unwrap().size;
    let mut content = Vec::new();
    let mut buffer = [0xaa; 1009];
    loop {
        let read = layer.read(entry, content.len() as u64, &mut buffer).unwrap();
        if read == 0 {
            break;
        }
        content.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(content.len() as u64, size);
    assert_eq!(layer.read(entry, size + 1, &mut buffer).unwrap(), 0);
    let from = size / 3;
    let mut handed_on = Collected::default();
    layer.read_to(entry, from, size - from, &mut handed_on).unwrap();
    assert!(handed_on.0 == content[from as usize..], "handed on and read are the same");
    let (mut at, mut data) = (0, 0);
    while let Some(run) = layer.next_data(entry, at).unwrap() {
        assert!(run.length > 0 && run.offset >= at);
        assert!(content[at as usize..run.offset as usize].iter().all(|&b| b == 0));
        at = run.offset + run.length;
        data += run.length;
    }
    assert!(content[at as usize..].iter().all(|&b| b == 0));
    assert_eq!(layer.data_bytes(entry).unwrap(), data);
    content
}

/// A tar entry: the header's checksum is set, data is padded.
pub fn entry(mut header: tar::Header, data: &[u8]) -> Vec<u8> {
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// One extended header with these records.
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (keyword, value) in records {
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        body.extend_from_slice(format!("{length} {keyword}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path("PaxHeaders/x").unwrap();
    header.set_size(body.len() as u64);
    entry(header, &body)
}
