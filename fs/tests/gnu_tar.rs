//! Archives that GNU tar makes of a real tree, in each of its formats.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_fs::filesystem::decode_device;
use outcrop_fs::layer::cache::{Archive, LayerCache};
use outcrop_fs::{Device, Kind, Metadata, Timestamp, Xattrs};
use rustix::fs::{CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use support::{Seen, flatten};

/// What one of GNU tar's formats can carry.
struct Format {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Names beyond ustar's 256 bytes, and ids beyond its octal digits.
    large: bool,
    /// Nanoseconds, and times before 1970.
    exact_times: bool,
    xattrs: bool,
}

const FORMATS: [Format; 8] = [
    Format { name: "v7", arguments: &[], large: false, exact_times: false, xattrs: false },
    Format { name: "ustar", arguments: &[], large: false, exact_times: false, xattrs: false },
    Format {
        name: "oldgnu",
        arguments: &["--sparse"],
        large: true,
        exact_times: false,
        xattrs: false,
    },
    Format {
        name: "gnu",
        arguments: &["--sparse"],
        large: true,
        exact_times: false,
        xattrs: false,
    },
    Format {
        name: "posix",
        arguments: &["--xattrs", "--xattrs-include=*"],
        large: true,
        exact_times: true,
        xattrs: true,
    },
    Format {
        name: "posix",
        arguments: &["--sparse", "--sparse-version=0.0"],
        large: true,
        exact_times: true,
        xattrs: false,
    },
    Format {
        name: "posix",
        arguments: &["--sparse", "--sparse-version=0.1"],
        large: true,
        exact_times: true,
        xattrs: false,
    },
    Format {
        name: "posix",
        arguments: &["--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"],
        large: true,
        exact_times: true,
        xattrs: true,
    },
];

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes the tree; what the host or the user cannot make is left out and said.
fn plant(root: &Path, format: &Format) {
    let is_root = rustix::process::geteuid().is_root();
    fs::create_dir_all(root.join("dir/below")).unwrap();
    fs::write(root.join("dir/file"), b"content").unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::hard_link(root.join("dir/file"), root.join("hard")).unwrap();
    symlink("dir/file", root.join("soft")).unwrap();
    symlink("x".repeat(if format.large { 300 } else { 90 }), root.join("dangling")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"raw").unwrap();

    let sparse = fs::File::create(root.join("sparse")).unwrap();
    for n in 0..60_u64 {
        sparse.write_all_at(&[n as u8 + 1; 4096], n * 65_536).unwrap();
    }
    sparse.set_len(60 * 65_536 + 12_345).unwrap();
    fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();

    if format.large {
        let long = root.join("n".repeat(120)).join("m".repeat(120)).join("o".repeat(250));
        fs::create_dir_all(long.parent().unwrap()).unwrap();
        fs::write(&long, b"long").unwrap();
        fs::hard_link(&long, root.join("to-long")).unwrap();
    }
    let chmod = |name: &str, mode: u32| {
        rustix::fs::chmod(root.join(name), Mode::from_raw_mode(mode)).unwrap();
    };
    // v7 has neither fifos nor devices.
    let is_v7 = format.name == "v7";
    if !is_v7 {
        rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    }
    if is_root {
        if !is_v7 {
            let make = |name: &str, kind, major, minor| {
                let device = rustix::fs::makedev(major, minor);
                let mode = Mode::from_raw_mode(0o640);
                rustix::fs::mknodat(CWD, root.join(name), kind, mode, device).unwrap();
            };
            make("null", FileType::CharacterDevice, 1, 3);
            make("disk", FileType::BlockDevice, 259, 70_000);
        }
        let chown = |name: &str, uid: u32, gid: u32| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chown(root.join(name), Some(uid), Some(gid)).unwrap();
        };
        chown("dir/file", 1000, 42);
        chown("empty", 12, 0);
        if format.large {
            chown("sparse", 3_000_000, 4_000_000_000);
        }
    } else {
        eprintln!("skipped: devices and foreign owners need root");
    }
    chmod("dir/file", 0o4755);
    chmod("empty", 0o2670);
    chmod("dir", 0o1777);
    if format.xattrs {
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(root.join("dir/file"), name, value, XattrFlags::empty())
        };
        match set("user.some=thing%", b"a\0b\n") {
            Ok(()) => {}
            Err(error) => eprintln!("skipped: user xattrs cannot be set here: {error}"),
        }
        // VFS_CAP_REVISION_2 with cap_net_raw.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Err(error) = set("security.capability", &capability) {
            eprintln!("skipped: file capabilities cannot be set here: {error}");
        }
    }
    let (nanoseconds, early) = if format.exact_times { (123_456_789, -1000) } else { (0, 1000) };
    set_times(&root.join("dir/file"), 1_700_000_000, nanoseconds);
    set_times(&root.join("empty"), early, nanoseconds);
    set_times(&root.join("soft"), 5, nanoseconds);
    if format.large {
        set_times(&root.join("hole"), 20_000_000_000, 0);
    }
}

/// What the host says of the tree.
fn survey(root: &Path, format: &Format) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let path = root.join(&below);
        let stat = fs::symlink_metadata(&path).unwrap();
        let device: Device = decode_device(stat.rdev());
        let kind = match stat.file_type() {
            t if t.is_dir() => Kind::Directory,
            t if t.is_symlink() => Kind::Symlink,
            t if t.is_fifo() => Kind::Fifo,
            t if t.is_char_device() => Kind::CharDevice(device),
            t if t.is_block_device() => Kind::BlockDevice(device),
            _ => Kind::File,
        };
        if kind == Kind::Directory {
            waiting
                .extend(fs::read_dir(&path).unwrap().map(|e| below.join(e.unwrap().file_name())));
        }
        let content = match kind {
            Kind::File => fs::read(&path).unwrap(),
            Kind::Symlink => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let nanoseconds = if format.exact_times { stat.mtime_nsec() as u32 } else { 0 };
        let metadata = Metadata {
            kind,
            mode: (stat.mode() & 0o7777) as u16,
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: Timestamp::new(stat.mtime(), nanoseconds),
            size: content.len() as u64,
        };
        let xattrs = if format.xattrs { xattrs_of(&path, kind) } else { Xattrs::new() };
        let name = below.as_os_str().as_bytes().to_vec();
        inodes.entry(stat.ino()).or_default().insert(name.clone());
        numbers.insert(name.clone(), stat.ino());
        seen.insert(name, Seen { metadata, xattrs, content, names: BTreeSet::new() });
    }
    for (name, one) in &mut seen {
        one.names.clone_from(&inodes[&numbers[name]]);
    }
    seen
}

fn xattrs_of(path: &Path, kind: Kind) -> Xattrs {
    let mut xattrs = Xattrs::new();
    if !matches!(kind, Kind::File | Kind::Directory) {
        return xattrs;
    }
    let mut list = vec![0_u8; 64 * 1024];
    let Ok(length) = rustix::fs::listxattr(path, &mut list[..]) else { return xattrs };
    for name in list[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 64 * 1024];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
        xattrs.insert(name.to_vec(), value[..length].to_vec());
    }
    xattrs
}

#[test]
fn gnu_tar_in_all_formats() {
    if Command::new("tar").arg("--version").output().is_err() {
        eprintln!("skipped: there is no GNU tar");
        return;
    }
    for (number, format) in FORMATS.iter().enumerate() {
        let room = tempfile::tempdir().unwrap();
        let root = room.path().join("tree");
        plant(&root, format);
        let archive = room.path().join(format!("{number}.tar"));
        let output = Command::new("tar")
            .arg("--create")
            .arg(format!("--format={}", format.name))
            .args(format.arguments)
            .arg("--numeric-owner")
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(&root)
            .arg(".")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {errors}", format.name);
        let expected = survey(&root, format);
        let cache = LayerCache::new(room.path().join("cache"));
        let layer = cache.open(&Archive::new(&archive), &|_| {}).unwrap();
        let found = flatten(&layer);
        let names = |tree: &BTreeMap<Vec<u8>, Seen>| -> Vec<String> {
            tree.keys().map(|name| name.escape_ascii().to_string()).collect()
        };
        assert_eq!(names(&found), names(&expected));
        for (name, seen) in &found {
            let expected = &expected[name];
            let name = name.escape_ascii();
            let what = format!("{} {:?}: {name}", format.name, format.arguments);
            assert_eq!(seen.metadata, expected.metadata, "{what}");
            assert_eq!(seen.names, expected.names, "{what}");
            assert_eq!(seen.xattrs, expected.xattrs, "{what}");
            assert!(seen.content == expected.content, "{what}: the contents differ");
        }
    }
}
