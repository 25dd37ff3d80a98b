//! System integration: the commands that a system's chunks ask for when it is assembled.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};

use super::problem::{Collector, Severity, Spot};
use super::{BuildMode, Chunk, Component, ComponentId, Definitions, Reading};

/// Commands of one script of one artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationStep {
    /// `<script>-<artifact>`: what the steps are sorted by, bytewise.
    pub key: String,
    /// The chunk that asks for it.
    pub chunk: ComponentId,
    pub commands: Vec<String>,
}

/// Two chunks of one system have integration commands of the same key: one would be lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{system}: the integration script `{key}` comes from both {first} and {second}; \
     rename one of them"
)]
pub struct IntegrationConflict {
    pub system: String,
    pub key: String,
    pub first: String,
    pub second: String,
}

/// The name of a script of an artifact among those of a system.
fn key(script: &str, artifact: &str) -> String {
    format!("{script}-{artifact}")
}

/// A script of a chunk: the chunk, the artifact, and the script's name.
type Script<'a> = (ComponentId, &'a str, &'a str);

impl Definitions {
    /// The integration steps of a system in running order. Nothing for other kinds. Where YBD's way
    /// is followed, the later of two steps of one key replaces the other.
    pub fn integration(
        &self,
        system: ComponentId,
    ) -> Result<Vec<IntegrationStep>, IntegrationConflict> {
        let mut steps: BTreeMap<String, IntegrationStep> = BTreeMap::new();
        for id in self.system_chunks(system) {
            let Some(chunk) = self.get(id).and_then(|c| c.chunk()) else { continue };
            for (artifact, scripts) in &chunk.integration {
                for (script, commands) in scripts {
                    let key = key(script, artifact);
                    let step =
                        IntegrationStep { key: key.clone(), chunk: id, commands: commands.clone() };
                    let earlier = steps.insert(key.clone(), step);
                    if let Some(earlier) = earlier.filter(|_| self.reading == Reading::Strict) {
                        return Err(IntegrationConflict {
                            system: self.path_of(system).to_owned(),
                            key,
                            first: self.path_of(earlier.chunk).to_owned(),
                            second: self.path_of(id).to_owned(),
                        });
                    }
                }
            }
        }
        Ok(steps.into_values().collect())
    }

    /// Two scripts of one key in any system; each pair is told once, with its first system.
    pub(super) fn check_integration(&self, problems: &mut Collector) {
        let mut scripts: HashMap<ComponentId, Vec<Script<'_>>> = HashMap::new();
        let mut told: HashSet<(Script<'_>, Script<'_>)> = HashSet::new();
        for (_, component) in self.iter() {
            let Some(system) = component.system() else { continue };
            let mut known: HashMap<String, Script<'_>> = HashMap::new();
            for entry in &system.strata {
                let of_stratum =
                    scripts.entry(entry.stratum).or_insert_with(|| self.scripts_of(entry.stratum));
                for &second in of_stratum.iter() {
                    let (chunk, artifact, script) = second;
                    let first = *known.entry(key(script, artifact)).or_insert(second);
                    if first.0 != chunk && told.insert((first, second)) {
                        self.tell_conflict(component, first, second, problems);
                    }
                }
            }
        }
    }

    fn scripts_of(&self, stratum: ComponentId) -> Vec<Script<'_>> {
        let members = self.get(stratum).and_then(|c| c.stratum()).map(|stratum| &stratum.members);
        let chunks = members.into_iter().flatten().filter_map(|member| {
            Some((member.chunk, self.get(member.chunk)?.chunk().filter(is_assembled)?))
        });
        let scripts = chunks.flat_map(|(id, chunk)| {
            let artifacts = chunk.integration.iter();
            artifacts.flat_map(move |(artifact, scripts)| {
                scripts.keys().map(move |script| (id, artifact.as_str(), script.as_str()))
            })
        });
        scripts.collect()
    }

    fn tell_conflict(
        &self,
        system: &Component,
        first: Script<'_>,
        second: Script<'_>,
        problems: &mut Collector,
    ) {
        let spot = |(chunk, artifact, script): Script<'_>| {
            let file = self.get(chunk).map_or("", |component| &component.file);
            Spot::file(file).field("system-integration").field(artifact).field(script)
        };
        let (system, key) = (&system.path, key(second.2, second.1));
        let (one, other) = (self.path_of(first.0), self.path_of(second.0));
        let severity = problems.tolerated_severity();
        let end = match severity {
            Severity::Error => "rename one of them".to_owned(),
            Severity::Warning => format!("that of {other} replaces that of {one}"),
        };
        let message = format!(
            "{system}: the integration script `{key}` comes from both {one} and {other}; {end}"
        );
        let trail = vec![(spot(first), format!("{one} has it, too"))];
        problems.with_trail(spot(second), severity, message, trail);
    }

    /// The chunks of a system's strata in order, each once, those of bootstrap mode left out.
    pub fn system_chunks(&self, system: ComponentId) -> Vec<ComponentId> {
        let mut seen = HashSet::new();
        let Some(system) = self.get(system).and_then(|c| c.system()) else { return Vec::new() };
        system
            .strata
            .iter()
            .filter_map(|entry| self.get(entry.stratum)?.stratum())
            .flat_map(|stratum| stratum.members.iter().map(|member| member.chunk))
            .filter(|&id| self.get(id).and_then(|c| c.chunk()).is_some_and(|c| is_assembled(&c)))
            .filter(|id| seen.insert(*id))
            .collect()
    }
}

/// Whether a chunk of its strata is part of a system.
fn is_assembled(chunk: &&Chunk) -> bool {
    chunk.build_mode != BuildMode::Bootstrap
}
