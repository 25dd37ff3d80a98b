//! Everything in the store that may be removed and had again, one item each.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::artifact::INFO;
use super::error::{Context, Result};
use super::{Key, Store, files};

/// A part of the store that can be collected, named like its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Artifacts,
    Layers,
    Mirrors,
    Sources,
    Kits,
    Logs,
    Failed,
}

impl Part {
    pub const ALL: [Part; 7] = [
        Part::Artifacts,
        Part::Layers,
        Part::Mirrors,
        Part::Sources,
        Part::Kits,
        Part::Logs,
        Part::Failed,
    ];

    pub fn directory(self) -> &'static str {
        match self {
            Part::Artifacts => "artifacts",
            Part::Layers => "layers",
            Part::Mirrors => "mirrors",
            Part::Sources => "sources",
            Part::Kits => "kits",
            Part::Logs => "logs",
            Part::Failed => "failed",
        }
    }
}

/// Something that is removed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub part: Part,
    pub name: String,
    /// Bytes on disk.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// What is removed, in this order.
    pub paths: Vec<PathBuf>,
    /// The files or directories on one of which each of its users holds a shared lock.
    pub claims: Vec<PathBuf>,
    /// The lock file of those who make it.
    pub maker: Option<PathBuf>,
}

impl Item {
    /// An item whose size is that of its paths and whose last use is the mtime of `claim`. `None`
    /// where it has gone meanwhile.
    pub fn new(
        part: Part,
        name: impl Into<String>,
        paths: Vec<PathBuf>,
        claim: PathBuf,
        maker: Option<PathBuf>,
    ) -> Option<Item> {
        let used = fs::symlink_metadata(&claim).ok()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let size =
            paths.iter().fold(0, |sum: u64, path| sum.saturating_add(files::disk_usage(path)));
        Some(Item { part, name: name.into(), size, used, paths, claims: vec![claim], maker })
    }
}

impl Store {
    /// The items of a part in order of their names. Kits are known by the room that makes them.
    pub fn items(&self, part: Part) -> Result<Vec<Item>> {
        let top = self.root().join(part.directory());
        let mut items = match part {
            Part::Artifacts => self.artifact_items()?,
            Part::Layers => layer_items(&top)?,
            Part::Kits => Vec::new(),
            Part::Mirrors => {
                // What nobody can fetch again stays.
                let maker = |name: &str| {
                    let fetched = !name.starts_with(crate::sources::SERIES_MIRROR);
                    fetched.then(|| self.lock_path(&format!("mirror-{name}")))
                };
                plain_items(part, &top, maker)?
            }
            Part::Sources => {
                let maker = |name: &str| {
                    let digest = name.strip_suffix(".part").unwrap_or(name);
                    is_digest(digest).then(|| self.lock_path(&format!("download-{digest}")))
                };
                plain_items(part, &top, maker)?
            }
            Part::Failed => plain_items(part, &top, |name| Some(self.lock_path(name)))?,
            Part::Logs => {
                let key = |name: &str| name.rsplit_once('.').map(|(key, _)| key.to_owned());
                plain_items(part, &top, |name| Some(self.lock_path(&key(name)?)))?
            }
        };
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(items)
    }

    fn artifact_items(&self) -> Result<Vec<Item>> {
        let items = self.keys()?.into_iter().filter_map(|key| {
            let directory = self.artifact_directory(&key);
            let claims = vec![directory.join(INFO)];
            let paths = vec![directory.clone()];
            let item = Item::new(Part::Artifacts, key.as_str(), paths, directory, None)?;
            Some(Item { claims, ..item })
        });
        Ok(items.collect())
    }

    /// Keys of all artifacts, sorted. What is not named like a key is ignored.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for shard in list(&self.root().join("artifacts"))? {
            if shard.is_dir() {
                keys.extend(
                    list(&shard)?.iter().filter_map(|path| name_of(path).parse::<Key>().ok()),
                );
            }
        }
        keys.sort();
        Ok(keys)
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for item in fs::read_dir(directory).context("cannot read", directory)? {
        paths.push(item.context("cannot read", directory)?.path());
    }
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// One item for each name. Where `maker` has no lock for a name, it is none of the part's items.
fn plain_items(
    part: Part,
    top: &Path,
    maker: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Vec<Item>> {
    let items = list(top)?.into_iter().filter_map(|path| {
        let name = name_of(&path);
        let maker = maker(&name)?;
        Item::new(part, name, vec![path.clone()], path, Some(maker))
    });
    Ok(items.collect())
}

/// What outcrop-fs keeps for one archive: an index, perhaps an uncompressed tar, and drafts of them.
/// The empty lock file stays.
fn layer_items(top: &Path) -> Result<Vec<Item>> {
    let mut stems: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in list(top)? {
        let name = name_of(&path);
        let whole = name.split_once(".draft-").map_or(name.as_str(), |(whole, _)| whole);
        let stem = [".index", ".tar"].iter().find_map(|ending| whole.strip_suffix(ending));
        if let Some(stem) = stem {
            stems.entry(stem.to_owned()).or_default().push(path);
        }
    }
    let items = stems.into_iter().filter_map(|(stem, mut paths)| {
        // Without an index the rest is not used.
        paths.sort();
        let index = top.join(format!("{stem}.index"));
        let claim = if paths.contains(&index) { index } else { paths.first()?.clone() };
        let maker = top.join(format!("{stem}.lock"));
        Item::new(Part::Layers, stem, paths, claim, Some(maker))
    });
    Ok(items.collect())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
