//! Cache keys of components (docs/keys.md).

#![forbid(unsafe_code)]

mod component;
pub mod explain;
#[cfg(test)]
mod explain_tests;
mod inputs;
#[cfg(test)]
mod sensitivity_tests;
#[cfg(test)]
mod tests;
pub mod ybd;
#[cfg(test)]
mod ybd_tests;

use std::collections::{BTreeMap, HashMap};

pub use inputs::{Change, Digest, Key, KeyInputs, Value};

use crate::definitions::{
    Arch, Component, ComponentId, Definitions, Detail, IntegrationConflict, Kind,
};
use crate::graph::Graph;

/// Name of the key format; part of every key.
pub const FORMAT: &str = "outcrop-key-1";

/// Name and version of the default stripping; part of the keys of chunks that use it.
pub const STRIP: &str = "in-process-3";

/// Version of what selecting artifacts means; part of the keys of systems that do.
pub const SELECTION: &str = "paths-1";

/// What a chunk is built from, as its source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Id of the git tree, hexadecimal.
    pub tree: String,
    /// Committer time, in seconds since 1970.
    pub time: i64,
}

/// What keys depend on besides definitions and sources.
#[derive(Clone, Copy)]
pub struct KeyContext<'a> {
    pub arch: Arch,
    /// Digest of the kit that a component's commands run in. It may differ between components:
    /// a kit can be restricted to bootstrap chunks.
    pub kit: &'a dyn Fn(&Component) -> String,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the source of {path}: {source}")]
    Source {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the system {path} is for {found}, but {wanted} was asked for")]
    WrongArch { path: String, found: String, wanted: &'static str },
    #[error(transparent)]
    Integration(#[from] IntegrationConflict),
    #[error("{path} is not part of the graph")]
    Incomplete { path: String },
}

/// A component's key and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub key: Key,
    pub inputs: KeyInputs,
}

/// The keys of a graph's components.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    records: HashMap<ComponentId, KeyRecord>,
    /// Staging digests of strata, with their inputs.
    staging: HashMap<ComponentId, (Digest, KeyInputs)>,
}

impl Keys {
    /// The keys of everything in `graph`. `source` is asked once for each chunk with a source.
    pub fn compute<E>(
        definitions: &Definitions,
        graph: &Graph,
        context: &KeyContext<'_>,
        mut source: impl FnMut(&Component) -> Result<SourceIdentity, E>,
    ) -> Result<Keys, KeyError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut keys = Keys::default();
        for &id in graph.order() {
            let Some(component) = definitions.get(id) else { continue };
            let identity = match component.chunk().filter(|chunk| chunk.source.is_some()) {
                Some(_) => Some(source(component).map_err(|e| KeyError::Source {
                    path: component.path.clone(),
                    source: e.into(),
                })?),
                None => None,
            };
            let inputs = keys.inputs_of(definitions, context, id, component, identity.as_ref())?;
            if component.kind() == Kind::Stratum {
                let staging = keys.staging_inputs(definitions, component)?;
                keys.staging.insert(id, (staging.digest(), staging));
            }
            let key = Key { name: component.name.clone(), digest: inputs.digest() };
            keys.records.insert(id, KeyRecord { key, inputs });
        }
        Ok(keys)
    }

    pub fn get(&self, id: ComponentId) -> Option<&KeyRecord> {
        self.records.get(&id)
    }

    pub fn key(&self, id: ComponentId) -> Option<&Key> {
        self.get(id).map(|record| &record.key)
    }

    /// What dependents see of a stratum, and what it was made of.
    pub fn staging(&self, id: ComponentId) -> Option<&(Digest, KeyInputs)> {
        self.staging.get(&id)
    }

    /// What went into the strata that a component's inputs name, by their keys or staging digests
    /// there: strata have no artifacts that could tell it later.
    pub fn strata_below(&self, component: &Component) -> BTreeMap<String, &KeyInputs> {
        match &component.detail {
            Detail::Chunk(chunk) => {
                let strata = chunk.build_depends.iter().filter_map(|&id| self.staging(id));
                strata.map(|(digest, inputs)| (digest.to_string(), inputs)).collect()
            }
            Detail::System(system) => {
                let strata = system.strata.iter().filter_map(|entry| self.get(entry.stratum));
                strata.map(|record| (record.key.to_string(), &record.inputs)).collect()
            }
            Detail::Stratum(_) | Detail::Cluster(_) => BTreeMap::new(),
        }
    }
}
