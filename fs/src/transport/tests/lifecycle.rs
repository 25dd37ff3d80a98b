use std::fs;
use std::process::Command;

use super::ordinary_user::start_daemon;
use super::*;
use crate::transport::{MountError, Unmounted, clean_stale};

fn start(directory: &std::path::Path) -> Result<Mount, MountError> {
    Mount::start(Arc::new(MemoryTree::new()), directory, &exclusive())
}

fn mount_table() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn is_mounted(directory: &TempDir) -> bool {
    mount_table().contains(directory.path().to_str().unwrap())
}

fn fusermount_u(directory: &TempDir) {
    let status = Command::new("fusermount3").arg("-u").arg(directory.path()).status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => panic!("fusermount3 is needed here: {error}"),
    }
}

#[test]
fn a_mount_is_usable_when_start_returns_and_gone_after_unmount() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = start(directory.path()).unwrap();
    let line = mount_table();
    let line = line.lines().find(|l| l.contains(directory.path().to_str().unwrap())).unwrap();
    assert!(line.contains(" - fuse.outcrop outcrop "), "{line}");
    assert_eq!(mount.mountpoint(), directory.path().canonicalize().unwrap());
    assert_eq!(fs::metadata(directory.path()).unwrap().ino(), ROOT_INO);
    assert_eq!(mount.unmount().unwrap(), Unmounted::Clean);
    assert!(!is_mounted(&directory));
    assert_ne!(fs::metadata(directory.path()).unwrap().ino(), ROOT_INO);
}

#[test]
fn dropping_unmounts_and_frees_the_tree() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = Arc::new(MemoryTree::new());
    let served = Arc::clone(&tree) as Arc<dyn Filesystem>;
    drop(Mount::start(served, directory.path(), &exclusive()).unwrap());
    assert!(!is_mounted(&directory));
    assert_eq!(Arc::strong_count(&tree), 1);
}

#[test]
fn wait_returns_when_somebody_else_unmounts() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = start(directory.path()).unwrap();
    let unmounter = mount.unmounter();
    fusermount_u(&directory);
    mount.wait().unwrap();
    assert!(!is_mounted(&directory));
    assert_eq!(unmounter.unmount().unwrap(), Unmounted::Already);
}

#[test]
fn an_unmounter_works_from_another_thread() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = start(directory.path()).unwrap();
    let unmounter = mount.unmounter();
    let thread = std::thread::spawn(move || unmounter.unmount().unwrap());
    mount.wait().unwrap();
    assert_eq!(thread.join().unwrap(), Unmounted::Clean);
    assert!(!is_mounted(&directory));
}

#[test]
fn an_old_unmounter_leaves_a_new_mount_alone() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let device = || fs::metadata(directory.path()).unwrap().dev();
    let first = start(directory.path()).unwrap();
    let (unmounter, first_device) = (first.unmounter(), device());
    first.unmount().unwrap();
    // The second must have a device number of its own, so others take the first one's. Which they get
    // depends on what other tests have just given back.
    let mut others = Vec::new();
    let second = loop {
        let elsewhere = tempfile::tempdir().unwrap();
        others.push((start(elsewhere.path()).unwrap(), elsewhere));
        let second = start(directory.path()).unwrap();
        if device() != first_device {
            break second;
        }
        assert!(others.len() < 100, "every mount gets the same number");
        second.unmount().unwrap();
    };
    assert_eq!(unmounter.unmount().unwrap(), Unmounted::Already);
    assert!(is_mounted(&directory));
    second.unmount().unwrap();
}

#[test]
fn a_busy_mount_is_detached_and_served_on() {
    if !can_mount() {
        return;
    }
    let mut mounted = Mounted::new();
    fs::write(mounted.path("file"), "content").unwrap();
    let file = File::open(mounted.path("file")).unwrap();
    let mount = mounted.mount.take().unwrap();
    assert_eq!(mount.unmount().unwrap(), Unmounted::Lazy);
    assert!(!is_mounted(&mounted.directory));
    assert_eq!(std::io::read_to_string(&file).unwrap(), "content");
    drop(file);
    eventually("the tree is let go", || Arc::strong_count(&mounted.tree) == 1);
}

#[test]
fn a_killed_predecessor_is_cleaned_up() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start_daemon(directory.path());
    assert!(!clean_stale(directory.path()).unwrap());
    assert!(directory.path().join("alive").exists());
    daemon.kill();
    // Not a stat: the kernel may answer that from its cache.
    let dead = fs::metadata(directory.path().join("unasked")).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(libc::ENOTCONN));
    assert!(clean_stale(directory.path()).unwrap());
    assert!(!is_mounted(&directory));
    assert!(!clean_stale(directory.path()).unwrap());
}

#[test]
fn a_new_mount_replaces_a_killed_one() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start_daemon(directory.path());
    daemon.kill();
    let mount = start(directory.path()).unwrap();
    assert!(!directory.path().join("alive").exists());
    mount.unmount().unwrap();
    assert!(!is_mounted(&directory));
}

#[test]
fn what_cannot_be_mounted_on_is_said() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let error = |path: &std::path::Path| start(path).map(|_| ()).unwrap_err();
    let missing = directory.path().join("missing");
    assert!(matches!(error(&missing), MountError::Missing(path) if path == missing));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(error(&file), MountError::NotADirectory(path) if path == file));
    let text = error(directory.path()).to_string();
    assert!(text.contains("is not empty"), "{text}");
    fs::remove_file(&file).unwrap();
    let mount = start(directory.path()).unwrap();
    assert!(matches!(error(directory.path()), MountError::AlreadyMounted(_)));
    drop(mount);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_mount_point_of_somebody_else_is_refused_with_the_helpers_words() {
    if !can_mount() || is_root() {
        eprintln!("SKIPPED: root may mount anywhere; the ordinary user's run has this test");
        return;
    }
    // Every system has it, root owns it, and it is usually empty.
    let path = std::path::Path::new("/srv");
    match fs::read_dir(path).map(Iterator::count) {
        Ok(0) => {}
        _ => return eprintln!("SKIPPED: /srv is not an empty directory here"),
    }
    match start(path) {
        Err(MountError::Refused { reason, .. }) => assert!(reason.contains("access"), "{reason}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("mounted on /srv"),
    }
}

#[test]
fn a_read_only_mount_refuses_changes() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    put_file(&tree, b"file", b"content");
    let mounted = Mounted::with(tree, &MountOptions { read_only: true, ..exclusive() });
    let refused = fs::write(mounted.path("file"), "new").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"content");
}

#[test]
fn names_with_commas_and_blanks_are_no_options() {
    if !can_mount() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a, b\\c");
    fs::create_dir(&directory).unwrap();
    let options = MountOptions { name: "x,allow_other\\,y z".to_owned(), ..exclusive() };
    let mount = Mount::start(Arc::new(MemoryTree::new()), &directory, &options).unwrap();
    assert!(mount_table().contains(" - fuse.outcrop x_allow_other__y\\040z "));
    assert_eq!(mount.unmount().unwrap(), Unmounted::Clean);
}

#[test]
fn an_aborted_connection_leaves_no_corpse() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = start(directory.path()).unwrap();
    let minor = rustix::fs::minor(fs::metadata(directory.path()).unwrap().dev());
    let abort = format!("/sys/fs/fuse/connections/{minor}/abort");
    if let Err(error) = fs::write(&abort, "1") {
        return eprintln!(
            "SKIPPED: {abort}: {error} (mount -t fusectl none /sys/fs/fuse/connections)"
        );
    }
    mount.wait().unwrap();
    assert!(!is_mounted(&directory));
}

#[test]
fn a_mount_under_another_is_not_taken_for_gone() {
    if !can_mount() || !is_root() {
        eprintln!("SKIPPED: only root can mount one thing on another");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = start(directory.path()).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", directory.path(), "tmpfs", flags, None).unwrap();
    let error = mount.unmounter().unmount().unwrap_err().to_string();
    assert!(error.contains("tmpfs is on top of it"), "{error}");
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(mount.unmount().unwrap(), Unmounted::Clean);
}

#[test]
fn dead_mounts_of_other_programs_are_left_alone() {
    use std::os::fd::AsRawFd;
    if !can_mount() || !is_root() {
        eprintln!("SKIPPED: only root can mount without a program of its own");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd());
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("other", directory.path(), "fuse", flags, Some(data)).unwrap();
    drop(device);
    let errors = [
        clean_stale(directory.path()).unwrap_err(),
        start(directory.path()).map(|_| ()).unwrap_err(),
    ];
    let untouched = is_mounted(&directory);
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(untouched);
    for error in errors {
        assert!(matches!(error, MountError::ForeignStale { .. }), "{error}");
    }
}

#[test]
fn only_allow_other_shows_a_mount_to_others() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !can_mount() || !is_root() {
        eprintln!("SKIPPED: only root can look as somebody else");
        return;
    }
    for allow_other in [false, true] {
        let tree = MemoryTree::new();
        put_file(&tree, b"file", b"content");
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = MountOptions { allow_other, ..exclusive() };
        let _mount = Mount::start(Arc::new(tree), directory.path(), &options).unwrap();
        let mut command = Command::new("cat");
        command.arg(directory.path().join("file")).current_dir("/").uid(65_534).gid(65_534);
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), allow_other);
        assert_eq!(output.stdout, if allow_other { &b"content"[..] } else { b"" });
    }
}
