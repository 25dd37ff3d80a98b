use std::sync::Arc;

use proptest::prelude::*;

use super::hostile::Space;
use super::session::Session;
use crate::filesystem::{Creation, Filesystem};
use crate::node::{Ino, Kind, ROOT_INO};
use crate::sysroot::{Options, Policy, Sysroot, Zone};
use crate::transport::caching::Caching;
use crate::transport::fuse_message::request_bytes::*;
use crate::view::memory_tree::MemoryTree;

/// A guest's kernel, as far as messages go.
struct Guest {
    tree: Arc<dyn Filesystem>,
    session: Session,
}

/// The body of a reply, or the errno.
type Said = std::result::Result<Vec<u8>, i32>;

impl Guest {
    fn new(tree: Arc<dyn Filesystem>, caching: Caching) -> Self {
        let guest = Guest { session: Session::new(tree.clone(), caching), tree };
        guest.ask(&initial(38, ALL)).unwrap();
        guest
    }

    fn of_memory() -> (Arc<MemoryTree>, Guest) {
        let tree = Arc::new(MemoryTree::new());
        let guest = Guest::new(tree.clone(), Caching::immutable());
        (tree, guest)
    }

    fn ask(&self, message: &[u8]) -> Said {
        self.ask_with_room(message, 1 << 17).expect("a reply")
    }

    /// `None`: no reply.
    fn ask_with_room(&self, message: &[u8], room: usize) -> Option<Said> {
        let mut space = Space::new(room);
        let length = self.session.answer(message, &mut space);
        assert!(length <= room);
        let reply = space.bytes.get(..length).unwrap();
        if reply.is_empty() {
            return None;
        }
        assert_eq!(reply[..4], (length as u32).to_le_bytes(), "the length of the reply");
        assert_eq!(reply[8..16], UNIQUE.to_le_bytes());
        let errno = -i32::from_le_bytes(reply[4..8].try_into().unwrap());
        Some(if errno == 0 { Ok(reply[16..].to_vec()) } else { Err(errno) })
    }

    fn lookup(&self, parent: Ino, name: &[u8]) -> std::result::Result<Ino, i32> {
        self.ask(&request(1, parent, &body().name(name).0)).map(|entry| number(&entry, 0))
    }

    fn create(&self, name: &[u8]) -> Ino {
        number(&self.ask(&creating(35, ROOT_INO, (2, 0o100_644, 0), name)).unwrap(), 0)
    }

    fn forget(&self, ino: Ino, count: u64) {
        assert!(self.ask_with_room(&request(2, ino, &body().u64(count).0), 0).is_none());
    }

    fn read(&self, ino: Ino, offset: u64, size: u32) -> Said {
        self.ask(&reading(15, ino, offset, size))
    }
}

/// Everything that a kernel can offer.
const ALL: u64 = u64::MAX;

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Where `fuse_attr` has the mode, and where a reply to LOOKUP has that.
const MODE: usize = 40 + 60;

#[test]
fn a_file_is_made_written_read_and_removed() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let written = guest.ask(&writing(ino, 3, 0, b"content")).unwrap();
    assert_eq!(half(&written, 0), 7);
    assert_eq!(guest.read(ino, 0, 100).unwrap(), b"\0\0\0content");
    assert_eq!(guest.read(ino, 5, 2).unwrap(), b"nt");
    assert_eq!(guest.read(ino, 10, 2).unwrap(), b"");
    assert_eq!(guest.lookup(ROOT_INO, b"file"), Ok(ino));
    guest.ask(&request(10, ROOT_INO, &body().name(b"file").0)).unwrap();
    // Still open in the guest, which holds it twice.
    assert_eq!(guest.read(ino, 3, 100).unwrap(), b"content");
    guest.forget(ino, 2);
    assert_eq!(tree.node_count(), 1);
}

#[test]
fn a_missing_name_is_cached_and_an_uncached_one_is_an_error() {
    let (tree, guest) = Guest::of_memory();
    let entry = guest.ask(&request(1, ROOT_INO, &body().name(b"none").0)).unwrap();
    assert_eq!(number(&entry, 0), 0, "no inode");
    assert!(number(&entry, 16) > 3600, "remembered");
    let shared = Guest::new(tree, Caching::shared());
    assert_eq!(shared.lookup(ROOT_INO, b"none"), Err(libc::ENOENT));
}

#[test]
fn open_is_asked_once_or_always() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let open =
        |guest: &Guest, flags: u32| guest.ask(&request(14, ino, &body().u32(flags).u32(0).0));
    let opendir = |guest: &Guest| guest.ask(&request(27, ROOT_INO, &body().u64(0).0));
    // A tree that may refuse an open is asked each time; listings are cached all the same.
    assert_eq!(half(&open(&guest, 2).unwrap(), 8), 0b10_0010, "KEEP_CACHE, NOFLUSH");
    assert_eq!(opendir(&guest), Err(libc::ENOSYS));
    let shared = Guest::new(tree, Caching::shared());
    assert_eq!(half(&open(&shared, 2).unwrap(), 8), 0b10_0000);
    assert_eq!(opendir(&shared).unwrap().len(), 16);

    let everywhere = Guest::new(Arc::new(sysroot("/")), Caching::immutable());
    let ino = everywhere.create(b"file");
    let open = everywhere.ask(&request(14, ino, &body().u32(2).u32(0).0));
    assert_eq!(open, Err(libc::ENOSYS));
    let partly = Guest::new(Arc::new(sysroot("/zone")), Caching::immutable());
    let open = partly.ask(&request(14, ROOT_INO, &body().u32(0).u32(0).0));
    assert!(open.is_ok());
}

fn sysroot(prefix: &str) -> Sysroot {
    let zones = vec![Zone { prefix: prefix.as_bytes().to_vec(), policy: Policy::Scratch }];
    Sysroot::new(Vec::new(), Options { zones, spool_directory: None }).unwrap()
}

#[test]
fn what_is_made_has_its_owner_kind_and_mode() {
    let (tree, guest) = Guest::of_memory();
    let mknod = body().u32(0o020_666).u32(0x0501).u32(0o22).u32(0).name(b"console");
    let entry = guest.ask(&request_of(8, ROOT_INO, 7, 8, &mknod.0)).unwrap();
    let made = tree.attributes(number(&entry, 0)).unwrap().meta;
    assert_eq!((made.uid, made.gid, made.mode), (7, 8, 0o644), "the umask is applied");
    assert_eq!(made.kind.device().major, 5);
    assert_eq!(half(&entry, MODE), 0o020_644);

    let symlink = body().name(b"link").name(b"../target");
    let entry = guest.ask(&request(6, ROOT_INO, &symlink.0)).unwrap();
    let target = guest.ask(&request(5, number(&entry, 0), &[])).unwrap();
    assert_eq!(target, b"../target");

    // A setgid directory hands its group down.
    let above = Creation { mode: 0o2775, uid: 0, gid: 55 };
    let above = tree.make_directory(ROOT_INO, b"shared", above).unwrap().ino;
    let mkdir = body().u32(0o755).u32(0).name(b"below");
    let entry = guest.ask(&request_of(9, above, 7, 8, &mkdir.0)).unwrap();
    let below = tree.attributes(number(&entry, 0)).unwrap().meta;
    assert_eq!((below.gid, below.mode), (55, 0o2755));

    let whiteout = body().u32(0o170_000).u32(0).u32(0).u32(0).name(b"odd");
    assert_eq!(guest.ask(&request(8, ROOT_INO, &whiteout.0)), Err(libc::EINVAL));
}

#[test]
fn a_nameless_file_can_be_given_a_name() {
    let guest = Guest::new(Arc::new(sysroot("/")), Caching::immutable());
    let made = guest.ask(&creating(51, ROOT_INO, (2, 0o100_600, 0), b"/")).unwrap();
    let ino = number(&made, 0);
    guest.ask(&writing(ino, 0, 0, b"kept")).unwrap();
    let link = body().u64(ino).name(b"named");
    guest.ask(&request(13, ROOT_INO, &link.0)).unwrap();
    assert_eq!(guest.lookup(ROOT_INO, b"named"), Ok(ino));
    assert_eq!(guest.read(ino, 0, 10).unwrap(), b"kept");
}

#[test]
fn privileges_go_when_they_must() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"program");
    let mode = |mode: u32| {
        guest.ask(&SetAttr { valid: 1, mode, ..SetAttr::default() }.request(ino)).unwrap();
    };
    let set = || tree.attributes(ino).unwrap().meta.mode & 0o6000;
    let capability = body().u32(3).u32(0).u32(0).u32(0).name(b"security.capability").bytes(b"cap");
    mode(0o6755);
    guest.ask(&request(21, ino, &capability.0)).unwrap();
    guest.ask(&writing(ino, 0, 0, b"x")).unwrap();
    assert_eq!(set(), 0o6000, "the guest's kernel did not ask for it");
    assert!(tree.get_xattr(ino, b"security.capability").is_err(), "a write takes it always");
    guest.ask(&writing(ino, 0, 1 << 2, b"x")).unwrap();
    assert_eq!(set(), 0);
    mode(0o6755);
    guest.ask(&SetAttr { valid: 1 << 3, size: 0, ..SetAttr::default() }.request(ino)).unwrap();
    assert_eq!(set(), 0o6000, "a truncation by root");
    let kill = SetAttr { valid: 1 << 3 | 1 << 11, size: 0, ..SetAttr::default() };
    guest.ask(&kill.request(ino)).unwrap();
    assert_eq!(set(), 0);
    mode(0o6755);
    guest.ask(&SetAttr { valid: 1 << 1, uid: 3, ..SetAttr::default() }.request(ino)).unwrap();
    assert_eq!(set(), 0, "a new owner");
}

#[test]
fn an_acl_is_refused_so_that_programs_set_the_mode() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    for name in [&b"system.posix_acl_access"[..], b"system.posix_acl_default"] {
        let acl = body().u32(1).u32(0).u32(1).u32(0).name(name).bytes(b"a");
        assert_eq!(guest.ask(&request(21, ino, &acl.0)), Err(libc::EOPNOTSUPP));
    }
    assert!(tree.list_xattrs(ino).unwrap().is_empty());
}

#[test]
fn xattrs_outside_of_the_known_name_spaces_are_refused() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let set = |name: &[u8]| {
        let message = body().u32(1).u32(0).u32(0).u32(0).name(name).bytes(b"a");
        guest.ask(&request(21, ino, &message.0)).map(drop)
    };
    for name in [&b"foo.bar"[..], b"system.foo", b"user"] {
        assert_eq!(set(name), Err(libc::EOPNOTSUPP));
    }
    for space in [&b"user."[..], b"trusted.", b"security."] {
        assert_eq!(set(space), Err(libc::EINVAL));
        assert_eq!(set(&[space, b"a"].concat()), Ok(()));
    }
    assert_eq!(tree.list_xattrs(ino).unwrap().len(), 3);
}

#[test]
fn xattrs_follow_the_size_protocol() {
    let (_, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let set = body().u32(5).u32(0).u32(0).u32(0).name(b"user.a").bytes(b"value");
    guest.ask(&request(21, ino, &set.0)).unwrap();
    let get = |size: u32| guest.ask(&request(22, ino, &body().u32(size).u32(0).name(b"user.a").0));
    assert_eq!(half(&get(0).unwrap(), 0), 5);
    assert_eq!(get(4), Err(libc::ERANGE));
    assert_eq!(get(5).unwrap(), b"value");
    let list = |size: u32| guest.ask(&request(23, ino, &body().u32(size).u32(0).0));
    assert_eq!(half(&list(0).unwrap(), 0), 7);
    assert_eq!(list(100).unwrap(), b"user.a\0");
    guest.ask(&request(24, ino, &body().name(b"user.a").0)).unwrap();
    assert_eq!(get(5), Err(libc::ENODATA));
    let bad = body().u32(0).u32(7).u32(0).u32(0).name(b"user.a");
    assert_eq!(guest.ask(&request(21, ino, &bad.0)), Err(libc::EINVAL));
}

/// Reads a directory with replies of `size` bytes, as names with their inodes.
fn listed(guest: &Guest, opcode: u32, size: u32) -> Vec<(Vec<u8>, Ino)> {
    let before = if opcode == 44 { 128 } else { 0 };
    let mut found = Vec::new();
    let mut cookie = 0;
    loop {
        let reply = guest.ask(&reading(opcode, ROOT_INO, cookie, size)).unwrap();
        assert!(reply.len() <= size as usize);
        if reply.is_empty() {
            return found;
        }
        let mut rest = reply.as_slice();
        while !rest.is_empty() {
            let entry = &rest[before..];
            let length = half(entry, 16) as usize;
            found.push((entry[24..24 + length].to_vec(), number(entry, 0)));
            if before > 0 {
                assert_eq!(number(rest, 0), number(entry, 0), "both inode numbers");
            }
            cookie = number(entry, 8);
            rest = &rest[(before + 24 + length).next_multiple_of(8)..];
        }
    }
}

#[test]
fn directories_are_listed_in_pieces_of_any_size() {
    let (_, guest) = Guest::of_memory();
    let mut expected: Vec<Vec<u8>> = vec![b".".to_vec(), b"..".to_vec()];
    for number in 0..200 {
        let name = format!("file-{number}").into_bytes();
        guest.create(&name);
        expected.push(name);
    }
    expected.sort();
    for (opcode, size) in [(28, 64), (28, 4096), (44, 200), (44, 4096)] {
        let mut names: Vec<Vec<u8>> =
            listed(&guest, opcode, size).into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, expected, "opcode {opcode}, {size} bytes");
    }
}

#[test]
fn a_listing_with_attributes_holds_what_it_shows() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let count = listed(&guest, 44, 4096).iter().filter(|(_, found)| *found == ino).count();
    assert_eq!(count, 1);
    guest.ask(&request(10, ROOT_INO, &body().name(b"file").0)).unwrap();
    guest.forget(ino, 1);
    assert_eq!(tree.node_count(), 2, "the listing's hold");
    guest.forget(ino, 1);
    assert_eq!(tree.node_count(), 1);
}

#[test]
fn whatever_a_guest_held_is_given_back_when_it_is_gone() {
    let (tree, guest) = Guest::of_memory();
    let leave = |how: &dyn Fn()| {
        let ino = guest.create(b"file");
        guest.lookup(ROOT_INO, b"file").unwrap();
        guest.ask(&request(10, ROOT_INO, &body().name(b"file").0)).unwrap();
        assert_eq!(tree.node_count(), 2);
        how();
        assert_eq!(tree.node_count(), 1);
        assert_eq!(guest.read(ino, 0, 1), Err(libc::ESTALE));
    };
    leave(&|| drop(guest.ask(&request(38, 0, &[])).unwrap()));
    leave(&|| drop(guest.ask(&initial(38, ALL)).unwrap()));
    leave(&|| guest.session.guest_has_gone());
}

#[test]
fn a_guest_cannot_give_back_what_others_hold() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    tree.lookup(ROOT_INO, b"file").unwrap();
    guest.ask(&request(10, ROOT_INO, &body().name(b"file").0)).unwrap();
    guest.forget(ino, u64::MAX);
    guest.forget(ino, 1);
    guest.forget(12345, 1);
    assert!(tree.attributes(ino).is_ok());
    tree.forget(ino, 1);
    assert!(tree.attributes(ino).is_err());
}

#[test]
fn nothing_reaches_a_tree_after_the_end() {
    let (tree, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    guest.session.close();
    assert_eq!(guest.ask(&writing(ino, 0, 0, b"late")), Err(libc::ENOTCONN));
    assert_eq!(tree.attributes(ino).unwrap().meta.size, 0);
}

#[test]
fn an_old_kernel_is_refused_and_another_version_told_ours() {
    let tree = Arc::new(MemoryTree::new());
    let guest = Guest { session: Session::new(tree.clone(), Caching::immutable()), tree };
    assert_eq!(guest.ask(&initial(33, ALL)), Err(libc::EPROTO));
    assert_eq!(guest.ask(&initial(38, 0)), Err(libc::EPROTO));
    let other = guest.ask(&request(26, 0, &body().u32(8).u32(0).u32(0).u32(0).0)).unwrap();
    assert_eq!(half(&other, 0), 7);
    let agreed = guest.ask(&initial(37, 1 | 1 << 22 | 1 << 29)).unwrap();
    assert_eq!(half(&agreed, 4), 37);
    assert_eq!(half(&agreed, 12), 1 | 1 << 22 | 1 << 29, "nothing that was not offered");
    assert_eq!((half(&agreed, 20), half(&agreed, 28)), (1 << 20, 256), "transfers of 1 MiB");
}

#[test]
fn what_is_not_offered_is_said_so() {
    let (_, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    let lock = request(31, ino, &[0; 48]);
    assert_eq!(guest.ask(&lock), Err(libc::ENOSYS));
    assert_eq!(guest.ask(&request(25, ino, &[0; 24])), Err(libc::ENOSYS));
    assert_eq!(guest.ask(&request(39, ino, &[0; 32])), Err(libc::ENOTTY));
    assert_eq!(guest.ask(&request(48, ino, &[0; 40])), Err(libc::ENOSYS), "SETUPMAPPING");
    let collapse = body().u64(0).u64(0).u64(4096).u32(8).u32(0);
    assert_eq!(guest.ask(&request(43, ino, &collapse.0)), Err(libc::EOPNOTSUPP));
    assert!(guest.ask_with_room(&request(36, 0, &[0; 8]), 0).is_none(), "INTERRUPT");
    assert!(guest.ask(&request(50, ROOT_INO, &[0; 8])).is_ok(), "SYNCFS");
}

#[test]
fn too_little_room_for_a_reply_is_an_error_or_silence() {
    let (_, guest) = Guest::of_memory();
    let ino = guest.create(b"file");
    guest.ask(&writing(ino, 0, 0, b"content")).unwrap();
    let getattr = request(3, ino, &[0; 16]);
    assert_eq!(guest.ask_with_room(&getattr, 20), Some(Err(libc::EIO)));
    assert_eq!(guest.ask_with_room(&getattr, 15), None);
    assert_eq!(guest.ask_with_room(&reading(15, ino, 0, 100), 20), Some(Ok(b"cont".to_vec())));
    assert_eq!(guest.ask_with_room(&reading(15, ino, 0, 100), 3), None);
}

#[test]
fn content_comes_from_layers_holes_and_what_was_written() {
    let tree = Arc::new(sysroot("/"));
    let guest = Guest::new(tree.clone(), Caching::immutable());
    let ino = guest.create(b"file");
    guest.ask(&writing(ino, 10_000, 0, b"end")).unwrap();
    guest.ask(&writing(ino, 0, 0, b"start")).unwrap();
    let mut expected = vec![0; 10_003];
    expected[..5].copy_from_slice(b"start");
    expected[10_000..].copy_from_slice(b"end");
    assert_eq!(guest.read(ino, 0, 1 << 16).unwrap(), expected);
    assert_eq!(guest.read(ino, 9_999, 3).unwrap(), b"\0en");
    assert_eq!(guest.tree.attributes(ino).unwrap().meta.kind, Kind::File);
}

proptest! {
    /// A guest that goes mad: nothing panics, and every reply is one.
    #[test]
    fn any_message_is_answered(
        opcode in 0_u32..56, node in 0_u64..5, bytes in proptest::collection::vec(any::<u8>(), 0..120),
        room in 0_usize..300,
    ) {
        let (_, guest) = Guest::of_memory();
        guest.create(b"file");
        let _ = guest.ask_with_room(&request(opcode, node, &bytes), room);
        let _ = guest.session.answer(&bytes, &mut Space::new(room));
    }
}
