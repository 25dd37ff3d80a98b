//! A directory with a layer cache, and small archives of every kind to put into it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use outcrop_fs::Error;
use outcrop_fs::layer::cache::{Archive, LayerCache};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::{Entry, Layer};

use super::{Seen, entry};

pub struct Room {
    pub directory: tempfile::TempDir,
    pub cache: LayerCache,
}

impl Room {
    pub fn new() -> Room {
        let directory = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(directory.path().join("cache"));
        Room { directory, cache }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn open(&self, path: &Path) -> Result<IndexedLayer, Error> {
        self.cache.open(&Archive::new(path), &|_| {})
    }

    pub fn cached(&self, extension: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.directory.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(extension))
            .collect();
        found.sort();
        found
    }
}

pub fn header(kind: u8, path: &str, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size as u64);
    header
}

pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, data) in entries {
        let kind = if path.ends_with('/') { b'5' } else { b'0' };
        out.extend(entry(header(kind, path, data.len()), data));
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

pub fn sample() -> Vec<u8> {
    let many: Vec<(String, Vec<u8>)> =
        (0..3000_u32).map(|n| (format!("many/file-{n:05}"), n.to_string().into_bytes())).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("d/", b""), ("d/f", b"content")];
    entries.extend(many.iter().map(|(path, data)| (path.as_str(), data.as_slice())));
    tar(&entries)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses in two parts, as parallel compressors and `cat a.xz b.xz` do.
pub fn in_two(compress: fn(&[u8]) -> Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 3);
    [compress(first), compress(second)].concat()
}

pub type Compress = fn(&[u8]) -> Vec<u8>;
pub const COMPRESSIONS: [(&str, Compress); 4] =
    [("gz", gzip), ("xz", xz), ("zst", zstd), ("bz2", bzip2)];

pub fn deb(data_name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar.xz", b"odd"), (data_name, data)]
    {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len())
                .bytes(),
        );
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

pub fn contents(tree: &BTreeMap<Vec<u8>, Seen>) -> Vec<(String, Vec<u8>)> {
    tree.iter()
        .filter(|(_, seen)| !seen.metadata.kind.is_directory())
        .map(|(path, seen)| (String::from_utf8(path.clone()).unwrap(), seen.content.clone()))
        .collect()
}

pub fn find(layer: &dyn Layer, path: &str) -> Entry {
    path.split('/')
        .fold(Entry::ROOT, |at, name| layer.lookup(at, name.as_bytes()).unwrap().unwrap())
}
