//! Repositories: handles of them, and what a revision names.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Repository};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::node::Timestamp;

/// Handles of one repository: a handle may move between threads but not be shared by them.
pub struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Repository>>,
}

impl Pool {
    pub fn new(path: &Path, idle: Vec<Repository>) -> Pool {
        Pool { path: path.to_owned(), idle: Mutex::new(idle) }
    }

    pub fn with<T>(&self, work: impl FnOnce(&Repository) -> T) -> Result<T> {
        let idle = self.idle.lock().pop();
        let repo = match idle {
            Some(repo) => repo,
            None => open_repository(&self.path)?,
        };
        let done = work(&repo);
        self.idle.lock().push(repo);
        Ok(done)
    }
}

pub fn open_repository(path: &Path) -> Result<Repository> {
    Repository::open(path).map_err(|source| {
        let hint = if source.code() == git2::ErrorCode::Owner {
            ": it belongs to another user; allow it with \
             `git config --global --add safe.directory` and its path"
        } else {
            ""
        };
        Error::Invalid(format!(
            "{}: cannot open the git repository{hint}: {}.",
            path.display(),
            source.message()
        ))
    })
}

/// The tree that a revision names, and the time of its commit (the epoch for a bare tree).
pub fn resolve(repo: &Repository, path: &Path, revision: &str) -> Result<(Oid, Timestamp)> {
    let object = repo.revparse_single(revision).map_err(|_| {
        let hint = near_matches(repo, revision);
        Error::Invalid(format!(
            "{}: there is no revision {revision} in this repository.{hint}",
            path.display()
        ))
    })?;
    if let Ok(commit) = object.peel_to_commit() {
        let time = Timestamp::new(commit.committer().when().seconds(), 0);
        return Ok((commit.tree_id(), time));
    }
    let tree = object.peel_to_tree().map_err(|_| {
        Error::Invalid(format!(
            "{}: {revision} is neither a commit nor a tree; name a branch, a tag or a commit.",
            path.display()
        ))
    })?;
    Ok((tree.id(), Timestamp::EPOCH))
}

/// A sentence, with a blank before it, that names up to five branches and tags that contain the
/// revision, or are contained in it; empty where there is none.
pub fn near_matches(repo: &Repository, revision: &str) -> String {
    let wanted = revision.to_ascii_lowercase();
    let Ok(references) = repo.references() else { return String::new() };
    let near: Vec<String> = references
        .flatten()
        .filter_map(|reference| reference.shorthand().ok().map(str::to_owned))
        .filter(|name| {
            let name = name.to_ascii_lowercase();
            name.len() > 2 && (name.contains(&wanted) || wanted.contains(&name))
        })
        .take(5)
        .collect();
    match near.is_empty() {
        true => String::new(),
        false => format!(" Near matches: {}.", near.join(", ")),
    }
}

pub fn find_directory(repo: &Repository, root: Oid, place: &str) -> Option<Oid> {
    let mut tree = repo.find_tree(root).ok()?;
    for name in place.split('/').filter(|name| !name.is_empty()) {
        let id = tree.get_name(name).filter(|e| e.kind() == Some(ObjectType::Tree))?.id();
        tree = repo.find_tree(id).ok()?;
    }
    Some(tree.id())
}
