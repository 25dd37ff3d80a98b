use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

use rustix::fs::{
    AtFlags, CWD, RenameFlags, Timespec, Timestamps, XattrFlags, getxattr, getxattr_query,
    listxattr, removexattr, renameat_with, setxattr, utimensat,
};
use rustix::io::Errno;

use super::*;
use crate::filesystem::{SetAttributes, SetXattr};
use crate::node::{Device, Timestamp};

#[test]
fn stat_shows_the_node_as_it_is() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    let device = Device { major: 259, minor: 70_000 };
    let kinds = [
        (Kind::File, 0o4755),
        (Kind::Directory, 0o1777),
        (Kind::Symlink, 0o777),
        (Kind::CharDevice(device), 0o620),
        (Kind::BlockDevice(device), 0o660),
        (Kind::Fifo, 0o600),
        (Kind::Socket, 0o755),
    ];
    let mtime = Timestamp::new(-3, 250_000_001);
    for (kind, mode) in kinds {
        let meta = Metadata { uid: 4_000_000_000, gid: 99, mtime, ..of_kind(kind, mode) };
        let content: &[u8] = if kind == Kind::Symlink { b"no/where" } else { b"" };
        tree.put(ROOT_INO, format!("{:o}", kind.file_type_bits()).as_bytes(), meta, content);
    }
    let mounted = Mounted::with(tree.frozen(), &exclusive());
    for (kind, mode) in kinds {
        let name = format!("{:o}", kind.file_type_bits());
        let stat = fs::symlink_metadata(mounted.path(&name)).unwrap();
        assert_eq!(stat.mode(), kind.file_type_bits() | u32::from(mode), "{name}");
        assert_eq!((stat.uid(), stat.gid()), (4_000_000_000, 99), "{name}");
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (-3, 250_000_001), "{name}");
        if stat.file_type().is_char_device() || stat.file_type().is_block_device() {
            assert_eq!(stat.rdev(), libc::makedev(259, 70_000), "{name}");
        }
    }
    assert_eq!(fs::read_link(mounted.path("120000")).unwrap().as_os_str(), "no/where");
    assert_eq!(fs::symlink_metadata(mounted.path("120000")).unwrap().size(), 8);
}

#[test]
fn a_directory_of_thousands_is_listed_exactly_once_while_it_shrinks() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    let names: BTreeSet<String> = (0..5000).map(|number| format!("file-{number:05}")).collect();
    for name in &names {
        put_file(&tree, name.as_bytes(), b"x");
    }
    let mounted = Mounted::with(tree, &exclusive());
    for shrinking in [false, true, false] {
        let before: BTreeSet<_> = fs::read_dir(mounted.directory.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(entry.metadata().unwrap().len(), 1);
                let name = entry.file_name().into_string().unwrap();
                if shrinking && name.ends_with('7') {
                    fs::remove_file(entry.path()).unwrap();
                }
                name
            })
            .collect();
        let listed = fs::read_dir(mounted.directory.path()).unwrap().count();
        if shrinking {
            assert_eq!(before, names);
            assert_eq!(listed, names.len() - names.len() / 10);
        } else {
            assert_eq!(listed, before.len());
        }
    }
}

#[test]
fn trusted_xattrs_are_listed_only_for_whom_the_kernel_lets_read_them() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    let file = put_file(&tree, b"f", b"");
    for name in [&b"trusted.t"[..], b"trusted.", b"user.u", b"security.capability"] {
        tree.set_xattr(file, name, b"value", SetXattr::Any).unwrap();
    }
    let mounted = Mounted::with(tree, &exclusive());
    let path = mounted.path("f");
    let mut buffer = [0; 100];
    let length = listxattr(&path, &mut buffer[..]).unwrap();
    let listed: BTreeSet<&[u8]> = buffer[..length].split_inclusive(|byte| *byte == 0).collect();
    let mut expected = BTreeSet::from([&b"user.u\0"[..], b"security.capability\0"]);
    if is_root() {
        expected.extend([&b"trusted.t\0"[..], b"trusted.\0"]);
    }
    assert_eq!(listed, expected);
    let read = getxattr(&path, "trusted.t", &mut buffer[..]);
    assert_eq!(read.is_ok(), is_root(), "{read:?}");
}

#[test]
fn xattrs_follow_the_size_protocol() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    mounted.create("file");
    let path = mounted.path("file");
    setxattr(&path, "user.one", b"value", XattrFlags::CREATE).unwrap();
    assert_eq!(setxattr(&path, "user.one", b"v", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(setxattr(&path, "user.two", b"v", XattrFlags::REPLACE), Err(Errno::NODATA));
    setxattr(&path, "user.empty", b"", XattrFlags::empty()).unwrap();
    let mut buffer = [0u8; 64];
    assert_eq!(getxattr_query(&path, "user.one"), Ok(5));
    assert_eq!(getxattr(&path, "user.one", &mut buffer[..4]), Err(Errno::RANGE));
    assert_eq!(getxattr(&path, "user.one", &mut buffer[..]), Ok(5));
    assert_eq!(&buffer[..5], b"value");
    assert_eq!(getxattr(&path, "user.empty", &mut buffer[..]), Ok(0));
    assert_eq!(getxattr(&path, "user.none", &mut buffer[..]), Err(Errno::NODATA));
    let length = listxattr(&path, &mut buffer[..]).unwrap();
    assert_eq!(&buffer[..length], b"user.empty\0user.one\0");
    assert_eq!(listxattr(&path, &mut buffer[..3]), Err(Errno::RANGE));
    removexattr(&path, "user.one").unwrap();
    assert_eq!(removexattr(&path, "user.one"), Err(Errno::NODATA));
}

#[test]
fn times_before_1970_can_be_set_to_the_nanosecond() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    mounted.create("file");
    let mtime = Timespec { tv_sec: -86_401, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    utimensat(CWD, mounted.path("file"), &times, AtFlags::empty()).unwrap();
    assert_eq!(mounted.meta("file").mtime, Timestamp::new(-86_401, 123_456_789));
    let stat = fs::metadata(mounted.path("file")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-86_401, 123_456_789));
}

#[test]
fn new_nodes_belong_to_their_maker_and_obey_umask_and_setgid() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut options = fs::File::options();
    options.write(true).create_new(true).mode(0o666).open(mounted.path("file")).unwrap();
    // umask(2) could only be asked by changing it, under the feet of other tests.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap();
    let umask = u32::from_str_radix(umask, 8).unwrap();
    let meta = mounted.meta("file");
    assert_eq!((meta.uid, meta.gid), (uid, gid));
    assert_eq!(u32::from(meta.mode), 0o666 & !umask);

    fs::create_dir(mounted.path("shared")).unwrap();
    let shared = SetAttributes { mode: Some(0o2775), gid: Some(4321), ..Default::default() };
    mounted.tree.set_attributes(mounted.ino("shared"), &shared).unwrap();
    mounted.create("shared/file");
    fs::create_dir(mounted.path("shared/below")).unwrap();
    assert_eq!(mounted.meta("shared/file").gid, 4321);
    let below = mounted.meta("shared/below");
    assert_eq!((below.gid, below.mode & 0o2000), (4321, 0o2000));
}

#[test]
fn chown_takes_setuid_and_capabilities_away() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let ino = put_file(&mounted.tree, b"program", b"#!");
    let program = SetAttributes { mode: Some(0o6755), ..Default::default() };
    mounted.tree.set_attributes(ino, &program).unwrap();
    mounted.tree.set_xattr(ino, b"security.capability", b"caps", SetXattr::Any).unwrap();
    std::os::unix::fs::chown(mounted.path("program"), Some(12), Some(34)).unwrap();
    let meta = mounted.meta("program");
    assert_eq!((meta.uid, meta.gid, meta.mode), (12, 34, 0o755));
    assert!(mounted.tree.list_xattrs(ino).unwrap().is_empty());
}

#[test]
fn a_write_keeps_setuid_for_root_only_and_capabilities_for_nobody() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    for name in ["written", "truncated"] {
        let ino = put_file(&mounted.tree, name.as_bytes(), b"#!");
        let program = SetAttributes { mode: Some(0o4755), ..Default::default() };
        mounted.tree.set_attributes(ino, &program).unwrap();
        mounted.tree.set_xattr(ino, b"security.capability", b"caps", SetXattr::Any).unwrap();
    }
    fs::OpenOptions::new().write(true).open(mounted.path("truncated")).unwrap().set_len(1).unwrap();
    std::io::Write::write_all(
        &mut fs::OpenOptions::new().append(true).open(mounted.path("written")).unwrap(),
        b"more",
    )
    .unwrap();
    for name in ["written", "truncated"] {
        let expected = if is_root() { 0o4755 } else { 0o755 };
        assert_eq!(mounted.meta(name).mode, expected, "{name}");
        assert!(mounted.tree.list_xattrs(mounted.ino(name)).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn renames_know_their_flags() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    for (name, content) in [("a", "1"), ("b", "2")] {
        fs::write(mounted.path(name), content).unwrap();
    }
    let rename = |from: &str, to: &str, flags| {
        renameat_with(CWD, mounted.path(from), CWD, mounted.path(to), flags)
    };
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"2");
    assert_eq!(fs::read(mounted.path("b")).unwrap(), b"1");
    assert_eq!(rename("a", "b", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    rename("a", "b", RenameFlags::empty()).unwrap();
    assert_eq!(fs::read(mounted.path("b")).unwrap(), b"2");
    assert!(!mounted.path("a").exists());
    fs::create_dir(mounted.path("d")).unwrap();
    assert_eq!(rename("b", "d", RenameFlags::empty()), Err(Errno::ISDIR));
    rename("b", "d/b", RenameFlags::NOREPLACE).unwrap();
    assert_eq!(
        fs::remove_dir(mounted.path("d")).unwrap_err().raw_os_error(),
        Some(libc::ENOTEMPTY)
    );
}

#[test]
fn special_files_and_links_can_be_made() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    rustix::fs::mknodat(
        CWD,
        mounted.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(mounted.meta("fifo").kind, Kind::Fifo);
    symlink("target", mounted.path("link")).unwrap();
    assert_eq!(mounted.tree.read_link(mounted.ino("link")).unwrap(), b"target");
    fs::hard_link(mounted.path("fifo"), mounted.path("second")).unwrap();
    assert_eq!(mounted.ino("fifo"), mounted.ino("second"));
    assert_eq!(fs::symlink_metadata(mounted.path("fifo")).unwrap().nlink(), 2);
    fs::remove_file(mounted.path("fifo")).unwrap();
    assert_eq!(fs::symlink_metadata(mounted.path("second")).unwrap().nlink(), 1);
    fs::set_permissions(mounted.path("second"), fs::Permissions::from_mode(0o7123)).unwrap();
    assert_eq!(mounted.meta("second").mode, 0o7123);
}

#[test]
fn device_nodes_can_be_made_by_root() {
    if !can_mount() || !is_root() {
        eprintln!("SKIPPED: the kernel lets only root make devices");
        return;
    }
    let mounted = Mounted::new();
    rustix::fs::mknodat(
        CWD,
        mounted.path("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        libc::makedev(1, 70_003),
    )
    .unwrap();
    let device = Device { major: 1, minor: 70_003 };
    assert_eq!(mounted.meta("null").kind, Kind::CharDevice(device));
}

#[test]
fn names_longer_than_255_bytes_are_listed_and_found() {
    if !can_mount() {
        return;
    }
    for length in [256, 300, 1023] {
        let tree = MemoryTree::new();
        let long = vec![b'n'; length];
        put_file(&tree, &long, b"found");
        let mounted = Mounted::with(tree, &exclusive());
        let list = || -> Vec<_> {
            let entries = fs::read_dir(mounted.directory.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(list().len(), 1);
        assert_eq!(list()[0].as_bytes(), long);
        let path = mounted.directory.path().join(&list()[0]);
        assert_eq!(fs::read(&path).unwrap(), b"found");
        fs::rename(&path, mounted.path(&"m".repeat(length))).unwrap();
        assert_eq!(list()[0].as_bytes(), vec![b'm'; length]);
    }
}

#[test]
fn statfs_answers() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let expected = mounted.tree.statistics().unwrap();
    let shown = rustix::fs::statvfs(mounted.directory.path()).unwrap();
    assert_eq!((shown.f_blocks, shown.f_bfree), (expected.blocks, expected.free_blocks));
    assert_eq!((shown.f_namemax, shown.f_frsize), (255, 4096));
}
