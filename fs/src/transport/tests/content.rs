use std::fs;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, copy_file_range, fallocate, seek};
use rustix::io::Errno;

use super::*;
use crate::error::Result;

const MEBIBYTE: usize = 1 << 20;

/// Bytes that no shifted or swapped block reproduces.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32 / 4)
        .flat_map(|word| (word.wrapping_mul(2_654_435_761)).to_le_bytes())
        .collect()
}

#[test]
fn a_large_file_comes_back_as_it_was_written() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let data = pattern(48 * MEBIBYTE);
    let mut file = mounted.create("large");
    file.write_all(&data).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let mut stored = vec![0; data.len()];
    assert_eq!(mounted.tree.read(mounted.ino("large"), 0, &mut stored).unwrap(), data.len());
    assert!(stored == data);
    assert!(fs::read(mounted.path("large")).unwrap() == data);
}

#[test]
fn a_large_file_is_read_from_the_tree() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    let data = pattern(48 * MEBIBYTE);
    put_file(&tree, b"large", &data);
    let mounted = Mounted::with(tree.frozen(), &exclusive());
    assert!(fs::read(mounted.path("large")).unwrap() == data);
    let file = File::open(mounted.path("large")).unwrap();
    let mut end = [0; 16];
    let length = file.read_at(&mut end, data.len() as u64 - 5).unwrap();
    assert_eq!(&end[..length], &data[data.len() - 5..]);
    assert_eq!(file.read_at(&mut end, data.len() as u64).unwrap(), 0);
}

#[test]
#[allow(unsafe_code)]
fn files_can_be_mapped_shared_and_writable() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let file = mounted.create("mapped");
    file.set_len(10_000).unwrap();
    // SAFETY: nothing truncates the file while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    map[5000..5005].copy_from_slice(b"hello");
    map.flush().unwrap();
    drop(map);
    let mut stored = [0; 5];
    mounted.tree.read(mounted.ino("mapped"), 5000, &mut stored).unwrap();
    assert_eq!(&stored, b"hello");
}

#[test]
fn holes_are_found_punched_and_zeroed() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let mut file = mounted.create("sparse");
    file.write_all_at(&[1; 8192], 65_536).unwrap();
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(0)), Ok(65_536));
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Hole(65_536)), Ok(65_536 + 8192));
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(80_000)), Err(Errno::NXIO));
    let keep = FallocateFlags::KEEP_SIZE;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | keep, 65_536, 4096).unwrap();
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(0)), Ok(65_536 + 4096));
    fallocate(&file, FallocateFlags::ZERO_RANGE, 65_536, 100_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 165_536);
    fallocate(&file, keep, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 165_536);
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    let refused = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(refused, Err(Errno::OPNOTSUPP));
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
}

#[test]
fn ranges_are_copied_inside_the_tree() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let data = pattern(MEBIBYTE);
    fs::write(mounted.path("from"), &data).unwrap();
    let from = File::open(mounted.path("from")).unwrap();
    let to = mounted.create("to");
    let (mut read_at, mut write_at) = (4096, 0);
    let copied =
        copy_file_range(&from, Some(&mut read_at), &to, Some(&mut write_at), 2 * MEBIBYTE).unwrap();
    assert_eq!(copied, MEBIBYTE - 4096);
    assert!(fs::read(mounted.path("to")).unwrap() == data[4096..]);
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    let before = mounted.tree.node_count();
    let mut file = mounted.create("gone");
    fs::remove_file(mounted.path("gone")).unwrap();
    file.write_all(b"still here").unwrap();
    file.set_len(5).unwrap();
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still");
    assert_eq!(file.metadata().unwrap().len(), 5);
    assert_eq!(mounted.tree.node_count(), before + 1);
    drop(file);
    eventually("the node is forgotten", || mounted.tree.node_count() == before);
}

#[test]
fn appends_and_truncating_opens_work() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new();
    fs::write(mounted.path("log"), "one").unwrap();
    let mut file = File::options().append(true).open(mounted.path("log")).unwrap();
    file.write_all(b" two").unwrap();
    assert_eq!(fs::read_to_string(mounted.path("log")).unwrap(), "one two");
    fs::write(mounted.path("log"), "new").unwrap();
    assert_eq!(fs::read_to_string(mounted.path("log")).unwrap(), "new");
}

#[test]
fn a_broken_layer_is_an_io_error_of_that_file_only() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    put_file(&tree, b"good", b"content");
    let broken = put_file(&tree, b"broken", b"content");
    tree.break_content(broken);
    let mounted = Mounted::with(tree.frozen(), &exclusive());
    for _ in 0..2 {
        let error = fs::read(mounted.path("broken")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(fs::read(mounted.path("good")).unwrap(), b"content");
    }
    assert_eq!(fs::metadata(mounted.path("broken")).unwrap().len(), 7);
}

/// A tree whose reads only end when two are under way at once.
struct ReadsInPairs {
    tree: MemoryTree,
    both: Barrier,
    reads: AtomicUsize,
}

impl Filesystem for ReadsInPairs {
    fn lookup(&self, parent: Ino, name: &[u8]) -> Result<crate::node::Attributes> {
        self.tree.lookup(parent, name)
    }
    fn attributes(&self, ino: Ino) -> Result<crate::node::Attributes> {
        self.tree.attributes(ino)
    }
    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        self.tree.read_link(ino)
    }
    fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        visit: &mut dyn FnMut(crate::filesystem::DirectoryEntry<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<()> {
        self.tree.read_directory(directory, cookie, visit)
    }
    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if offset == 0 && self.reads.fetch_add(1, Ordering::SeqCst) < 2 {
            self.both.wait();
        }
        self.tree.read(ino, offset, buffer)
    }
    fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.tree.get_xattr(ino, name)
    }
    fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.tree.list_xattrs(ino)
    }
    fn seek(&self, ino: Ino, offset: u64, seek: crate::filesystem::Seek) -> Result<u64> {
        self.tree.seek(ino, offset, seek)
    }
    fn statistics(&self) -> Result<crate::filesystem::Statistics> {
        self.tree.statistics()
    }
    fn is_immutable(&self) -> bool {
        true
    }
}

#[test]
fn requests_are_answered_in_parallel() {
    if !can_mount() {
        return;
    }
    let tree = MemoryTree::new();
    put_file(&tree, b"a", b"first");
    put_file(&tree, b"b", b"second");
    let tree = ReadsInPairs { tree, both: Barrier::new(2), reads: AtomicUsize::new(0) };
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::start(Arc::new(tree), directory.path(), &exclusive()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for name in ["a", "b"] {
        let path = directory.path().join(name);
        let sender = sender.clone();
        std::thread::spawn(move || sender.send(fs::read_to_string(path).unwrap()));
    }
    let limit = Duration::from_secs(20);
    let mut texts: Vec<_> = (0..2).map(|_| receiver.recv_timeout(limit).unwrap()).collect();
    texts.sort();
    assert_eq!(texts, ["first", "second"]);
    drop(mount);
}
