//! Property: whatever a tar can carry, a layer shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use outcrop_fs::layer::cache::{Archive, LayerCache};
use outcrop_fs::{Device, Kind, Metadata, Timestamp, Xattrs};
use proptest::prelude::*;
use support::{Seen, entry, flatten, pax};

#[derive(Debug, Clone)]
enum What {
    Directory,
    File(Vec<u8>),
    /// Holes and data in turn, in bytes.
    Sparse(Vec<(u16, u16)>),
    Symlink(Vec<u8>),
    /// The n-th of the earlier non-directories.
    HardLink(usize),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

#[derive(Debug, Clone)]
struct Planned {
    path: Vec<Vec<u8>>,
    what: What,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    xattrs: Xattrs,
    /// Chooses among ways to write the same thing.
    variant: u8,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = prop::collection::vec(1_u8..=255, 1..12);
    let any_byte = any_byte.prop_map(|mut name| {
        name.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = b'|');
        if name == b"." || name == b".." { b"dots".to_vec() } else { name }
    });
    prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "bin", "usr"]).prop_map(|s| s.into()),
        2 => any_byte,
        1 => "[a-z]{60,300}".prop_map(String::into_bytes),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0_u32..2000, 0x20_0000_u32..0x40_0000, any::<u32>()]
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    let name = prop_oneof![
        Just(b"security.capability".to_vec()),
        Just(b"user.with=equals%25".to_vec()),
        "user\\.[a-z]{1,8}".prop_map(String::into_bytes),
    ];
    prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..30), 0..3)
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        3 => Just(What::Directory),
        4 => prop::collection::vec(any::<u8>(), 0..3000).prop_map(What::File),
        2 => prop::collection::vec((0_u16..2000, 0_u16..2000), 0..40).prop_map(What::Sparse),
        2 => prop::collection::vec(1_u8..=255, 1..150).prop_map(What::Symlink),
        2 => any::<usize>().prop_map(What::HardLink),
        1 => (number(), number()).prop_map(|(a, b)| What::CharDevice(a, b)),
        1 => (number(), number()).prop_map(|(a, b)| What::BlockDevice(a, b)),
        1 => Just(What::Fifo),
    ]
}

fn mtime() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![0_i64..2_000_000_000, -5_000_000_000_i64..0, Just(i64::MAX / 4)];
    let nanoseconds = prop_oneof![Just(0_u32), 0_u32..1_000_000_000];
    (seconds, nanoseconds).prop_map(|(s, n)| Timestamp::new(s, n))
}

fn planned() -> impl Strategy<Value = Planned> {
    let path = prop::collection::vec(name(), 1..4);
    (path, what(), 0_u16..=0o7777, number(), number(), mtime(), xattrs(), any::<u8>()).prop_map(
        |(path, what, mode, uid, gid, mtime, xattrs, variant)| Planned {
            path,
            what,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
            variant,
        },
    )
}

fn join(path: &[Vec<u8>]) -> Vec<u8> {
    path.join(&b'/')
}

fn default_directory() -> Seen {
    Seen {
        metadata: Metadata::default_directory(),
        xattrs: Xattrs::new(),
        content: Vec::new(),
        names: BTreeSet::new(),
    }
}

/// The tree as it should be seen, and the archive that holds it.
#[derive(Default)]
struct Plan {
    tree: BTreeMap<Vec<u8>, Seen>,
    /// First path of each non-directory.
    files: Vec<Vec<u8>>,
    archive: Vec<u8>,
}

impl Plan {
    fn new(nodes: &[Planned]) -> Plan {
        let mut plan = Plan::default();
        plan.tree.insert(Vec::new(), default_directory());
        for node in nodes {
            plan.add(node);
        }
        plan.archive.extend_from_slice(&[0; 1024]);
        for (path, seen) in &mut plan.tree {
            if seen.names.is_empty() {
                seen.names.insert(path.clone());
            }
        }
        plan
    }

    fn add(&mut self, node: &Planned) {
        let path = join(&node.path);
        let is_below_file = (1..node.path.len()).any(|depth| {
            let above = self.tree.get(&join(&node.path[..depth]));
            above.is_some_and(|seen| !seen.metadata.kind.is_directory())
        });
        if is_below_file || self.tree.contains_key(&path) {
            return;
        }
        if let What::HardLink(n) = node.what {
            self.link(node, &path, n);
            return;
        }
        for depth in 1..node.path.len() {
            self.tree.entry(join(&node.path[..depth])).or_insert_with(default_directory);
        }
        let (kind, content) = match &node.what {
            What::Directory => (Kind::Directory, Vec::new()),
            What::File(bytes) => (Kind::File, bytes.clone()),
            What::Sparse(pieces) => (Kind::File, spread(pieces).0),
            What::Symlink(target) => (Kind::Symlink, target.clone()),
            What::CharDevice(major, minor) => {
                (Kind::CharDevice(Device { major: *major, minor: *minor }), Vec::new())
            }
            What::BlockDevice(major, minor) => {
                (Kind::BlockDevice(Device { major: *major, minor: *minor }), Vec::new())
            }
            What::Fifo => (Kind::Fifo, Vec::new()),
            What::HardLink(_) => unreachable!(),
        };
        let mode = if kind == Kind::Symlink { 0o777 } else { node.mode };
        let metadata = Metadata {
            kind,
            mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            size: content.len() as u64,
        };
        write(&mut self.archive, node, &path, &metadata, b"");
        if !kind.is_directory() {
            self.files.push(path.clone());
        }
        let seen = Seen { metadata, xattrs: node.xattrs.clone(), content, names: BTreeSet::new() };
        self.tree.insert(path, seen);
    }

    fn link(&mut self, node: &Planned, path: &[u8], n: usize) {
        if self.files.is_empty() {
            return;
        }
        let target = self.files[n % self.files.len()].clone();
        for depth in 1..node.path.len() {
            self.tree.entry(join(&node.path[..depth])).or_insert_with(default_directory);
        }
        let mut seen = self.tree[&target].clone();
        let metadata = seen.metadata;
        write(&mut self.archive, node, path, &metadata, &target);
        seen.names.insert(target);
        seen.names.insert(path.to_vec());
        self.tree.insert(path.to_vec(), seen.clone());
        for name in &seen.names {
            self.tree.get_mut(name).unwrap().names = seen.names.clone();
        }
    }
}

/// The file that holes and data make, its stored bytes, and its map.
fn spread(pieces: &[(u16, u16)]) -> (Vec<u8>, Vec<u8>, Vec<(u64, u64)>) {
    let (mut file, mut stored, mut map) = (Vec::new(), Vec::new(), Vec::new());
    for (position, &(hole, data)) in pieces.iter().enumerate() {
        file.resize(file.len() + usize::from(hole), 0);
        let bytes = vec![position as u8 | 1; usize::from(data)];
        map.push((file.len() as u64, u64::from(data)));
        file.extend_from_slice(&bytes);
        stored.extend_from_slice(&bytes);
    }
    (file, stored, map)
}

fn long(kind: u8, text: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path("././@LongLink").unwrap();
    header.set_size(text.len() as u64 + 1);
    entry(header, &[text, b"\0"].concat())
}

fn write(out: &mut Vec<u8>, node: &Planned, path: &[u8], metadata: &Metadata, link: &[u8]) {
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    let mut header = tar::Header::new_gnu();
    let mut data = Vec::new();
    let mut after_header = Vec::new();
    let kind;
    let mut target = link.to_vec();

    match &node.what {
        What::Directory => kind = b'5',
        What::File(bytes) => {
            data = bytes.clone();
            kind = [b'0', b'7', 0][usize::from(node.variant) % 3];
        }
        What::Sparse(pieces) => {
            kind = sparse(&mut header, &mut records, &mut data, &mut after_header, pieces, node);
        }
        What::Symlink(bytes) => {
            target = bytes.clone();
            kind = b'2';
        }
        What::HardLink(_) => kind = b'1',
        What::CharDevice(major, minor) | What::BlockDevice(major, minor) => {
            records.push(("SCHILY.devmajor".into(), major.to_string().into_bytes()));
            records.push(("SCHILY.devminor".into(), minor.to_string().into_bytes()));
            kind = if matches!(node.what, What::CharDevice(..)) { b'3' } else { b'4' };
        }
        What::Fifo => kind = b'6',
    }
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(u32::from(metadata.mode));
    if data.len() + after_header.len() > 0 {
        header.set_size(data.len() as u64);
    } else {
        header.set_size(0);
    }

    // A leading "./" must mean nothing.
    let spelled = if node.variant & 4 != 0 { [b"./", path].concat() } else { path.to_vec() };
    let use_pax = node.variant & 8 != 0;
    let mut prefixes = Vec::new();
    if spelled.len() > 100 || node.variant & 16 != 0 {
        if use_pax {
            records.push(("path".into(), spelled.clone()));
        } else {
            prefixes.extend(long(b'L', &spelled));
        }
    }
    let fits = spelled.len().min(100);
    header.as_old_mut().name[..fits].copy_from_slice(&spelled[..fits]);
    if target.len() > 100 {
        if use_pax {
            records.push(("linkpath".into(), target.clone()));
        } else {
            prefixes.extend(long(b'K', &target));
        }
    }
    let fits = target.len().min(100);
    header.as_old_mut().linkname[..fits].copy_from_slice(&target[..fits]);

    if use_pax {
        records.push(("uid".into(), metadata.uid.to_string().into_bytes()));
        records.push(("gid".into(), metadata.gid.to_string().into_bytes()));
    } else {
        header.set_uid(u64::from(metadata.uid));
        header.set_gid(u64::from(metadata.gid));
    }
    let mtime = metadata.mtime;
    if mtime.nanoseconds != 0 || use_pax {
        records.push(("mtime".into(), time(mtime)));
    } else if mtime.seconds < 0 {
        header.as_old_mut().mtime = [0xff; 12];
        header.as_old_mut().mtime[4..].copy_from_slice(&mtime.seconds.to_be_bytes());
    } else {
        header.set_mtime(mtime.seconds as u64);
    }
    for (name, value) in &node.xattrs {
        let name = String::from_utf8(name.clone()).unwrap();
        let name = name.replace('%', "%25").replace('=', "%3D");
        records.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }
    if !records.is_empty() {
        let records: Vec<(&str, &[u8])> =
            records.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        out.extend(pax(b'x', &records));
    }
    out.extend(prefixes);
    if after_header.is_empty() {
        out.extend(entry(header, &data));
    } else {
        out.extend(entry(header, b""));
        out.extend(after_header);
        out.extend_from_slice(&data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// Writes a sparse file in one of the five forms; gives the entry type.
fn sparse(
    header: &mut tar::Header,
    records: &mut Vec<(String, Vec<u8>)>,
    data: &mut Vec<u8>,
    after_header: &mut Vec<u8>,
    pieces: &[(u16, u16)],
    node: &Planned,
) -> u8 {
    let (file, stored, map) = spread(pieces);
    *data = stored;
    let size = file.len().to_string().into_bytes();
    match node.variant % 4 {
        0 => {
            let slot = |n: u64| {
                let mut slot = [0; 12];
                slot[..11].copy_from_slice(format!("{n:011o}").as_bytes());
                slot
            };
            let gnu = header.as_gnu_mut().unwrap();
            gnu.realsize = slot(file.len() as u64);
            let (first, rest) = map.split_at(map.len().min(4));
            for (slots, (offset, length)) in gnu.sparse.iter_mut().zip(first) {
                slots.offset = slot(*offset);
                slots.numbytes = slot(*length);
            }
            gnu.isextended[0] = u8::from(!rest.is_empty());
            let chunks: Vec<_> = rest.chunks(21).collect();
            for (position, chunk) in chunks.iter().enumerate() {
                let mut block = [0; 512];
                for (slots, (offset, length)) in block.chunks_exact_mut(24).zip(*chunk) {
                    slots[..12].copy_from_slice(&slot(*offset));
                    slots[12..].copy_from_slice(&slot(*length));
                }
                block[504] = u8::from(position + 1 < chunks.len());
                after_header.extend_from_slice(&block);
            }
            return b'S';
        }
        1 => {
            records.push(("GNU.sparse.size".into(), size));
            records.push(("GNU.sparse.numblocks".into(), map.len().to_string().into_bytes()));
            if map.is_empty() {
                records.push(("GNU.sparse.map".into(), Vec::new()));
            }
            for (offset, length) in map {
                records.push(("GNU.sparse.offset".into(), offset.to_string().into_bytes()));
                records.push(("GNU.sparse.numbytes".into(), length.to_string().into_bytes()));
            }
        }
        2 => {
            let list: Vec<String> = map.iter().map(|(o, l)| format!("{o},{l}")).collect();
            records.push(("GNU.sparse.size".into(), size));
            records.push(("GNU.sparse.map".into(), list.join(",").into_bytes()));
        }
        _ => {
            let mut front = format!("{}\n", map.len());
            for (offset, length) in map {
                front.push_str(&format!("{offset}\n{length}\n"));
            }
            let mut front = front.into_bytes();
            front.resize(front.len().next_multiple_of(512), 0);
            front.extend_from_slice(data);
            *data = front;
            records.push(("GNU.sparse.major".into(), b"1".to_vec()));
            records.push(("GNU.sparse.minor".into(), b"0".to_vec()));
            records.push(("GNU.sparse.realsize".into(), size));
        }
    }
    b'0'
}

fn time(time: Timestamp) -> Vec<u8> {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (whole, part) = (nanoseconds.abs() / 1_000_000_000, nanoseconds.abs() % 1_000_000_000);
    format!("{sign}{whole}.{part:09}").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Two members, as concatenated files have.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut out = Vec::new();
    for part in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_shows_what_the_archive_holds(nodes in prop::collection::vec(planned(), 0..40)) {
        let plan = Plan::new(&nodes);
        let directory = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(directory.path().join("cache"));
        let plain = directory.path().join("tree.tar");
        std::fs::write(&plain, &plan.archive).unwrap();
        let layer = cache.open(&Archive::new(&plain), &|_| {}).unwrap();
        prop_assert_eq!(&flatten(&layer), &plan.tree);

        let packed = directory.path().join("tree.tar.gz");
        std::fs::write(&packed, gzip(&plan.archive)).unwrap();
        let layer = cache.open(&Archive::new(&packed), &|_| {}).unwrap();
        prop_assert_eq!(&flatten(&layer), &plan.tree);
    }
}
