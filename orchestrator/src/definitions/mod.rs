//! Baserock definitions: YAML in, a checked model out (docs/definitions.md).
//!
//! ```text
//! files ─► yaml (serde_yaml) ─► raw shapes ─► resolve ─► Definitions
//!             └─ on trouble: node, decode ─► Problems with line and column
//! ```
//!
//! Everything is pure except [`load`], which reads the files.

#![forbid(unsafe_code)]

mod arch;
mod assembly;
mod check;
mod chunk;
mod decode;
mod defaults;
mod environment;
mod integration;
pub mod load;
mod model;
mod node;
mod problem;
mod raw;
mod reference;
mod resolve;
mod select;
mod split;
mod steps;
mod stratum;
#[cfg(test)]
pub(crate) mod tests;
mod yaml;

use std::collections::HashMap;

pub use arch::Arch;
pub use defaults::{BuildSystem, Defaults, MANUAL};
pub use environment::{BASE_PATH, ENVIRONMENT_VERSION, EnvironmentInputs, environment};
pub use integration::{IntegrationConflict, IntegrationStep};
pub use model::{
    BuildMode, Chunk, Cluster, ClusterSystem, Component, ComponentId, DEFAULT_PREFIX, Deployment,
    Detail, Device, DeviceKind, Kind, Member, Parameter, Source, SplitRule, Stratum, Submodule,
    System, SystemStratum,
};
pub(crate) use problem::nearest;
pub use problem::{Problem, Problems, Severity};
pub use reference::{FilesAgain, Place};
pub use resolve::{Files, TextFile};
pub use select::TargetError;
pub use split::{Selection, Splitter};
pub use steps::{Plan, Step, StepLists, StepName};

/// How strictly definitions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    #[default]
    Strict,
    /// What YBD put up with is a warning, and means what it meant there. What is no error otherwise
    /// means the same in both.
    Compatible,
}

/// A whole definitions tree, checked, with all references resolved.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// The number in `VERSION`; 0 without one.
    pub version: u32,
    pub reading: Reading,
    pub defaults: Defaults,
    /// What is odd but usable.
    pub warnings: Vec<Problem>,
    components: Vec<Component>,
    by_path: HashMap<String, ComponentId>,
}

/// How a chunk's build system is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildSystemChoice<'a> {
    /// By name; it exists in [`Defaults::build_systems`].
    Named(&'a str),
    /// By [`Defaults::detect`] on the top directory of the source (versions before 6).
    Detect,
}

impl Definitions {
    /// Checks and resolves the files of a tree. Nothing is returned if there is any error.
    pub fn parse(files: &Files, reading: Reading) -> Result<Definitions, Problems> {
        let (mut definitions, problems) = Definitions::examine(files, reading);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(Problems(problems));
        }
        definitions.warnings = problems;
        Ok(definitions)
    }

    /// What can be understood of a tree, and everything that is wrong with its files.
    pub fn examine(files: &Files, reading: Reading) -> (Definitions, Vec<Problem>) {
        resolve::resolve(files, reading)
    }

    pub fn get(&self, id: ComponentId) -> Option<&Component> {
        self.components.get(id.index())
    }

    /// The component with this identity (no `.morph`).
    pub fn find(&self, path: &str) -> Option<ComponentId> {
        self.by_path.get(path).copied()
    }

    /// All components: files in load order, then chunks without a file in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (ComponentId, &Component)> {
        (0u32..).map(ComponentId).zip(&self.components)
    }

    pub fn len(&self) -> usize {
        self.components.len()
    }

    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// The identity of a component; empty for an id of other definitions.
    pub fn path_of(&self, id: ComponentId) -> &str {
        self.get(id).map_or("", |component| component.path.as_str())
    }

    /// Which build system a chunk uses.
    pub fn build_system<'a>(&self, chunk: &'a Chunk) -> BuildSystemChoice<'a> {
        match &chunk.build_system {
            Some(name) => BuildSystemChoice::Named(name),
            None if self.version < 6 || chunk.detected => BuildSystemChoice::Detect,
            None => BuildSystemChoice::Named(MANUAL),
        }
    }

    /// The build system that a chunk names and that does not exist, so that it cannot be built: only
    /// where definitions are read as YBD did.
    pub fn unknown_build_system<'a>(&self, chunk: &'a Chunk) -> Option<&'a str> {
        self.defaults.unknown(chunk)
    }

    /// What is done to build a chunk. `top_directory` names the entries of its source's top
    /// directory, for [`BuildSystemChoice::Detect`]; it is not looked at otherwise.
    pub fn plan(&self, chunk: &Chunk, top_directory: &[&str]) -> Plan {
        let name = match self.build_system(chunk) {
            BuildSystemChoice::Named(name) => name,
            BuildSystemChoice::Detect => self.defaults.detect(top_directory),
        };
        let none = BuildSystem::default();
        Plan::new(&chunk.steps, self.defaults.build_systems.get(name).unwrap_or(&none))
    }
}
