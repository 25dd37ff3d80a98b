//! A git tree as a layer: nothing is checked out.
//!
//! Trees are read when first looked into, sizes come from object headers, and blobs are inflated
//! when first read. Git records neither owners nor times: everything belongs to 0:0 and carries
//! the committer's time. Modes are 0755 for directories and executables, 0644 for other files.

#![forbid(unsafe_code)]

mod blob_cache;
mod repository;

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ObjectType, Repository};
use parking_lot::{Mutex, RwLock};

use self::blob_cache::BlobCache;
use self::repository::{Pool, find_directory, open_repository, resolve};
use super::{DataRun, Entry, Layer, ends_early};
use crate::content::Identity;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;
use crate::node::{Kind, Metadata, Timestamp, Xattrs};

pub use self::repository::near_matches;
pub use git2::Oid;

/// Longest symlink target that is believed: far above `PATH_MAX`, far below what could hurt.
const LONGEST_TARGET: u64 = 64 << 10;

/// Says where the repository of a submodule is: given its path from the layer's repository root
/// and the commit that the tree names. `None` leaves an empty directory, as `git clone` does.
pub type SubmoduleResolver = dyn Fn(&[u8], Oid) -> Option<PathBuf> + Send + Sync;

/// A tree of a git repository.
pub struct GitLayer {
    label: String,
    time: Timestamp,
    /// Path of the layer's root inside the repository's tree, with a trailing slash unless empty.
    prefix: Vec<u8>,
    submodules: Option<Box<SubmoduleResolver>>,
    repositories: RwLock<Vec<Arc<Pool>>>,
    nodes: RwLock<Vec<Node>>,
    blobs: Mutex<BlobCache>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Directory,
    Submodule,
    File { executable: bool },
    Symlink,
}

struct Node {
    parent: u64,
    name: Box<[u8]>,
    oid: Oid,
    kind: NodeKind,
    /// Which of the layer's repositories holds the object.
    repository: usize,
    size: Option<u64>,
    /// The children's numbers: contiguous and in bytewise order of their names.
    children: Option<Children>,
}

#[derive(Clone, Copy)]
struct Children {
    first: u64,
    count: u64,
    directories: u32,
}

struct Found {
    name: Box<[u8]>,
    oid: Oid,
    kind: NodeKind,
}

impl GitLayer {
    /// Opens `revision` (anything that `git rev-parse` takes) of a repository, bare or not;
    /// `subdirectory` makes that directory the layer's root (symlinks are not followed).
    pub fn open(repository: &Path, revision: &str, subdirectory: Option<&str>) -> Result<Self> {
        Self::open_with_submodules(repository, revision, subdirectory, None)
    }

    /// As [`GitLayer::open`], with submodules shown as nested trees where the resolver knows them.
    pub fn open_with_submodules(
        repository: &Path,
        revision: &str,
        subdirectory: Option<&str>,
        submodules: Option<Box<SubmoduleResolver>>,
    ) -> Result<Self> {
        let repo = open_repository(repository)?;
        let (tree, time) = resolve(&repo, repository, revision)?;
        let place = subdirectory.map(|s| s.trim_matches('/')).filter(|s| !s.is_empty());
        let mut label = format!("{}#{revision}", repository.display());
        let mut prefix = Vec::new();
        let root = match place {
            None => tree,
            Some(place) => {
                label = format!("{label}:{place}");
                prefix.extend_from_slice(place.as_bytes());
                prefix.push(b'/');
                find_directory(&repo, tree, place).ok_or_else(|| {
                    Error::Invalid(format!("{label}: there is no directory {place} in that tree."))
                })?
            }
        };
        Ok(Self::build(repository, repo, root, time, label, prefix, submodules))
    }

    /// Opens a tree by its id, with a time for all its nodes and a label for messages.
    pub fn from_tree(
        repository: &Path,
        tree: Oid,
        time: Timestamp,
        label: impl Into<String>,
        submodules: Option<Box<SubmoduleResolver>>,
    ) -> Result<Self> {
        let repo = open_repository(repository)?;
        if let Err(source) = repo.find_tree(tree) {
            return Err(Error::Invalid(format!(
                "{}: there is no tree {tree}: {}.",
                repository.display(),
                source.message()
            )));
        }
        Ok(Self::build(repository, repo, tree, time, label.into(), Vec::new(), submodules))
    }

    fn build(
        path: &Path,
        repo: Repository,
        root: Oid,
        time: Timestamp,
        label: String,
        prefix: Vec<u8>,
        submodules: Option<Box<SubmoduleResolver>>,
    ) -> Self {
        let pool = Pool::new(path, vec![repo]);
        let root = Node {
            parent: 0,
            name: Box::default(),
            oid: root,
            kind: NodeKind::Directory,
            repository: 0,
            size: None,
            children: None,
        };
        GitLayer {
            label,
            time,
            prefix,
            submodules,
            repositories: RwLock::new(vec![Arc::new(pool)]),
            nodes: RwLock::new(vec![root]),
            blobs: Mutex::new(BlobCache::default()),
        }
    }

    fn with_node<T>(&self, entry: Entry, read: impl FnOnce(&Node) -> T) -> Result<T> {
        let nodes = self.nodes.read();
        let node = usize::try_from(entry.0).ok().and_then(|index| nodes.get(index));
        node.map(read).ok_or(Error::Os(Errno::STALE))
    }

    fn pool(&self, repository: usize) -> Result<Arc<Pool>> {
        self.repositories.read().get(repository).cloned().ok_or(Error::Os(Errno::STALE))
    }

    fn malformed(&self, entry: Entry, problem: impl Into<String>) -> Error {
        Error::Malformed {
            layer: self.label.clone(),
            path: self.path(entry).ok().map(|path| String::from_utf8_lossy(&path).into_owned()),
            offset: None,
            problem: problem.into(),
        }
    }

    /// The node's path from the repository's root, without a leading slash.
    fn path(&self, entry: Entry) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = entry;
        while at != Entry::ROOT {
            let (name, parent) = self.with_node(at, |node| (node.name.clone(), node.parent))?;
            names.push(name);
            at = Entry(parent);
        }
        names.reverse();
        let mut path = self.prefix.clone();
        path.extend(names.join(&b'/'));
        Ok(path)
    }

    /// The children of a directory, read from its tree on the first call.
    fn directory(&self, entry: Entry) -> Result<Children> {
        let (kind, oid, repository, known) =
            self.with_node(entry, |n| (n.kind, n.oid, n.repository, n.children))?;
        if let Some(children) = known {
            return Ok(children);
        }
        let (repository, found) = match kind {
            NodeKind::Directory => {
                (repository, self.pool(repository)?.with(|repo| self.read_tree(repo, oid, entry))??)
            }
            NodeKind::Submodule => self.read_submodule(entry, oid, repository)?,
            NodeKind::File { .. } | NodeKind::Symlink => return Err(Error::Os(Errno::NOTDIR)),
        };
        let mut nodes = self.nodes.write();
        let first = nodes.len() as u64;
        let index = usize::try_from(entry.0).map_err(|_| Error::Os(Errno::STALE))?;
        let node = nodes.get_mut(index).ok_or(Error::Os(Errno::STALE))?;
        if let Some(children) = node.children {
            return Ok(children);
        }
        let directories = found.iter().filter(|f| f.kind.is_directory()).count() as u32;
        let children = Children { first, count: found.len() as u64, directories };
        node.children = Some(children);
        nodes.extend(found.into_iter().map(|found| Node {
            parent: entry.0,
            name: found.name,
            oid: found.oid,
            kind: found.kind,
            repository,
            size: None,
            children: None,
        }));
        Ok(children)
    }

    fn read_submodule(
        &self,
        entry: Entry,
        commit: Oid,
        parent: usize,
    ) -> Result<(usize, Vec<Found>)> {
        let path = self.path(entry)?;
        let Some(place) = self.submodules.as_ref().and_then(|resolve| resolve(&path, commit))
        else {
            return Ok((parent, Vec::new()));
        };
        let pool = Pool::new(&place, Vec::new());
        let found = pool.with(|repo| {
            let tree = repo.find_commit(commit).and_then(|commit| commit.tree());
            let tree = tree.map_err(|source| {
                self.malformed(
                    entry,
                    format!("submodule commit {commit} cannot be read: {}", source.message()),
                )
            })?;
            self.read_tree(repo, tree.id(), entry)
        })??;
        let mut repositories = self.repositories.write();
        repositories.push(Arc::new(pool));
        Ok((repositories.len().saturating_sub(1), found))
    }

    fn read_tree(&self, repo: &Repository, tree: Oid, entry: Entry) -> Result<Vec<Found>> {
        let tree = repo.find_tree(tree).map_err(|source| {
            self.malformed(entry, format!("tree {tree} cannot be read: {}", source.message()))
        })?;
        let mut found = Vec::with_capacity(tree.len());
        for item in tree.iter() {
            let name = item.name_bytes();
            if matches!(name, b"" | b"." | b".." | b".git") || name.contains(&b'/') {
                let name = String::from_utf8_lossy(name);
                return Err(
                    self.malformed(entry, format!("a tree holds the forbidden name {name:?}"))
                );
            }
            let kind = match item.filemode() & 0o170000 {
                0o040000 => NodeKind::Directory,
                0o160000 => NodeKind::Submodule,
                0o120000 => NodeKind::Symlink,
                0o100000 => NodeKind::File { executable: item.filemode() & 0o111 != 0 },
                mode => {
                    return Err(self.malformed(entry, format!("a tree entry has mode {mode:o}")));
                }
            };
            found.push(Found { name: name.into(), oid: item.id(), kind });
        }
        // Git sorts a directory as if its name ended in a slash; a layer sorts plain names.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        if found.windows(2).any(|pair| matches!(pair, [a, b] if a.name == b.name)) {
            return Err(self.malformed(entry, "a tree holds the same name twice"));
        }
        Ok(found)
    }

    /// Size of a blob, from the object's header.
    fn size(&self, entry: Entry) -> Result<u64> {
        let (oid, repository, known) =
            self.with_node(entry, |node| (node.oid, node.repository, node.size))?;
        if let Some(size) = known {
            return Ok(size);
        }
        let size = self.pool(repository)?.with(|repo| {
            let header = repo.odb().and_then(|odb| odb.read_header(oid));
            match header {
                Ok((size, ObjectType::Blob)) => Ok(size as u64),
                Ok((_, kind)) => Err(self.malformed(entry, format!("object {oid} is a {kind}"))),
                Err(source) => Err(self
                    .malformed(entry, format!("blob {oid} cannot be read: {}", source.message()))),
            }
        })??;
        let mut nodes = self.nodes.write();
        if let Some(node) = usize::try_from(entry.0).ok().and_then(|index| nodes.get_mut(index)) {
            node.size = Some(size);
        }
        Ok(size)
    }

    fn blob(&self, entry: Entry) -> Result<Arc<[u8]>> {
        let (oid, repository) = self.with_node(entry, |node| (node.oid, node.repository))?;
        if let Some(content) = self.blobs.lock().get(oid) {
            return Ok(content);
        }
        let content: Arc<[u8]> = self.pool(repository)?.with(|repo| {
            let object = repo.odb().and_then(|odb| Ok(odb.read(oid)?.data().into()));
            object.map_err(|source| {
                self.malformed(entry, format!("blob {oid} cannot be read: {}", source.message()))
            })
        })??;
        self.blobs.lock().insert(oid, content.clone());
        Ok(content)
    }

    fn kind(&self, entry: Entry) -> Result<NodeKind> {
        self.with_node(entry, |node| node.kind)
    }

    fn file_size(&self, entry: Entry) -> Result<u64> {
        match self.kind(entry)? {
            NodeKind::File { .. } => self.size(entry),
            kind if kind.is_directory() => Err(Error::Os(Errno::ISDIR)),
            _ => Err(Error::Os(Errno::INVAL)),
        }
    }
}

impl NodeKind {
    fn is_directory(self) -> bool {
        matches!(self, NodeKind::Directory | NodeKind::Submodule)
    }
}

impl Layer for GitLayer {
    fn label(&self) -> &str {
        &self.label
    }

    fn version(&self) -> String {
        self.with_node(Entry::ROOT, |node| node.oid.to_string()).unwrap_or_default()
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        let (kind, mode, size) = match self.kind(entry)? {
            NodeKind::Directory | NodeKind::Submodule => (Kind::Directory, 0o755, 0),
            NodeKind::File { executable: true } => (Kind::File, 0o755, self.size(entry)?),
            NodeKind::File { executable: false } => (Kind::File, 0o644, self.size(entry)?),
            NodeKind::Symlink => (Kind::Symlink, 0o777, self.size(entry)?),
        };
        Ok(Metadata { kind, mode, uid: 0, gid: 0, mtime: self.time, size })
    }

    fn link_count(&self, entry: Entry) -> Result<u32> {
        self.with_node(entry, |_| 1)
    }

    fn names(&self, entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        self.with_node(entry, |node| vec![(Entry(node.parent), node.name.to_vec())])
    }

    fn parent(&self, entry: Entry) -> Result<Entry> {
        self.with_node(entry, |node| Entry(node.parent))
    }

    fn subdirectories(&self, directory: Entry) -> Result<u32> {
        Ok(self.directory(directory)?.directories)
    }

    fn lookup(&self, directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        let children = self.directory(directory)?;
        let nodes = self.nodes.read();
        let range = children.range();
        let slice = nodes.get(range).ok_or(Error::Os(Errno::STALE))?;
        let found = slice.binary_search_by(|node| node.name.as_ref().cmp(name)).ok();
        Ok(found.map(|index| Entry(children.first.saturating_add(index as u64))))
    }

    fn children(
        &self,
        directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        let children = self.directory(directory)?;
        for number in start.min(children.count)..children.count {
            let entry = Entry(children.first.saturating_add(number));
            // The lock is not held over the visit, which may come back to this layer.
            let name = self.with_node(entry, |node| node.name.clone())?;
            if visit(&name, entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn child_count(&self, directory: Entry) -> Result<u64> {
        Ok(self.directory(directory)?.count)
    }

    fn read(&self, entry: Entry, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if offset >= self.file_size(entry)? {
            return Ok(0);
        }
        let content = self.blob(entry)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }

    fn read_to(
        &self,
        entry: Entry,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        self.file_size(entry)?;
        let content = self.blob(entry)?;
        let range = || {
            let start = usize::try_from(offset).ok()?;
            content.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        sink.bytes(range().ok_or_else(|| ends_early(&self.label))?)
    }

    fn read_link(&self, entry: Entry) -> Result<Vec<u8>> {
        if self.kind(entry)? != NodeKind::Symlink {
            return Err(Error::Os(Errno::INVAL));
        }
        let size = self.size(entry)?;
        if size > LONGEST_TARGET {
            return Err(self.malformed(entry, format!("a symlink target of {size} bytes")));
        }
        Ok(self.blob(entry)?.to_vec())
    }

    fn xattrs(&self, entry: Entry) -> Result<Xattrs> {
        self.with_node(entry, |_| Xattrs::new())
    }

    fn has_xattrs(&self, entry: Entry) -> Result<bool> {
        self.with_node(entry, |_| false)
    }

    fn next_data(&self, entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        let rest = self.file_size(entry)?.saturating_sub(offset);
        Ok((rest > 0).then_some(DataRun { offset, length: rest }))
    }

    fn data_bytes(&self, entry: Entry) -> Result<u64> {
        self.file_size(entry)
    }

    fn identity(&self, entry: Entry) -> Result<Option<Identity>> {
        self.with_node(entry, |node| Some(Identity::Blob(node.oid.as_bytes().to_vec())))
    }
}

impl Children {
    fn range(self) -> Range<usize> {
        let first = usize::try_from(self.first).unwrap_or(usize::MAX);
        first..first.saturating_add(usize::try_from(self.count).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
