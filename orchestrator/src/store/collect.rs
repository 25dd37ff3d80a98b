//! Looking over the whole store: sizes, verification, garbage collection.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::artifact::{self, INFO};
use super::error::{Context, Error, Result};
use super::key::hex;
use super::{DIRECTORIES, Key, Store, files, lock};

/// Bytes on disk of each top directory, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub directories: Vec<(&'static str, u64)>,
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.directories.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// What reading an artifact again showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Absent,
    /// Why the artifact is not what it should be; a phrase.
    Damaged(String),
}

/// What garbage collection did; sizes in bytes on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub removed: Vec<Key>,
    pub freed: u64,
    pub left: u64,
}

struct Candidate {
    used: SystemTime,
    key: Key,
    directory: PathBuf,
    size: u64,
}

impl Store {
    pub fn usage(&self) -> Usage {
        let directories = DIRECTORIES
            .iter()
            .map(|name| (*name, files::disk_usage(&self.root().join(name))))
            .collect();
        Usage { directories }
    }

    /// Keys of all artifacts, sorted. What is not named like a key is ignored.
    pub fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        let top = self.root().join("artifacts");
        for shard in fs::read_dir(&top).context("cannot read", &top)? {
            let shard = shard.context("cannot read", &top)?.path();
            if !shard.is_dir() {
                continue;
            }
            for item in fs::read_dir(&shard).context("cannot read", &shard)? {
                let name = item.context("cannot read", &shard)?.file_name();
                keys.extend(name.to_str().and_then(|name| name.parse::<Key>().ok()));
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Reads an artifact again and compares its SHA-256.
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
        if digest == artifact.info.digest {
            Ok(Verdict::Good)
        } else {
            let wanted = &artifact.info.digest;
            Ok(Verdict::Damaged(format!("its SHA-256 is {digest} instead of {wanted}")))
        }
    }

    /// Verifies every artifact, telling of each one.
    pub fn verify_all(&self, mut tell: impl FnMut(&Key, &Verdict)) -> Result<()> {
        for key in self.keys()? {
            let verdict = self.verify(&key)?;
            tell(&key, &verdict);
        }
        Ok(())
    }

    /// Removes artifacts by least recent use until those left take at most `budget` bytes of disk.
    /// Artifacts in `keep` or held by a process stay, even if the budget is then exceeded.
    pub fn gc(&self, budget: u64, keep: &HashSet<Key>) -> Result<Collected> {
        let mut candidates = Vec::new();
        for key in self.keys()? {
            let directory = self.artifact_directory(&key);
            let Ok(meta) = fs::metadata(&directory) else { continue };
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let size = files::disk_usage(&directory);
            candidates.push(Candidate { used, key, directory, size });
        }
        candidates.sort_by(|a, b| (a.used, &a.key).cmp(&(b.used, &b.key)));
        let total = candidates.iter().fold(0, |sum: u64, one| sum.saturating_add(one.size));
        let mut done = Collected { left: total, ..Collected::default() };
        for one in candidates {
            if done.left <= budget {
                break;
            }
            if keep.contains(&one.key) || !self.remove_unless_held(&one)? {
                continue;
            }
            done.left = done.left.saturating_sub(one.size);
            done.freed = done.freed.saturating_add(one.size);
            done.removed.push(one.key);
        }
        self.remove_free_locks()?;
        Ok(done)
    }

    fn remove_unless_held(&self, one: &Candidate) -> Result<bool> {
        let info = one.directory.join(INFO);
        let claim = match lock::try_claim(&info) {
            Ok(None) => return Ok(false),
            Ok(Some(claim)) => Some(claim),
            // Not a whole artifact: nobody can hold it.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.discard(&one.directory)?;
        drop(claim);
        Ok(true)
    }

    fn remove_free_locks(&self) -> Result<()> {
        let locks = self.root().join("locks");
        for item in fs::read_dir(&locks).context("cannot read", &locks)? {
            let path = item.context("cannot read", &locks)?.path();
            if let Some(lock) = lock::FileLock::try_take(&path)? {
                lock.remove()?;
            }
        }
        Ok(())
    }
}

/// SHA-256 of everything that a reader gives, as 64 hex digits.
pub(crate) fn sha256(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(reader, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}
