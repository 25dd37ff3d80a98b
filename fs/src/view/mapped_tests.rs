use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::node::{Metadata, ROOT_INO, Timestamp};
use crate::view::memory_tree::MemoryTree;

const HOST_UID: u32 = 1234;
const HOST_GID: u32 = 5678;
const AS_QEMU_CREATES: Creation = Creation { mode: 0o600, uid: HOST_UID, gid: HOST_GID };

struct Pair {
    tree: Arc<MemoryTree>,
    view: MappedView,
}

fn pair() -> Pair {
    let tree = Arc::new(MemoryTree::new());
    let view = MappedView::new(Arc::clone(&tree) as Arc<dyn Filesystem>, HOST_UID, HOST_GID);
    Pair { tree, view }
}

impl Pair {
    fn file(&self) -> Ino {
        self.view.make_node(ROOT_INO, b"new", Kind::File, AS_QEMU_CREATES).unwrap().ino
    }

    fn write_id(&self, ino: Ino, name: &[u8], value: u32) {
        self.view.set_xattr(ino, name, &value.to_le_bytes(), SetXattr::Any).unwrap();
    }

    fn write_rdev(&self, ino: Ino, device: Device) {
        let value = encode_device(device).to_le_bytes();
        self.view.set_xattr(ino, RDEV, &value, SetXattr::Any).unwrap();
    }

    /// What the guest sees: QEMU reads the four attributes back.
    fn guest_mode(&self, ino: Ino) -> u32 {
        little_endian_u32(&self.view.get_xattr(ino, MODE).unwrap()).unwrap()
    }

    fn meta(&self, ino: Ino) -> Metadata {
        self.tree.attributes(ino).unwrap().meta
    }
}

fn errno<T>(result: Result<T>) -> Errno {
    result.err().as_ref().map_or(Errno::CANCELED, Error::errno)
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let device = || (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::Fifo),
        Just(Kind::Socket),
        device().prop_map(Kind::CharDevice),
        device().prop_map(Kind::BlockDevice),
    ]
}

/// What QEMU makes at first: a directory, or a regular file whatever it shall become.
fn begin(pair: &Pair, kind: Kind) -> Ino {
    if kind.is_directory() {
        let creation = Creation { mode: 0o700, ..AS_QEMU_CREATES };
        pair.view.make_directory(ROOT_INO, b"new", creation).unwrap().ino
    } else {
        let ino = pair.file();
        if kind == Kind::Symlink {
            pair.view.write(ino, 0, b"../target").unwrap();
        }
        ino
    }
}

proptest! {
    /// Any order of the attribute writes gives the same node; uid, gid, mode, rdev is QEMU's.
    #[test]
    fn a_created_node_is_what_the_guest_asked_for(
        kind in any_kind(),
        mode in 0u16..=0o7777,
        uid in any::<u32>(),
        gid in any::<u32>(),
        order in Just([0, 1, 2, 3]).prop_shuffle(),
    ) {
        let pair = pair();
        let ino = begin(&pair, kind);
        for step in order {
            match step {
                0 => pair.write_id(ino, UID, uid),
                1 => pair.write_id(ino, GID, gid),
                2 => pair.write_id(ino, MODE, kind.file_type_bits() | u32::from(mode)),
                _ => pair.write_rdev(ino, kind.device()),
            }
        }
        let meta = pair.meta(ino);
        prop_assert_eq!((meta.kind, meta.uid, meta.gid), (kind, uid, gid));
        if kind == Kind::Symlink {
            prop_assert_eq!(pair.tree.read_link(ino).unwrap(), b"../target");
            prop_assert_eq!(meta.mode, 0o777);
        } else {
            prop_assert_eq!(meta.mode, mode);
        }
    }

    #[test]
    fn every_node_looks_like_the_host_users_file(kind in any_kind(), mode in 0u16..=0o7777) {
        let pair = pair();
        let meta = Metadata {
            kind, mode, uid: 7, gid: 8, mtime: Timestamp::new(-5, 999), size: 0,
        };
        let content: &[u8] = if kind == Kind::Symlink { b"/etc/target" } else { b"" };
        let ino = pair.tree.put(ROOT_INO, b"node", meta, content);
        let shown = pair.view.lookup(ROOT_INO, b"node").unwrap().meta;
        prop_assert_eq!((shown.uid, shown.gid, shown.mtime), (HOST_UID, HOST_GID, meta.mtime));
        if kind.is_directory() {
            prop_assert_eq!(shown.st_mode(), 0o40700);
        } else {
            prop_assert_eq!(shown.st_mode(), 0o100600);
            prop_assert_eq!(shown.size, content.len() as u64);
        }
        prop_assert_eq!(pair.guest_mode(ino), kind.file_type_bits() | u32::from(mode));
        prop_assert_eq!(pair.view.get_xattr(ino, UID).unwrap(), vec![7, 0, 0, 0]);
        prop_assert_eq!(pair.view.get_xattr(ino, GID).unwrap(), vec![8, 0, 0, 0]);
        match kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                let expected = libc::makedev(device.major, device.minor).to_le_bytes();
                prop_assert_eq!(pair.view.get_xattr(ino, RDEV).unwrap(), expected.to_vec());
            }
            _ => prop_assert_eq!(errno(pair.view.get_xattr(ino, RDEV)), Errno::NODATA),
        }
    }

    #[test]
    fn any_value_of_any_reserved_attribute_is_answered(
        name in prop_oneof![Just(UID), Just(GID), Just(MODE), Just(RDEV)],
        value in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let pair = pair();
        let ino = pair.file();
        let right_length = if name == RDEV { 8 } else { 4 };
        let result = pair.view.set_xattr(ino, name, &value, SetXattr::Any);
        if value.len() != right_length {
            prop_assert_eq!(errno(result), Errno::INVAL);
            prop_assert_eq!(pair.meta(ino).st_mode(), 0o100600);
        }
    }
}

#[test]
fn a_symlinks_content_is_its_target() {
    let pair = pair();
    let ino = pair.file();
    pair.view.write(ino, 0, b"usr/bin").unwrap();
    pair.write_id(ino, MODE, 0o120777);
    assert_eq!(pair.tree.read_link(ino).unwrap(), b"usr/bin");
    let mut buffer = [0; 16];
    assert_eq!(pair.view.read(ino, 0, &mut buffer).unwrap(), 7);
    assert_eq!(&buffer[..7], b"usr/bin");
    assert_eq!(pair.view.read(ino, 4, &mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"bin");
    assert_eq!(pair.view.read(ino, 7, &mut buffer).unwrap(), 0);
    assert_eq!(pair.view.read(ino, u64::MAX, &mut buffer).unwrap(), 0);
    assert_eq!(pair.view.seek(ino, 0, Seek::Hole).unwrap(), 7);
    assert_eq!(errno(pair.view.seek(ino, 7, Seek::Data)), Errno::NXIO);
}

#[test]
fn a_new_node_never_belongs_to_the_host_user() {
    let pair = pair();
    let file = pair.meta(pair.file());
    assert_eq!((file.uid, file.gid), (0, 0));
    let made = pair.view.make_directory(ROOT_INO, b"directory", AS_QEMU_CREATES).unwrap();
    assert_eq!(made.meta.uid, HOST_UID);
    assert_eq!(pair.meta(made.ino).uid, 0);
}

#[test]
fn chmod_without_type_bits_keeps_the_kind() {
    let pair = pair();
    let ino = pair.file();
    pair.write_id(ino, MODE, 0o010644);
    pair.write_id(ino, MODE, 0o4711);
    assert_eq!(pair.meta(ino).st_mode(), 0o014711);
}

#[test]
fn chmod_of_a_device_keeps_its_number() {
    let pair = pair();
    let ino = pair.file();
    let device = Device { major: 1, minor: 3 };
    pair.write_id(ino, MODE, 0o020666);
    pair.write_rdev(ino, device);
    pair.write_id(ino, MODE, 0o020600);
    assert_eq!(pair.meta(ino).kind, Kind::CharDevice(device));
}

#[test]
fn chmod_of_a_symlink_changes_nothing() {
    let pair = pair();
    let ino = begin(&pair, Kind::Symlink);
    pair.write_id(ino, MODE, 0o120777);
    pair.write_id(ino, MODE, 0o120600);
    assert_eq!(pair.guest_mode(ino), 0o120777);
    assert_eq!(pair.tree.read_link(ino).unwrap(), b"../target");
}

#[test]
fn a_directory_stays_a_directory_and_nothing_becomes_one() {
    let pair = pair();
    let file = pair.file();
    let mode = |ino, value: u32| {
        errno(pair.view.set_xattr(ino, MODE, &value.to_le_bytes(), SetXattr::Any))
    };
    assert_eq!(mode(file, 0o040755), Errno::INVAL);
    assert_eq!(mode(ROOT_INO, 0o100644), Errno::INVAL);
    assert_eq!(mode(file, 0o170644), Errno::INVAL);
    assert_eq!(pair.meta(file).st_mode(), 0o100600);
}

#[test]
fn acls_are_stored_under_their_real_names() {
    let pair = pair();
    let ino = pair.file();
    let mapped: &[u8] = b"user.virtfs.system.posix_acl_access";
    pair.view.set_xattr(ino, mapped, b"acl", SetXattr::Any).unwrap();
    assert_eq!(pair.tree.get_xattr(ino, b"system.posix_acl_access").unwrap(), b"acl");
    assert_eq!(pair.view.get_xattr(ino, mapped).unwrap(), b"acl");
    assert_eq!(pair.view.list_xattrs(ino).unwrap(), vec![mapped.to_vec()]);
    pair.view.remove_xattr(ino, mapped).unwrap();
    assert!(pair.tree.list_xattrs(ino).unwrap().is_empty());
}

#[test]
fn the_guest_sees_user_attributes_only() {
    let pair = pair();
    let ino = pair.file();
    for name in [&b"user.mime_type"[..], b"security.capability", b"trusted.x", b"user.virtfs.uid"] {
        pair.tree.set_xattr(ino, name, b"value", SetXattr::Any).unwrap();
    }
    assert_eq!(pair.view.list_xattrs(ino).unwrap(), vec![b"user.mime_type".to_vec()]);
    assert_eq!(pair.view.get_xattr(ino, b"user.mime_type").unwrap(), b"value");
    assert_eq!(errno(pair.view.get_xattr(ino, b"security.capability")), Errno::NODATA);
    assert_eq!(pair.view.get_xattr(ino, UID).unwrap(), vec![0; 4]);
    let set = |name| errno(pair.view.set_xattr(ino, name, b"v", SetXattr::Any));
    assert_eq!(set(b"security.selinux"), Errno::OPNOTSUPP);
    assert_eq!(set(b"user.virtfs.other"), Errno::OPNOTSUPP);
    assert_eq!(pair.tree.get_xattr(ino, b"security.capability").unwrap(), b"value");
}

#[test]
fn reserved_attributes_exist_as_long_as_the_node() {
    let pair = pair();
    let ino = pair.file();
    let create = pair.view.set_xattr(ino, UID, &[1, 0, 0, 0], SetXattr::Create);
    assert_eq!(errno(create), Errno::EXIST);
    pair.view.set_xattr(ino, UID, &[1, 0, 0, 0], SetXattr::Replace).unwrap();
    assert_eq!(errno(pair.view.remove_xattr(ino, UID)), Errno::PERM);
    assert_eq!(pair.meta(ino).uid, 1);
}

#[test]
fn the_disguise_cannot_be_changed_from_the_host() {
    let pair = pair();
    let ino = pair.file();
    pair.write_id(ino, MODE, 0o104755);
    let change = |changes| pair.view.set_attributes(ino, &changes);
    let none = SetAttributes::default();
    let shown = change(SetAttributes { mode: Some(0o644), kill_privileges: true, ..none }).unwrap();
    assert_eq!(shown.meta.mode, 0o600);
    assert_eq!(pair.meta(ino).mode, 0o4755);
    assert_eq!(errno(change(SetAttributes { uid: Some(0), ..none })), Errno::PERM);
    change(SetAttributes { uid: Some(HOST_UID), gid: Some(HOST_GID), ..none }).unwrap();
    assert_eq!(pair.meta(ino).uid, 0);
    let special = pair.view.make_node(ROOT_INO, b"fifo", Kind::Fifo, AS_QEMU_CREATES);
    assert_eq!(errno(special), Errno::PERM);
    let link = pair.view.make_symlink(ROOT_INO, b"link", b"target", AS_QEMU_CREATES);
    assert_eq!(errno(link), Errno::PERM);
}

#[test]
fn size_and_times_reach_the_node() {
    use crate::filesystem::SetTime;
    let pair = pair();
    let ino = pair.file();
    let time = Timestamp::new(-100, 123_456_789);
    let changes = SetAttributes {
        size: Some(100),
        mtime: Some(SetTime::At(time)),
        ..SetAttributes::default()
    };
    let shown = pair.view.set_attributes(ino, &changes).unwrap();
    assert_eq!((shown.meta.size, shown.meta.mtime), (100, time));
    assert_eq!((pair.meta(ino).size, pair.meta(ino).mtime), (100, time));
}

#[test]
fn listings_show_files_and_directories_only() {
    let pair = pair();
    let symlink = Metadata { kind: Kind::Symlink, ..Metadata::default_directory() };
    pair.tree.put(ROOT_INO, b"link", symlink, b"target");
    pair.tree.put(ROOT_INO, b"directory", Metadata::default_directory(), b"");
    let mut kinds = Vec::new();
    pair.view
        .read_directory(ROOT_INO, 2, &mut |entry| {
            kinds.push((entry.name.to_vec(), entry.kind));
            ControlFlow::Continue(())
        })
        .unwrap();
    let expected = [(b"link".to_vec(), Kind::File), (b"directory".to_vec(), Kind::Directory)];
    assert_eq!(kinds, expected);
}

#[test]
fn names_that_would_end_a_9p_listing_are_left_out() {
    let pair = pair();
    for length in [255, 256, 1] {
        let name = vec![b'n'; length];
        pair.view.make_node(ROOT_INO, &name, Kind::File, AS_QEMU_CREATES).unwrap();
    }
    let mut lengths = Vec::new();
    pair.view
        .read_directory(ROOT_INO, 2, &mut |entry| {
            lengths.push(entry.name.len());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(lengths, [255, 1]);
    pair.view.lookup(ROOT_INO, &[b'n'; 256]).unwrap();
}

#[test]
fn device_numbers_without_a_mode_do_not_pile_up() {
    let pair = pair();
    for number in 0..3 * MOST_EARLY_DEVICES {
        let name = number.to_le_bytes();
        let ino = pair.view.make_node(ROOT_INO, &name, Kind::File, AS_QEMU_CREATES).unwrap().ino;
        pair.write_rdev(ino, Device { major: 1, minor: 1 });
    }
    assert!(pair.view.early_devices.lock().len() <= MOST_EARLY_DEVICES);
}
