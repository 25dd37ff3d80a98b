//! How long builds took, as the store's artifacts say: what a plan expects of the next ones.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::error::Result;
use crate::definitions::Component;
use crate::store::{ArtifactInfo, Store};

/// Seconds that a component is expected to take if nothing like it was built here.
pub const UNKNOWN: f64 = 120.0;

/// Newest durations, by what they were measured of: the nearer, the better.
#[derive(Debug, Default)]
pub struct Durations {
    /// By the component's path and architecture.
    same: HashMap<(String, String), Newest>,
    /// By its path, for another architecture.
    other_architecture: HashMap<String, Newest>,
    /// By its name: it may have been moved.
    name: HashMap<String, Newest>,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    created: u64,
    seconds: f64,
}

impl Durations {
    pub fn of_store(store: &Store) -> Result<Durations> {
        let mut durations = Durations::default();
        for info in store.descriptions()? {
            durations.add(&info?);
        }
        Ok(durations)
    }

    pub fn add(&mut self, info: &ArtifactInfo) {
        let newest = Newest { created: info.created, seconds: info.duration.max(0.0) };
        // An input is kept as canonical JSON.
        let path =
            info.inputs.get("path").and_then(|text| serde_json::from_str::<String>(text).ok());
        if let Some(path) = path {
            put(&mut self.same, (path.clone(), info.arch.clone()), newest);
            put(&mut self.other_architecture, path, newest);
        }
        put(&mut self.name, info.name.clone(), newest);
    }

    /// Seconds that the newest artifact of a component took; `None` if nothing like it was built.
    pub fn expected(&self, component: &Component, arch: &str) -> Option<f64> {
        self.same
            .get(&(component.path.clone(), arch.to_owned()))
            .or_else(|| self.other_architecture.get(&component.path))
            .or_else(|| self.name.get(&component.name))
            .map(|newest| newest.seconds)
    }
}

fn put<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Newest>, key: K, newest: Newest) {
    let entry = map.entry(key).or_insert(newest);
    if newest.created >= entry.created {
        *entry = newest;
    }
}
