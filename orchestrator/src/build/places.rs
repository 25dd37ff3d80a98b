//! Places for guests, and the locks of keys: who waits for another process holds no place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::error::{BuildError, Result};
use crate::store::{Artifact, Key, KeyLock, Store};

/// How often a lock that another process holds is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);

/// As many places as guests may run at once.
pub struct Places {
    all: usize,
    free: Arc<Semaphore>,
    given_back: Notify,
    ending: AtomicBool,
}

/// One of them. Dropping it gives it back.
pub type Place = OwnedSemaphorePermit;

/// What somebody who waited for a key's lock finds.
pub enum Turn {
    /// Build it, and keep both until that is done.
    Ours(KeyLock, Place),
    /// Another process has built it.
    Built(Box<Artifact>),
    /// The run ends.
    Over,
}

impl Places {
    pub fn new(guests: usize) -> Places {
        let all = guests.max(1);
        Places {
            all,
            free: Arc::new(Semaphore::new(all)),
            given_back: Notify::new(),
            ending: AtomicBool::new(false),
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub fn take(&self) -> Option<Place> {
        self.free.clone().try_acquire_owned().ok()
    }

    pub fn taken(&self) -> usize {
        self.all.saturating_sub(self.free.available_permits())
    }

    /// Returns when somebody gave a place back without an end of a build.
    pub async fn given_back(&self) {
        self.given_back.notified().await;
    }

    /// Who waits for another process gives up.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Waits for a key's turn, without a thread, and without a place while another process has the
    /// key; `wait` is called once if so.
    pub async fn turn(
        &self,
        store: &Store,
        key: &Key,
        place: Place,
        wait: impl FnOnce(),
    ) -> Result<Turn> {
        let (lock, place) = match store.try_lock(key)? {
            Some(lock) => (lock, Some(place)),
            None => {
                wait();
                drop(place);
                self.given_back.notify_one();
                match self.lock(store, key).await? {
                    Some(lock) => (lock, None),
                    None => return Ok(Turn::Over),
                }
            }
        };
        // Even without waiting: it may have been built since the plan was made.
        if let Some(artifact) = store.held_artifact(key)? {
            return Ok(Turn::Built(Box::new(artifact)));
        }
        let place = match place {
            Some(place) => place,
            None => self.acquire().await?,
        };
        Ok(if self.ending.load(Ordering::Relaxed) { Turn::Over } else { Turn::Ours(lock, place) })
    }

    async fn lock(&self, store: &Store, key: &Key) -> Result<Option<KeyLock>> {
        while !self.ending.load(Ordering::Relaxed) {
            if let Some(lock) = store.try_lock(key)? {
                return Ok(Some(lock));
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
        Ok(None)
    }

    async fn acquire(&self) -> Result<Place> {
        let permit = self.free.clone().acquire_owned().await;
        permit.map_err(|error| BuildError::Worker(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store, Key) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        (directory, store, Key::new("part", &[7; 32]))
    }

    #[tokio::test]
    async fn who_waits_for_another_process_holds_no_place() {
        let (_directory, store, key) = store();
        let other = store.try_lock(&key).unwrap().unwrap();
        let places = Places::new(1);
        let place = places.take().unwrap();
        assert!(places.take().is_none());
        let turn = places.turn(&store, &key, place, || ());
        tokio::pin!(turn);
        tokio::select! {
            _ = &mut turn => panic!("the key is locked"),
            () = places.given_back() => {}
        }
        // The place goes to another build, and only its end lets this one begin.
        let place = places.take().unwrap();
        drop(other);
        let early = tokio::time::timeout(LOCK_INTERVAL * 3, &mut turn).await;
        assert!(early.is_err(), "it began without a place");
        assert!(store.try_lock(&key).unwrap().is_none());
        drop(place);
        assert!(matches!(turn.await.unwrap(), Turn::Ours(..)));
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn a_run_that_ends_waits_for_nobody() {
        let (_directory, store, key) = store();
        let _other = store.try_lock(&key).unwrap().unwrap();
        let places = Places::new(1);
        let place = places.take().unwrap();
        let turn = places.turn(&store, &key, place, || places.end());
        assert!(matches!(turn.await.unwrap(), Turn::Over));
    }
}
