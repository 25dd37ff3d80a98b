//! The cache: preparing, finding again, mending.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use outcrop_fs::Error;
use outcrop_fs::layer::cache::{self, Archive, LayerCache};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::{Entry, Layer};
use sha2::{Digest, Sha256};
use support::room::{
    COMPRESSIONS, Compress, Room, contents, find, gzip, header, in_two, sample, tar, xz,
};
use support::{entry, flatten, pax};

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

/// An entry for a file of `size` bytes with `data` at an offset and holes around it.
fn sparse(path: &str, size: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let (size, map) = (size.to_string(), format!("{offset},{}", data.len()));
    let records = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
    [pax(b'x', &records), entry(header(b'0', path, data.len()), data)].concat()
}

#[test]
fn sparse_files_have_digests_but_for_enormous_ones() {
    let room = Room::new();
    let archive = [
        sparse("enormous", 1 << 40, 1 << 30, b"data"),
        sparse("d/s", 10_000, 5_000, b"data"),
        sparse("empty", 300_000, 0, b""),
        tar(&[]),
    ]
    .concat();
    let layer = room.open(&room.write("a.tar.gz", &gzip(&archive))).unwrap();
    let digest = |path| layer.digest(find(&layer, path)).unwrap();
    let content = [&[0; 5_000][..], b"data", &[0; 4_996]].concat();
    assert_eq!(digest("d/s"), Some(Sha256::digest(content).into()));
    assert_eq!(digest("empty"), Some(Sha256::digest([0; 300_000]).into()));
    assert_eq!(digest("enormous"), None);
}

/// A layer with every kind of content, unpacked: its directory, its index and its tar.
fn unpacked() -> (Room, PathBuf, PathBuf) {
    let room = Room::new();
    let mut link = header(b'1', "d/name", 0);
    link.set_link_name("d/first").unwrap();
    let archive = [
        entry(header(b'0', "d/first", 5), b"PLAIN"),
        entry(link, b""),
        sparse("d/sparse", 200_000, 150_000, b"SPARSE"),
        tar(&[("empty", b""), ("last", b"LAST")]),
    ]
    .concat();
    drop(room.open(&room.write("a.tar.gz", &gzip(&archive))).unwrap());
    let index = room.cached(".index").pop().unwrap();
    let data = room.cached(".tar").pop().unwrap();
    (room, index, data)
}

#[test]
fn verification_finds_every_changed_byte_of_every_file() {
    let (_room, index, data) = unpacked();
    cache::verify(&index).unwrap();
    let good = fs::read(&data).unwrap();
    for (content, path) in [("PLAIN", "d/first"), ("SPARSE", "d/sparse"), ("LAST", "last")] {
        let at = good.windows(content.len()).position(|w| w == content.as_bytes()).unwrap();
        for place in at..at + content.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            fs::write(&data, &bad).unwrap();
            let error = cache::verify(&index).unwrap_err();
            let Error::Malformed { path: found, .. } = &error else { panic!("{error:?}") };
            assert_eq!(found.as_deref(), Some(path), "byte {place}: {error}");
        }
    }
    fs::write(&data, &good).unwrap();
    cache::verify(&index).unwrap();
}

#[test]
fn verification_finds_a_short_a_long_and_a_missing_tar_and_a_damaged_index() {
    let (_room, index, data) = unpacked();
    let (tar, bytes) = (fs::read(&data).unwrap(), fs::read(&index).unwrap());
    let damaged = |problem: &str| {
        let error = cache::verify(&index).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(problem), "{error}");
    };
    fs::write(&data, &tar[..tar.len() - 1]).unwrap();
    damaged(&format!("it has {} bytes instead of {}", tar.len() - 1, tar.len()));
    fs::write(&data, [&tar[..], b"x"].concat()).unwrap();
    damaged("bytes instead of");
    fs::remove_file(&data).unwrap();
    damaged("missing");
    fs::write(&data, &tar).unwrap();
    let mut bad = bytes.clone();
    bad[600] ^= 1;
    fs::write(&index, &bad).unwrap();
    damaged("its index is damaged");
    fs::write(&index, &bytes).unwrap();
    cache::verify(&index).unwrap();
}

#[test]
fn verification_looks_at_no_tar_that_an_index_does_not_use() {
    let room = Room::new();
    let path = room.write("a.tar", &gzip(&sample()));
    drop(room.open(&path).unwrap());
    // Now it is used in place; what was unpacked before lies there still.
    drop(room.open(&room.write("a.tar", &tar(&[("a", b"x")]))).unwrap());
    assert_eq!(room.cached(".tar").len(), 1);
    cache::verify(&room.cached(".index")[0]).unwrap();
}
