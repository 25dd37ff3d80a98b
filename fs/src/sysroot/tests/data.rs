//! File data: copy-up by reference, the spool, holes.

use super::layer::MemoryLayer;
use super::*;
use crate::filesystem::{Allocate, Seek, SetAttributes};
use crate::node::ROOT_INO;

const BLOCK: usize = 4096;

fn truncate(sysroot: &Sysroot, ino: Ino, size: u64) {
    let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
    assert_eq!(sysroot.set_attributes(ino, &set).unwrap().meta.size, size);
}

#[test]
fn truncation_and_partial_overwrite_copy_no_data() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/big", vec![7; 1 << 20])]);
    let file = ino(&sysroot, "/big");
    truncate(&sysroot, file, 1 << 19);
    assert_eq!(sysroot.spool_usage().unwrap(), 0);
    sysroot.write(file, 100, b"abc").unwrap();
    assert!(sysroot.spool_usage().unwrap() <= 2 * BLOCK as u64, "only what was written");
    let bytes = content(&sysroot, "/big");
    assert_eq!((bytes.len(), &bytes[99..104]), (1 << 19, b"\x07abc\x07".as_slice()));
    assert_eq!(sysroot.provenance(file), None);
}

#[test]
fn what_truncation_cut_off_does_not_come_back() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/f", "0123456789")]);
    let file = ino(&sysroot, "/f");
    truncate(&sysroot, file, 4);
    truncate(&sysroot, file, 8);
    assert_eq!(content(&sysroot, "/f"), b"0123\0\0\0\0");
    sysroot.write(file, 6, b"xy").unwrap();
    truncate(&sysroot, file, 7);
    truncate(&sysroot, file, 9);
    assert_eq!(content(&sysroot, "/f"), b"0123\0\0x\0\0");
}

#[test]
fn reading_ends_at_the_end() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/f", "0123456789")]);
    let file = ino(&sysroot, "/f");
    for round in 0..2 {
        let mut buffer = [0; 20];
        assert_eq!(sysroot.read(file, 8, &mut buffer).unwrap(), 2, "round {round}");
        assert_eq!(sysroot.read(file, 10, &mut buffer).unwrap(), 0);
        assert_eq!(sysroot.read(file, u64::MAX, &mut buffer).unwrap(), 0);
        assert_eq!(sysroot.read(file, 0, &mut []).unwrap(), 0);
        sysroot.write(file, 0, b"0").unwrap();
    }
}

#[test]
fn space_is_given_back() {
    let sysroot = writable(vec![]);
    let kept = make_file(&sysroot, "/", "kept", &[1; 10 * BLOCK]);
    let before = sysroot.spool_usage().unwrap();
    let file = make_file(&sysroot, "/", "f", &[2; 100 * BLOCK]);
    let full = sysroot.spool_usage().unwrap();
    assert!(full >= before + 100 * BLOCK as u64);
    sysroot.allocate(file, 0, 50 * BLOCK as u64, Allocate::PunchHole).unwrap();
    assert!(sysroot.spool_usage().unwrap() <= full - 45 * BLOCK as u64, "punched");
    truncate(&sysroot, file, 60 * BLOCK as u64);
    assert!(sysroot.spool_usage().unwrap() <= full - 85 * BLOCK as u64, "truncated");
    sysroot.unlink(ROOT_INO, b"f").unwrap();
    assert!(sysroot.spool_usage().unwrap() <= before, "unlinked");
    assert_eq!(content_of(&sysroot, kept), [1; 10 * BLOCK]);
}

#[test]
fn an_unlinked_file_keeps_its_data_until_it_is_forgotten() {
    let sysroot = writable(vec![]);
    let made = sysroot.make_node(ROOT_INO, b"f", Kind::File, CREATION).unwrap();
    sysroot.write(made.ino, 0, &[9; 20 * BLOCK]).unwrap();
    sysroot.remember(made.ino);
    sysroot.unlink(ROOT_INO, b"f").unwrap();
    sysroot.forget(made.ino, 1);
    assert_eq!(content_of(&sysroot, made.ino), [9; 20 * BLOCK]);
    sysroot.forget(made.ino, 1);
    assert_eq!(sysroot.spool_usage().unwrap(), 0);
}

#[test]
fn appends_to_many_files_in_turn_leave_each_in_few_pieces() {
    let sysroot = writable(vec![]);
    let files: Vec<Ino> =
        (0..20).map(|number| make_file(&sysroot, "/", &format!("f{number}"), b"")).collect();
    for round in 0..256u64 {
        for file in &files {
            sysroot.write(*file, round * 4096, &[round as u8; 4096]).unwrap();
        }
    }
    for file in files {
        let bytes = content_of(&sysroot, file);
        assert!(bytes.chunks(4096).enumerate().all(|(n, block)| block == [n as u8; 4096]));
        let changes = sysroot.changes.read();
        let crate::sysroot::changes::Body::Data(data) = &changes.nodes[&file].body else {
            panic!("a written file has data");
        };
        // Room doubles: 1, 1, 2, 4, … 128 blocks.
        assert!(data.extent_count() <= 10, "{} extents", data.extent_count());
    }
}

#[test]
fn many_small_writes_anywhere_are_all_there() {
    let mut expected: Vec<u8> = (0..1 << 20).map(|at: u32| at as u8).collect();
    let sysroot = writable(vec![MemoryLayer::new("low").file("/f", expected.clone())]);
    let file = ino(&sysroot, "/f");
    let mut state = 1u64;
    for round in 0..30_000u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let offset = (state >> 33) as usize % (expected.len() - 16);
        let bytes = vec![round as u8; 1 + (state >> 60) as usize];
        sysroot.write(file, offset as u64, &bytes).unwrap();
        expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
    }
    assert!(content_of(&sysroot, file) == expected, "some byte is another");
}

#[test]
fn holes_of_a_layers_file_stay_holes() {
    let runs = vec![(8192, vec![1; 4096]), (65_536, vec![2; 10])];
    let sysroot = writable(vec![MemoryLayer::new("low").sparse("/s", 100_000, runs)]);
    let file = ino(&sysroot, "/s");
    let check = |data_bytes: u64| {
        assert_eq!(sysroot.seek(file, 0, Seek::Data).unwrap(), 8192);
        assert_eq!(sysroot.seek(file, 0, Seek::Hole).unwrap(), 0);
        assert_eq!(sysroot.seek(file, 9000, Seek::Data).unwrap(), 9000);
        assert_eq!(sysroot.seek(file, 9000, Seek::Hole).unwrap(), 12_288);
        assert_eq!(sysroot.seek(file, 12_288, Seek::Data).unwrap(), 65_536);
        assert_errno(sysroot.seek(file, 100_000, Seek::Hole), Errno::NXIO);
        assert_eq!(sysroot.attributes(file).unwrap().blocks, data_bytes.div_ceil(512));
    };
    check(4106);
    assert_errno(sysroot.seek(file, 70_000, Seek::Data), Errno::NXIO);
    sysroot.write(file, 90_000, b"x").unwrap();
    check(4107);
    assert_eq!(sysroot.seek(file, 90_000, Seek::Hole).unwrap(), 90_001);
    assert_eq!(content_of(&sysroot, file)[65_535..65_538], [0, 2, 2]);
}

#[test]
fn copying_from_a_layer_is_by_reference() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/big", vec![3; 3 << 20])]);
    let from = ino(&sysroot, "/big");
    let to = make_file(&sysroot, "/", "copy", b"");
    assert_eq!(sysroot.copy_range(from, 0, to, 0, u64::MAX >> 1).unwrap(), 3 << 20);
    assert_eq!(sysroot.spool_usage().unwrap(), 0);
    assert_eq!(content(&sysroot, "/copy"), content(&sysroot, "/big"));
    assert_eq!(sysroot.copy_range(from, 5 << 20, to, 0, 10).unwrap(), 0);
    assert_errno(sysroot.copy_range(to, 0, to, 10, 100), Errno::INVAL);
    assert_errno(sysroot.copy_range(from, 0, ROOT_INO, 0, 1), Errno::ISDIR);
}

#[test]
fn ranges_beyond_what_a_file_can_be_are_refused() {
    let sysroot = writable(vec![]);
    let file = make_file(&sysroot, "/", "f", b"x");
    let max = i64::MAX as u64;
    assert_errno(sysroot.write(file, max, b"x"), Errno::FBIG);
    assert_errno(sysroot.write(file, u64::MAX, b"xx"), Errno::FBIG);
    assert_errno(sysroot.allocate(file, max, 1, Allocate::Reserve), Errno::FBIG);
    assert_errno(sysroot.allocate(file, 0, 0, Allocate::Reserve), Errno::INVAL);
    assert_errno(sysroot.copy_range(file, 0, file, max, 1), Errno::FBIG);
    truncate(&sysroot, file, max);
    sysroot.write(file, max - 1, b"y").unwrap();
    assert_eq!(sysroot.seek(file, 1, Seek::Data).unwrap(), max - 1);
    assert_eq!(sysroot.seek(file, max - 1, Seek::Hole).unwrap(), max);
}

#[test]
fn reserving_claims_space_and_zeroing_makes_holes() {
    let sysroot = writable(vec![]);
    let file = make_file(&sysroot, "/", "f", b"abc");
    sysroot.allocate(file, 0, 64 * BLOCK as u64, Allocate::ReserveKeepSize).unwrap();
    assert_eq!(sysroot.attributes(file).unwrap().meta.size, 3);
    sysroot.allocate(file, 0, 64 * BLOCK as u64, Allocate::Reserve).unwrap();
    assert_eq!(sysroot.attributes(file).unwrap().meta.size, 64 * BLOCK as u64);
    let mut expected = vec![0; 64 * BLOCK];
    expected[..3].copy_from_slice(b"abc");
    assert_eq!(content(&sysroot, "/f"), expected);
    sysroot.allocate(file, 1, 1, Allocate::ZeroRangeKeepSize).unwrap();
    assert_eq!(&content(&sysroot, "/f")[..3], b"a\0c");
}

#[test]
fn only_files_have_data() {
    let sysroot = writable(vec![MemoryLayer::new("low").symlink("/l", "x")]);
    let link = ino(&sysroot, "/l");
    assert_errno(sysroot.read(ROOT_INO, 0, &mut [0]), Errno::ISDIR);
    assert_errno(sysroot.write(ROOT_INO, 0, b"x"), Errno::ISDIR);
    assert_errno(sysroot.open_for_writing(ROOT_INO), Errno::ISDIR);
    assert_errno(sysroot.write(link, 0, b"x"), Errno::INVAL);
    assert_errno(sysroot.seek(link, 0, Seek::Data), Errno::INVAL);
}

#[test]
fn statistics_are_the_spools() {
    let sysroot = writable(vec![]);
    let told = sysroot.statistics().unwrap();
    assert!(told.blocks > 0 && told.block_size > 0);
    assert_eq!(told.name_max, 255);
}

#[test]
fn statistics_of_a_read_only_tree_are_what_it_holds() {
    let empty = read_only(vec![]).statistics().unwrap();
    assert_eq!((empty.files, empty.blocks, empty.free_files, empty.free_blocks), (1, 0, 0, 0));
    let low = MemoryLayer::new("low")
        .file("/shared/hidden", vec![1; 100_000])
        .file("/shared/file", vec![1; 3 * BLOCK])
        .symlink("/link", "target")
        .sparse("/sparse", 1 << 30, vec![(0, vec![1; BLOCK])]);
    let high = MemoryLayer::new("high")
        .file("/shared/hidden", vec![2; BLOCK])
        .file("/one", vec![3; BLOCK])
        .link("/one", "/two");
    let told = read_only(vec![low, high]).statistics().unwrap();
    // The root, shared, hidden, file, link, sparse, and one node with two names.
    assert_eq!(told.files, 7);
    assert_eq!((u64::from(told.block_size), told.blocks), (BLOCK as u64, 6));
    assert_eq!((told.free_files, told.free_blocks), (0, 0));
}

#[test]
fn allocating_within_the_size_sets_the_times_too() {
    let sysroot = writable(vec![MemoryLayer::new("low").file("/f", "0123456789")]);
    let file = ino(&sysroot, "/f");
    let before = stat(&sysroot, "/f");
    sysroot.allocate(file, 0, 4, Allocate::ReserveKeepSize).unwrap();
    let after = stat(&sysroot, "/f");
    assert_ne!(after.meta.mtime, before.meta.mtime);
    assert_ne!(after.ctime, before.ctime);
    assert_eq!(content(&sysroot, "/f"), b"0123456789");
}

/// A file system of one MiB, gone with the value; `None` where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "outcrop-test"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        // Only what was mounted may be unmounted.
        mounted.then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_spool_is_told_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let options = Options {
        zones: vec![zone("/", Policy::Capture)],
        spool_directory: Some(disk.0.path().to_path_buf()),
    };
    let sysroot = Sysroot::new(vec![], options).unwrap();
    assert_eq!(std::fs::read_dir(disk.0.path()).unwrap().count(), 0, "the spool has no name");
    let kept = make_file(&sysroot, "/", "kept", &[1; 100_000]);
    let file = make_file(&sysroot, "/", "f", b"before");
    assert_eq!(sysroot.lost_write(), None);
    assert_errno(sysroot.write(file, 6, &vec![2; 2 << 20]), Errno::NOSPC);
    let lost = sysroot.lost_write().unwrap();
    assert!(lost.contains("No space left"), "{lost}");
    assert_eq!(content(&sysroot, "/f"), b"before");
    assert_errno(sysroot.allocate(file, 0, 2 << 20, Allocate::Reserve), Errno::NOSPC);
    assert_eq!(content(&sysroot, "/f"), b"before");
    sysroot.write(file, 6, &[3; 500_000]).unwrap();
    assert_eq!(content_of(&sysroot, kept), [1; 100_000]);
    drop(sysroot);
}
