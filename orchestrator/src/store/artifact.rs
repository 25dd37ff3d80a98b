//! Artifacts in the store, and the drafts that become artifacts.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};
use super::{Key, Store, files};

pub(super) const TAR: &str = "artifact.tar";
pub(super) const INDEX: &str = "artifact.index";
pub(super) const INFO: &str = "artifact.json";

/// What `artifact.json` says; `docs/store.md` describes the members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    pub key: String,
    pub name: String,
    pub kind: String,
    pub arch: String,
    /// SHA-256 of the tar, 64 hex digits.
    pub digest: String,
    /// Bytes of the tar.
    pub size: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds.
    pub duration: f64,
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// The inputs of each stratum that `inputs` name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strata: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// Of a chunk with a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
}

/// What a chunk was built from. The key covers its content, not where it is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// As the definition says it.
    pub repo: String,
    /// The pinned revision.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The branch that was tracked instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    pub commit: String,
}

/// A published artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    pub tar: PathBuf,
    pub index: PathBuf,
    pub info: ArtifactInfo,
}

/// Reads what a directory holds. `Ok(Err(_))` says why it is not a whole artifact.
pub(super) fn read(directory: &Path) -> Result<Option<Result<Artifact, String>>> {
    let text = match fs::read(directory.join(INFO)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_there = directory.exists();
            return Ok(is_there.then(|| Err(format!("{INFO} is missing"))));
        }
        Err(error) => return Err(Error::io("cannot read", directory.join(INFO), error)),
    };
    let info: ArtifactInfo = match serde_json::from_slice(&text) {
        Ok(info) => info,
        Err(error) => return Ok(Some(Err(format!("{INFO}: {error}")))),
    };
    let (tar, index) = (directory.join(TAR), directory.join(INDEX));
    match fs::metadata(&tar) {
        Ok(meta) if meta.len() == info.size => {}
        Ok(meta) => {
            let (have, want) = (meta.len(), info.size);
            return Ok(Some(Err(format!("{TAR} has {have} bytes instead of {want}"))));
        }
        Err(error) => return Ok(Some(Err(format!("{TAR}: {error}")))),
    }
    if !index.is_file() {
        return Ok(Some(Err(format!("{INDEX} is missing"))));
    }
    Ok(Some(Ok(Artifact { tar, index, info })))
}

/// An artifact in the making: a directory that only this process sees. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    key: Key,
    directory: PathBuf,
}

impl Draft {
    pub(super) fn new(store: Store, key: Key, directory: PathBuf) -> Result<Draft> {
        files::make_directory(&directory)?;
        Ok(Draft { store, key, directory })
    }

    /// Where the tar is to be written.
    pub fn tar_path(&self) -> PathBuf {
        self.directory.join(TAR)
    }

    /// Where the index is to be written.
    pub fn index_path(&self) -> PathBuf {
        self.directory.join(INDEX)
    }

    /// Makes the draft an artifact: durable first, visible then. Where somebody else was first,
    /// theirs is kept and returned.
    pub fn publish(self, info: ArtifactInfo) -> Result<Artifact> {
        self.check(&info)?;
        let text = serde_json::to_vec_pretty(&info).map_err(|error| {
            Error::Invalid(format!("The description of {} cannot be written: {error}.", self.key))
        })?;
        let path = self.directory.join(INFO);
        fs::write(&path, text).context("cannot write", &path)?;
        for name in [TAR, INDEX, INFO] {
            let path = self.directory.join(name);
            files::sync_file(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444))
                .context("cannot change the mode of", &path)?;
        }
        files::sync_directory(&self.directory)?;
        let place = self.store.artifact_directory(&self.key);
        if let Some(parent) = place.parent() {
            files::make_directory(parent)?;
            files::sync_directory(&self.store.root().join("artifacts"))?;
        }
        self.move_to(&place)
    }

    fn check(&self, info: &ArtifactInfo) -> Result<()> {
        if info.key != self.key.as_str() {
            return Err(Error::Invalid(format!(
                "The draft of {} cannot be published as {}.",
                self.key, info.key
            )));
        }
        let tar = self.tar_path();
        let size = fs::metadata(&tar).context("cannot examine", &tar)?.len();
        if size != info.size {
            return Err(Error::Damaged {
                path: tar,
                problem: format!("has {size} bytes, its description says {}", info.size),
            });
        }
        Ok(())
    }

    fn move_to(&self, place: &Path) -> Result<Artifact> {
        loop {
            match fs::rename(&self.directory, place) {
                Ok(()) => {
                    if let Some(parent) = place.parent() {
                        files::sync_directory(parent)?;
                    }
                }
                Err(error) if is_occupied(&error) => {}
                Err(error) => return Err(Error::io("cannot publish", place, error)),
            }
            match read(place)? {
                Some(Ok(artifact)) => return Ok(artifact),
                Some(Err(problem)) => {
                    log::warn!("{}: {problem}; replacing it", place.display());
                    self.store.discard(place)?;
                }
                None => {}
            }
            if !self.directory.exists() {
                return Err(Error::Damaged {
                    path: place.to_owned(),
                    problem: "was removed while it was published".to_owned(),
                });
            }
        }
    }
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.directory) {
            log::warn!("{error}");
        }
    }
}
