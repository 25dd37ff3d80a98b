use std::time::Duration;

use proptest::prelude::*;

use super::request_bytes::*;
use super::*;
use crate::error::Errno;
use crate::filesystem::{Allocate, Rename, Seek, SetAttributes, SetTime, SetXattr, Statistics};
use crate::node::{Attributes, Device, Kind, Metadata, Timestamp};

fn parsed(message: &[u8]) -> Result<Operation<'_>, MalformedMessage> {
    Operation::parse(&Header::parse(message)?, message)
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8.., 0..40)
}

/// Every opcode that there is, and some that there are not.
fn opcodes() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..60, Just(4096), any::<u32>()]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parsed(&bytes);
    }

    #[test]
    fn no_body_makes_it_panic(
        opcode in opcodes(),
        body in proptest::collection::vec(any::<u8>(), 0..300),
        extensions in any::<u16>(),
    ) {
        let mut message = request(opcode, 1, &body);
        let _ = parsed(&message);
        message[36..38].copy_from_slice(&extensions.to_le_bytes());
        if let Ok(operation) = parsed(&message) {
            let _ = operation.label();
            if let Operation::BatchForget { list } = operation {
                prop_assert!(forgotten(list).count() <= body.len() / 16);
            }
        }
    }

    /// Cut short, longer than it says, or with something after its end: never taken for whole.
    #[test]
    fn only_a_whole_message_is_one(name in names(), cut in 1_usize..20, more in 1_usize..20) {
        let whole = creating(35, 1, (0, 0o100644, 0o22), &name);
        prop_assert!(parsed(&whole).is_ok());
        let short = &whole[..whole.len() - cut.min(whole.len())];
        prop_assert!(parsed(short).is_err());
        let mut long = whole.clone();
        long.resize(whole.len() + more, b'x');
        prop_assert!(parsed(&long).is_err());
        let length = long.len() as u32;
        long[..4].copy_from_slice(&length.to_le_bytes());
        prop_assert_eq!(parsed(&long), Err(MalformedMessage::Surplus(more)));
    }

    #[test]
    fn names_and_numbers_arrive(
        name in names(), other in names(), offset in any::<u64>(), size in any::<u32>(),
        mode in any::<u32>(), umask in any::<u32>(), node in any::<u64>(),
    ) {
        let lookup = request(1, node, &body().name(&name).0);
        prop_assert_eq!(Header::parse(&lookup).unwrap().node, node);
        prop_assert_eq!(Header::parse(&lookup).unwrap().unique, UNIQUE);
        prop_assert_eq!(parsed(&lookup), Ok(Operation::Lookup { name: &name }));
        let symlink = request(6, 1, &body().name(&name).name(&other).0);
        prop_assert_eq!(
            parsed(&symlink), Ok(Operation::MakeSymlink { name: &name, target: &other })
        );
        let mkdir = request(9, 1, &body().u32(mode).u32(umask).name(&name).0);
        prop_assert_eq!(parsed(&mkdir), Ok(Operation::MakeDirectory { name: &name, mode, umask }));
        let rename = request(45, 1, &body().u64(node).u32(2).u32(0).name(&name).name(&other).0);
        prop_assert_eq!(parsed(&rename), Ok(Operation::Rename(RenameRequest {
            name: &name, new_parent: node, new_name: &other, how: Rename::Exchange,
        })));
        let link = request(13, 1, &body().u64(node).name(&name).0);
        prop_assert_eq!(parsed(&link), Ok(Operation::Link { node, name: &name }));
        let read = reading(15, 1, offset, size);
        prop_assert_eq!(parsed(&read), Ok(Operation::Read { offset, size }));
        let list = reading(44, 1, offset, size);
        prop_assert_eq!(
            parsed(&list), Ok(Operation::ReadDirectoryPlus { cookie: offset, size })
        );
        let write = writing(1, offset, 4, &name);
        prop_assert_eq!(
            parsed(&write), Ok(Operation::Write { offset, data: &name, kill_set_ids: true })
        );
        let xattr = body().u32(other.len() as u32).u32(1).u32(1).u32(0).name(&name).bytes(&other);
        let xattr = request(21, 1, &xattr.0);
        prop_assert_eq!(parsed(&xattr), Ok(Operation::SetXattr {
            name: &name,
            value: &other,
            how: SetXattr::Create,
        }));
        let copy = body().u64(0).u64(offset).u64(node).u64(0).u64(7).u64(u64::from(size)).u64(0);
        let copy = request(47, 1, &copy.0);
        prop_assert_eq!(parsed(&copy), Ok(Operation::CopyRange {
            offset, to: node, to_offset: 7, length: u64::from(size), wide: false,
        }));
    }

    #[test]
    fn set_times_arrive(seconds in any::<i64>(), nanoseconds in 0_u32..1_000_000_000) {
        let set = SetAttr { valid: 1 << 5, mtime: (seconds, nanoseconds), ..SetAttr::default() };
        let wanted = SetTime::At(Timestamp::new(seconds, nanoseconds));
        let set = set.request(1);
        prop_assert_eq!(parsed(&set), Ok(Operation::SetAttributes(SetAttributes {
            mtime: Some(wanted), ..SetAttributes::default()
        })));
    }

    /// What fits is never longer than the room, each entry can be found again, and nothing is lost
    /// between one reply and the next.
    #[test]
    fn listings_are_as_long_as_they_may_be(
        names in proptest::collection::vec(names(), 0..30), room in 0_usize..600, plus: bool,
    ) {
        let mut message = vec![0; REPLY_HEADER];
        let mut listing = DirectoryListing::new(&mut message, room);
        let mut added = 0;
        for (number, name) in names.iter().enumerate() {
            let next = number as u64 + 1;
            let result = if plus {
                listing.add_with_attributes(name, None, (9, Kind::Fifo), next)
            } else {
                listing.add(name, 9, Kind::Fifo, next)
            };
            if result.is_err() { break; }
            added += 1;
        }
        prop_assert!(message.len() <= REPLY_HEADER + room);
        let mut rest = &message[REPLY_HEADER..];
        let before = if plus { 128 } else { 0 };
        for (number, name) in names.iter().enumerate().take(added) {
            let entry = &rest[before..];
            prop_assert_eq!(&entry[..8], 9_u64.to_le_bytes());
            prop_assert_eq!(&entry[8..16], (number as u64 + 1).to_le_bytes());
            prop_assert_eq!(&entry[16..20], (name.len() as u32).to_le_bytes());
            prop_assert_eq!(&entry[20..24], 1_u32.to_le_bytes(), "DT_FIFO");
            prop_assert_eq!(&entry[24..24 + name.len()], name.as_slice());
            rest = &rest[(before + 24 + name.len()).next_multiple_of(8)..];
        }
        prop_assert!(rest.is_empty());
        if let Some(name) = names.get(added) {
            prop_assert!((before + 24 + name.len()).next_multiple_of(8) + message.len()
                > REPLY_HEADER + room);
        }
    }
}

#[test]
fn set_attributes_takes_what_is_valid_and_nothing_else() {
    let all = SetAttr {
        valid: 0b1000_0000_1111,
        size: 5,
        mode: 0o104755,
        uid: 1,
        gid: 2,
        ..SetAttr::default()
    };
    let expected = SetAttributes {
        mode: Some(0o4755),
        uid: Some(1),
        gid: Some(2),
        size: Some(5),
        kill_privileges: true,
        ..SetAttributes::default()
    };
    assert_eq!(parsed(&all.request(1)), Ok(Operation::SetAttributes(expected)));
    let none = SetAttr { valid: 0, ..all };
    assert_eq!(parsed(&none.request(1)), Ok(Operation::SetAttributes(SetAttributes::default())));
    let now = SetAttr { valid: 1 << 4 | 1 << 7, ..SetAttr::default() };
    let expected = SetAttributes { atime: Some(SetTime::Now), ..SetAttributes::default() };
    assert_eq!(parsed(&now.request(1)), Ok(Operation::SetAttributes(expected)));
    let absurd = SetAttr { valid: 1 << 4, atime: (0, 1_000_000_000), ..SetAttr::default() };
    assert_eq!(parsed(&absurd.request(1)), Err(MalformedMessage::Value("time")));
}

#[test]
fn modes_and_flags_of_ranges() {
    let fallocate = |mode: u32| request(43, 1, &body().u64(0).u64(1).u64(2).u32(mode).u32(0).0);
    let how = |mode| match parsed(&fallocate(mode)) {
        Ok(Operation::Allocate { offset: 1, length: 2, how }) => how,
        other => panic!("{other:?}"),
    };
    assert_eq!(how(0), Some(Allocate::Reserve));
    assert_eq!(how(3), Some(Allocate::PunchHole));
    assert_eq!(how(8), None, "FALLOC_FL_COLLAPSE_RANGE");
    let lseek = |whence: u32| request(46, 1, &body().u64(0).u64(4).u32(whence).u32(0).0);
    assert_eq!(parsed(&lseek(3)), Ok(Operation::Seek { offset: 4, seek: Some(Seek::Data) }));
    assert_eq!(parsed(&lseek(0)), Ok(Operation::Seek { offset: 4, seek: None }));
    let device = request(8, 1, &body().u32(0o020_600).u32(0x0501).u32(0).u32(0).name(b"n").0);
    assert_eq!(
        parsed(&device),
        Ok(Operation::MakeNode {
            name: b"n",
            mode: 0o020_600,
            device: Device { major: 5, minor: 1 },
            umask: 0
        })
    );
}

#[test]
fn extensions_of_a_request_are_not_part_of_its_names() {
    let mut message = request(1, 1, &body().name(b"name").bytes(b"12345678").0);
    assert!(parsed(&message).is_err());
    message[36..38].copy_from_slice(&1_u16.to_le_bytes());
    assert_eq!(parsed(&message), Ok(Operation::Lookup { name: b"name" }));
}

#[test]
fn a_batch_of_forgets_must_be_whole() {
    let two = body().u32(2).u32(0).u64(7).u64(1).u64(8).u64(3);
    let message = request(42, 0, &two.0);
    let Ok(Operation::BatchForget { list }) = parsed(&message) else { panic!() };
    assert_eq!(forgotten(list).collect::<Vec<_>>(), [(7, 1), (8, 3)]);
    let short = request(42, 0, &body().u32(u32::MAX).u32(0).u64(7).u64(1).0);
    assert!(parsed(&short).is_err());
}

#[test]
fn unknown_operations_are_told_from_broken_ones() {
    assert_eq!(parsed(&request(7, 1, &[])), Err(MalformedMessage::UnknownOperation(7)));
    assert_eq!(parsed(&request(48, 1, &[0; 40])), Err(MalformedMessage::UnknownOperation(48)));
    assert_eq!(parsed(&request(1, 1, b"no end")), Err(MalformedMessage::Unterminated));
}

#[test]
fn init_is_understood_short_and_long() {
    let message = initial(41, Features::INIT_EXT.0 | 1 << 35);
    let Ok(Operation::Initialise(offer)) = parsed(&message) else { panic!() };
    assert_eq!((offer.major, offer.minor, offer.max_readahead), (7, 41, 131_072));
    assert_eq!(offer.features.0, Features::INIT_EXT.0 | 1 << 35);
    // Without the flag the second half of the features does not count.
    let message = initial(41, 1 << 35 | 1);
    let Ok(Operation::Initialise(offer)) = parsed(&message) else { panic!() };
    assert_eq!(offer.features.0, 1);
    let old = request(26, 0, &body().u32(7).u32(34).u32(1).u32(2).0);
    let Ok(Operation::Initialise(offer)) = parsed(&old) else { panic!() };
    assert_eq!((offer.minor, offer.features.0), (34, 2));
    let other = request(26, 0, &body().u32(8).u32(0).0);
    let Ok(Operation::Initialise(offer)) = parsed(&other) else { panic!() };
    assert!(!InitialReply::speaks(&offer));
}

const SAMPLE: Attributes = Attributes {
    ino: 0x1111_2222,
    meta: Metadata {
        kind: Kind::BlockDevice(Device { major: 3, minor: 0x101 }),
        mode: 0o4640,
        uid: 70_000,
        gid: 80_000,
        mtime: Timestamp::new(-5, 250),
        size: 12,
    },
    nlink: 2,
    atime: Timestamp::new(3, 4),
    ctime: Timestamp::new(5, 6),
    blocks: 8,
};

fn bytes(reply: Reply) -> Vec<u8> {
    let mut message = Vec::new();
    reply.put(UNIQUE, &mut message);
    message
}

fn field<const N: usize>(message: &[u8], at: usize) -> [u8; N] {
    message[at..at + N].try_into().unwrap()
}

fn number(message: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(message, at))
}

fn half(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(message, at))
}

/// Sizes of the structures of `linux/fuse.h` (`sizeof`), with the header of 16 bytes.
#[test]
fn replies_have_the_sizes_that_the_kernel_expects() {
    let lifetime = Lifetime { entry: Duration::new(1, 2), attributes: Duration::new(3, 4) };
    let entry = Entry { node: SAMPLE.ino, attributes: Some(SAMPLE), lifetime };
    let statistics = Statistics {
        block_size: 4096,
        blocks: 1,
        free_blocks: 2,
        files: 3,
        free_files: 4,
        name_max: 255,
    };
    let initial = InitialReply::version_only();
    for (reply, size) in [
        (Reply::Done, 0),
        (Reply::Failed(Errno::NOENT), 0),
        (Reply::Entry(entry), 128),
        (Reply::Entry(Entry { node: 0, attributes: None, lifetime }), 128),
        (Reply::Attributes(SAMPLE, Duration::ZERO), 104),
        (Reply::ExtendedAttributes(SAMPLE, Duration::ZERO), 288),
        (Reply::Opened(OpenFlags::default()), 16),
        (Reply::Created(entry, OpenFlags::default()), 144),
        (Reply::Written(1), 8),
        (Reply::XattrSize(1), 8),
        (Reply::Statistics(statistics), 80),
        (Reply::Position(1), 8),
        (Reply::Copied(1), 8),
        (Reply::Initial(initial), 64),
    ] {
        let message = bytes(reply);
        assert_eq!(message.len(), 16 + size, "{reply:?}");
        assert_eq!(half(&message, 0) as usize, message.len());
        assert_eq!(number(&message, 8), UNIQUE);
    }
}

#[test]
fn an_entry_is_laid_out_as_in_the_kernels_header() {
    let lifetime = Lifetime { entry: Duration::new(1, 2), attributes: Duration::new(3, 4) };
    let message =
        bytes(Reply::Entry(Entry { node: SAMPLE.ino, attributes: Some(SAMPLE), lifetime }));
    let entry = &message[16..];
    let numbers = [SAMPLE.ino, 0, 1, 3].into_iter().enumerate();
    for (index, expected) in numbers {
        assert_eq!(number(entry, index * 8), expected, "field {index}");
    }
    assert_eq!((half(entry, 32), half(entry, 36)), (2, 4));
    let attributes = &entry[40..];
    let numbers = [SAMPLE.ino, 12, 8, 3, (-5_i64) as u64, 5].into_iter().enumerate();
    for (index, expected) in numbers {
        assert_eq!(number(attributes, index * 8), expected, "attribute {index}");
    }
    let halves = [4, 250, 6, 0o064_640, 2, 70_000, 80_000, 0x0010_0301, 4096, 0];
    for (index, expected) in halves.into_iter().enumerate() {
        assert_eq!(half(attributes, 48 + index * 4), expected, "attribute {}", index + 6);
    }
}

#[test]
fn extended_attributes_are_laid_out_as_in_the_kernels_header() {
    let message = bytes(Reply::ExtendedAttributes(SAMPLE, Duration::new(7, 8)));
    let reply = &message[16..];
    assert_eq!((number(reply, 0), half(reply, 8)), (7, 8));
    let statx = &reply[32..];
    assert_eq!((half(statx, 0), half(statx, 4)), (0x7ff, 4096));
    assert_eq!((half(statx, 16), half(statx, 20), half(statx, 24)), (2, 70_000, 80_000));
    assert_eq!(u16::from_le_bytes(field(statx, 28)), 0o064_640);
    assert_eq!((number(statx, 32), number(statx, 40), number(statx, 48)), (SAMPLE.ino, 12, 8));
    assert_eq!((number(statx, 64), half(statx, 72)), (3, 4), "atime");
    assert_eq!((number(statx, 96), half(statx, 104)), (5, 6), "ctime");
    assert_eq!((number(statx, 112) as i64, half(statx, 120)), (-5, 250), "mtime");
    assert_eq!((half(statx, 128), half(statx, 132)), (3, 0x101));
}

#[test]
fn errors_are_negative_numbers() {
    let message = bytes(Reply::Failed(Errno::NOTEMPTY));
    assert_eq!(i32::from_le_bytes(field(&message, 4)), -libc::ENOTEMPTY);
}

#[test]
fn the_answer_to_init_says_what_was_agreed() {
    let reply = InitialReply {
        minor: 31,
        max_readahead: 9,
        features: Features(1 << 35 | 5),
        max_background: 64,
        max_write: 7,
        max_pages: 8,
    };
    let message = bytes(Reply::Initial(reply));
    let body = &message[16..];
    let halves: Vec<u32> = (0..4).map(|index| half(body, index * 4)).collect();
    assert_eq!(halves, [7, 31, 9, 5]);
    assert_eq!(u16::from_le_bytes(field(body, 16)), 64);
    assert_eq!(u16::from_le_bytes(field(body, 18)), 48, "three quarters");
    assert_eq!((half(body, 20), half(body, 24)), (7, 1));
    assert_eq!(u16::from_le_bytes(field(body, 28)), 8);
    assert_eq!(half(body, 32), 8);
}
