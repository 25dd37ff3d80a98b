//! What is wrong with a tree besides its files' form: otherwise told only to whoever plans a target
//! that it concerns.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashSet};

use super::problem::{Collector, Problem, Spot};
use super::split::{artifact_name, check_pattern};
use super::{Component, ComponentId, Definitions, Detail, Files, Reading};

impl Definitions {
    /// Problems that [`Definitions::examine`] does not look for; cycles are not among them.
    /// `unused`: warn of chunks that no stratum has, too.
    pub fn further_problems(&self, files: &Files, unused: bool) -> Vec<Problem> {
        let mut problems = Collector::new(self.reading);
        if self.reading == Reading::Strict {
            self.check_integration(&mut problems);
        }
        self.check_rules(&mut problems);
        self.check_assignments(&mut problems);
        self.check_clusters(&mut problems);
        if unused {
            self.check_unused(&mut problems);
        }
        let texts = files.texts();
        problems.finish(|path| texts.get(path).copied())
    }

    /// Rules that can be used one by one, but not together.
    fn check_rules(&self, problems: &mut Collector) {
        for (_, component) in self.iter() {
            let own = match &component.detail {
                Detail::Chunk(chunk) => &chunk.products,
                Detail::Stratum(stratum) => &stratum.products,
                Detail::System(_) | Detail::Cluster(_) => continue,
            };
            if own.is_empty() {
                continue;
            }
            if let Some(Err(error)) = self.splitter(component) {
                let rules = own.iter().chain(&self.defaults.chunk_rules);
                let mut patterns =
                    rules.chain(&self.defaults.stratum_rules).flat_map(|r| &r.include);
                // One that cannot be used at all is an error of its own.
                if patterns.any(|pattern| check_pattern(pattern).is_err()) {
                    continue;
                }
                let spot = Spot::file(&component.file).field("products");
                problems.error(spot, format!("these rules cannot be used: {error}"));
            }
        }
    }

    /// Artifacts that a stratum assigns and that its chunks do not have.
    fn check_assignments(&self, problems: &mut Collector) {
        for (_, component) in self.iter() {
            let Some(stratum) = component.stratum() else { continue };
            for (item, member) in stratum.members.iter().enumerate() {
                let Some(chunk) = self.get(member.chunk).filter(|_| !member.artifacts.is_empty())
                else {
                    continue;
                };
                let known = self.artifacts_of(chunk);
                for artifact in member.artifacts.keys().filter(|name| !known.contains(*name)) {
                    let spot = Spot::file(&component.file).field("chunks").item(item);
                    let message = format!("the chunk has no artifact `{artifact}`");
                    let names = known.iter().map(String::as_str);
                    let hint = problems.suggestion(artifact, names, "");
                    problems.warning_hint(spot.field("artifacts").field(artifact), message, hint);
                }
            }
        }
    }

    /// The names of a chunk's artifacts.
    fn artifacts_of(&self, component: &Component) -> HashSet<String> {
        let own = component.chunk().map(|chunk| &chunk.products);
        let rules = own.into_iter().flatten().chain(&self.defaults.chunk_rules);
        rules.map(|rule| artifact_name(&component.name, &rule.artifact)).collect()
    }

    /// Clusters whose systems no build makes together, since each build is for one architecture.
    fn check_clusters(&self, problems: &mut Collector) {
        for (_, component) in self.iter() {
            let Detail::Cluster(cluster) = &component.detail else { continue };
            let systems = cluster.all_systems().into_iter().filter_map(|id| self.get(id)?.system());
            let names: BTreeSet<&str> = systems.map(|system| system.arch.as_str()).collect();
            if names.len() > 1 {
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                let message = format!(
                    "the systems are for several architectures ({names}); build each by itself"
                );
                problems.warning(Spot::file(&component.file).field("systems"), message);
            }
        }
    }

    /// Chunks with a file of their own that no stratum has.
    fn check_unused(&self, problems: &mut Collector) {
        let used: HashSet<ComponentId> = self
            .iter()
            .filter_map(|(_, component)| component.stratum())
            .flat_map(|stratum| stratum.members.iter().map(|member| member.chunk))
            .collect();
        for (id, component) in self.iter() {
            if component.chunk().is_some() && !used.contains(&id) {
                problems.warning(Spot::file(&component.file), "no stratum has this chunk");
            }
        }
    }
}
