//! A directory of the host as a layer: live and lazy.
//!
//! Nothing is read before it is asked for, and nothing is followed out of the root: every access
//! resolves the node's path below the root without symlinks. What the user may not read answers
//! `EACCES` for that node alone.
//!
//! Limits, because the host can change under us: a name that now stands for another inode gets a
//! new entry and the old one answers `ESTALE`; an inode number that the host has reused at once
//! for the same name cannot be told apart. Hard links are known to be one node once both names
//! have been seen; `link_count` is the host's own from the start.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};

use super::{DataRun, Entry, Layer};
use crate::content;
use crate::error::{Errno, Error, Result};
use crate::node::{Device, Kind, Metadata, Timestamp, Xattrs};

/// Files kept open between reads.
const OPEN_FILES: usize = 32;

/// A host directory. See the module's documentation for what being live means.
pub struct DirectoryLayer {
    label: String,
    root: OwnedFd,
    table: RwLock<Table>,
    files: Mutex<VecDeque<(Entry, Arc<File>)>>,
    /// The last directory listed, for readers that come back for the rest of it.
    listing: Mutex<Option<(Entry, Arc<Listing>)>>,
}

type Listing = Vec<(Vec<u8>, Entry)>;

/// What tells an inode from another that later takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
}

struct Node {
    /// (directory, name) pairs under which the inode was seen, the first one first.
    names: Vec<(Entry, Vec<u8>)>,
    /// Unknown where the node could not even be examined.
    identity: Option<Identity>,
}

#[derive(Default)]
struct Table {
    nodes: Vec<Node>,
    by_name: HashMap<(Entry, Vec<u8>), Entry>,
    /// Nodes other than directories that have more than one name on the host.
    by_identity: HashMap<Identity, Entry>,
}

impl DirectoryLayer {
    /// Opens a directory; `path` itself may be or contain symlinks.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::host("cannot open the directory", path, errno.into()))?;
        let stat = rustix::fs::fstat(&root)
            .map_err(|errno| Error::host("cannot examine", path, errno.into()))?;
        let node =
            Node { names: vec![(Entry::ROOT, Vec::new())], identity: Some(Identity::of(&stat)) };
        Ok(DirectoryLayer {
            label: path.display().to_string(),
            root,
            table: RwLock::new(Table { nodes: vec![node], ..Table::default() }),
            files: Mutex::new(VecDeque::new()),
            listing: Mutex::new(None),
        })
    }

    fn with_node<T>(&self, entry: Entry, read: impl FnOnce(&Node) -> T) -> Result<T> {
        self.table.read().node(entry).map(read).ok_or(Error::Os(Errno::STALE))
    }

    /// Names from the root down to the node, by the given name of it.
    fn path(&self, directory: Entry, name: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut path = vec![name.to_vec()];
        let mut at = directory;
        while at != Entry::ROOT {
            let (parent, name) = self
                .with_node(at, |node| node.names.first().cloned())?
                .ok_or(Error::Os(Errno::STALE))?;
            path.push(name);
            at = parent;
        }
        path.reverse();
        Ok(path)
    }

    /// A descriptor (`O_PATH`) of the node, checked to be the inode that the entry stands for.
    fn locate(&self, entry: Entry) -> Result<(OwnedFd, Stat)> {
        if entry == Entry::ROOT {
            let root = self.root.try_clone().map_err(errno_of)?;
            let stat = rustix::fs::fstat(&root)?;
            return Ok((root, stat));
        }
        let (names, identity) =
            self.with_node(entry, |node| (node.names.clone(), node.identity))?;
        let mut failure = Errno::STALE;
        for (directory, name) in &names {
            match open_beneath(&self.root, &self.path(*directory, name)?) {
                Ok(descriptor) => {
                    let stat = rustix::fs::fstat(&descriptor)?;
                    if identity.is_none_or(|identity| identity == Identity::of(&stat)) {
                        return Ok((descriptor, stat));
                    }
                }
                // Gone, or a symlink took a directory's place: another name may still do.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => failure = errno,
            }
        }
        Err(Error::Os(failure))
    }

    fn locate_directory(&self, entry: Entry) -> Result<OwnedFd> {
        let (descriptor, stat) = self.locate(entry)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(descriptor),
            _ => Err(Error::Os(Errno::NOTDIR)),
        }
    }

    fn list(&self, directory: Entry) -> Result<Listing> {
        let descriptor = self.locate_directory(directory)?;
        let mut found = Vec::new();
        for item in read_directory(&descriptor)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            match stat_child(&descriptor, name) {
                Ok(stat) => found.push((name.to_vec(), Some(stat))),
                Err(Errno::NOENT) => {}
                Err(_) => found.push((name.to_vec(), None)),
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let mut table = self.table.write();
        Ok(found
            .into_iter()
            .map(|(name, stat)| {
                let entry = table.enter(directory, &name, stat.as_ref());
                (name, entry)
            })
            .collect())
    }

    fn file(&self, entry: Entry) -> Result<Arc<File>> {
        let mut files = self.files.lock();
        if let Some(place) = files.iter().position(|(open, _)| *open == entry)
            && let Some(found) = files.remove(place)
        {
            let file = found.1.clone();
            files.push_back(found);
            return Ok(file);
        }
        drop(files);
        let (descriptor, stat) = self.locate(entry)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Error::Os(Errno::ISDIR)),
            _ => return Err(Error::Os(Errno::INVAL)),
        }
        // Reopening the descriptor, not the path: it cannot have become a device meanwhile.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = rustix::fs::open(descriptor_path(&descriptor), flags, Mode::empty())?;
        let file = Arc::new(File::from(open));
        let mut files = self.files.lock();
        if files.len() >= OPEN_FILES {
            files.pop_front();
        }
        files.push_back((entry, file.clone()));
        Ok(file)
    }
}

impl Layer for DirectoryLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn is_live(&self) -> bool {
        true
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        metadata(&self.locate(entry)?.1)
    }

    fn link_count(&self, entry: Entry) -> Result<u32> {
        let (_, stat) = self.locate(entry)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(1),
            _ => Ok(u32::try_from(stat.st_nlink).unwrap_or(u32::MAX)),
        }
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        self.with_node(entry, |node| node.names.clone())
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        let first = self.with_node(entry, |node| node.names.first().map(|(parent, _)| *parent))?;
        first.ok_or(Error::Os(Errno::STALE))
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        let descriptor = self.locate_directory(directory)?;
        let mut count = 0u32;
        for item in read_directory(&descriptor)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            let is_directory = match item.file_type() {
                FileType::Directory => true,
                FileType::Unknown => stat_child(&descriptor, name)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()),
                _ => false,
            };
            if is_directory && !matches!(name, b"." | b"..") {
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Ok(None);
        }
        let descriptor = self.locate_directory(directory)?;
        match stat_child(&descriptor, name) {
            Ok(stat) => Ok(Some(self.table.write().enter(directory, name, Some(&stat)))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::Os(errno)),
        }
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        let kept = self.listing.lock().clone();
        let listing = match kept {
            Some((listed, listing)) if start > 0 && listed == directory => listing,
            _ => {
                let listing = Arc::new(self.list(directory)?);
                *self.listing.lock() = Some((directory, listing.clone()));
                listing
            }
        };
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        for (name, entry) in listing.get(start..).unwrap_or_default() {
            if visit(name, *entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        let descriptor = self.locate_directory(directory)?;
        let mut count = 0u64;
        for item in read_directory(&descriptor)? {
            if !matches!(item?.file_name().to_bytes(), b"." | b"..") {
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let file = self.file(entry)?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let position = offset.checked_add(done as u64).ok_or(Error::Os(Errno::INVAL))?;
            match file.read_at(rest, position) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(errno_of(error)),
            }
        }
        Ok(done)
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>> {
        let (descriptor, stat) = self.locate(entry)?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Err(Error::Os(Errno::INVAL));
        }
        Ok(rustix::fs::readlinkat(&descriptor, c"", Vec::new())?.into_bytes())
    }

    fn xattrs(&self, entry: Entry) -> Result<Xattrs> {
        // The magic link of an O_PATH descriptor leads to the node itself, even to a symlink, and
        // needs no permission to open it.
        let (descriptor, _) = self.locate(entry)?;
        let path = descriptor_path(&descriptor);
        let mut xattrs = Xattrs::new();
        for name in xattr_names(&path)? {
            match xattr_value(&path, &name) {
                Ok(value) => {
                    xattrs.insert(name, value);
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(Error::Os(errno)),
            }
        }
        Ok(xattrs)
    }

    fn has_xattrs(&self, entry: Entry) -> Result<bool> {
        Ok(!xattr_names(&descriptor_path(&self.locate(entry)?.0))?.is_empty())
    }

    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        let file = self.file(entry)?;
        // Reads name their positions, so that moving the shared file offset disturbs nobody.
        let start = match rustix::fs::seek(&*file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(Error::Os(errno)),
        };
        let end = rustix::fs::seek(&*file, SeekFrom::Hole(start))?;
        Ok(Some(DataRun { offset: start, length: end.saturating_sub(start) }))
    }

    fn data_bytes(&self, entry: Entry) -> Result<u64> {
        let (_, stat) = self.locate(entry)?;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(blocks.saturating_mul(512).min(size))
    }

    fn identity(&self, entry: Entry) -> Result<Option<content::Identity>> {
        let Identity { device, inode } = Identity::of(&self.locate(entry)?.1);
        Ok(Some(content::Identity::Stored { device, inode, offset: 0 }))
    }
}

impl Table {
    fn node(&self, entry: Entry) -> Option<&Node> {
        self.nodes.get(usize::try_from(entry.0).ok()?)
    }

    /// The entry of a name, made on first sight.
    fn enter(&mut self, directory: Entry, name: &[u8], stat: Option<&Stat>) -> Entry {
        let identity = stat.map(Identity::of);
        let key = (directory, name.to_vec());
        if let Some(&entry) = self.by_name.get(&key) {
            let known = self.node(entry).and_then(|node| node.identity);
            if known.is_none() || identity.is_none() || known == identity {
                return entry;
            }
        }
        let linked = stat
            .filter(|stat| stat.st_nlink > 1 && !FileType::from_raw_mode(stat.st_mode).is_dir());
        if let Some(identity) = identity.filter(|_| linked.is_some())
            && let Some(&entry) = self.by_identity.get(&identity)
        {
            let index = usize::try_from(entry.0).ok();
            if let Some(node) = index.and_then(|index| self.nodes.get_mut(index)) {
                node.names.push(key.clone());
            }
            self.by_name.insert(key, entry);
            return entry;
        }
        let entry = Entry(self.nodes.len() as u64);
        if let Some(identity) = identity.filter(|_| linked.is_some()) {
            self.by_identity.insert(identity, entry);
        }
        self.nodes.push(Node { names: vec![key.clone()], identity });
        self.by_name.insert(key, entry);
        entry
    }
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Identity { device: stat.st_dev, inode: stat.st_ino }
    }
}

fn errno_of(error: std::io::Error) -> Error {
    Error::Os(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn metadata(stat: &Stat) -> Result<Metadata> {
    let device =
        Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
    let kind = Kind::from_mode(stat.st_mode, device).ok_or(Error::Os(Errno::IO))?;
    Ok(Metadata {
        kind,
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
        size: match kind {
            Kind::File | Kind::Symlink => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        },
    })
}

/// A reader for a directory that is held with `O_PATH`.
fn read_directory(directory: &OwnedFd) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Dir::new(rustix::fs::openat(directory, c".", flags, Mode::empty())?)
}

fn stat_child(directory: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Opens a path below `root` with `O_PATH`, following no symlink at all.
fn open_beneath(root: &OwnedFd, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let whole = path.join(&b'/');
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    // With O_PATH and O_NOFOLLOW, NO_SYMLINKS still lets the last name be a symlink.
    match rustix::fs::openat2(root, whole, flags, Mode::empty(), resolve) {
        // Kernels before 5.6 and some sandboxes lack openat2; very long paths need steps.
        Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => {}
        done => return done,
    }
    let mut at = root.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    for name in path {
        // A symlink opened with O_PATH | O_NOFOLLOW is itself; the next step fails with ENOTDIR.
        at = rustix::fs::openat(&at, name.as_slice(), flags, Mode::empty())?;
    }
    Ok(at)
}

fn descriptor_path(descriptor: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn xattr_names(path: &str) -> Result<Vec<Vec<u8>>> {
    let listed = grow(|buffer| rustix::fs::listxattr(path, buffer));
    let listed = match listed {
        Ok(listed) => listed,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::Os(errno)),
    };
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn xattr_value(path: &str, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let name = std::ffi::OsStr::from_bytes(name);
    grow(|buffer| rustix::fs::getxattr(path, name, buffer))
}

/// Calls with a larger buffer until the answer fits (the kernel's limit is 64 KiB).
fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
