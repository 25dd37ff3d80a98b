//! System integration: the commands that a system's chunks ask for when it is assembled.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{ComponentId, Definitions};

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

impl Definitions {
    /// The integration steps of a system in running order. Nothing for other kinds.
    pub fn integration(
        &self,
        system: ComponentId,
    ) -> Result<Vec<IntegrationStep>, IntegrationConflict> {
        let mut steps: BTreeMap<String, IntegrationStep> = BTreeMap::new();
        for id in self.system_chunks(system) {
            let Some(chunk) = self.get(id).and_then(|c| c.chunk()) else { continue };
            for (artifact, scripts) in &chunk.integration {
                for (script, commands) in scripts {
                    let key = format!("{script}-{artifact}");
                    let step =
                        IntegrationStep { key: key.clone(), chunk: id, commands: commands.clone() };
                    if let Some(earlier) = steps.insert(key.clone(), step) {
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

    /// The chunks of a system's strata in order, each once, those of bootstrap mode left out.
    pub fn system_chunks(&self, system: ComponentId) -> Vec<ComponentId> {
        let mut seen = std::collections::HashSet::new();
        let Some(system) = self.get(system).and_then(|c| c.system()) else { return Vec::new() };
        system
            .strata
            .iter()
            .filter_map(|entry| self.get(entry.stratum)?.stratum())
            .flat_map(|stratum| stratum.members.iter().map(|member| member.chunk))
            .filter(|&id| {
                self.get(id)
                    .and_then(|c| c.chunk())
                    .is_some_and(|chunk| chunk.build_mode != super::BuildMode::Bootstrap)
            })
            .filter(|id| seen.insert(*id))
            .collect()
    }
}
