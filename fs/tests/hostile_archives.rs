//! Archives that lie, break off or attack: each gives an error with archive, entry and offset, and
//! none a panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Cursor;

use outcrop_fs::archive::{Interpretation, Seekable, Stream, TarReader, import};
use outcrop_fs::index::{Builder, SourceIdentity};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::{Entry, Layer};
use outcrop_fs::{Error, Kind, Timestamp};
use proptest::prelude::*;
use support::{entry, flatten, pax};

const END: [u8; 1024] = [0; 1024];

fn header(kind: u8, path: &[u8], link: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn file(path: &str, data: &[u8]) -> Vec<u8> {
    entry(header(b'0', path.as_bytes(), b"", data.len() as u64), data)
}

fn node(kind: u8, path: &str, link: &str) -> Vec<u8> {
    entry(header(kind, path.as_bytes(), link.as_bytes(), 0), b"")
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), END.to_vec()].concat()
}

/// Both ways to read must say the same.
fn open(bytes: &[u8]) -> Result<IndexedLayer, Error> {
    let source = SourceIdentity { size: bytes.len() as u64, mtime: Timestamp::EPOCH, digest: None };
    let build = |stream: bool| {
        let mut builder = Builder::new(source).labelled("h.tar");
        if stream {
            let mut reader = TarReader::new("h.tar", Stream(bytes));
            import(&mut reader, &mut builder, Interpretation::Plain, false)?;
        } else {
            let input = Seekable::new(Cursor::new(bytes), bytes.len() as u64);
            let mut reader = TarReader::new("h.tar", input);
            import(&mut reader, &mut builder, Interpretation::Plain, false)?;
        }
        builder.finish()
    };
    let (streamed, seeked) = (build(true), build(false));
    match (streamed, seeked) {
        (Ok(streamed), Ok(seeked)) => {
            assert_eq!(streamed, seeked);
            IndexedLayer::in_memory("h.tar", seeked, bytes.to_vec())
        }
        (Err(streamed), Err(seeked)) => {
            assert_eq!(streamed.to_string(), seeked.to_string());
            Err(seeked)
        }
        (streamed, seeked) => panic!("{:?} but {:?}", streamed.map(drop), seeked.map(drop)),
    }
}

#[track_caller]
fn refused(bytes: &[u8], entry: &str, offset: u64, problem: &str) {
    let error = open(bytes).map(drop).unwrap_err();
    let Error::Malformed { layer, path, offset: at, problem: text } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(layer, "h.tar");
    assert_eq!(path.as_deref().unwrap_or(""), entry, "{error}");
    assert_eq!(*at, Some(offset), "{error}");
    assert!(text.contains(problem), "{error}");
}

fn lookup(layer: &IndexedLayer, path: &str) -> Entry {
    path.split('/').fold(Entry::ROOT, |at, name| {
        layer.lookup(at, name.as_bytes()).unwrap().unwrap_or_else(|| panic!("no {name}"))
    })
}

#[test]
fn parent_components_are_refused() {
    refused(
        &tar(&[file("ok", b""), file("a/../../etc/passwd", b"x")]),
        "a/../../etc/passwd",
        512,
        "'..'",
    );
    refused(&tar(&[file("..", b"x")]), "..", 0, "'..'");
    let absolute = tar(&[file("ok", b""), node(b'1', "link", "../ok")]);
    refused(&absolute, "link", 512, "hard link to ../ok");
}

#[test]
fn absolute_names_are_made_relative() {
    let layer = open(&tar(&[file("/etc/passwd", b"x"), node(b'1', "/b", "/etc/passwd")])).unwrap();
    assert_eq!(lookup(&layer, "etc/passwd"), lookup(&layer, "b"));
}

#[test]
fn a_file_below_a_symlink_is_refused_naming_both() {
    let bytes = tar(&[node(b'2', "lib", "/etc"), file("lib/passwd", b"x")]);
    refused(&bytes, "lib/passwd", 512, "it lies below lib, which is a symlink");
    let bytes = tar(&[file("lib", b""), file("lib/a/b", b"x")]);
    refused(&bytes, "lib/a/b", 512, "it lies below lib, which is not a directory");
}

#[test]
fn the_last_of_duplicate_names_counts() {
    let bytes = tar(&[
        file("a", b"first"),
        node(b'1', "kept", "a"),
        file("a", b"second"),
        node(b'5', "d", ""),
        file("d/x", b""),
        entry(
            {
                let mut again = header(b'5', b"d", b"", 0);
                again.set_mode(0o700);
                again
            },
            b"",
        ),
        node(b'2', "s", "a"),
        node(b'5', "s", ""),
        file("s/below", b""),
        node(b'5', "empty", ""),
        file("empty", b"now a file"),
    ]);
    let layer = open(&bytes).unwrap();
    let tree = flatten(&layer);
    assert_eq!(tree[&b"a"[..]].content, b"second");
    assert_eq!(tree[&b"kept"[..]].content, b"first");
    assert_eq!(tree[&b"kept"[..]].names.len(), 1);
    assert_eq!(tree[&b"d"[..]].metadata.mode, 0o700);
    assert!(tree.contains_key(&b"d/x"[..]));
    assert!(tree.contains_key(&b"s/below"[..]));
    assert_eq!(tree[&b"empty"[..]].metadata.kind, Kind::File);
}

#[test]
fn a_file_cannot_replace_a_full_directory() {
    let bytes = tar(&[file("d/x", b""), file("d", b"")]);
    refused(&bytes, "d", 512, "not empty");
}

#[test]
fn hard_links_need_an_earlier_file() {
    let missing = tar(&[node(b'1', "a", "nowhere")]);
    refused(&missing, "a", 0, "hard link to nowhere, which does not exist");
    let later = tar(&[node(b'1', "a", "b"), file("b", b"")]);
    refused(&later, "a", 0, "does not exist before it");
    let itself = tar(&[node(b'1', "a", "a")]);
    refused(&itself, "a", 0, "does not exist");
    let directory = tar(&[node(b'5', "d", ""), node(b'1', "a", "d")]);
    refused(&directory, "a", 512, "which is a directory");
    refused(&tar(&[node(b'1', "a", "")]), "a", 0, "without a target");
}

#[test]
fn absurd_sizes_are_refused() {
    let beyond = [entry(header(b'0', b"big", b"", 1 << 40), b"abc"), END.to_vec()].concat();
    refused(&beyond, "big", 0, "truncated");
    let overflow = entry(header(b'0', b"big", b"", i64::MAX as u64), b"");
    refused(&overflow, "big", 0, "truncated");
    let pax_size = [pax(b'x', &[("size", b"18446744073709551615")]), file("big", b"")].concat();
    refused(&tar(&[pax_size]), "big", 1024, "absurd");
    let mut negative = header(b'0', b"neg", b"", 0);
    negative.as_old_mut().size = [0xff; 12];
    refused(&tar(&[entry(negative, b"")]), "neg", 0, "size is not a valid number");
    // An extended header that claims a terabyte must not be believed.
    let claim = entry(header(b'x', b"pax", b"", 1 << 40), b"");
    refused(&tar(&[claim]), "", 0, "absurd");
    let claim = entry(header(b'L', b"long", b"", 1 << 20), b"");
    refused(&tar(&[claim]), "", 0, "truncated");
}

#[test]
fn nul_bytes_in_names_are_refused() {
    let path = [pax(b'x', &[("path", b"a\0b")]), file("a", b"")].concat();
    refused(&tar(&[path]), "", 512, "'path' contains a NUL");
    let link = [pax(b'x', &[("linkpath", b"a\0b")]), node(b'2', "a", "x")].concat();
    refused(&tar(&[link]), "", 512, "'linkpath' contains a NUL");
}

#[test]
fn only_a_directory_stands_for_the_root() {
    for name in [".", "/", "./."] {
        refused(&tar(&[node(b'3', name, "")]), name, 0, "only a directory");
        refused(&tar(&[node(b'2', name, "x")]), name, 0, "only a directory");
        refused(&tar(&[node(b'1', name, "x")]), name, 0, "only a directory");
    }
    let mut root = header(b'5', b"./", b"", 0);
    root.set_mode(0o1711);
    let layer = open(&tar(&[entry(root, b"")])).unwrap();
    assert_eq!(layer.metadata(Entry::ROOT).unwrap().mode, 0o1711);
}

#[test]
fn unknown_things_are_refused() {
    refused(&tar(&[node(b'M', "a", "")]), "a", 0, "multi-volume");
    refused(&tar(&[node(b'Q', "a", "")]), "a", 0, "unknown entry type 'Q'");
    refused(&tar(&[node(b'2', "a", "")]), "a", 0, "symlink without a valid target");
    refused(&tar(&[node(b'0', "", "")]), "", 0, "name is empty");
    let global = [pax(b'g', &[("path", b"x")]), file("a", b"")].concat();
    refused(&tar(&[global]), "", 0, "global header");
    let lonely = pax(b'x', &[("path", b"x")]);
    refused(&tar(&[lonely]), "", 1024, "extended header without an entry");
    let mut v7 = header(b'3', b"c", b"", 0);
    v7.as_mut_bytes()[257..].fill(0);
    refused(&tar(&[entry(v7, b"")]), "c", 0, "device without numbers");
    let uid = [pax(b'x', &[("uid", b"4294967296")]), file("a", b"")].concat();
    refused(&tar(&[uid]), "a", 1024, "uid 4294967296 is too large");
}

#[test]
fn what_is_no_tar_is_said_to_be_none() {
    refused(b"", "", 0, "not a tar archive");
    refused(&[b'x'; 2048], "", 0, "not a tar archive");
    refused(b"short", "", 0, "not a tar archive: it is shorter than a header");
    let image = [&b"hsqs"[..], &[1; 2048]].concat();
    refused(&image, "", 0, "this is a squashfs image, not a tar archive");
}

#[test]
fn damage_in_a_header_is_found() {
    let mut bytes = tar(&[file("a", b"x"), file("b", b"y")]);
    bytes[1024 + 110] ^= 1;
    refused(&bytes, "", 1024, "checksum of a header is wrong");
}

#[test]
fn bad_sparse_maps_are_refused() {
    let sparse = |records: &[(&str, &[u8])], data: &[u8]| {
        tar(&[[pax(b'x', records), file("s", data)].concat()])
    };
    let old = |size: &[u8], map: &[u8]| {
        sparse(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)], b"data")
    };
    refused(&old(b"10", b"0,4,2,1"), "s", 1024, "not in order");
    refused(&old(b"10", b"8,4"), "s", 1024, "exceeds its size");
    refused(&old(b"10", b"0,5"), "s", 1024, "exceeds the bytes stored");
    refused(&old(b"10", b"0"), "s", 1024, "odd");
    refused(&old(b"10", b"18446744073709551615,2"), "s", 1024, "absurd");
    refused(&sparse(&[("GNU.sparse.map", b"0,4")], b"data"), "s", 1024, "without its size");
    let new = |data: &[u8]| {
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"10"),
        ];
        sparse(records, data)
    };
    refused(&new(b"9\n0\n"), "s", 1024, "cut short");
    refused(&new(&[b'1'; 512]), "s", 1024, "malformed");
    refused(
        &new(&[b"18446744073709551615\n".to_vec(), vec![b' '; 491]].concat()),
        "s",
        1024,
        "malformed",
    );
    let mut data = b"1\n0\n4\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"data");
    let layer = open(&new(&data)).unwrap();
    assert_eq!(flatten(&layer)[&b"s"[..]].content, b"data\0\0\0\0\0\0");
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = tar(&[
        node(b'5', "d", ""),
        [pax(b'x', &[("path", b"d/long")]), file("x", &[7; 700])].concat(),
        node(b'2', "d/s", "long"),
    ]);
    // A single block of zeros counts as the end.
    for length in 0..bytes.len() - 512 {
        let error = open(&bytes[..length]).map(drop).expect_err("it is cut short");
        assert!(matches!(error, Error::Malformed { offset: Some(_), .. }), "{length}: {error:?}");
    }
    open(&bytes[..bytes.len() - 512]).unwrap();
}

#[test]
fn link_and_directory_sizes_without_data_do_not_confuse() {
    let bytes = tar(&[
        file("a", b"x"),
        entry(header(b'1', b"b", b"a", 1), b""),
        entry(header(b'5', b"d", b"", 4096), b""),
        entry(header(b'2', b"s", b"a", 1), b""),
        file("z", b"end"),
    ]);
    let tree = flatten(&open(&bytes).unwrap());
    assert_eq!(tree[&b"z"[..]].content, b"end");
    assert_eq!(tree[&b"a"[..]].names.len(), 2);
    // pax -o linkdata stores the data with every link.
    let with_data = [pax(b'x', &[("mtime", b"1")]), entry(header(b'1', b"b", b"a", 1), b"x")];
    let bytes = tar(&[file("a", b"x"), with_data.concat(), file("z", b"end")]);
    assert_eq!(flatten(&open(&bytes).unwrap())[&b"z"[..]].content, b"end");
}

#[test]
fn old_archives_mark_directories_with_a_slash() {
    let mut v7 = header(0, b"dir/", b"", 0);
    v7.as_mut_bytes()[257..].fill(0);
    let layer = open(&tar(&[entry(v7, b"")])).unwrap();
    assert!(layer.metadata(lookup(&layer, "dir")).unwrap().kind.is_directory());
}

#[test]
fn entries_never_given_out_are_stale() {
    let layer = open(&tar(&[file("a", b"x"), node(b'1', "b", "a")])).unwrap();
    // Record 2 is the link b: the node has number 1.
    for number in [2, 3, u64::from(u32::MAX), u64::MAX] {
        let error = layer.metadata(Entry(number)).unwrap_err();
        assert!(matches!(error, Error::Os(outcrop_fs::Errno::STALE)), "{number}: {error:?}");
    }
    let file = lookup(&layer, "a");
    assert!(matches!(layer.lookup(file, b"x"), Err(Error::Os(outcrop_fs::Errno::NOTDIR))));
    let read = layer.read(Entry::ROOT, 0, &mut [0]);
    assert!(matches!(read, Err(Error::Os(outcrop_fs::Errno::ISDIR))));
}

fn sample() -> Vec<u8> {
    tar(&[
        node(b'5', "d", ""),
        [
            pax(b'x', &[("path", b"d/f"), ("SCHILY.xattr.user.a", b"1"), ("mtime", b"-1.5")]),
            file("x", &[7; 700]),
        ]
        .concat(),
        node(b'1', "d/h", "d/f"),
        node(b'3', "c", ""),
        [
            pax(b'x', &[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"2,2,5,1")]),
            file("s", b"abc"),
        ]
        .concat(),
    ])
}

/// Repairs the checksums of all headers, so that mutations reach further than the first check.
fn resign(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        let is_header = &block[257..262] == b"ustar";
        if is_header {
            let mut sum = 8 * u32::from(b' ');
            sum += block.iter().map(|&b| u32::from(b)).sum::<u32>();
            sum -= block[148..156].iter().map(|&b| u32::from(b)).sum::<u32>();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_archives_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        sign in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        if sign {
            resign(&mut bytes);
        }
        if let Ok(layer) = open(&bytes) {
            let small = flatten_small(&layer);
            prop_assert!(small > 0);
        }
    }
}

/// Looks at everything but the bytes of files that a mutation made huge.
fn flatten_small(layer: &IndexedLayer) -> usize {
    let mut waiting = vec![Entry::ROOT];
    let mut count = 0;
    while let Some(entry) = waiting.pop() {
        count += 1;
        let metadata = layer.metadata(entry).unwrap();
        layer.xattrs(entry).unwrap();
        layer.names(entry).unwrap();
        match metadata.kind {
            Kind::Directory => layer
                .children(entry, 0, &mut |_, child| {
                    waiting.push(child);
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap(),
            Kind::File => {
                layer.read(entry, 0, &mut [0; 4096]).unwrap();
                layer.data_bytes(entry).unwrap();
            }
            Kind::Symlink => {
                layer.read_link(entry).unwrap();
            }
            _ => {}
        }
    }
    count
}

#[test]
fn only_zeros_are_an_empty_archive() {
    for length in [512, 1024, 10240, 20480] {
        assert!(open(&vec![0; length]).is_ok(), "{length} zeros");
    }
    // As an image of ext4 begins: its superblock comes after 1024 bytes.
    let image = [&[0; 1024][..], &[0x53; 4096]].concat();
    refused(&image, "", 0, "begins with zeros");
}
