//! What has to be built for a target: keys, what the store has, and the jobs in order.

use std::collections::{BTreeMap, HashMap};

use super::chunk::ChunkJob;
use super::durations::{self, Durations};
use super::error::{BuildError, Result};
use super::gather::{Gathered, Source};
use super::queue::{Queue, Task};
use super::schedule::makespan;
use super::system::{SystemChunk, SystemJob};
use crate::definitions::{
    Arch, BuildSystemChoice, Chunk, Component, ComponentId, Definitions, Detail, EnvironmentInputs,
    Step, StepName, environment,
};
use crate::graph::Graph;
use crate::graph::reach::{ComponentSet, Reach};
use crate::keys::{KeyContext, Keys, SourceIdentity};
use crate::sources::ResolvedSource;
use crate::store::{Key, SourceRecord, Store};

/// Strips what was installed, where commands of the chunk count on finding it stripped: then the
/// guest must do it. Each file is stripped in place, so a second run changes nothing.
const STRIP_SCRIPT: &str = r#"
find "$DESTDIR" -type f \( -perm -111 -o -name '*.so*' -o -name '*.cmxs' -o -name '*.node' \) \
    -exec sh -c 'for file; do
        if [ "$(head -c 4 "$file" | od -An -c | tr -d " ")" = "177ELF" ]; then
            strip --strip-unneeded --remove-section=.comment --remove-section=.note "$file"
        fi
    done' sh {} +
"#;

pub enum Work {
    Chunk(Box<ChunkJob>),
    System(Box<SystemJob>),
}

/// One artifact to be built.
pub struct Planned {
    /// The component's path.
    pub component: String,
    pub key: Key,
    /// Seconds that it took the last time; `None` if nothing like it was built here.
    pub expected: Option<f64>,
    id: ComponentId,
}

/// Where a plan gets everything from.
pub struct Inquiry<'a> {
    pub store: &'a Store,
    pub definitions: &'a Definitions,
    pub arch: Arch,
    pub kit_id: &'a str,
}

/// The keys of a target's components, and where their sources are.
pub struct Resolved {
    pub target: ComponentId,
    /// What is to be built: the target, if its sources can be had.
    goals: Vec<ComponentId>,
    pub graph: Graph,
    pub keys: Keys,
    sources: HashMap<ComponentId, Source>,
}

impl Resolved {
    /// Computes the keys of everything that was gathered.
    pub fn new(inquiry: &Inquiry<'_>, gathered: Gathered) -> Result<Resolved> {
        let definitions = inquiry.definitions;
        let Gathered { target, goals, graph, sources } = gathered;
        let kit = |_: &Component| inquiry.kit_id.to_owned();
        let context = KeyContext { arch: inquiry.arch, kit: &kit };
        let identity = |component: &Component| -> Result<SourceIdentity, BuildError> {
            definitions
                .find(&component.path)
                .and_then(|id| sources.get(&id))
                .map(|source| SourceIdentity {
                    tree: source.resolved.tree.to_string(),
                    time: source.resolved.time.seconds,
                })
                .ok_or_else(|| BuildError::Invalid(format!("{} has no source", component.path)))
        };
        let keys = Keys::compute(definitions, &graph, &context, identity)
            .map_err(|error| BuildError::Invalid(error.to_string()))?;
        Ok(Resolved { target, goals, graph, keys, sources })
    }

    /// Where the source of a component is from, if it has one.
    pub fn record(&self, id: ComponentId) -> Option<&SourceRecord> {
        self.sources.get(&id).map(|source| &source.record)
    }

    /// The key under which the store has a component.
    pub fn key(&self, id: ComponentId) -> Result<Key> {
        self.keys
            .key(id)
            .map(|key| Key::new(&key.name, &key.digest.0))
            .ok_or_else(|| BuildError::Invalid("a component has no key".to_owned()))
    }
}

/// What is left to build, in an order in which each needs earlier ones only.
pub struct Plan {
    /// Artifacts that the goals are made of, built or not.
    pub components: usize,
    /// Those of them that the store has.
    pub cached: usize,
    pub planned: Vec<Planned>,
    /// The same as tasks of the queue.
    pub tasks: Vec<Task>,
}

/// What a plan is expected to take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    pub seconds: f64,
    /// With any number of guests.
    pub critical_path: f64,
    /// Components that no artifact tells a duration of; each counts as [`durations::UNKNOWN`].
    pub unknown: usize,
}

impl Plan {
    pub fn new(inquiry: &Inquiry<'_>, resolved: &Resolved) -> Result<Plan> {
        let builder = Builder { inquiry, resolved };
        let Survey { looked_at, missing } = Survey::new(&builder)?;
        let durations = match missing.is_empty() {
            true => Durations::default(),
            false => Durations::of_store(inquiry.store)?,
        };
        let mut planned = Vec::with_capacity(missing.len());
        let mut seconds = Vec::with_capacity(missing.len());
        for &place in missing.keys() {
            let Some(&id) = resolved.graph.order().get(place) else { continue };
            let Some(component) = inquiry.definitions.get(id) else { continue };
            // What is wrong with a definition is told before anything is built for it.
            let unknown = |chunk| inquiry.definitions.unknown_build_system(chunk).is_some();
            if component.system().is_some() || component.chunk().is_some_and(unknown) {
                builder.work(id)?;
            }
            let expected = durations.expected(component, inquiry.arch.name);
            seconds.push(expected.unwrap_or(durations::UNKNOWN));
            let (component, key) = (component.path.clone(), resolved.key(id)?);
            planned.push(Planned { component, key, expected, id });
        }
        let tasks = tasks(&missing, &seconds);
        let cached = looked_at.saturating_sub(planned.len());
        Ok(Plan { components: looked_at, cached, planned, tasks })
    }

    /// What is to be done for one of the plan. Made when it begins, because it names every artifact
    /// below.
    pub fn work(inquiry: &Inquiry<'_>, resolved: &Resolved, planned: &Planned) -> Result<Work> {
        Builder { inquiry, resolved }.work(planned.id)
    }
}

/// What the store lacks of what the goals are made of.
struct Survey {
    /// Artifacts that were looked for.
    looked_at: usize,
    /// Place in the graph's order of each that is not there, and the places that it needs.
    missing: BTreeMap<usize, ComponentSet>,
}

impl Survey {
    fn new(builder: &Builder<'_>) -> Result<Survey> {
        let (resolved, definitions) = (builder.resolved, builder.inquiry.definitions);
        let mut reach = Reach::new(&resolved.graph, definitions);
        let mut seen = ComponentSet::default();
        for id in resolved.goals.iter().flat_map(|&goal| builder.artifacts(goal)) {
            reach.place(id).into_iter().for_each(|place| seen.insert(place));
        }
        let mut pending: Vec<usize> = seen.iter().collect();
        let mut survey = Survey { looked_at: 0, missing: BTreeMap::new() };
        while let Some(place) = pending.pop() {
            let Some(&id) = resolved.graph.order().get(place) else { continue };
            survey.looked_at += 1;
            if builder.inquiry.store.held_artifact(&resolved.key(id)?)?.is_some() {
                continue;
            }
            let needs = reach.needs(id);
            let mut new = needs.clone();
            new.remove(&seen);
            pending.extend(new.iter());
            seen.add(&new);
            survey.missing.insert(place, needs);
        }
        Ok(survey)
    }
}

/// The missing artifacts as tasks, in order. A task waits for what no other of its needs waits for.
pub(super) fn tasks(missing: &BTreeMap<usize, ComponentSet>, seconds: &[f64]) -> Vec<Task> {
    let numbers: HashMap<usize, usize> = missing.keys().copied().zip(0..).collect();
    let mut planned = ComponentSet::default();
    missing.keys().for_each(|&place| planned.insert(place));
    let task = |(needs, &seconds): (&ComponentSet, &f64)| {
        let mut open = needs.clone();
        open.keep(&planned);
        let mut dependencies = Vec::new();
        while let Some(place) = open.last() {
            dependencies.extend(numbers.get(&place));
            if let Some(below) = missing.get(&place) {
                open.remove(below);
            }
            open.take(place);
        }
        Task { dependencies, seconds }
    };
    missing.values().zip(seconds).map(task).collect()
}

impl Plan {
    /// What the whole plan is expected to take with so many guests.
    pub fn forecast(&self, guests: usize) -> Forecast {
        let seconds = |task: usize| self.tasks.get(task).map_or(0.0, |task| task.seconds);
        Forecast {
            seconds: makespan(&self.tasks, guests, seconds),
            critical_path: Queue::new(&self.tasks).critical_path(),
            unknown: self.planned.iter().filter(|planned| planned.expected.is_none()).count(),
        }
    }

    /// The job that builds the target itself, whether or not the store has it.
    pub fn job(inquiry: &Inquiry<'_>, resolved: &Resolved) -> Result<Work> {
        Builder { inquiry, resolved }.work(resolved.target)
    }
}

struct Builder<'a> {
    inquiry: &'a Inquiry<'a>,
    resolved: &'a Resolved,
}

impl Builder<'_> {
    /// The artifacts that a goal stands for: strata and clusters have none of their own.
    fn artifacts(&self, goal: ComponentId) -> Vec<ComponentId> {
        let Some(component) = self.inquiry.definitions.get(goal) else { return Vec::new() };
        match &component.detail {
            Detail::Chunk(_) | Detail::System(_) => {
                vec![goal]
            }
            Detail::Stratum(stratum) => stratum.members.iter().map(|member| member.chunk).collect(),
            Detail::Cluster(cluster) => cluster.all_systems(),
        }
    }

    fn work(&self, id: ComponentId) -> Result<Work> {
        let key = self.resolved.key(id)?;
        let component = self.inquiry.definitions.get(id);
        match component.map(|component| (component, &component.detail)) {
            Some((component, Detail::Chunk(chunk))) => {
                Ok(Work::Chunk(Box::new(self.chunk_job(id, component, chunk, &key)?)))
            }
            Some((component, Detail::System(_))) => {
                Ok(Work::System(Box::new(self.system_job(id, component, &key)?)))
            }
            _ => Err(BuildError::Invalid("the target is neither a chunk nor a system".to_owned())),
        }
    }

    fn keys_of(&self, ids: &[ComponentId]) -> Result<Vec<Key>> {
        ids.iter().map(|&id| self.resolved.key(id)).collect()
    }

    /// What went into the key, one canonical text for each field.
    fn inputs(&self, id: ComponentId) -> BTreeMap<String, String> {
        self.resolved.keys.get(id).map(|record| record.inputs.to_texts()).unwrap_or_default()
    }

    /// The same of each stratum that the key names.
    fn strata(&self, component: &Component) -> BTreeMap<String, BTreeMap<String, String>> {
        let strata = self.resolved.keys.strata_below(component).into_iter();
        strata.map(|(name, inputs)| (name, inputs.to_texts())).collect()
    }

    fn chunk_job(
        &self,
        id: ComponentId,
        component: &Component,
        chunk: &Chunk,
        key: &Key,
    ) -> Result<ChunkJob> {
        let definitions = self.inquiry.definitions;
        let staged = self.resolved.graph.staged_dependencies(definitions, id);
        let prefixes = self.resolved.graph.prefixes(definitions, &staged);
        let source = self.resolved.sources.get(&id).cloned();
        if let Some(name) = definitions.unknown_build_system(chunk) {
            let path = &component.path;
            return Err(BuildError::Invalid(format!("{path}: there is no build system `{name}`")));
        }
        let (steps, strip) = self.steps(chunk, source.as_ref())?;
        let (name, arch, time) = (
            component.name.clone(),
            self.inquiry.arch,
            source.as_ref().map(|source| source.resolved.time.seconds),
        );
        let own = chunk.clone();
        let variables = move |step: Option<StepName>, jobs: u32| {
            let inputs = EnvironmentInputs::chunk(&name, &own, arch, &prefixes, time, jobs);
            environment(&inputs, step)
        };
        let (resolved, submodules, record) = match source {
            Some(source) => (Some(source.resolved), source.submodules, Some(source.record)),
            None => (None, Vec::new(), None),
        };
        Ok(ChunkJob {
            component: component.path.clone(),
            name: component.name.clone(),
            arch: self.inquiry.arch.name.to_owned(),
            key: key.clone(),
            inputs: self.inputs(id),
            strata: self.strata(component),
            staged: self.keys_of(&staged)?,
            source: resolved,
            record,
            submodules,
            steps,
            environment: Box::new(variables),
            devices: chunk.devices.clone(),
            strip,
        })
    }

    /// The steps of a chunk, and whether the host strips what they have installed.
    fn steps(&self, chunk: &Chunk, source: Option<&Source>) -> Result<(Vec<Step>, bool)> {
        let definitions = self.inquiry.definitions;
        let top = match (definitions.build_system(chunk), source) {
            (BuildSystemChoice::Detect, Some(source)) => top_directory(&source.resolved)?,
            _ => Vec::new(),
        };
        let names: Vec<&str> = top.iter().map(String::as_str).collect();
        let plan = definitions.plan(chunk, &names);
        let mut steps = plan.steps;
        let strip = plan.strip_in_process;
        let looks_after = steps.iter().any(|step| step.name == StepName::PostStrip);
        if strip && looks_after {
            let after = steps.iter().take_while(|step| step.name < StepName::Strip).count();
            let commands = vec![STRIP_SCRIPT.to_owned()];
            steps.insert(after, Step { name: StepName::Strip, commands });
        }
        Ok((steps, strip && !looks_after))
    }

    fn system_chunks(
        &self,
        system: ComponentId,
        chunks: &[ComponentId],
    ) -> Result<Vec<SystemChunk>> {
        let definitions = self.inquiry.definitions;
        let chunk = |&chunk: &ComponentId| {
            let selection = definitions.selection(system, chunk).map_err(|error| {
                let path = definitions.path_of(chunk);
                BuildError::Invalid(format!("{path}: its split rules cannot be used: {error}"))
            })?;
            Ok(SystemChunk { key: self.resolved.key(chunk)?, selection })
        };
        chunks.iter().map(chunk).collect()
    }

    fn system_job(&self, id: ComponentId, component: &Component, key: &Key) -> Result<SystemJob> {
        let definitions = self.inquiry.definitions;
        let graph = &self.resolved.graph;
        let chunks = graph.system_chunks(definitions, id);
        let prefixes = graph.prefixes(definitions, &chunks);
        let integration = definitions
            .integration(id)
            .map_err(|conflict| BuildError::Invalid(conflict.to_string()))?;
        let inputs = EnvironmentInputs::system(&component.name, self.inquiry.arch, &prefixes);
        let latest_mtime = chunks
            .iter()
            .filter_map(|id| self.resolved.sources.get(id))
            .map(|source| source.resolved.time)
            .max()
            .unwrap_or(super::chunk::TIME_WITHOUT_SOURCE);
        Ok(SystemJob {
            component: component.path.clone(),
            name: component.name.clone(),
            arch: self.inquiry.arch.name.to_owned(),
            key: key.clone(),
            inputs: self.inputs(id),
            strata: self.strata(component),
            chunks: self.system_chunks(id, &chunks)?,
            integration,
            environment: environment(&inputs, None),
            latest_mtime,
        })
    }
}

/// Names in the top directory of a source, for finding its build system.
fn top_directory(source: &ResolvedSource) -> Result<Vec<String>> {
    let read = || -> Result<Vec<String>, git2::Error> {
        let repo = git2::Repository::open_bare(&source.repo)?;
        let tree = repo.find_tree(source.tree)?;
        Ok(tree
            .iter()
            .map(|entry| String::from_utf8_lossy(entry.name_bytes()).into_owned())
            .collect())
    };
    read().map_err(|error| {
        BuildError::Invalid(format!("{}: cannot read the source: {error}", source.repo.display()))
    })
}
