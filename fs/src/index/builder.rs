//! Makes an index from nodes that arrive in archive order.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::format::{SourceIdentity, SparseRun};
use crate::error::{Error, Result};
use crate::node::{Kind, Metadata, Xattrs};

mod encode;

/// A node to add. The size of a symlink is taken from its target; that of anything but a file is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    pub metadata: Metadata,
    pub content: Content,
    pub xattrs: Xattrs,
    /// SHA-256 of a file's content, where known.
    pub digest: Option<[u8; 32]>,
}

/// What a node holds besides metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Directories, devices, fifos, sockets, and empty files.
    None,
    /// A file's bytes lie in the data file at this offset, `metadata.size` of them.
    Data { offset: u64 },
    /// A file with holes; ascending, without overlap, within `metadata.size`.
    Sparse { runs: Vec<SparseRun> },
    /// A symlink's target.
    Target(Vec<u8>),
    /// One more name of the node that was added under this path; everything else is ignored.
    HardLink(Vec<u8>),
}

/// Collects nodes; [`Builder::finish`] gives the bytes of the index file.
///
/// Errors are [`Error::Malformed`] with the path at fault.
pub struct Builder {
    label: String,
    source: SourceIdentity,
    /// `None`: the source itself is the data file.
    data_size: Option<u64>,
    inodes: Vec<Inode>,
    /// The directory that the last node went into: archives keep to one for long.
    last_parent: Option<(Vec<u8>, u32)>,
}

struct Inode {
    metadata: Metadata,
    content: Held,
    xattrs: Xattrs,
    digest: Option<[u8; 32]>,
}

enum Held {
    Nothing,
    Data { offset: u64 },
    Sparse(Vec<SparseRun>),
    Target(Vec<u8>),
    Directory(Box<Directory>),
}

#[derive(Default)]
struct Directory {
    children: BTreeMap<Box<[u8]>, u32>,
    whiteouts: BTreeSet<Box<[u8]>>,
    opaque: bool,
    /// Whether it was added, not only implied by what lies below it.
    explicit: bool,
}

const ROOT: u32 = 0;

impl Builder {
    pub fn new(source: SourceIdentity) -> Self {
        Builder {
            label: "index".to_owned(),
            source,
            data_size: None,
            inodes: vec![Inode::implied_directory()],
            last_parent: None,
        }
    }

    /// How errors name the layer.
    pub fn labelled(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// The size of the file that data offsets point into, where that is not the source itself.
    pub fn set_data_size(&mut self, bytes: u64) {
        self.data_size = Some(bytes);
    }

    /// Names the source once it is known in full, for streams.
    pub fn set_source(&mut self, source: SourceIdentity) {
        self.source = source;
    }

    /// Adds a node, or a further name of one.
    ///
    /// `path` is relative, `/`-separated, without leading or trailing slash; empty for the root.
    /// A path that was added before is replaced, as unpacking would. Missing parents become
    /// root's directories with mode 0755.
    pub fn add(&mut self, path: &[u8], node: NewNode) -> Result<()> {
        if let Content::HardLink(target) = &node.content {
            let target = target.clone();
            return self.add_link(path, &target);
        }
        let inode = self.check(path, node)?;
        if path.is_empty() {
            return self.replace_root(inode);
        }
        let (parent, name) = self.parent_of(path)?;
        let existing = self.child(parent, name);
        if let Some(existing) = existing
            && self.directory(existing).is_some()
        {
            if inode.metadata.kind.is_directory() {
                return self.update_directory(existing, inode);
            }
            self.check_replaceable(path, existing)?;
        }
        let number = self.push(inode)?;
        self.insert(parent, name, number);
        Ok(())
    }

    /// Whether a path was added itself, rather than implied by something below it.
    pub fn has_explicit(&self, path: &[u8]) -> bool {
        self.find(path).is_some_and(|inode| self.directory(inode).is_none_or(|d| d.explicit))
    }

    /// Hides a name of lower layers.
    pub fn add_whiteout(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            return Err(self.error(path, "the root cannot be hidden by a whiteout"));
        }
        let (parent, name) = self.parent_of(path)?;
        let name = name.into();
        if let Some(directory) = self.directory_mut(parent) {
            directory.whiteouts.insert(name);
        }
        Ok(())
    }

    /// Hides everything that lower layers have in a directory.
    pub fn set_opaque(&mut self, path: &[u8]) -> Result<()> {
        let inode = self.make_directories(path, path)?;
        if let Some(directory) = self.directory_mut(inode) {
            directory.opaque = true;
        }
        Ok(())
    }

    /// The whole index file.
    pub fn finish(self) -> Result<Vec<u8>> {
        encode::encode(self)
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let Some(inode) = self.find(target) else {
            let problem =
                format!("hard link to {}, which does not exist before it", printable(target));
            return Err(self.error(path, &problem));
        };
        if self.directory(inode).is_some() {
            let problem = format!("hard link to {}, which is a directory", printable(target));
            return Err(self.error(path, &problem));
        }
        if path.is_empty() {
            return Err(self.error(path, "the root cannot be a hard link"));
        }
        let (parent, name) = self.parent_of(path)?;
        if let Some(existing) = self.child(parent, name)
            && self.directory(existing).is_some()
        {
            self.check_replaceable(path, existing)?;
        }
        self.insert(parent, name, inode);
        Ok(())
    }

    /// Turns a node into an inode, refusing what makes no sense.
    fn check(&self, path: &[u8], node: NewNode) -> Result<Inode> {
        let NewNode { mut metadata, content, xattrs, digest } = node;
        if metadata.mtime.nanoseconds > 999_999_999 {
            return Err(self.error(path, "the nanoseconds of its mtime exceed a second"));
        }
        metadata.mode &= 0o7777;
        let content = match (metadata.kind, content) {
            (Kind::File, Content::Data { offset }) => {
                if offset.checked_add(metadata.size).is_none() {
                    return Err(self.error(path, "its size is absurd"));
                }
                Held::Data { offset }
            }
            (Kind::File, Content::Sparse { runs }) => {
                check_runs(&runs, metadata.size).map_err(|problem| self.error(path, problem))?;
                Held::Sparse(runs)
            }
            (Kind::File, Content::None) if metadata.size == 0 => Held::Data { offset: 0 },
            (Kind::Symlink, Content::Target(target)) if !target.is_empty() => {
                metadata.size = target.len() as u64;
                Held::Target(target)
            }
            (Kind::Symlink, _) => return Err(self.error(path, "a symlink without a target")),
            (Kind::Directory, Content::None) => {
                metadata.size = 0;
                Held::Directory(Box::new(Directory { explicit: true, ..Directory::default() }))
            }
            (
                Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket,
                Content::None,
            ) => {
                metadata.size = 0;
                Held::Nothing
            }
            _ => return Err(self.error(path, "its content does not fit its type")),
        };
        let digest = digest.filter(|_| metadata.kind == Kind::File);
        Ok(Inode { metadata, content, xattrs, digest })
    }

    fn replace_root(&mut self, inode: Inode) -> Result<()> {
        if !inode.metadata.kind.is_directory() {
            return Err(self.error(b"", "the root must be a directory"));
        }
        self.update_directory(ROOT, inode)
    }

    /// A directory that is added again keeps what it holds and takes the new metadata.
    fn update_directory(&mut self, number: u32, new: Inode) -> Result<()> {
        if let Some(directory) = self.directory_mut(number) {
            directory.explicit = true;
        }
        if let Some(inode) = self.inodes.get_mut(number as usize) {
            inode.metadata = new.metadata;
            inode.xattrs = new.xattrs;
        }
        Ok(())
    }

    fn check_replaceable(&mut self, path: &[u8], directory: u32) -> Result<()> {
        // The cached parent might be the directory that goes.
        self.last_parent = None;
        if self.directory(directory).is_some_and(|d| d.children.is_empty()) {
            return Ok(());
        }
        Err(self.error(path, "it would replace a directory of the same name that is not empty"))
    }

    /// The parent directory of a path (made where missing) and the last name.
    fn parent_of<'p>(&mut self, path: &'p [u8]) -> Result<(u32, &'p [u8])> {
        let (parent_path, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (
                path.get(..slash).unwrap_or_default(),
                path.get(slash.saturating_add(1)..).unwrap_or_default(),
            ),
            None => (&[][..], path),
        };
        if let Err(problem) = check_name(name) {
            return Err(self.error(path, problem));
        }
        if let Some((cached, inode)) = &self.last_parent
            && cached.as_slice() == parent_path
        {
            return Ok((*inode, name));
        }
        let parent = self.make_directories(parent_path, path)?;
        self.last_parent = Some((parent_path.to_vec(), parent));
        Ok((parent, name))
    }

    /// Walks to a directory and makes what is missing on the way; `wanted` is for messages.
    fn make_directories(&mut self, path: &[u8], wanted: &[u8]) -> Result<u32> {
        let mut at = ROOT;
        let mut walked = 0_usize;
        if path.is_empty() {
            return Ok(at);
        }
        for name in path.split(|&b| b == b'/') {
            walked = walked.saturating_add(name.len());
            if let Err(problem) = check_name(name) {
                return Err(self.error(wanted, problem));
            }
            at = match self.child(at, name) {
                Some(child) if self.directory(child).is_some() => child,
                Some(child) => {
                    let above = printable(path.get(..walked).unwrap_or(path));
                    let what = match self.inodes.get(child as usize).map(|i| i.metadata.kind) {
                        Some(Kind::Symlink) => "a symlink",
                        _ => "not a directory",
                    };
                    let problem = format!("it lies below {above}, which is {what} here");
                    return Err(self.error(wanted, &problem));
                }
                None => {
                    let number = self.push(Inode::implied_directory())?;
                    self.insert(at, name, number);
                    number
                }
            };
            walked = walked.saturating_add(1);
        }
        Ok(at)
    }

    fn find(&self, path: &[u8]) -> Option<u32> {
        if path.is_empty() {
            return Some(ROOT);
        }
        path.split(|&b| b == b'/').try_fold(ROOT, |at, name| self.child(at, name))
    }

    fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.directory(directory)?.children.get(name).copied()
    }

    fn directory(&self, inode: u32) -> Option<&Directory> {
        match &self.inodes.get(inode as usize)?.content {
            Held::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, inode: u32) -> Option<&mut Directory> {
        match &mut self.inodes.get_mut(inode as usize)?.content {
            Held::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn push(&mut self, inode: Inode) -> Result<u32> {
        let number = u32::try_from(self.inodes.len()).ok().filter(|&n| n < u32::MAX);
        let number = number.ok_or_else(|| self.error(b"", "it has more than 2^32 entries"))?;
        self.inodes.push(inode);
        Ok(number)
    }

    fn insert(&mut self, parent: u32, name: &[u8], inode: u32) {
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name.into(), inode);
        }
    }

    fn error(&self, path: &[u8], problem: &str) -> Error {
        Error::Malformed {
            layer: self.label.clone(),
            path: Some(printable(path)),
            offset: None,
            problem: problem.to_owned(),
        }
    }
}

impl Inode {
    fn implied_directory() -> Self {
        Inode {
            metadata: Metadata::default_directory(),
            content: Held::Directory(Box::default()),
            xattrs: Xattrs::new(),
            digest: None,
        }
    }
}

/// A path for messages: everything but printable ASCII is escaped.
pub(crate) fn printable(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { path.escape_ascii().to_string() }
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("its path has an empty component"),
        b"." | b".." => Err("its path has a '.' or '..' component"),
        _ if name.contains(&0) => Err("its path contains a NUL byte"),
        _ if name.len() > usize::from(u16::MAX) => Err("a name is longer than 65535 bytes"),
        _ => Ok(()),
    }
}

fn check_runs(runs: &[SparseRun], size: u64) -> Result<(), &'static str> {
    let mut end = 0_u64;
    for run in runs {
        if run.file_offset < end {
            return Err("its sparse map is not in order");
        }
        end = run.file_offset.checked_add(run.length).ok_or("its sparse map is absurd")?;
        run.data_offset.checked_add(run.length).ok_or("its sparse map is absurd")?;
    }
    if end > size { Err("its sparse map exceeds its size") } else { Ok(()) }
}
