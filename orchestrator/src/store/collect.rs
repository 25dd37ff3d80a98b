//! Garbage collection: the least recently used goes until the rest fits into a budget.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::error::{Context, Error, Result};
use super::inventory::{Item, Part};
use super::lock::{self, FileLock};
use super::{Store, files};

/// What a collection is asked for.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Bytes on disk that the whole store may take.
    pub budget: u64,
    /// The parts that may be removed from; empty: all.
    pub only: Vec<Part>,
    /// Items that the store cannot find by itself: unused kits.
    pub more: Vec<Item>,
    /// Beginnings of the keys of artifacts that stay.
    pub keep: Vec<String>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What a collection did, or would do; sizes in bytes on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub removed: Vec<Item>,
    pub freed: u64,
    /// What the whole store takes now.
    pub left: u64,
    /// What stays because a process uses it, as far as it was looked at.
    pub in_use: usize,
}

/// Keeps an item's users and makers out while it is removed.
struct Claim {
    _maker: Option<FileLock>,
    _users: Vec<File>,
}

impl Store {
    /// Removes items by least recent use until the store takes at most the budget. What a process
    /// makes or holds stays, even if the budget is then exceeded.
    pub fn gc(&self, collection: &Collection) -> Result<Collected> {
        let mut items = collection.more.clone();
        for part in Part::ALL {
            items.extend(self.items(part)?);
        }
        items.retain(|item| collection.only.is_empty() || collection.only.contains(&item.part));
        items.retain(|item| {
            let kept = collection.keep.iter().any(|key| item.name.starts_with(key.as_str()));
            item.part != Part::Artifacts || !kept
        });
        items.sort_by(|a, b| (a.used, a.part, &a.name).cmp(&(b.used, b.part, &b.name)));
        let left = files::disk_usage(self.root());
        let mut done = Collected { left, ..Collected::default() };
        for item in items {
            if done.left <= collection.budget {
                break;
            }
            let removed = match collection.dry_run {
                true => claim(&item)?.is_some(),
                false => self.remove_unused(&item)?,
            };
            if !removed {
                done.in_use = done.in_use.saturating_add(1);
                continue;
            }
            done.left = done.left.saturating_sub(item.size);
            done.freed = done.freed.saturating_add(item.size);
            done.removed.push(item);
        }
        if !collection.dry_run {
            self.remove_free_locks()?;
        }
        Ok(done)
    }

    /// Removes an item; false where a process makes or uses it.
    pub fn remove_unused(&self, item: &Item) -> Result<bool> {
        let Some(claim) = claim(item)? else { return Ok(false) };
        item.paths.iter().try_for_each(|path| self.discard(path))?;
        drop(claim);
        Ok(true)
    }

    fn remove_free_locks(&self) -> Result<()> {
        let locks = self.root().join("locks");
        for item in fs::read_dir(&locks).context("cannot read", &locks)? {
            let path = item.context("cannot read", &locks)?.path();
            if let Some(lock) = FileLock::try_take(&path)? {
                lock.remove()?;
            }
        }
        Ok(())
    }
}

/// `None` while a process makes or uses the item.
fn claim(item: &Item) -> Result<Option<Claim>> {
    if item.part == Part::Logs && is_of_a_living_server(&item.name) {
        return Ok(None);
    }
    let maker = match &item.maker {
        Some(path) => match FileLock::try_take(path)? {
            Some(lock) => Some(lock),
            None => return Ok(None),
        },
        None => None,
    };
    let mut users = Vec::new();
    for path in &item.claims {
        match lock::try_claim(path) {
            Ok(Some(file)) => users.push(file),
            Ok(None) => return Ok(None),
            // Not whole, or gone: nobody can hold it.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Claim { _maker: maker, _users: users }))
}

/// `mount-PROCESS.log` is written as long as the process serves.
fn is_of_a_living_server(name: &str) -> bool {
    let process = name.strip_prefix("mount-").and_then(|rest| rest.split_once('.'));
    process.is_some_and(|(process, _)| Path::new("/proc").join(process).exists())
}
