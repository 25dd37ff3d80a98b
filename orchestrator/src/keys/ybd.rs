//! Keys as YBD computes them at one of its `artifact-version`s, to recognise that tool's artifacts.
//!
//! The key is `name.` and the SHA-256 of a JSON object with sorted keys, separators `, ` and `: `,
//! and non-ASCII characters escaped. docs/keys.md says how far this goes.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::KeyError;
use super::inputs::{Digest, Style, Value, map};
use crate::definitions::{
    Arch, Chunk, Component, ComponentId, Defaults, Definitions, Detail, Device, MANUAL, StepLists,
    Submodule,
};
use crate::graph::Graph;

/// The version of the formula: YBD's `artifact-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    pub const NEWEST: Version = Version(8);

    pub fn new(number: u32) -> Option<Version> {
        let version = Version(number);
        (version <= Version::NEWEST).then_some(version)
    }

    /// Whether the version is in the key; then the build systems are, too.
    fn is_hashed(self) -> bool {
        self.0 >= 1
    }

    /// Whether a change of any build system changes all keys.
    fn hashes_all_build_systems(self) -> bool {
        self.0 < 2
    }

    /// Whether files go by their whole name, and chunks without a file by theirs alone.
    fn keeps_file_names(self) -> bool {
        self.0 < 4
    }

    /// Whether a system that is loaded later takes the `build-depends` of its strata away.
    fn loses_dependencies(self) -> bool {
        self.0 < 5
    }

    fn hashes_devices(self) -> bool {
        self.0 >= 6
    }

    fn hashes_jobs(self) -> bool {
        self.0 >= 7
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ybd-{}", self.0)
    }
}

/// A key and the text whose digest it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    pub text: String,
}

/// The keys of everything in `graph`, or `None` for a system of another architecture. `tree` gives
/// the git tree id of a chunk with a source.
pub fn keys<E>(
    definitions: &Definitions,
    graph: &Graph,
    arch: Arch,
    version: Version,
    mut tree: impl FnMut(&Component) -> Result<String, E>,
) -> Result<HashMap<ComponentId, Option<Record>>, KeyError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let formula = Formula { definitions, version, bereft: bereft_strata(definitions, version) };
    let mut keys: HashMap<ComponentId, Option<Record>> = HashMap::new();
    for &id in graph.order() {
        let Some(component) = definitions.get(id) else { continue };
        if component.system().is_some_and(|system| system.arch != arch.name) {
            keys.insert(id, None);
            continue;
        }
        let tree = match component.chunk().filter(|chunk| chunk.source.is_some()) {
            Some(_) => Some(tree(component).map_err(|e| KeyError::Source {
                path: component.path.clone(),
                source: e.into(),
            })?),
            None => None,
        };
        let below = graph.dependencies(id).filter(|&below| formula.counts(id, component, below));
        let below = below.filter_map(|below| {
            let key = keys.get(&below).and_then(Option::as_ref);
            let key = key.map_or(Value::Boolean(false), |record| record.key.as_str().into());
            Some((formula.path(definitions.get(below)?), key))
        });
        let mut members: BTreeMap<String, Value> = below.collect();
        formula.own_members(component, tree, &mut members);
        members.insert("arch".to_owned(), arch.name.into());
        let text = Style::Python.write(&Value::Map(members));
        let key = format!("{}.{}", component.name, Digest::of(text.as_bytes()));
        keys.insert(id, Some(Record { key, text }));
    }
    Ok(keys)
}

/// Whether the recipes are those of the definitions: YBD's own, for trees without any, are not
/// reproduced.
pub fn has_recipes(definitions: &Definitions) -> bool {
    definitions.defaults.build_systems != Defaults::default().build_systems
}

/// Strata whose `build-depends` an entry of a system, merged over them, has emptied.
fn bereft_strata(definitions: &Definitions, version: Version) -> HashSet<ComponentId> {
    if !version.loses_dependencies() {
        return HashSet::new();
    }
    let systems = definitions.iter().filter_map(|(id, component)| Some((id, component.system()?)));
    let entries = systems.flat_map(|(id, system)| system.strata.iter().map(move |e| (id, e)));
    // Files are loaded in the order of their ids.
    entries.filter(|(system, e)| *system > e.stratum).map(|(_, entry)| entry.stratum).collect()
}

struct Formula<'a> {
    definitions: &'a Definitions,
    version: Version,
    bereft: HashSet<ComponentId>,
}

impl Formula<'_> {
    /// Whether something that a component is made from is in its key.
    fn counts(&self, id: ComponentId, component: &Component, below: ComponentId) -> bool {
        let depends = component.stratum().is_some_and(|s| s.build_depends.contains(&below));
        !(depends && self.bereft.contains(&id))
    }

    /// What a component goes by in the keys of others.
    fn path(&self, component: &Component) -> String {
        let own_file = component.file.strip_suffix(".morph") == Some(component.path.as_str());
        match (self.version.keeps_file_names(), own_file) {
            (false, _) => component.path.clone(),
            (true, true) => component.file.clone(),
            (true, false) => component.name.clone(),
        }
    }

    fn own_members(
        &self,
        component: &Component,
        tree: Option<String>,
        members: &mut BTreeMap<String, Value>,
    ) {
        let mut set = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
        if self.version.is_hashed() {
            set("artifact-version", self.version.0.into());
            set("default-build-systems", self.build_systems(component));
        }
        if let Some(tree) = tree {
            set("tree", tree.into());
        }
        let Detail::Chunk(chunk) = &component.detail else { return };
        for (name, commands) in chunk.steps.iter().filter(|(_, commands)| !commands.is_empty()) {
            set(name.field(), commands.iter().map(String::as_str).collect());
        }
        if !chunk.devices.is_empty() && self.version.hashes_devices() {
            set("devices", chunk.devices.iter().map(device).collect());
        }
        if let Some(value) = submodules_of(chunk) {
            set("submodules", value);
        }
        if let Some(jobs) = chunk.max_jobs.filter(|_| self.version.hashes_jobs()) {
            set("max-jobs", if jobs == 1 { "single" } else { "parallel" }.into());
        }
    }

    fn build_systems(&self, component: &Component) -> Value {
        let known = &self.definitions.defaults.build_systems;
        if self.version.hashes_all_build_systems() {
            return Value::Map(
                known.keys().map(|name| (name.clone(), self.recipe(name))).collect(),
            );
        }
        let named = component.chunk().and_then(|chunk| chunk.build_system.as_deref());
        self.recipe(named.unwrap_or(MANUAL))
    }

    /// The entry of `DEFAULTS` as written; null for a name that is unknown.
    fn recipe(&self, name: &str) -> Value {
        let Some(system) = self.definitions.defaults.build_systems.get(name) else {
            return Value::Null;
        };
        let mut entry = steps(&system.steps);
        if !system.indicators.is_empty() {
            let indicators = system.indicators.iter().map(String::as_str).collect();
            entry.insert("indicators".to_owned(), indicators);
        }
        Value::Map(entry)
    }
}

fn steps(steps: &StepLists) -> BTreeMap<String, Value> {
    steps
        .iter()
        .map(|(name, list)| (name.field().to_owned(), list.iter().map(String::as_str).collect()))
        .collect()
}

fn device(device: &Device) -> Value {
    map([
        ("type", device.kind.letter().into()),
        ("filename", device.filename.as_str().into()),
        ("major", device.major.into()),
        ("minor", device.minor.into()),
        ("permissions", format!("{:04o}", device.permissions).into()),
        ("uid", device.uid.into()),
        ("gid", device.gid.into()),
    ])
}

fn submodules_of(chunk: &Chunk) -> Option<Value> {
    let submodules = &chunk.source.as_ref()?.submodules;
    (!submodules.is_empty()).then(|| submodules_value(submodules))
}

fn submodules_value(submodules: &BTreeMap<String, Submodule>) -> Value {
    let entries = submodules.iter().map(|(path, submodule)| {
        let mut entry = BTreeMap::from([("url".to_owned(), submodule.url.as_str().into())]);
        if !submodule.submodules.is_empty() {
            entry.insert("submodules".to_owned(), submodules_value(&submodule.submodules));
        }
        (path.clone(), Value::Map(entry))
    });
    Value::Map(entries.collect())
}
