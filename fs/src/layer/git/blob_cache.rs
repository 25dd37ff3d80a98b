//! Blobs that were inflated a moment ago.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use git2::Oid;

/// Inflated blobs that are kept, in bytes, so that a file read in pieces is inflated once.
const BLOB_CACHE_BYTES: usize = 16 << 20;

/// Inflated blobs by least recent use. The newest is kept however large it is.
#[derive(Default)]
pub(super) struct BlobCache {
    blobs: HashMap<Oid, (Arc<[u8]>, u64)>,
    by_use: BTreeMap<u64, Oid>,
    bytes: usize,
    clock: u64,
}

impl BlobCache {
    pub(super) fn get(&mut self, oid: Oid) -> Option<Arc<[u8]>> {
        let (content, used) = self.blobs.get_mut(&oid)?;
        self.by_use.remove(used);
        self.clock = self.clock.wrapping_add(1);
        *used = self.clock;
        self.by_use.insert(self.clock, oid);
        Some(content.clone())
    }

    pub(super) fn insert(&mut self, oid: Oid, content: Arc<[u8]>) {
        if self.get(oid).is_some() {
            return;
        }
        while self.bytes.saturating_add(content.len()) > BLOB_CACHE_BYTES {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((dropped, _)) = self.blobs.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(dropped.len());
            }
        }
        self.clock = self.clock.wrapping_add(1);
        self.bytes = self.bytes.saturating_add(content.len());
        self.by_use.insert(self.clock, oid);
        self.blobs.insert(oid, (content, self.clock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blob_cache_keeps_to_its_budget_and_the_newest() {
        let mut cache = BlobCache::default();
        let oid = |n: u8| Oid::from_bytes(&[n; 20]).unwrap();
        for n in 0..10 {
            cache.insert(oid(n), vec![n; 4 << 20].into());
            cache.get(oid(0));
            assert!(cache.bytes <= BLOB_CACHE_BYTES);
        }
        assert!(cache.get(oid(0)).is_some(), "used all the time");
        assert!(cache.get(oid(9)).is_some(), "the newest");
        assert!(cache.get(oid(1)).is_none());
        cache.insert(oid(100), vec![0; BLOB_CACHE_BYTES + 1].into());
        assert!(cache.get(oid(100)).is_some());
        assert_eq!(cache.blobs.len(), 1);
        assert_eq!(cache.by_use.len(), 1);
    }
}
