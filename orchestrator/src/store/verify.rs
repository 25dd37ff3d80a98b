//! Reading what the store has again, and how much room it takes.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use outcrop_fs::index::Index;
use outcrop_fs::layer::cache;
use sha2::{Digest, Sha256};

use super::artifact;
use super::error::{Context, Result};
use super::inventory::Part;
use super::key::hex;
use super::{DIRECTORIES, Key, Store, files};

/// What one top directory takes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DirectoryUsage {
    pub name: &'static str,
    /// Bytes on disk.
    pub bytes: u64,
    /// Artifacts, mirrors, logs and so on; `None` where things cannot be counted.
    pub items: Option<usize>,
}

/// What the store takes, by top directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub directories: Vec<DirectoryUsage>,
}

impl Usage {
    /// Bytes on disk.
    pub fn total(&self) -> u64 {
        self.directories.iter().fold(0, |sum, one| sum.saturating_add(one.bytes))
    }
}

/// What reading something again showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Absent,
    /// Why it is not what it should be; a phrase.
    Damaged(String),
}

impl Store {
    pub fn usage(&self) -> Result<Usage> {
        let mut directories = Vec::new();
        for name in DIRECTORIES {
            let items = match Part::ALL.into_iter().find(|part| part.directory() == name) {
                Some(part) if part != Part::Kits => Some(self.items(part)?.len()),
                _ => None,
            };
            let bytes = files::disk_usage(&self.root().join(name));
            directories.push(DirectoryUsage { name, bytes, items });
        }
        Ok(Usage { directories })
    }

    /// Reads an artifact and its index again and compares their digests.
    pub fn verify(&self, key: &Key) -> Result<Verdict> {
        let artifact = match artifact::read(&self.artifact_directory(key))? {
            None => return Ok(Verdict::Absent),
            Some(Err(problem)) => return Ok(Verdict::Damaged(problem)),
            Some(Ok(artifact)) => artifact,
        };
        let mut file = File::open(&artifact.tar).context("cannot open", &artifact.tar)?;
        let digest = sha256(&mut file).context("cannot read", &artifact.tar)?;
        if artifact.info.key != key.as_str() {
            return Ok(Verdict::Damaged(format!("its description is of {}", artifact.info.key)));
        }
        if digest != artifact.info.digest {
            let wanted = &artifact.info.digest;
            return Ok(Verdict::Damaged(format!("its SHA-256 is {digest} instead of {wanted}")));
        }
        Ok(verify_derived(&artifact.index, |index| {
            Index::open(index)?
                .verify()
                .map_err(|fault| fault.into_error(&index.display().to_string()))
        }))
    }

    /// Verifies every artifact, every layer with its uncompressed tar, and every download, telling of
    /// each one: its part, its name, and how it is.
    pub fn verify_all(&self, mut tell: impl FnMut(Part, &str, &Verdict)) -> Result<()> {
        for key in self.keys()? {
            let verdict = self.verify(&key)?;
            tell(Part::Artifacts, key.as_str(), &verdict);
        }
        for item in self.items(Part::Layers)? {
            let index =
                item.paths.iter().find(|path| path.extension().is_some_and(|e| e == "index"));
            if let Some(index) = index {
                tell(Part::Layers, &item.name, &verify_derived(index, cache::verify));
            }
        }
        for item in self.items(Part::Sources)?.iter().filter(|item| !item.name.contains('.')) {
            let Some(path) = item.paths.first() else { continue };
            let verdict = match File::open(path).and_then(|mut file| sha256(&mut file)) {
                Ok(digest) if digest == item.name => Verdict::Good,
                Ok(digest) => Verdict::Damaged(format!("its SHA-256 is {digest}")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Absent,
                Err(error) => Verdict::Damaged(error.to_string()),
            };
            tell(Part::Sources, &item.name, &verdict);
        }
        Ok(())
    }

    /// Takes a damaged artifact, layer or download away, so that it is made or fetched anew.
    /// False where something else happened to it meanwhile, or a process uses it.
    pub fn remove_damaged(&self, part: Part, name: &str) -> Result<bool> {
        match self.items(part)?.into_iter().find(|item| item.name == name) {
            Some(item) => self.remove_unused(&item),
            None => Ok(false),
        }
    }
}

/// What reading an index, and perhaps what belongs to it, shows.
fn verify_derived(index: &Path, read: impl FnOnce(&Path) -> outcrop_fs::Result<()>) -> Verdict {
    if !index.exists() {
        return Verdict::Absent;
    }
    match read(index) {
        Ok(()) => Verdict::Good,
        // It was removed meanwhile.
        Err(_) if !index.exists() => Verdict::Absent,
        Err(error) => Verdict::Damaged(error.to_string()),
    }
}

/// SHA-256 of everything that a reader gives, as 64 hex digits.
pub(crate) fn sha256(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(reader, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}
