//! Changes that outlive their process: the spool under a name, and a journal of what differs
//! (docs/kept-changes.md).

#![forbid(unsafe_code)]

mod journal;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use self::journal::{
    Bytes, KeptBody, KeptData, KeptDirectory, KeptNode, LayerNode, LayerVersion, NodeName, Opening,
    VERSION,
};
use super::changes::{Body, Changes, DirectoryChanges, Node, is_lower};
use super::content::{Extent, Origin};
use super::file::FileData;
use super::merge::{MAX_DEPTH, Source};
use super::spool::Spool;
use super::zones::Place;
use super::{Options, Sysroot};
use crate::error::{Errno, Error, Result};
use crate::layer::{Entry, Layer};
use crate::node::{Device, Ino, Kind, Metadata, ROOT_INO, Timestamp, Xattrs};

const SPOOL: &str = "spool";
const JOURNAL: &str = "changes.jsonl";

impl Sysroot {
    /// Keeps all changes in a directory, which must be on the spool's file system or on one with
    /// room for it. From then on the spool gives no space back. Both files are synced, the
    /// directory is not.
    ///
    /// Call it when nobody writes any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] where nothing could be written; failures of the host.
    pub fn keep(&self, directory: &Path) -> Result<()> {
        let Some(spool) = &self.spool else {
            return Err(Error::Invalid("A read-only tree has no changes to keep.".to_owned()));
        };
        spool.keep(&directory.join(SPOOL))?;
        let path = directory.join(JOURNAL);
        let host = |error| Error::host("cannot write", &path, error);
        let mut out = BufWriter::new(File::create_new(&path).map_err(host)?);
        self.write_journal(&mut |line| writeln!(out, "{line}").map_err(host))?;
        let file = out.into_inner().map_err(|error| host(error.into_error()))?;
        file.sync_all().map_err(host)
    }

    fn write_journal(&self, write: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let version = |layer: &Arc<dyn Layer>| LayerVersion {
            label: layer.label().to_owned(),
            version: layer.version(),
        };
        let layers = self.tree.layers().iter().map(version).collect();
        write(journal::line(&Opening { version: VERSION, layers })?)?;
        // A file's data is locked before the changes are.
        let mut files: Vec<(Ino, Arc<FileData>)> = Vec::new();
        for (ino, node) in &self.changes.read().nodes {
            if let Body::Data(data) = &node.body {
                files.push((*ino, Arc::clone(data)));
            }
        }
        let extents: HashMap<Ino, Vec<Extent>> =
            files.into_iter().map(|(ino, data)| (ino, data.extents())).collect();
        let changes = self.changes.read();
        let mut numbers: Vec<&Ino> = changes.nodes.keys().collect();
        numbers.sort_unstable();
        for ino in numbers {
            let Some(node) = changes.nodes.get(ino).filter(|node| node.names > 0) else { continue };
            let extents = extents.get(ino).map(Vec::as_slice).unwrap_or_default();
            write(journal::line(&self.describe(*ino, node, extents)?)?)?;
        }
        Ok(())
    }

    fn describe(&self, ino: Ino, node: &Node, extents: &[Extent]) -> Result<KeptNode> {
        let meta = &node.meta;
        let device = meta.kind.device();
        let pairs = |xattrs: &Xattrs| -> Vec<(Bytes, Bytes)> {
            xattrs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        Ok(KeptNode {
            node: self.name(ino)?,
            mode: meta.st_mode(),
            device: (device.major, device.minor),
            uid: meta.uid,
            gid: meta.gid,
            size: meta.size,
            mtime: pair(meta.mtime),
            atime: pair(node.atime),
            ctime: pair(node.ctime),
            names: node.names,
            xattrs: node.xattrs.as_deref().map(pairs),
            body: match &node.body {
                Body::Lower => KeptBody::Lower,
                Body::Empty => KeptBody::Empty,
                Body::Target(target) => KeptBody::Target(Bytes::from(&**target)),
                Body::Data(_) => KeptBody::Data(self.describe_data(extents)?),
                Body::Directory(names) => KeptBody::Directory(self.describe_directory(names)?),
            },
        })
    }

    fn describe_data(&self, extents: &[Extent]) -> Result<KeptData> {
        let mut sources: Vec<Source> = Vec::new();
        let mut runs = Vec::with_capacity(extents.len());
        for extent in extents {
            runs.push(match extent.origin {
                Origin::Spool(from) => (extent.offset, extent.length, 0, from),
                Origin::Lower(source, from) => {
                    let known = sources.iter().position(|known| *known == source);
                    let number = known.unwrap_or_else(|| {
                        sources.push(source);
                        sources.len().saturating_sub(1)
                    });
                    (extent.offset, extent.length, number.saturating_add(1), from)
                }
            });
        }
        let sources = sources.into_iter().map(|source| self.layer_node(source));
        Ok(KeptData { sources: sources.collect::<Result<_>>()?, runs })
    }

    fn describe_directory(&self, names: &DirectoryChanges) -> Result<KeptDirectory> {
        let mut removed: Vec<Bytes> = names.removed().map(Bytes::from).collect();
        removed.sort_unstable();
        let mut added = Vec::new();
        for (_, name, ino) in names.added_from(0) {
            added.push((name.into(), self.name(ino)?));
        }
        Ok(KeptDirectory {
            parent: self.name(names.parent)?,
            name: names.name.as_deref().map(Bytes::from),
            removed,
            added,
            subdirectories: names.subdirectories,
        })
    }

    fn name(&self, ino: Ino) -> Result<NodeName> {
        if ino == ROOT_INO || !is_lower(ino) {
            return Ok(NodeName::Number(ino));
        }
        let source = Source::from_ino(ino).ok_or(Errno::STALE)?;
        Ok(NodeName::Layer(self.layer_node(source)?))
    }

    /// A layer's node by its path: its entry may be another one in another process.
    fn layer_node(&self, source: Source) -> Result<LayerNode> {
        let layer = self.tree.layer(source)?;
        let mut names = Vec::new();
        let mut at = source.entry;
        while at != Entry::ROOT {
            if names.len() >= MAX_DEPTH {
                return Err(Errno::LOOP.into());
            }
            let (parent, name) = layer.names(at)?.into_iter().next().ok_or(Errno::STALE)?;
            names.push(name);
            at = parent;
        }
        names.reverse();
        let meta = layer.metadata(source.entry)?;
        Ok(LayerNode {
            layer: source.layer,
            path: Bytes::from(&names.join(&b'/')),
            kind: meta.kind.file_type_bits(),
            size: meta.size,
            mtime: pair(meta.mtime),
        })
    }

    /// The tree that [`Sysroot::keep`] kept, over the same layers. What is kept is never changed: a
    /// tree that can be written to gets a copy of the spool.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the layers are not what they were, and for zones of which only some
    /// are writable; [`Error::Malformed`] for a journal that is damaged.
    pub fn restore(
        layers: Vec<Arc<dyn Layer>>,
        directory: &Path,
        options: Options,
    ) -> Result<Sysroot> {
        let path = directory.join(JOURNAL);
        let host = |error| Error::host("cannot read", &path, error);
        let kept = Spool::open_kept(&directory.join(SPOOL))?;
        let sysroot = Sysroot::new(layers, options)?;
        let Some(place) = sysroot.zones.uniform() else {
            return Err(Error::Invalid(
                "Kept changes can be written to everywhere or nowhere.".to_owned(),
            ));
        };
        let spool = match &sysroot.spool {
            Some(own) => {
                own.take_over(&kept)?;
                Arc::clone(own)
            }
            None => Arc::new(kept),
        };
        let reader = Reader { sysroot: &sysroot, spool, place, path: &path };
        let mut changes = Changes::new();
        let mut lines = BufReader::new(File::open(&path).map_err(host)?).split(b'\n');
        let first = lines.next().transpose().map_err(host)?.unwrap_or_default();
        reader.check_layers(&journal::parse(&first).map_err(|p| reader.malformed(1, p))?)?;
        for (number, line) in lines.enumerate() {
            let malformed = |problem| reader.malformed(number.saturating_add(2), problem);
            let kept: KeptNode = journal::parse(&line.map_err(host)?).map_err(malformed)?;
            let ino = reader.find(&kept.node)?;
            let node = reader.node(kept, number.saturating_add(2))?;
            changes.put_back(ino, node);
        }
        *sysroot.changes.write() = changes;
        Ok(sysroot)
    }
}

struct Reader<'a> {
    sysroot: &'a Sysroot,
    spool: Arc<Spool>,
    /// Where every node stands among the zones.
    place: Place,
    path: &'a Path,
}

impl Reader<'_> {
    fn malformed(&self, line: usize, problem: String) -> Error {
        Error::malformed(self.path.display().to_string(), format!("line {line}: {problem}"))
    }

    fn check_layers(&self, opening: &Opening) -> Result<()> {
        if opening.version != VERSION {
            let problem = format!("version {}; only {VERSION} is known", opening.version);
            return Err(self.malformed(1, problem));
        }
        let layers = self.sysroot.tree.layers();
        if layers.len() != opening.layers.len() {
            let plural = if opening.layers.len() == 1 { "layer" } else { "layers" };
            return Err(Error::Invalid(format!(
                "The changes belong to {} {plural}, not to {}.",
                opening.layers.len(),
                layers.len()
            )));
        }
        for (layer, kept) in layers.iter().zip(&opening.layers) {
            if layer.version() != kept.version {
                return Err(changed_since(&kept.label, ""));
            }
        }
        Ok(())
    }

    fn find(&self, name: &NodeName) -> Result<Ino> {
        match name {
            NodeName::Number(ino) => Ok(*ino),
            NodeName::Layer(node) => Ok(self.find_source(node)?.ino()),
        }
    }

    fn find_source(&self, node: &LayerNode) -> Result<Source> {
        let root = Source { layer: node.layer, entry: Entry::ROOT };
        let layer = self.sysroot.tree.layer(root)?;
        let path = node.path.to_vec();
        let changed = || changed_since(layer.label(), &path.escape_ascii().to_string());
        let mut entry = Entry::ROOT;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            entry = layer.lookup(entry, name)?.ok_or_else(changed)?;
        }
        let meta = layer.metadata(entry)?;
        let is_same = meta.kind.file_type_bits() == node.kind
            && (meta.kind.is_directory()
                || (meta.size, pair(meta.mtime)) == (node.size, node.mtime));
        if is_same { Ok(Source { entry, ..root }) } else { Err(changed()) }
    }

    fn node(&self, kept: KeptNode, line: usize) -> Result<Node> {
        let device = Device { major: kept.device.0, minor: kept.device.1 };
        let kind = Kind::from_mode(kept.mode, device)
            .ok_or_else(|| self.malformed(line, format!("mode {:o}", kept.mode)))?;
        let body = match kept.body {
            KeptBody::Lower => Body::Lower,
            KeptBody::Empty => Body::Empty,
            KeptBody::Target(target) => Body::Target(target.to_vec().into()),
            KeptBody::Data(data) => Body::Data(Arc::new(self.data(&data, line)?)),
            KeptBody::Directory(directory) => {
                Body::Directory(Box::new(self.directory(&directory, line)?))
            }
        };
        let pairs = |pairs: Vec<(Bytes, Bytes)>| -> Xattrs {
            pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
        };
        Ok(Node {
            meta: Metadata {
                kind,
                mode: (kept.mode & 0o7777) as u16,
                uid: kept.uid,
                gid: kept.gid,
                mtime: timestamp(kept.mtime),
                size: kept.size,
            },
            atime: timestamp(kept.atime),
            ctime: timestamp(kept.ctime),
            names: kept.names,
            place: self.place,
            temporary: false,
            xattrs: kept.xattrs.map(|xattrs| Box::new(pairs(xattrs))),
            body,
        })
    }

    fn data(&self, kept: &KeptData, line: usize) -> Result<FileData> {
        let sources: Vec<Source> =
            kept.sources.iter().map(|source| self.find_source(source)).collect::<Result<_>>()?;
        let mut extents = Vec::with_capacity(kept.runs.len());
        for &(offset, length, source, from) in &kept.runs {
            let origin = match source.checked_sub(1) {
                None => Origin::Spool(from),
                Some(number) => {
                    let source = sources.get(number);
                    let unknown = || self.malformed(line, format!("there is no source {number}"));
                    Origin::Lower(*source.ok_or_else(unknown)?, from)
                }
            };
            extents.push(Extent { offset, length, origin });
        }
        Ok(FileData::of_extents(Arc::clone(&self.spool), extents))
    }

    fn directory(&self, kept: &KeptDirectory, line: usize) -> Result<DirectoryChanges> {
        let name = kept.name.as_ref().map(|name| name.to_vec().into());
        let mut names = DirectoryChanges::new(self.find(&kept.parent)?, name);
        for name in &kept.removed {
            names.remove(&name.to_vec(), false);
        }
        for (name, node) in &kept.added {
            let name = name.to_vec();
            if name.is_empty() || name.contains(&b'/') {
                return Err(self.malformed(line, "a name that no file can have".to_owned()));
            }
            names.add(&name, self.find(node)?, false);
        }
        names.subdirectories = kept.subdirectories;
        Ok(names)
    }
}

fn changed_since(label: &str, path: &str) -> Error {
    let place = if path.is_empty() { String::new() } else { format!(": /{path}") };
    Error::Invalid(format!(
        "{label}{place} is not what it was when the changes were made; put the old one back."
    ))
}

fn pair(time: Timestamp) -> (i64, u32) {
    (time.seconds, time.nanoseconds)
}

fn timestamp((seconds, nanoseconds): (i64, u32)) -> Timestamp {
    Timestamp::new(seconds, nanoseconds)
}
