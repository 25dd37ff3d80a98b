//! Two mounts of one tree, and changes that come from elsewhere.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::*;
use crate::filesystem::SetAttributes;
use crate::node::Device;
use crate::view::MappedView;

struct TwoViews {
    mapped: TempDir,
    tree_view: TempDir,
    _mounts: [Mount; 2],
}

fn two_views() -> TwoViews {
    let tree: Arc<dyn Filesystem> = Arc::new(MemoryTree::new());
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let view = Arc::new(MappedView::new(Arc::clone(&tree), uid, gid));
    let (mapped, tree_view) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mounts = [
        Mount::start(view, mapped.path(), &exclusive()).unwrap(),
        Mount::start(tree, tree_view.path(), &MountOptions::default()).unwrap(),
    ];
    TwoViews { mapped, tree_view, _mounts: mounts }
}

fn write_attributes(path: &std::path::Path, mode: u32, device: Option<u64>) {
    for (name, value) in [("uid", 0u32), ("gid", 5), ("mode", mode)] {
        let name = format!("user.virtfs.{name}");
        setxattr(path, name, &value.to_le_bytes(), XattrFlags::empty()).unwrap();
    }
    if let Some(device) = device {
        setxattr(path, "user.virtfs.rdev", &device.to_le_bytes(), XattrFlags::empty()).unwrap();
    }
}

#[test]
fn what_qemu_does_to_the_mapped_mount_is_true_in_the_other() {
    if !can_mount() {
        return;
    }
    let views = two_views();
    let names = ["console", "link", "program"];
    for name in names {
        let content = if name == "link" { "program" } else { "" };
        fs::write(views.mapped.path().join(name), content).unwrap();
        // The true mount has seen each as a plain file before it becomes something else.
        assert!(fs::symlink_metadata(views.tree_view.path().join(name)).unwrap().is_file());
    }
    write_attributes(&views.mapped.path().join("console"), 0o020620, Some(libc::makedev(5, 1)));
    write_attributes(&views.mapped.path().join("link"), 0o120777, None);
    write_attributes(&views.mapped.path().join("program"), 0o104755, None);

    let stat = |name: &str| fs::symlink_metadata(views.tree_view.path().join(name)).unwrap();
    assert!(stat("console").file_type().is_char_device());
    assert_eq!(stat("console").rdev(), libc::makedev(5, 1));
    assert_eq!(fs::read_link(views.tree_view.path().join("link")).unwrap().as_os_str(), "program");
    assert_eq!((stat("program").mode(), stat("program").gid()), (0o104755, 5));
    for name in names {
        let shown = fs::symlink_metadata(views.mapped.path().join(name)).unwrap();
        assert_eq!(shown.mode(), 0o100600, "{name}");
        assert_eq!(shown.uid(), rustix::process::geteuid().as_raw(), "{name}");
    }
    assert_eq!(fs::read(views.mapped.path().join("link")).unwrap(), b"program");
}

#[test]
fn a_shared_mount_shows_changes_from_elsewhere_at_once() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::with(MemoryTree::new(), &MountOptions::default());
    assert!(!mounted.path("file").exists());
    let ino = put_file(&mounted.tree, b"file", b"old text");
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"old text");
    mounted.tree.write(ino, 0, b"new").unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"new text");
    let changes = SetAttributes { size: Some(3), mode: Some(0o600), ..Default::default() };
    mounted.tree.set_attributes(ino, &changes).unwrap();
    let stat = fs::metadata(mounted.path("file")).unwrap();
    assert_eq!((stat.len(), stat.mode()), (3, 0o100600));
    let list = || fs::read_dir(mounted.directory.path()).unwrap().count();
    assert_eq!(list(), 1);
    put_file(&mounted.tree, b"second", b"");
    assert_eq!(list(), 2);
    mounted.tree.unlink(ROOT_INO, b"file").unwrap();
    assert!(!mounted.path("file").exists());
    assert_eq!(list(), 1);
}

#[test]
fn an_exclusive_mount_caches_absence_and_still_sees_its_own_changes() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    assert!(!mounted.path("file").exists());
    fs::write(mounted.path("file"), "1").unwrap();
    assert!(mounted.path("file").exists());
    assert_eq!(fs::read_dir(mounted.directory.path()).unwrap().count(), 1);
    fs::rename(mounted.path("file"), mounted.path("other")).unwrap();
    assert!(!mounted.path("file").exists());
    fs::remove_file(mounted.path("other")).unwrap();
    assert!(!mounted.path("other").exists());
    assert_eq!(fs::read_dir(mounted.directory.path()).unwrap().count(), 0);
    // What the mount was never told stays unseen: that is what the preset promises to cache.
    put_file(&mounted.tree, b"file", b"");
    assert!(!mounted.path("file").exists());
}

#[test]
fn qemus_reads_of_a_node_are_answered_from_the_node() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    let device = Device { major: 300, minor: 1_000_000 };
    let meta = Metadata { uid: 3_000_000, ..of_kind(Kind::BlockDevice(device), 0o640) };
    tree.put(ROOT_INO, b"disk", meta, b"");
    put_file(&tree, b"plain", b"");
    let directory = tempfile::tempdir().unwrap();
    let view = Arc::new(MappedView::new(Arc::new(tree), 0, 0));
    let mount = Mount::start(view, directory.path(), &exclusive()).unwrap();
    let read = |file: &str, name: &str| {
        let mut value = [0u8; 16];
        let length = getxattr(directory.path().join(file), name, &mut value[..])?;
        Ok(value[..length].to_vec())
    };
    assert_eq!(read("disk", "user.virtfs.uid"), Ok(3_000_000u32.to_le_bytes().to_vec()));
    assert_eq!(read("disk", "user.virtfs.mode"), Ok(0o060640u32.to_le_bytes().to_vec()));
    let encoded = libc::makedev(300, 1_000_000).to_le_bytes().to_vec();
    assert_eq!(read("disk", "user.virtfs.rdev"), Ok(encoded));
    assert_eq!(read("plain", "user.virtfs.rdev"), Err(rustix::io::Errno::NODATA));
    drop(mount);
}
