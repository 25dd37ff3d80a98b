//! The inputs of each kind of component.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::inputs::{KeyInputs, Value, map};
use super::{FORMAT, KeyContext, KeyError, Keys, SELECTION, STRIP, SourceIdentity};
use crate::definitions::{
    BuildSystemChoice, Chunk, ClusterSystem, Component, ComponentId, Definitions, Detail, Device,
    ENVIRONMENT_VERSION, MANUAL, Parameter, Plan, SplitRule, Step, StepLists, Stratum, System,
};

impl Keys {
    pub(super) fn inputs_of(
        &self,
        definitions: &Definitions,
        context: &KeyContext<'_>,
        id: ComponentId,
        component: &Component,
        source: Option<&SourceIdentity>,
    ) -> Result<KeyInputs, KeyError> {
        let mut fields = Fields::new(component.kind().name(), &component.path);
        fields.set("name", component.name.as_str().into());
        fields.set("arch", context.arch.name.into());
        if matches!(component.detail, Detail::Chunk(_) | Detail::System(_)) {
            fields.set("kit", (context.kit)(component).into());
            fields.set("environment", ENVIRONMENT_VERSION.into());
        }
        match &component.detail {
            Detail::Chunk(chunk) => self.chunk(definitions, chunk, source, &mut fields)?,
            Detail::Stratum(stratum) => self.stratum(definitions, stratum, &mut fields)?,
            Detail::System(system) => {
                if system.arch != context.arch.name {
                    return Err(KeyError::WrongArch {
                        path: component.path.clone(),
                        found: system.arch.clone(),
                        wanted: context.arch.name,
                    });
                }
                self.system(definitions, id, system, &mut fields)?;
            }
            Detail::Cluster(cluster) => {
                let systems = self.cluster_systems(definitions, &cluster.systems)?;
                fields.set("systems", systems);
            }
        }
        Ok(fields.0)
    }

    fn chunk(
        &self,
        definitions: &Definitions,
        chunk: &Chunk,
        source: Option<&SourceIdentity>,
        fields: &mut Fields,
    ) -> Result<(), KeyError> {
        let source = source.map_or(Value::Null, |source| {
            map([("tree", source.tree.as_str().into()), ("time", Value::Number(source.time))])
        });
        fields.set("source", source);
        let plan = match definitions.build_system(chunk) {
            BuildSystemChoice::Named(name) => {
                fields.set("build-system", name.into());
                definitions.plan(chunk, &[])
            }
            BuildSystemChoice::Detect => {
                fields.set("build-system", Value::Null);
                fields.set("recipes", recipes(definitions));
                Plan::new(&chunk.steps, &Default::default())
            }
        };
        fields.set("steps", plan.steps.iter().map(step).collect());
        fields.set("strip", if plan.strip_in_process { STRIP } else { "none" }.into());
        fields.set("prefix", chunk.prefix().into());
        fields.set("build-mode", chunk.build_mode.name().into());
        let single = chunk.max_jobs == Some(1);
        fields.set("max-jobs", if single { "single" } else { "parallel" }.into());
        fields.set("devices", chunk.devices.iter().map(device).collect());
        let dependencies = chunk.build_depends.iter().map(|&id| self.dependency(definitions, id));
        fields.set("dependencies", Value::Map(dependencies.collect::<Result<_, _>>()?));
        Ok(())
    }

    /// What a dependent sees of a component: the key of a chunk, the staging digest of a stratum.
    fn dependency(
        &self,
        definitions: &Definitions,
        id: ComponentId,
    ) -> Result<(String, Value), KeyError> {
        let path = definitions.path_of(id).to_owned();
        let value = match self.staging.get(&id) {
            Some((digest, _)) => digest.to_string().into(),
            None => self.key_text(definitions, id)?,
        };
        Ok((path, value))
    }

    fn key_text(&self, definitions: &Definitions, id: ComponentId) -> Result<Value, KeyError> {
        let missing = || KeyError::Incomplete { path: definitions.path_of(id).to_owned() };
        Ok(self.key(id).ok_or_else(missing)?.to_string().into())
    }

    pub(super) fn staging_inputs(
        &self,
        definitions: &Definitions,
        component: &Component,
    ) -> Result<KeyInputs, KeyError> {
        let mut fields = Fields::new("staging-set", &component.path);
        if let Detail::Stratum(stratum) = &component.detail {
            let members = stratum.members.iter().map(|m| self.dependency(definitions, m.chunk));
            fields.set("members", Value::Map(members.collect::<Result<_, _>>()?));
            let below = stratum.build_depends.iter().map(|&id| self.dependency(definitions, id));
            fields.set("dependencies", Value::Map(below.collect::<Result<_, _>>()?));
        }
        Ok(fields.0)
    }

    fn stratum(
        &self,
        definitions: &Definitions,
        stratum: &Stratum,
        fields: &mut Fields,
    ) -> Result<(), KeyError> {
        let mut members = BTreeMap::new();
        for member in &stratum.members {
            let products = definitions
                .get(member.chunk)
                .and_then(Component::chunk)
                .map_or(&[][..], |chunk| &chunk.products);
            let artifacts =
                member.artifacts.iter().map(|(from, to)| (from.clone(), to.as_str().into()));
            let value = map([
                ("key", self.key_text(definitions, member.chunk)?),
                ("artifacts", Value::Map(artifacts.collect())),
                ("products", rules(products)),
            ]);
            members.insert(definitions.path_of(member.chunk).to_owned(), value);
        }
        fields.set("members", Value::Map(members));
        fields.set("products", rules(&stratum.products));
        let defaults = &definitions.defaults;
        let split_rules = map([
            ("chunk", rules(&defaults.chunk_rules)),
            ("stratum", rules(&defaults.stratum_rules)),
        ]);
        fields.set("split-rules", split_rules);
        Ok(())
    }

    fn system(
        &self,
        definitions: &Definitions,
        id: ComponentId,
        system: &System,
        fields: &mut Fields,
    ) -> Result<(), KeyError> {
        let mut strata = Vec::with_capacity(system.strata.len());
        for entry in &system.strata {
            let path = definitions.path_of(entry.stratum);
            let mut selection = entry.artifacts.clone();
            if let Some(names) = &mut selection {
                names.sort();
                names.dedup();
            }
            let key = self.key_text(definitions, entry.stratum)?;
            strata.push((path, selection, key));
        }
        strata.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let strata = strata.into_iter().map(|(path, selection, key)| {
            let artifacts = selection.map_or(Value::Null, Value::from_iter);
            map([("path", path.into()), ("key", key), ("artifacts", artifacts)])
        });
        fields.set("strata", strata.collect());
        if system.strata.iter().any(|entry| entry.artifacts.is_some()) {
            fields.set("selection", SELECTION.into());
        }
        let integration = definitions.integration(id)?;
        let integration = integration.into_iter().map(|step| {
            map([("key", step.key.into()), ("commands", Value::from_iter(step.commands))])
        });
        fields.set("integration", integration.collect());
        Ok(())
    }

    fn cluster_systems(
        &self,
        definitions: &Definitions,
        entries: &[ClusterSystem],
    ) -> Result<Value, KeyError> {
        let mut systems = Vec::with_capacity(entries.len());
        for entry in entries {
            let deployments = entry.deployments.iter().map(|deployment| {
                let parameters =
                    deployment.parameters.iter().map(|(k, v)| (k.clone(), parameter(v)));
                (deployment.label.clone(), Value::Map(parameters.collect()))
            });
            systems.push(map([
                ("path", definitions.path_of(entry.system).into()),
                ("key", self.key_text(definitions, entry.system)?),
                ("deployments", Value::Map(deployments.collect())),
                ("subsystems", self.cluster_systems(definitions, &entry.subsystems)?),
            ]));
        }
        Ok(Value::List(systems))
    }
}

/// Inputs under construction, with the fields that everything has.
struct Fields(KeyInputs);

impl Fields {
    fn new(kind: &str, path: &str) -> Fields {
        let mut fields = Fields(KeyInputs(BTreeMap::new()));
        fields.set("format", FORMAT.into());
        fields.set("kind", kind.into());
        fields.set("path", path.into());
        fields
    }

    fn set(&mut self, name: &str, value: Value) {
        self.0.0.insert(name.to_owned(), value);
    }
}

fn texts(items: &[String]) -> Value {
    items.iter().map(String::as_str).collect()
}

fn step(step: &Step) -> Value {
    map([("name", step.name.label().into()), ("commands", texts(&step.commands))])
}

fn device(device: &Device) -> Value {
    map([
        ("type", device.kind.letter().into()),
        ("filename", device.filename.as_str().into()),
        ("major", device.major.into()),
        ("minor", device.minor.into()),
        ("permissions", u32::from(device.permissions).into()),
        ("uid", device.uid.into()),
        ("gid", device.gid.into()),
    ])
}

fn rules(rules: &[SplitRule]) -> Value {
    let rules = rules.iter().map(|rule| {
        map([("artifact", rule.artifact.as_str().into()), ("include", texts(&rule.include))])
    });
    rules.collect()
}

fn step_lists(steps: &StepLists) -> Value {
    let steps = steps.iter().map(|(name, commands)| (name.label().to_owned(), texts(commands)));
    Value::Map(steps.collect())
}

/// Everything that detection may choose from, for trees of versions before 6.
fn recipes(definitions: &Definitions) -> Value {
    let systems = definitions.defaults.build_systems.iter().map(|(name, system)| {
        let value = map([
            ("steps", step_lists(&system.steps)),
            ("indicators", texts(&system.indicators)),
            ("strip", if system.strip { STRIP } else { "none" }.into()),
        ]);
        (name.clone(), value)
    });
    let mut systems: BTreeMap<String, Value> = systems.collect();
    systems.entry(MANUAL.to_owned()).or_insert(Value::Null);
    Value::Map(systems)
}

fn parameter(value: &Parameter) -> Value {
    match value {
        Parameter::Null => Value::Null,
        Parameter::Boolean(value) => Value::Boolean(*value),
        Parameter::Text(text) => text.as_str().into(),
        Parameter::List(items) => Value::List(items.iter().map(parameter).collect()),
        Parameter::Map(entries) => {
            Value::Map(entries.iter().map(|(k, v)| (k.clone(), parameter(v))).collect())
        }
    }
}
