//! Keys as YBD computes them at `artifact-version: 8`, to recognise that tool's artifacts.
//!
//! The key is `name.` and the SHA-256 of a JSON object with sorted keys, separators `, ` and `: `,
//! and non-ASCII characters escaped. docs/keys.md says how far this goes.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use super::KeyError;
use super::inputs::{Digest, Style, Value, map};
use crate::definitions::{
    Arch, Chunk, Component, ComponentId, Definitions, Detail, Device, MANUAL, StepLists, Submodule,
};
use crate::graph::Graph;

/// The version of the formula.
const ARTIFACT_VERSION: u32 = 8;

/// The keys of everything in `graph`: `name.digest`, or `None` for a system of another
/// architecture. `tree` gives the git tree id of a chunk with a source.
pub fn keys<E>(
    definitions: &Definitions,
    graph: &Graph,
    arch: Arch,
    mut tree: impl FnMut(&Component) -> Result<String, E>,
) -> Result<HashMap<ComponentId, Option<String>>, KeyError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut keys: HashMap<ComponentId, Option<String>> = HashMap::new();
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
        let below = graph.dependencies(id).map(|below| {
            let key = keys.get(&below).cloned().flatten();
            (definitions.path_of(below).to_owned(), key.map_or(Value::Boolean(false), Value::Text))
        });
        let mut members: BTreeMap<String, Value> = below.collect();
        own_members(definitions, component, tree, &mut members);
        members.insert("arch".to_owned(), arch.name.into());
        members.insert("artifact-version".to_owned(), ARTIFACT_VERSION.into());
        let text = Style::Python.write(&Value::Map(members));
        keys.insert(id, Some(format!("{}.{}", component.name, Digest::of(text.as_bytes()))));
    }
    Ok(keys)
}

fn own_members(
    definitions: &Definitions,
    component: &Component,
    tree: Option<String>,
    members: &mut BTreeMap<String, Value>,
) {
    let mut set = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    let named = component.chunk().and_then(|chunk| chunk.build_system.as_deref());
    set("default-build-systems", build_system(definitions, named.unwrap_or(MANUAL)));
    if let Some(tree) = tree {
        set("tree", tree.into());
    }
    let Detail::Chunk(chunk) = &component.detail else { return };
    for (name, commands) in chunk.steps.iter().filter(|(_, commands)| !commands.is_empty()) {
        set(name.field(), commands.iter().map(String::as_str).collect());
    }
    if !chunk.devices.is_empty() {
        set("devices", chunk.devices.iter().map(device).collect());
    }
    if let Some(value) = submodules_of(chunk) {
        set("submodules", value);
    }
    if let Some(jobs) = chunk.max_jobs {
        set("max-jobs", if jobs == 1 { "single" } else { "parallel" }.into());
    }
}

/// The entry of `DEFAULTS` as written; null for a name that is unknown.
fn build_system(definitions: &Definitions, name: &str) -> Value {
    match definitions.defaults.build_systems.get(name) {
        Some(system) => {
            let mut entry = steps(&system.steps);
            if !system.indicators.is_empty() {
                let indicators = system.indicators.iter().map(String::as_str).collect();
                entry.insert("indicators".to_owned(), indicators);
            }
            Value::Map(entry)
        }
        None => Value::Null,
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
