//! Resolves what is assembled: systems of strata, clusters of systems.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::arch::Arch;
use super::model::{
    Cluster, ClusterSystem, ComponentId, Deployment, Detail, Kind, Parameter, System, SystemStratum,
};
use super::problem::{Spot, nearest};
use super::raw::RawClusterSystem;
use super::resolve::{Loaded, Resolver};
use super::split;

/// Most bytes of a cluster's parameters with defaults filled in: each deployment has its own copy.
const MAX_PARAMETERS: usize = 64 << 20;

/// About as many bytes as a parameter takes.
fn size(name: &str, value: &Parameter) -> usize {
    let below = match value {
        Parameter::Null | Parameter::Boolean(_) => 0,
        Parameter::Text(text) => text.len(),
        Parameter::List(items) => items.iter().map(|item| size("", item)).sum(),
        Parameter::Map(entries) => entries.iter().map(|(name, value)| size(name, value)).sum(),
    };
    below.saturating_add(name.len()).saturating_add(64)
}

/// Parameters over their defaults, as long as there is room for another copy of those.
fn filled(
    defaults: &BTreeMap<String, Parameter>,
    own: Vec<(String, Parameter)>,
    room: &mut usize,
) -> BTreeMap<String, Parameter> {
    if *room == 0 {
        return BTreeMap::new();
    }
    *room = room.saturating_sub(defaults.iter().map(|(name, value)| size(name, value)).sum());
    let mut parameters = if *room > 0 { defaults.clone() } else { BTreeMap::new() };
    parameters.extend(own);
    parameters
}

/// Whether parameters name a way of deploying and a place for it.
fn says_where(parameters: &BTreeMap<String, Parameter>) -> bool {
    let says = |name: &str| match parameters.get(name) {
        Some(Parameter::Text(text)) => !text.is_empty(),
        _ => false,
    };
    says("type") && says("location") || says("upgrade-type") && says("upgrade-location")
}

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
        } else if arch.starts_with("armv5") {
            self.came_with(3, &format!("the architecture `{arch}`"), || file.spot.field("arch"));
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
        let named = |name: &String| name.rsplit('/').next() == Some("install-essential-files");
        if let Some(place) = configuration_extensions.iter().position(named) {
            let spot = || file.spot.field("configuration-extensions").item(place);
            self.came_with(3, "`install-essential-files`", spot);
        }
        self.set(file.id, Detail::System(System { arch, strata, configuration_extensions }));
    }

    /// A selection may name an artifact that nothing is sent to (real definitions do).
    fn check_selection(&mut self, stratum: ComponentId, names: Option<&[String]>, spot: &Spot) {
        let Some(names) = names else { return };
        let known = match self.artifacts.get(&stratum) {
            Some(known) => Rc::clone(known),
            None => {
                let Some(component) = self.get(stratum) else { return };
                let Some(of_stratum) = component.stratum() else { return };
                let rules = of_stratum.products.iter().chain(&self.defaults.stratum_rules);
                let names = rules.map(|r| split::artifact_name(&component.name, &r.artifact));
                let known = Rc::new(names.collect::<HashSet<String>>());
                self.artifacts.insert(stratum, Rc::clone(&known));
                known
            }
        };
        for (i, name) in names.iter().enumerate() {
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
        let mut room = MAX_PARAMETERS;
        let spot = file.spot.field("systems");
        let systems = self.cluster_systems(entries, &BTreeMap::new(), &spot, &mut room);
        if room == 0 {
            let message = "the deployments have too many parameters once defaults are filled in";
            self.problems.error(spot, message);
        }
        self.set(file.id, Detail::Cluster(Cluster { systems }));
    }

    fn cluster_systems(
        &mut self,
        entries: Vec<RawClusterSystem>,
        outer: &BTreeMap<String, Parameter>,
        spot: &Spot,
        room: &mut usize,
    ) -> Vec<ClusterSystem> {
        let mut systems = Vec::with_capacity(entries.len());
        for (i, entry) in entries.into_iter().enumerate() {
            let spot = spot.item(i);
            let defaults = filled(outer, entry.deploy_defaults.unwrap_or_default().0, room);
            let mut deployments = Vec::new();
            for (label, own) in entry.deploy.unwrap_or_default().0 {
                let parameters = filled(&defaults, own.unwrap_or_default().0, room);
                // Where there was no room for defaults they may have been there.
                if *room > 0 && !says_where(&parameters) {
                    let message = "the deployment has neither `type` and `location` nor \
                                   `upgrade-type` and `upgrade-location`";
                    self.problems.warning(spot.field("deploy").field(&label), message);
                }
                deployments.push(Deployment { label, parameters });
            }
            let subsystems = entry.subsystems.unwrap_or_default();
            let below = spot.field("subsystems");
            let subsystems = self.cluster_systems(subsystems, &defaults, &below, room);
            let system = self.reference(&entry.morph, Kind::System, &spot.field("morph"));
            systems.extend(system.map(|system| ClusterSystem { system, deployments, subsystems }));
        }
        systems
    }
}
