//! What debugfs and e2fsck see of an image.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use outcrop_fs::filesystem::{Filesystem, encode_device};
use outcrop_fs::{Kind, Metadata};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::*;

/// Stands in for a mount of the true view: makes the tree in a directory, as root.
fn materialise(tree: &MemoryTree, directory: &Path) {
    let mut made = Vec::new();
    outcrop_fs::capture::walk(tree, ROOT_INO, None, &mut |visit| {
        let path = directory.join(std::ffi::OsStr::from_bytes(visit.path));
        let meta = visit.attributes.meta;
        if let Some(first) = visit.hard_link {
            let first = directory.join(std::ffi::OsStr::from_bytes(first));
            std::fs::hard_link(first, &path).unwrap();
            return Ok(());
        }
        make(tree, visit.attributes.ino, &path, &meta);
        made.push((path, meta));
        Ok(())
    })
    .unwrap();
    // Children first, so that directories keep their times.
    for (path, meta) in made.into_iter().rev() {
        let time = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: 0 };
        // Late enough for the host not to touch it when the file is read: relatime(7).
        let access = Timespec { tv_sec: 4_000_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: access, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn make(tree: &MemoryTree, ino: u64, path: &Path, meta: &Metadata) {
    let special = |kind| {
        let device = encode_device(meta.kind.device());
        rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device).unwrap();
    };
    match meta.kind {
        Kind::Directory if path.exists() => {}
        Kind::Directory => std::fs::create_dir(path).unwrap(),
        Kind::File => std::fs::write(path, tree.content(ino)).unwrap(),
        Kind::Symlink => {
            let target = tree.read_link(ino).unwrap();
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), path).unwrap();
        }
        Kind::CharDevice(_) => special(FileType::CharacterDevice),
        Kind::BlockDevice(_) => special(FileType::BlockDevice),
        Kind::Fifo => special(FileType::Fifo),
        Kind::Socket => special(FileType::Socket),
    }
    std::os::unix::fs::lchown(path, Some(meta.uid), Some(meta.gid)).unwrap();
    if meta.kind != Kind::Symlink {
        rustix::fs::chmod(path, Mode::from_raw_mode(meta.mode.into())).unwrap();
    }
    for name in tree.list_xattrs(ino).unwrap() {
        let value = tree.get_xattr(ino, &name).unwrap();
        rustix::fs::lsetxattr(path, name.as_slice(), &value, XattrFlags::empty()).unwrap();
    }
}

fn with_root(test: impl FnOnce(&MemoryTree, &Options<'_>)) {
    with_root_of(everything(), test);
}

fn with_root_of(tree: MemoryTree, test: impl FnOnce(&MemoryTree, &Options<'_>)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a directory with devices and foreign owners");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    materialise(&tree, directory.path());
    let with_mount = |run: &mut dyn FnMut(&Path) -> Result<()>| run(directory.path());
    test(&tree, &Options { with_mount: Some(&with_mount), ..Options::default() });
}

fn debugfs(image: &Exported, request: &str) -> Option<String> {
    tool("debugfs", &["-R", request, image.path.to_str().unwrap()], None)
}

#[test]
fn keeps_everything() {
    with_root(|tree, options| {
        let Some(image) = exported(tree, Format::Ext4, options) else { return };
        let path = image.path.to_str().unwrap();
        tool("e2fsck", &["-fn", path], None);
        let has = |name: &str, wants: &[&str]| {
            let text = debugfs(&image, &format!("stat {name}")).unwrap();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for want in wants {
                assert!(text.contains(want), "{name}: no {want:?} in {text}");
            }
        };
        has("/", &["Type: directory", "Mode: 0751", "User: 0 Group: 0", "mtime: 0x6553f100"]);
        has("/bin/su", &["Type: regular", "Mode: 04755", "Links: 2", "Size: 12"]);
        has("/bin/sh", &["Type: symlink", "Fast link dest: \"su\""]);
        has("/bin/ping", &["security.capability (20)", "user.note (5) = \"hello\""]);
        has("/dev/null", &["Type: character special", "Mode: 0666", "number: 01:03"]);
        has("/dev/disk", &["Type: block special", "Mode: 0660", "Group: 6", "number: 08:300000"]);
        has("/dev/pipe", &["Type: FIFO", "Mode: 0600", "User: 5 Group: 5"]);
        has("/tmp", &["Mode: 01777"]);
        has("/home", &["Mode: 02750", "User: 1000 Group: 3000000"]);
        // debugfs shows owners signed.
        has("/home/empty", &["User: -294967296", "Size: 0"]);
        has("/home/holes", &["Size: 1048576", "Blockcount: 144"]);
        let su = debugfs(&image, "cat /bin/su-link").unwrap();
        assert_eq!(su, "#!/bin/true\n");
    });
}

/// Without a mount, and as whoever runs the tests: only a new e2fsprogs can.
#[test]
fn a_tar_is_enough_for_a_new_mke2fs() {
    let tree = everything();
    let mtime = MtimePolicy::Fixed(outcrop_fs::Timestamp::new(1_500_000_000, 0));
    let options = Options { mtime, ..Options::default() };
    let Some(image) = exported(&tree, Format::Ext4, &options) else { return };
    tool("e2fsck", &["-fn", image.path.to_str().unwrap()], None);
    let text = debugfs(&image, "stat /dev/disk").unwrap();
    assert!(text.contains("Type: block special") && text.contains("08:300000"), "{text}");
    assert!(text.contains("mtime: 0x59682f00"), "{text}");
    let warnings = &image.report.warnings;
    assert!(warnings.iter().any(|warning| warning.contains("/bin/ping")), "{warnings:?}");
    let again = exported(&tree, Format::Ext4, &options).unwrap();
    assert!(sha256(&image.bytes()) == sha256(&again.bytes()));
}

#[test]
fn two_exports_are_identical_bytes() {
    with_root(|tree, options| {
        let first = exported(tree, Format::Ext4, options);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let second = exported(tree, Format::Ext4, options);
        let (Some(first), Some(second)) = (first, second) else { return };
        assert!(sha256(&first.bytes()) == sha256(&second.bytes()));
    });
}

#[test]
fn another_identity_gives_another_uuid() {
    with_root(|tree, options| {
        let uuid = |identity| {
            let image = exported(tree, Format::Ext4, &Options { identity, ..*options })?;
            let stats = debugfs(&image, "stats -h")?;
            let line = stats.lines().find(|line| line.starts_with("Filesystem UUID"))?;
            Some(line.split_whitespace().last()?.to_owned())
        };
        let (Some(first), Some(second)) = (uuid(Some([1; 32])), uuid(Some([2; 32]))) else {
            return;
        };
        assert_ne!(first, second);
        // Version 8, the RFC's variant.
        assert_eq!(first.as_bytes()[14], b'8', "{first}");
        assert!(b"89ab".contains(&first.as_bytes()[19]), "{first}");
    });
}

#[test]
fn a_given_size_is_kept_and_a_small_one_explained() {
    let mut tree = everything();
    let meta = memory::metadata(Kind::File, 0o644, 0, 0);
    tree.file(ROOT_INO, b"large", meta, &vec![1; 4 << 20]);
    with_root_of(tree, |tree, options| {
        let size = Some(40 << 20);
        let Some(image) = exported(tree, Format::Ext4, &Options { size, ..*options }) else {
            return;
        };
        assert_eq!(image.report.bytes, 40 << 20);
        let size = Some(3 << 20);
        let error = try_export(tree, Format::Ext4, &Options { size, ..*options }).err().unwrap();
        let said = error.to_string();
        let Some(rest) =
            said.strip_prefix("the tree does not fit into 3 MiB: leave the size out, ")
        else {
            panic!("{said}");
        };
        let size = rest.split_once(" make it ").unwrap().1.split_once(':').unwrap().0;
        let size = Some(size.parse::<u64>().unwrap() << 20);
        exported(tree, Format::Ext4, &Options { size, ..*options }).unwrap();
    });
}

#[test]
fn names_and_paths_that_are_too_long_are_refused_before_anything_is_made() {
    let directory = || memory::metadata(Kind::Directory, 0o755, 0, 0);
    let mut long_name = MemoryTree::new();
    long_name.add(ROOT_INO, &[b'n'; 256], directory());
    let mut deep = MemoryTree::new();
    (0..1001).fold(ROOT_INO, |parent, _| deep.add(parent, b"d", directory()));
    let cases =
        [(long_name, "has a name of more than 255 bytes"), (deep, "has a path of more than")];
    for (tree, problem) in cases {
        match try_export(&tree, Format::Ext4, &Options::default()).map(|_| ()) {
            Err(Error::Invalid(sentence)) => assert!(sentence.contains(problem), "{sentence}"),
            Err(error @ Error::HostLacks { .. }) => eprintln!("skipped: {error}"),
            other => panic!("{other:?}"),
        }
    }
}
