//! Creating, linking, removing and describing nodes.

use super::layer::MemoryLayer;
use super::*;
use crate::filesystem::{SetAttributes, SetTime, SetXattr};
use crate::node::{Device, ROOT_INO, Timestamp};
use crate::sysroot::Change;

fn sample() -> Sysroot {
    writable(vec![
        MemoryLayer::new("low")
            .file("/d/f", "content")
            .file("/d/sub/deep", "")
            .link("/d/f", "/other")
            .symlink("/link", "d/f"),
    ])
}

#[test]
fn copy_up_keeps_the_number_and_copies_no_data() {
    let sysroot = sample();
    let before = stat(&sysroot, "/d/f");
    let set = SetAttributes { mode: Some(0o4755), uid: Some(7), ..SetAttributes::default() };
    let after = sysroot.set_attributes(before.ino, &set).unwrap();
    assert_eq!(after.ino, before.ino);
    assert_eq!((after.meta.mode, after.meta.uid, after.meta.gid), (0o4755, 7, before.meta.gid));
    assert_eq!(after.meta.mtime, before.meta.mtime);
    assert!(after.ctime > before.ctime);
    assert_eq!(stat(&sysroot, "/other"), after, "hard links share the change");
    assert_eq!(sysroot.spool_usage().unwrap(), 0);
    assert_eq!(sysroot.provenance(before.ino), Some("low"));
}

#[test]
fn times_are_set_as_given_and_now() {
    let sysroot = sample();
    let file = ino(&sysroot, "/d/f");
    let odd = Timestamp::new(-5, 123_456_789);
    let set = SetAttributes {
        mtime: Some(SetTime::At(odd)),
        atime: Some(SetTime::Now),
        ..SetAttributes::default()
    };
    let after = sysroot.set_attributes(file, &set).unwrap();
    assert_eq!(after.meta.mtime, odd);
    assert_eq!(after.atime, after.ctime);
}

#[test]
fn an_empty_change_changes_nothing() {
    let sysroot = sample();
    let before = stat(&sysroot, "/d/f");
    let after = sysroot.set_attributes(before.ino, &SetAttributes::default()).unwrap();
    assert_eq!(after, before);
    assert!(sysroot.changed_paths().unwrap().is_empty());
}

#[test]
fn a_directorys_times_follow_its_names() {
    let sysroot = sample();
    let before = stat(&sysroot, "/d");
    make_file(&sysroot, "/d", "new", b"");
    let made = stat(&sysroot, "/d");
    assert!(made.meta.mtime > before.meta.mtime && made.ctime == made.meta.mtime);
    sysroot.unlink(made.ino, b"new").unwrap();
    assert!(stat(&sysroot, "/d").meta.mtime >= made.meta.mtime);
    assert_eq!(stat(&sysroot, "/d/sub").meta.mtime, before.meta.mtime, "others do not");
}

#[test]
fn setgid_directories_hand_down_group_and_bit() {
    let sysroot = sample();
    let set = SetAttributes { mode: Some(0o2775), gid: Some(99), ..SetAttributes::default() };
    let directory = sysroot.set_attributes(ino(&sysroot, "/d"), &set).unwrap().ino;
    let made = sysroot.make_directory(directory, b"dir", CREATION).unwrap();
    assert_eq!((made.meta.gid, made.meta.mode), (99, 0o2644));
    let made = sysroot.make_node(directory, b"file", Kind::File, CREATION).unwrap();
    assert_eq!((made.meta.gid, made.meta.mode), (99, 0o644));
    let made = sysroot.make_temporary(directory, CREATION).unwrap();
    assert_eq!(made.meta.gid, 99);
}

#[test]
fn privileges_are_dropped_only_as_asked() {
    let layer = MemoryLayer::new("low")
        .file("/x", "")
        .mode("/x", 0o6755)
        .xattr("/x", "security.capability", b"c")
        .file("/y", "")
        .mode("/y", 0o6745);
    let sysroot = writable(vec![layer]);
    let file = ino(&sysroot, "/x");
    sysroot.write(file, 0, b"w").unwrap();
    assert_eq!(stat(&sysroot, "/x").meta.mode, 0o6755);
    let kill = SetAttributes { kill_privileges: true, ..SetAttributes::default() };
    assert_eq!(sysroot.set_attributes(file, &kill).unwrap().meta.mode, 0o755);
    assert_errno(sysroot.get_xattr(file, b"security.capability"), Errno::NODATA);
    let after = sysroot.set_attributes(ino(&sysroot, "/y"), &kill).unwrap();
    assert_eq!(after.meta.mode, 0o2745, "setgid without group execution means locking");
}

#[test]
fn names_are_checked() {
    let sysroot = sample();
    let long = [b'n'; 256];
    for (name, errno) in [
        (b"".as_slice(), Errno::NOENT),
        (b".", Errno::INVAL),
        (b"..", Errno::INVAL),
        (b"a/b", Errno::INVAL),
        (b"a\0", Errno::INVAL),
        (&long, Errno::NAMETOOLONG),
    ] {
        assert_errno(sysroot.make_directory(ROOT_INO, name, CREATION), errno);
        assert_errno(sysroot.link(ino(&sysroot, "/other"), ROOT_INO, name), errno);
    }
    let lookup = sysroot.lookup(ROOT_INO, &long).map(drop);
    let rename = sysroot.rename(ROOT_INO, &long, ROOT_INO, b"new", Rename::Replace);
    for result in [lookup, rename, sysroot.remove_file(ROOT_INO, &long)] {
        assert_errno(result, Errno::NAMETOOLONG);
    }
    assert!(sysroot.make_directory(ROOT_INO, &long[..255], CREATION).is_ok());
}

#[test]
fn making_over_an_existing_name_is_refused() {
    let sysroot = sample();
    assert_errno(sysroot.make_directory(ROOT_INO, b"d", CREATION), Errno::EXIST);
    assert_errno(sysroot.make_node(ROOT_INO, b"other", Kind::File, CREATION), Errno::EXIST);
    assert_errno(sysroot.make_symlink(ROOT_INO, b"link", b"x", CREATION), Errno::EXIST);
    assert_errno(sysroot.link(ino(&sysroot, "/other"), ROOT_INO, b"d"), Errno::EXIST);
}

#[test]
fn making_in_what_is_no_directory_is_refused() {
    let sysroot = sample();
    let file = ino(&sysroot, "/d/f");
    assert_errno(sysroot.make_directory(file, b"x", CREATION), Errno::NOTDIR);
    assert_errno(sysroot.lookup(file, b"x"), Errno::NOTDIR);
    assert_errno(sysroot.read_directory(file, 0, &mut |_| panic!()), Errno::NOTDIR);
}

#[test]
fn devices_keep_large_numbers_and_other_kinds_are_refused() {
    let sysroot = sample();
    let kind = Kind::BlockDevice(Device { major: 4095, minor: 1_048_575 });
    let made = sysroot.make_node(ROOT_INO, b"dev", kind, CREATION).unwrap();
    assert_eq!(made.meta.kind, kind);
    for kind in [Kind::Directory, Kind::Symlink] {
        assert_errno(sysroot.make_node(ROOT_INO, b"x", kind, CREATION), Errno::INVAL);
    }
}

#[test]
fn symlink_targets_are_checked() {
    let sysroot = sample();
    let made = sysroot.make_symlink(ROOT_INO, b"s", &[b't'; 4095], CREATION).unwrap();
    assert_eq!((made.meta.mode, made.meta.size), (0o777, 4095));
    assert_eq!(sysroot.read_link(made.ino).unwrap(), [b't'; 4095]);
    assert_errno(sysroot.make_symlink(ROOT_INO, b"x", &[b't'; 4096], CREATION), Errno::NAMETOOLONG);
    assert_errno(sysroot.make_symlink(ROOT_INO, b"x", b"", CREATION), Errno::NOENT);
    assert_errno(sysroot.read_link(ino(&sysroot, "/d/f")), Errno::INVAL);
    assert_eq!(sysroot.read_link(ino(&sysroot, "/link")).unwrap(), b"d/f");
}

#[test]
fn removal_tells_files_from_directories() {
    let sysroot = sample();
    let directory = ino(&sysroot, "/d");
    assert_errno(sysroot.unlink(ROOT_INO, b"d"), Errno::ISDIR);
    assert_errno(sysroot.remove_directory(directory, b"f"), Errno::NOTDIR);
    assert_errno(sysroot.remove_directory(directory, b"sub"), Errno::NOTEMPTY);
    assert_errno(sysroot.unlink(directory, b"absent"), Errno::NOENT);
    sysroot.unlink(ino(&sysroot, "/d/sub"), b"deep").unwrap();
    sysroot.remove_directory(directory, b"sub").unwrap();
    assert_errno(sysroot.resolve(b"/d/sub"), Errno::NOENT);
    assert_eq!(stat(&sysroot, "/d").nlink, 2);
}

#[test]
fn a_removed_directory_that_is_held_takes_no_names() {
    let sysroot = sample();
    let made = sysroot.make_directory(ROOT_INO, b"new", CREATION).unwrap();
    sysroot.remove_directory(ROOT_INO, b"new").unwrap();
    assert_eq!(sysroot.attributes(made.ino).unwrap().nlink, 0);
    assert_errno(sysroot.make_directory(made.ino, b"x", CREATION), Errno::NOENT);
    sysroot.forget(made.ino, 1);
    assert_errno(sysroot.attributes(made.ino), Errno::STALE);
}

#[test]
fn links_of_removed_files_and_of_directories_are_refused() {
    let sysroot = sample();
    assert_errno(sysroot.link(ino(&sysroot, "/d"), ROOT_INO, b"x"), Errno::PERM);
    let made = sysroot.make_node(ROOT_INO, b"gone", Kind::File, CREATION).unwrap();
    sysroot.unlink(ROOT_INO, b"gone").unwrap();
    assert_errno(sysroot.link(made.ino, ROOT_INO, b"back"), Errno::NOENT);
}

#[test]
fn a_temporary_file_can_be_linked_once_it_has_no_name() {
    let sysroot = sample();
    let made = sysroot.make_temporary(ROOT_INO, CREATION).unwrap();
    assert_eq!(made.nlink, 0);
    sysroot.write(made.ino, 0, b"late").unwrap();
    sysroot.link(made.ino, ROOT_INO, b"named").unwrap();
    sysroot.forget(made.ino, 2);
    assert_eq!(content(&sysroot, "/named"), b"late");
    sysroot.unlink(ROOT_INO, b"named").unwrap();
    assert_errno(sysroot.attributes(made.ino), Errno::STALE);
}

#[test]
fn a_node_takes_only_so_many_names() {
    let sysroot = sample();
    let file = make_file(&sysroot, "/", "many", b"");
    for number in 1..65_000u32 {
        sysroot.link(file, ROOT_INO, format!("link{number}").as_bytes()).unwrap();
    }
    assert_eq!(sysroot.attributes(file).unwrap().nlink, 65_000);
    assert_errno(sysroot.link(file, ROOT_INO, b"more"), Errno::MLINK);
}

#[test]
fn a_number_is_never_used_again() {
    let sysroot = sample();
    let first = make_file(&sysroot, "/", "a", b"");
    sysroot.unlink(ROOT_INO, b"a").unwrap();
    assert_ne!(make_file(&sysroot, "/", "a", b""), first);
}

#[test]
fn an_unlinked_lower_file_lives_while_it_is_held() {
    let sysroot = sample();
    let directory = ino(&sysroot, "/d/sub");
    let held = sysroot.lookup(directory, b"deep").unwrap();
    sysroot.unlink(directory, b"deep").unwrap();
    sysroot.write(held.ino, 0, b"still").unwrap();
    let set = SetAttributes { size: Some(3), mode: Some(0o600), ..SetAttributes::default() };
    assert_eq!(sysroot.set_attributes(held.ino, &set).unwrap().nlink, 0);
    assert_eq!(content_of(&sysroot, held.ino), b"sti");
    sysroot.forget(held.ino, 1);
    assert!(!sysroot.changes.read().nodes.contains_key(&held.ino));
}

#[test]
fn attributes_change_together_or_not_at_all() {
    let layer = MemoryLayer::new("low")
        .file("/f", "content")
        .symlink("/l", "target")
        .unreadable_xattrs("/f");
    let sysroot = writable(vec![layer]);
    let (file, link) = (ino(&sysroot, "/f"), ino(&sysroot, "/l"));
    let all = SetAttributes {
        mode: Some(0o600),
        uid: Some(7),
        size: Some(3),
        mtime: Some(SetTime::At(Timestamp::new(9, 0))),
        kill_privileges: true,
        ..SetAttributes::default()
    };
    let enormous = SetAttributes { size: Some(u64::MAX), kill_privileges: false, ..all };
    // Once as the layer has it, once with data of its own.
    for expected in [&b"content"[..], b"Content"] {
        let before = sysroot.attributes(file).unwrap();
        assert_errno(sysroot.set_attributes(file, &all), Errno::IO);
        assert_errno(sysroot.set_attributes(file, &enormous), Errno::FBIG);
        assert_eq!(sysroot.attributes(file).unwrap(), before);
        assert_eq!(content_of(&sysroot, file), expected);
        sysroot.write(file, 0, b"C").unwrap();
    }
    let before = sysroot.attributes(link).unwrap();
    assert_errno(sysroot.set_attributes(link, &all), Errno::INVAL);
    let mode = SetAttributes { size: None, ..all };
    assert_errno(sysroot.set_attributes(link, &mode), Errno::OPNOTSUPP);
    assert_eq!(sysroot.attributes(link).unwrap(), before);
    let harmless = SetAttributes { kill_privileges: false, ..all };
    let after = sysroot.set_attributes(file, &harmless).unwrap();
    assert_eq!((after.meta.size, after.meta.mode, after.meta.uid), (3, 0o600, 7));
    assert_eq!(after.meta.mtime, Timestamp::new(9, 0));
    assert_eq!(content_of(&sysroot, file), b"Con");
}

#[test]
fn xattrs_of_every_namespace_are_kept() {
    let sysroot = sample();
    let file = ino(&sysroot, "/d/f");
    for name in ["user.a", "security.capability", "trusted.overlay.x", "system.posix_acl_access"] {
        sysroot.set_xattr(file, name.as_bytes(), b"\0\xff", SetXattr::Create).unwrap();
        assert_eq!(sysroot.get_xattr(file, name.as_bytes()).unwrap(), b"\0\xff");
    }
    assert_eq!(sysroot.list_xattrs(file).unwrap().len(), 4);
    assert_errno(sysroot.set_xattr(file, b"user.a", b"", SetXattr::Create), Errno::EXIST);
    assert_errno(sysroot.set_xattr(file, b"user.b", b"", SetXattr::Replace), Errno::NODATA);
    assert_errno(sysroot.remove_xattr(file, b"user.b"), Errno::NODATA);
    let big = vec![0; 65_537];
    assert_errno(sysroot.set_xattr(file, b"user.a", &big, SetXattr::Any), Errno::TOOBIG);
    assert_errno(sysroot.set_xattr(file, &[b'x'; 256], b"", SetXattr::Any), Errno::RANGE);
}

#[test]
fn removing_a_lower_xattr_leaves_the_others() {
    let layer = MemoryLayer::new("low")
        .file("/f", "")
        .xattr("/f", "user.a", b"1")
        .xattr("/f", "user.b", b"2");
    let sysroot = writable(vec![layer]);
    let file = ino(&sysroot, "/f");
    sysroot.remove_xattr(file, b"user.a").unwrap();
    assert_errno(sysroot.get_xattr(file, b"user.a"), Errno::NODATA);
    assert_eq!(sysroot.list_xattrs(file).unwrap(), [b"user.b"]);
}

#[test]
fn a_file_turns_into_a_symlink_and_a_device_as_qemu_asks() {
    let sysroot = sample();
    let file = make_file(&sysroot, "/", "s", b"to/where");
    sysroot.change_kind(file, Kind::Symlink).unwrap();
    assert_eq!(sysroot.read_link(file).unwrap(), b"to/where");
    assert_errno(sysroot.read(file, 0, &mut [0; 4]), Errno::INVAL);
    sysroot.change_kind(file, Kind::File).unwrap();
    assert_eq!(content(&sysroot, "/s"), b"to/where");

    let device = make_file(&sysroot, "/", "dev", b"");
    sysroot.change_kind(device, Kind::CharDevice(Device::default())).unwrap();
    let null = Kind::CharDevice(Device { major: 1, minor: 3 });
    sysroot.change_kind(device, null).unwrap();
    assert_eq!(stat(&sysroot, "/dev").meta.kind, null);
    assert_errno(sysroot.change_kind(ROOT_INO, Kind::File), Errno::ISDIR);
}

#[test]
fn a_symlinks_mode_is_nobodys_to_choose() {
    let sysroot = writable(vec![MemoryLayer::new("low").symlink("/low", "target")]);
    let made = sysroot.make_symlink(ROOT_INO, b"made", b"target", CREATION).unwrap().ino;
    let turned = make_file(&sysroot, "/", "turned", b"target");
    sysroot.change_kind(turned, Kind::Symlink).unwrap();
    for link in [ino(&sysroot, "/low"), made, turned] {
        let set = SetAttributes { mode: Some(0o600), uid: Some(5), ..SetAttributes::default() };
        assert_errno(sysroot.set_attributes(link, &set), Errno::OPNOTSUPP);
        let meta = sysroot.attributes(link).unwrap().meta;
        assert_eq!(meta.mode, 0o777);
        assert_ne!(meta.uid, 5, "all or nothing");
    }
}

#[test]
fn changed_paths_tell_what_came_went_and_changed() {
    let sysroot = sample();
    make_file(&sysroot, "/d", "new", b"x");
    sysroot.write(ino(&sysroot, "/d/f"), 0, b"X").unwrap();
    sysroot.unlink(ROOT_INO, b"link").unwrap();
    sysroot.rename(ino(&sysroot, "/d"), b"sub", ROOT_INO, b"moved", Rename::Replace).unwrap();
    let told: Vec<_> = sysroot
        .changed_paths()
        .unwrap()
        .into_iter()
        .map(|changed| (String::from_utf8(changed.path).unwrap(), changed.change))
        .collect();
    let expected = [
        ("/", Change::Modified),
        ("/d", Change::Modified),
        ("/d/f", Change::Modified),
        ("/d/new", Change::Added),
        ("/d/sub", Change::Removed),
        ("/link", Change::Removed),
        ("/moved", Change::Added),
        ("/other", Change::Modified),
    ];
    assert_eq!(told, expected.map(|(path, change)| (path.to_owned(), change)));
}
