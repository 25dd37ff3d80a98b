//! Resolves what is assembled: systems of strata, clusters of systems.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use super::arch::Arch;
use super::model::{
    Cluster, ClusterSystem, ComponentId, Deployment, Detail, Kind, Parameter, System, SystemStratum,
};
use super::problem::{Spot, nearest};
use super::raw::RawClusterSystem;
use super::resolve::{Loaded, Resolver};
use super::split;

impl Resolver {
    pub(super) fn system(&mut self, file: &mut Loaded) {
        let arch = file.raw.arch.take().unwrap_or_default();
        if arch.is_empty() {
            self.problems.error(file.spot.clone(), "a system needs `arch`");
        } else if Arch::find(&arch).is_none() {
            let names = Arch::ALL.map(|arch| arch.name);
            let hint = nearest(&arch, names)
                .map_or_else(|| names.join(", "), |near| format!("did you mean `{near}`?"));
            let message = format!("there is no architecture `{arch}`");
            self.problems.error_hint(file.spot.field("arch"), message, hint);
        }
        let Some(entries) = file.raw.strata.take() else {
            self.problems.error(file.spot.clone(), "a system needs `strata`");
            return;
        };
        let mut strata = Vec::with_capacity(entries.len());
        for (i, entry) in entries.into_iter().enumerate() {
            let spot = file.spot.field("strata").item(i);
            let Some(morph) = entry.morph else {
                self.problems.error(spot, "the entry has no `morph`");
                continue;
            };
            let Some(stratum) = self.reference(&morph, Kind::Stratum, &spot.field("morph")) else {
                continue;
            };
            let selection = entry.artifacts;
            self.check_selection(stratum, selection.as_deref(), &spot.field("artifacts"));
            strata.push(SystemStratum { stratum, artifacts: selection });
        }
        let configuration_extensions = file.raw.configuration_extensions.take().unwrap_or_default();
        self.set(file.id, Detail::System(System { arch, strata, configuration_extensions }));
    }

    /// A selection may name an artifact that nothing is sent to (real definitions do).
    fn check_selection(&mut self, stratum: ComponentId, names: Option<&[String]>, spot: &Spot) {
        let Some(component) = self.get(stratum) else { return };
        let Detail::Stratum(stratum) = &component.detail else { return };
        let known: HashSet<String> = stratum
            .products
            .iter()
            .chain(&self.defaults.stratum_rules)
            .map(|rule| split::artifact_name(&component.name, &rule.artifact))
            .collect();
        for (i, name) in names.unwrap_or_default().iter().enumerate() {
            if !known.contains(name) {
                let message = format!("the stratum has no artifact `{name}`; it selects nothing");
                self.problems.warning(spot.item(i), message);
            }
        }
    }

    pub(super) fn cluster(&mut self, file: &mut Loaded) {
        let Some(entries) = file.raw.systems.take() else {
            self.problems.error(file.spot.clone(), "a cluster needs `systems`");
            return;
        };
        let systems = self.cluster_systems(entries, &BTreeMap::new(), &file.spot.field("systems"));
        self.set(file.id, Detail::Cluster(Cluster { systems }));
    }

    fn cluster_systems(
        &mut self,
        entries: Vec<RawClusterSystem>,
        outer: &BTreeMap<String, Parameter>,
        spot: &Spot,
    ) -> Vec<ClusterSystem> {
        let mut systems = Vec::with_capacity(entries.len());
        for (i, entry) in entries.into_iter().enumerate() {
            let spot = spot.item(i);
            let mut defaults = outer.clone();
            defaults.extend(entry.deploy_defaults.unwrap_or_default().0);
            let deployments = entry.deploy.unwrap_or_default().0.into_iter();
            let deployments = deployments
                .map(|(label, own)| {
                    let mut parameters = defaults.clone();
                    parameters.extend(own.unwrap_or_default().0);
                    Deployment { label, parameters }
                })
                .collect();
            let subsystems = entry.subsystems.unwrap_or_default();
            let subsystems = self.cluster_systems(subsystems, &defaults, &spot.field("subsystems"));
            let system = self.reference(&entry.morph, Kind::System, &spot.field("morph"));
            systems.extend(system.map(|system| ClusterSystem { system, deployments, subsystems }));
        }
        systems
    }
}
