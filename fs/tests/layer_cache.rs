//! The cache: preparing, finding again, mending; packages, OCI layers, and specifications.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use outcrop_fs::Error;
use outcrop_fs::archive::Interpretation;
use outcrop_fs::layer::cache::{Archive, LayerCache};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::open::{Opener, Source, Spec, open};
use outcrop_fs::layer::placed::Placed;
use outcrop_fs::layer::synthetic::{self, SyntheticKind, SyntheticNode};
use outcrop_fs::layer::{Entry, Layer, Whiteout};
use sha2::{Digest, Sha256};
use support::{Seen, entry, flatten};

struct Room {
    directory: tempfile::TempDir,
    cache: LayerCache,
}

impl Room {
    fn new() -> Room {
        let directory = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(directory.path().join("cache"));
        Room { directory, cache }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, path: &Path) -> Result<IndexedLayer, Error> {
        self.cache.open(&Archive::new(path), &|_| {})
    }

    fn cached(&self, extension: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.directory.path().join("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(extension))
            .collect();
        found.sort();
        found
    }
}

fn header(kind: u8, path: &str, size: usize) -> tar::Header {
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

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, data) in entries {
        let kind = if path.ends_with('/') { b'5' } else { b'0' };
        out.extend(entry(header(kind, path, data.len()), data));
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

fn sample() -> Vec<u8> {
    let many: Vec<(String, Vec<u8>)> =
        (0..3000_u32).map(|n| (format!("many/file-{n:05}"), n.to_string().into_bytes())).collect();
    let mut entries: Vec<(&str, &[u8])> = vec![("d/", b""), ("d/f", b"content")];
    entries.extend(many.iter().map(|(path, data)| (path.as_str(), data.as_slice())));
    tar(&entries)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses in two parts, as parallel compressors and `cat a.xz b.xz` do.
fn in_two(compress: fn(&[u8]) -> Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 3);
    [compress(first), compress(second)].concat()
}

type Compress = fn(&[u8]) -> Vec<u8>;
const COMPRESSIONS: [(&str, Compress); 4] =
    [("gz", gzip), ("xz", xz), ("zst", zstd), ("bz2", bzip2)];

fn deb(data_name: &str, data: &[u8]) -> Vec<u8> {
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

fn contents(tree: &BTreeMap<Vec<u8>, Seen>) -> Vec<(String, Vec<u8>)> {
    tree.iter()
        .filter(|(_, seen)| !seen.metadata.kind.is_directory())
        .map(|(path, seen)| (String::from_utf8(path.clone()).unwrap(), seen.content.clone()))
        .collect()
}

fn find(layer: &dyn Layer, path: &str) -> Entry {
    path.split('/')
        .fold(Entry::ROOT, |at, name| layer.lookup(at, name.as_bytes()).unwrap().unwrap())
}

#[test]
fn every_compression_gives_the_same_tree_and_digests() {
    let room = Room::new();
    let plain = flatten(&room.open(&room.write("a.tar", &sample())).unwrap());
    for (name, compress) in COMPRESSIONS {
        let path = room.write(&format!("a.tar.{name}"), &in_two(compress, &sample()));
        let done = AtomicU64::new(0);
        let archive = Archive::new(&path);
        let layer = room
            .cache
            .open(&archive, &|progress| {
                assert_eq!(progress.label, path.to_str().unwrap());
                assert!(progress.done <= progress.total);
                done.store(progress.done, Ordering::Relaxed);
            })
            .unwrap();
        assert_eq!(done.load(Ordering::Relaxed), fs::metadata(&path).unwrap().len(), "{name}");
        assert_eq!(flatten(&layer), plain, "{name}");
        let digest = layer.digest(find(&layer, "d/f")).unwrap();
        assert_eq!(digest, Some(Sha256::digest(b"content").into()), "{name}");
        room.cache.open(&archive, &|_| panic!("{name} was prepared twice")).unwrap();
    }
}

#[test]
fn damaged_or_truncated_compressed_data_leaves_nothing() {
    for (name, compress) in COMPRESSIONS {
        let room = Room::new();
        let whole = compress(&sample());
        for cut in [whole.len() / 2, whole.len() - 1, whole.len() - 5] {
            let path = room.write("a.tar.x", &whole[..cut]);
            let error = room.open(&path).map(drop).expect_err(name);
            assert!(matches!(error, Error::Malformed { .. }), "{name} {cut}: {error:?}");
            assert_eq!(room.cached(".tar"), [] as [PathBuf; 0], "{name} {cut}");
            assert_eq!(room.cached(".index"), [] as [PathBuf; 0], "{name} {cut}");
        }
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8].iter_mut().for_each(|b| *b ^= 0x55);
        let path = room.write("a.tar.x", &damaged);
        room.open(&path).map(drop).expect_err(name);
        let drafts = fs::read_dir(room.directory.path().join("cache")).unwrap();
        let left: Vec<_> = drafts.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{left:?}");
    }
}

#[test]
fn an_archive_that_changed_is_indexed_anew() {
    let room = Room::new();
    for (name, wrap) in [("a.tar", (|b| b.to_vec()) as Compress), ("a.tar.gz", gzip)] {
        let path = room.write(name, &wrap(&tar(&[("a", b"old")])));
        assert_eq!(contents(&flatten(&room.open(&path).unwrap())), [("a".into(), b"old".into())]);
        let path = room.write(name, &wrap(&tar(&[("a", b"new"), ("b", b"")])));
        let tree = flatten(&room.open(&path).unwrap());
        assert_eq!(contents(&tree), [("a".into(), b"new".into()), ("b".into(), b"".into())]);
    }
}

#[test]
fn a_damaged_index_is_made_anew_at_opening_and_in_use() {
    for (name, wrap) in [("a.tar", (|b| b.to_vec()) as Compress), ("a.tar.gz", gzip)] {
        let room = Room::new();
        let path = room.write(name, &wrap(&sample()));
        let tree = flatten(&room.open(&path).unwrap());
        let index = room.cached(".index").pop().unwrap();
        let good = fs::read(&index).unwrap();
        // The header, then each block of the body, then the checksums, then the length.
        let mut places = vec![0, 300, good.len() - 1];
        places.extend((512..good.len()).step_by(64 * 1024));
        for place in places {
            let mut bad = good.clone();
            bad[place] ^= 0x80;
            fs::write(&index, &bad).unwrap();
            let layer = room.open(&path).unwrap();
            assert_eq!(flatten(&layer), tree, "{name} {place}");
            // Digests lie in blocks that a walk does not touch.
            for number in 0..layer.entry_count() {
                layer.digest(Entry(number)).unwrap();
            }
            assert!(fs::read(&index).unwrap() == good, "{name} {place}");
        }
        for length in [0, 100, 512, good.len() - 1] {
            fs::write(&index, &good[..length]).unwrap();
            assert_eq!(flatten(&room.open(&path).unwrap()), tree, "{name} {length}");
        }
    }
}

#[test]
fn a_layer_in_use_keeps_its_entries_when_its_index_is_mended() {
    let room = Room::new();
    let path = room.write("a.tar", &sample());
    drop(room.open(&path).unwrap());
    let index = room.cached(".index").pop().unwrap();
    let size = fs::metadata(&index).unwrap().len();
    let bad = fs::read(&index).unwrap();
    // The last block of the body holds names; the first ones are read first.
    let place = size - 200;
    let file = fs::OpenOptions::new().write(true).open(&index).unwrap();
    file.write_all_at(&[!bad[place as usize]], place).unwrap();
    let layer = room.open(&path).unwrap();
    let file = find(&layer, "many/file-02999");
    let before = layer.metadata(file).unwrap();
    flatten(&layer);
    assert_eq!(layer.metadata(file).unwrap(), before);
    assert_eq!(find(&layer, "many/file-02999"), file);
}

#[test]
fn an_artifact_without_a_valid_index_gets_one() {
    let room = Room::new();
    let tar_path = room.write("artifact.tar", &sample());
    let index = room.directory.path().join("artifact.index");
    let layer = IndexedLayer::open("artifact", &tar_path, &index).unwrap();
    let tree = flatten(&layer);
    assert!(layer.digest(find(&layer, "d/f")).unwrap().is_some());
    let written = fs::read(&index).unwrap();
    fs::write(&index, b"rubbish").unwrap();
    assert_eq!(flatten(&IndexedLayer::open("artifact", &tar_path, &index).unwrap()), tree);
    assert!(fs::read(&index).unwrap() == written);
}

#[test]
fn a_content_addressed_archive_is_found_whatever_its_place() {
    let room = Room::new();
    let bytes = gzip(&sample());
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let archive = |path| Archive { digest: Some(digest), ..Archive::new(path) };
    let first = room.write("first.tar.gz", &bytes);
    let second = room.write("second.tar.gz", &bytes);
    room.cache.open(&archive(first), &|_| {}).unwrap();
    room.cache.open(&archive(second), &|_| panic!("it was prepared twice")).unwrap();
}

#[test]
fn a_plain_tar_needs_no_writable_cache() {
    let room = Room::new();
    let path = room.write("a.tar", &tar(&[("a", b"x")]));
    let blocked = room.write("blocked", b"a file");
    let cache = LayerCache::new(blocked);
    let layer = cache.open(&Archive::new(&path), &|_| {}).unwrap();
    assert_eq!(contents(&flatten(&layer)), [("a".into(), b"x".into())]);
    let packed = room.write("a.tar.gz", &gzip(&tar(&[("a", b"x")])));
    let error = cache.open(&Archive::new(&packed), &|_| {}).map(drop).unwrap_err();
    assert!(matches!(error, Error::Host { .. }), "{error:?}");
}

#[test]
fn several_are_prepared_at_once_in_the_order_given() {
    let room = Room::new();
    let mut archives = Vec::new();
    for n in 0..12_u32 {
        let name = format!("f{n}");
        let bytes = gzip(&tar(&[(&name, b"x")]));
        archives.push(Archive::new(room.write(&format!("{n}.tar.gz"), &bytes)));
    }
    archives.push(Archive::new(room.directory.path().join("missing.tar")));
    // The same archive twice must not disturb itself.
    archives.push(archives[0].clone());
    let layers = room.cache.prepare_all(&archives, 4, &|_| {});
    for (n, layer) in layers.iter().take(12).enumerate() {
        find(layer.as_ref().unwrap(), &format!("f{n}"));
    }
    assert!(layers[12].is_err());
    find(layers[13].as_ref().unwrap(), "f0");
}

#[test]
fn of_many_at_once_only_one_prepares() {
    let room = Room::new();
    let path = room.write("a.tar.xz", &xz(&sample()));
    let expected = flatten(&room.open(&room.write("plain.tar", &sample())).unwrap());
    let prepared = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // Locks belong to open files, so a cache of its own stands for a process.
                let cache = LayerCache::new(room.directory.path().join("cache"));
                let worked = AtomicU64::new(0);
                let progress = |_: outcrop_fs::layer::cache::Progress<'_>| {
                    worked.store(1, Ordering::Relaxed);
                };
                let layer = cache.open(&Archive::new(&path), &progress).unwrap();
                prepared.fetch_add(worked.into_inner(), Ordering::Relaxed);
                assert_eq!(flatten(&layer), expected);
            });
        }
    });
    assert_eq!(prepared.into_inner(), 1);
}

#[test]
fn what_is_no_file_is_refused() {
    let room = Room::new();
    let fifo = room.directory.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    for path in [fifo.as_path(), room.directory.path()] {
        let error = room.open(path).map(drop).unwrap_err();
        assert!(error.to_string().ends_with("is not a regular file."), "{error}");
    }
}

/// A small file system that is unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&path).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(&path)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_nothing() {
    let room = Room::new();
    let Some(disk) = SmallDisk::mount(room.directory.path().join("disk")) else {
        eprintln!("skipped: mounting a small tmpfs needs root");
        return;
    };
    let path = room.write("a.tar.gz", &gzip(&sample()));
    let cache = LayerCache::new(disk.0.clone());
    let error = cache.open(&Archive::new(&path), &|_| {}).map(drop).unwrap_err();
    assert_eq!(error.errno(), outcrop_fs::Errno::NOSPC, "{error:?}");
    assert!(error.to_string().contains("cannot write"), "{error}");
    let left: Vec<_> =
        fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{left:?}");
    // A plain tar is still usable: its index does without the disk.
    let many = room.write("a.tar", &sample());
    assert_eq!(
        flatten(&cache.open(&Archive::new(&many), &|_| {}).unwrap()),
        flatten(&room.open(&many).unwrap())
    );
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let room = Room::new();
    let path = room.write("a.tar.gz", &gzip(&tar(&[("a", b"x")])));
    drop(room.open(&path).unwrap());
    let data = room.cached(".tar").pop().unwrap();
    let mut leftover = data.clone().into_os_string();
    leftover.push(".draft-abc");
    fs::write(&leftover, b"half").unwrap();
    fs::remove_file(&data).unwrap();
    drop(room.open(&path).unwrap());
    assert!(!Path::new(&leftover).exists());
    assert!(data.exists());
}

#[test]
fn packages_fold_into_usr() {
    let room = Room::new();
    let mut data = Vec::new();
    let mut usr_bin = header(b'5', "./usr/bin/", 0);
    usr_bin.set_mode(0o751);
    data.extend(entry(header(b'5', "./", 0), b""));
    data.extend(entry(usr_bin, b""));
    data.extend(entry(header(b'5', "./bin/", 0), b""));
    let mut sbin = header(b'5', "./sbin/", 0);
    sbin.set_mode(0o750);
    data.extend(entry(sbin, b""));
    data.extend(entry(header(b'0', "./bin/sh", 2), b"sh"));
    data.extend(entry(header(b'0', "./lib64/ld.so", 2), b"ld"));
    data.extend(entry(header(b'0', "./library/x", 1), b"x"));
    let mut link = header(b'1', "./bin/dash", 0);
    link.as_old_mut().linkname[..8].copy_from_slice(b"./bin/sh");
    data.extend(entry(link, b""));
    let mut merged = header(b'2', "./lib32", 0);
    merged.as_old_mut().linkname[..9].copy_from_slice(b"usr/lib32");
    data.extend(entry(merged, b""));
    data.extend_from_slice(&[0; 1024]);

    let plain: (&str, Compress) = ("", |bytes| bytes.to_vec());
    for (name, compress) in COMPRESSIONS.into_iter().chain([plain]) {
        let member = if name.is_empty() { "data.tar".into() } else { format!("data.tar.{name}") };
        let path = room.write(&format!("p-{name}.deb"), &deb(&member, &compress(&data)));
        let layer = room.open(&path).unwrap();
        let tree = flatten(&layer);
        assert_eq!(
            contents(&tree),
            [
                ("lib32".to_owned(), b"usr/lib32".to_vec()),
                ("library/x".into(), b"x".into()),
                ("usr/bin/dash".into(), b"sh".into()),
                ("usr/bin/sh".into(), b"sh".into()),
                ("usr/lib64/ld.so".into(), b"ld".into()),
            ]
        );
        assert_eq!(tree[&b"usr/bin/sh"[..]].names.len(), 2);
        assert_eq!(tree[&b"usr/bin"[..]].metadata.mode, 0o751);
        assert_eq!(tree[&b"usr/sbin"[..]].metadata.mode, 0o750);
    }
}

#[test]
fn a_truncated_package_is_an_error() {
    let room = Room::new();
    let whole = deb("data.tar.xz", &xz(&sample()));
    for length in [0, 8, 60, 100, 300, whole.len() - 100] {
        let path = room.write("p.deb", &whole[..length]);
        let error = room.open(&path).map(drop).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error:?}");
    }
}

#[test]
fn whiteouts_count_in_oci_layers_only() {
    let room = Room::new();
    let path = room.write(
        "layer.tar",
        &tar(&[
            ("etc/.wh.passwd", b""),
            ("etc/kept", b"x"),
            ("var/.wh..wh..opq", b""),
            (".wh.tmp", b""),
            (".wh..wh.plnk/1.2", b""),
            ("opt/.wh..wh.aufs", b""),
        ]),
    );
    let archive = Archive { interpretation: Some(Interpretation::OciLayer), ..Archive::new(&path) };
    let layer = room.cache.open(&archive, &|_| {}).unwrap();
    let names: Vec<String> = contents(&flatten(&layer)).into_iter().map(|(p, _)| p).collect();
    assert_eq!(names, [".wh..wh.plnk/1.2", "etc/kept"]);
    let (etc, var) = (find(&layer, "etc"), find(&layer, "var"));
    assert_eq!(layer.whiteout(etc, b"passwd").unwrap(), Some(Whiteout::Name));
    assert_eq!(layer.whiteout(etc, b"kept").unwrap(), None);
    assert_eq!(layer.whiteout(Entry::ROOT, b"tmp").unwrap(), Some(Whiteout::Name));
    assert_eq!(layer.whiteout(var, b"passwd").unwrap(), None);
    assert!(layer.is_opaque(var).unwrap());
    assert!(!layer.is_opaque(etc).unwrap());

    let plain = room.open(&path).unwrap();
    assert!(plain.lookup(find(&plain, "etc"), b".wh.passwd").unwrap().is_some());
    assert_eq!(plain.whiteout(find(&plain, "etc"), b"passwd").unwrap(), None);
}

#[test]
fn a_placed_layer_is_the_same_tree_further_down() {
    let inner = synthetic::layer(
        "inner",
        [
            SyntheticNode::new("/", SyntheticKind::Directory, 0o700),
            SyntheticNode::new("/f", SyntheticKind::File(b"x".to_vec()), 0o644),
            SyntheticNode::new("/g", SyntheticKind::HardLink(b"/f".to_vec()), 0),
            SyntheticNode::new("/s", SyntheticKind::Socket, 0o600),
        ],
    )
    .unwrap();
    let below = flatten(&inner);
    let inner: Arc<dyn Layer> = Arc::new(inner);
    assert_eq!(flatten(&Placed::new(inner.clone(), b"/").unwrap()), below);
    let placed = Placed::new(inner.clone(), b"/a/b").unwrap();
    let tree = flatten(&placed);
    assert_eq!(tree.len(), below.len() + 2);
    assert_eq!(tree[&b"a/b"[..]].metadata.mode, 0o700);
    assert_eq!(tree[&b"a"[..]].metadata.mode, 0o755);
    assert_eq!(tree[&b"a/b/f"[..]].names.len(), 2);
    for (path, seen) in &below {
        let outer = [&b"a/b"[..], if path.is_empty() { b"" } else { b"/" }, path].concat();
        assert_eq!(tree[&outer].content, seen.content);
        assert_eq!(tree[&outer].metadata, seen.metadata);
    }
    assert!(Placed::new(inner, b"/a/../b").is_err());
}

#[test]
fn specifications() {
    let parse = |text: &str| Spec::parse(text).unwrap();
    let git = |revision: Option<&str>, subdirectory: Option<&str>| Source::Git {
        repository: "r".into(),
        revision: revision.map(Into::into),
        subdirectory: subdirectory.map(Into::into),
    };
    assert_eq!(parse("a.tar").source, Source::Path("a.tar".into()));
    assert_eq!(parse("tar:git:odd").source, Source::Archive("git:odd".into()));
    assert_eq!(parse("dir:/x").source, Source::Directory("/x".into()));
    assert_eq!(parse("list:n").source, Source::List("n".into()));
    assert_eq!(parse("artifact:k.1").source, Source::Artifact("k.1".into()));
    assert_eq!(parse("git:r").source, git(None, None));
    assert_eq!(parse("git:r#v1").source, git(Some("v1"), None));
    assert_eq!(parse("git:r#v1:sub/dir").source, git(Some("v1"), Some("sub/dir")));
    assert_eq!(parse("git:r#:sub").source, git(None, Some("sub")));
    let placed = parse("a@b.tar@/c/d");
    assert_eq!(placed.source, Source::Path("a@b.tar".into()));
    assert_eq!(placed.at.as_deref(), Some(&b"/c/d"[..]));
    assert_eq!(parse("a@/b@/").source, Source::Path("a@/b".into()));
    assert_eq!(parse("a@/b@/").at, None);
    for text in ["a.tar", "tar:a", "git:r", "git:r#v", "git:r#v:s", "git:r#:s", "list:l@/x"] {
        assert_eq!(parse(text).to_string(), text);
        assert_eq!(parse(&parse(text).to_string()), parse(text));
    }
    for bad in ["", "dir:", "git:", "git:#x", "artifact:", "oci:x", "a@/../b", "@/x"] {
        let error = Spec::parse(bad).expect_err(bad);
        assert!(matches!(error, Error::Invalid(_)), "{bad}: {error}");
    }
}

#[test]
fn specifications_open() {
    let room = Room::new();
    let path = room.write("a.weird", &gzip(&tar(&[("f", b"x")])));
    let list = room.write("nodes", b"char /dev/null 0666 0 0 1:3\nfile /a 0644 0 0 hi\\n\n");
    let artifact = |key: &str| -> Result<Arc<dyn Layer>, Error> {
        Err(Error::Invalid(format!("There is no artifact {key}.")))
    };
    let opener = Opener { cache: &room.cache, progress: &|_| {}, artifact: &artifact };
    let open = |text: String| open(&Spec::parse(text).unwrap(), &opener);

    let layer = open(format!("{}@/x", path.display())).unwrap();
    assert_eq!(contents(&flatten(&*layer)), [("x/f".into(), b"x".into())]);
    let layer = open(format!("list:{}", list.display())).unwrap();
    assert!(layer.read_link(find(&*layer, "a")).is_err());
    assert_eq!(flatten(&*layer)[&b"a"[..]].content, b"hi\n");
    let missing = open("artifact:k".into()).map(drop).unwrap_err();
    assert_eq!(missing.to_string(), "There is no artifact k.");
    let bad = room.write("bad", b"dir /ok 0755 0 0\nnonsense\n");
    let error = open(format!("list:{}", bad.display())).map(drop).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    let text = room.write("notes.txt", b"just some text\n");
    let error = open(text.display().to_string()).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("not a tar archive") || error.to_string().contains("truncated"),
        "{error}"
    );
}
