//! Getting the sources of everything that a target needs, several at a time.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::error::{BuildError, Result};
use crate::definitions::{Component, ComponentId, Definitions, Detail, Submodule, load};
use crate::graph::Graph;
use crate::sources::{
    self, Aliases, Progress, ResolvedSource, ResolvedSubmodule, SourceFields, SourceSpec, Sources,
    UrlOverride, UrlOverrides,
};
use crate::store::SourceRecord;
use crate::words::without_credentials;

/// Sources that are fetched at once: most of the time is spent waiting for servers.
const AT_ONCE: usize = 4;

/// Components of a target; the largest published one has 505.
const MOST_COMPONENTS: usize = 50_000;

/// Where sources are described, and where they are kept.
pub struct Request<'a> {
    pub sources: &'a Sources,
    pub definitions: &'a Definitions,
    /// The directory of the definitions: relative archive paths start there.
    pub directory: &'a Path,
    pub aliases: &'a Aliases,
    /// Chunks that are built from the tip of their branch.
    pub tracked: &'a HashSet<ComponentId>,
    pub observer: &'a SourceObserver<'a>,
}

/// Is told what happens; `false` stops the work.
pub type SourceObserver<'a> = dyn Fn(SourceEvent<'_>) -> bool + Sync + 'a;

#[derive(Debug, Clone, Copy)]
pub enum SourceEvent<'a> {
    /// How many sources there are; before everything else.
    Counted(usize),
    /// The store lacks a source; not told of the others.
    Fetching {
        component: &'a str,
        repo: &'a str,
    },
    Progress {
        component: &'a str,
        progress: Progress<'a>,
    },
    /// What is built of a chunk whose branch is tracked.
    Tracked {
        component: &'a str,
        branch: Option<&'a str>,
        revision: &'a str,
    },
    Done {
        component: &'a str,
        outcome: Outcome,
    },
}

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Present,
    Fetched,
    Failed,
}

impl Outcome {
    pub fn of(result: &sources::Result<Source>) -> Outcome {
        match result {
            Ok(Source { fetched: false, .. }) => Outcome::Present,
            Ok(Source { fetched: true, .. }) => Outcome::Fetched,
            Err(_) => Outcome::Failed,
        }
    }
}

/// A target, what it needs, and the source of each component that has one.
pub struct Gathered {
    pub target: ComponentId,
    /// What can be built: the target, or what can of it without the missing sources.
    pub goals: Vec<ComponentId>,
    /// Everything that the goals need.
    pub graph: Graph,
    pub sources: HashMap<ComponentId, Source>,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub resolved: ResolvedSource,
    pub submodules: Vec<ResolvedSubmodule>,
    /// Where it is from, for the artifact's description.
    pub record: SourceRecord,
    /// Whether something was asked of others than the store.
    pub fetched: bool,
}

/// The sources that could not be had, in building order: component and reason.
#[derive(Debug)]
pub struct SourceFailures(pub Vec<(String, sources::Error)>);

impl fmt::Display for SourceFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(component, error)] = self.0.as_slice() {
            return write!(f, "{component}: {error}");
        }
        write!(f, "{} sources cannot be had:", self.0.len())?;
        self.0.iter().try_for_each(|(component, error)| write!(f, "\n    {component}: {error}"))
    }
}

impl std::error::Error for SourceFailures {}

/// The graph of a target alone, without its sources.
pub fn graph_of(
    definitions: &Definitions,
    directory: &Path,
    target: &str,
) -> Result<(ComponentId, Graph)> {
    let target = definitions.select(target).map_err(|e| BuildError::Invalid(e.to_string()))?;
    let graph = Graph::new(definitions, &[target]).map_err(|cycle| {
        let steps = load::explain_cycle(directory, definitions, &cycle.0);
        BuildError::Invalid(format!("{cycle}{steps}"))
    })?;
    Ok((target, graph))
}

/// Sources that cannot be had.
#[derive(Default)]
pub struct Missing {
    /// Component and reason, in building order.
    pub failures: Vec<(String, sources::Error)>,
    /// Chunks and systems that need one of those components.
    pub lost: Vec<String>,
}

/// Fetches and imports what the store lacks of the target's sources. A source that cannot be had
/// does not keep the others from being fetched; all that failed are told together.
pub fn gather(request: &Request<'_>, target: &str) -> Result<Gathered> {
    let (gathered, missing) = gather_available(request, target)?;
    match missing.failures.is_empty() {
        true => Ok(gathered),
        false => Err(BuildError::Sources(SourceFailures(missing.failures))),
    }
}

/// As [`gather`], for building what can be built without the sources that cannot be had.
pub fn gather_available(request: &Request<'_>, target: &str) -> Result<(Gathered, Missing)> {
    let definitions = request.definitions;
    let (target, graph) = graph_of(definitions, request.directory, target)?;
    // What is planned takes memory by the square of it.
    if graph.order().len() > MOST_COMPONENTS {
        return Err(BuildError::Invalid(format!(
            "{} needs {} components; more than {MOST_COMPONENTS} cannot be planned at once",
            definitions.path_of(target),
            graph.order().len()
        )));
    }
    let mut sources = HashMap::new();
    let mut missing = Missing::default();
    let mut without_source = HashSet::new();
    for (id, result) in fetch(request, &graph)? {
        match result {
            Ok(source) => {
                sources.insert(id, source);
            }
            Err(error) => {
                without_source.insert(id);
                missing.failures.push((definitions.path_of(id).to_owned(), error));
            }
        }
    }
    if missing.failures.is_empty() {
        return Ok((Gathered { target, goals: vec![target], graph, sources }, missing));
    }
    let Rest { goals, lost } = around(&graph, &without_source);
    let has_artifact =
        |component: &&Component| matches!(component.detail, Detail::Chunk(_) | Detail::System(_));
    let lost = lost.into_iter().filter_map(|id| definitions.get(id)).filter(has_artifact);
    missing.lost = lost.map(|component| component.path.clone()).collect();
    // A part of a graph without cycles has none.
    let graph = Graph::new(definitions, &goals).unwrap_or(graph);
    Ok((Gathered { target, goals, graph, sources }, missing))
}

/// What of a graph is left without some components.
pub(super) struct Rest {
    /// What can be built, and something that cannot is directly built from it.
    pub goals: Vec<ComponentId>,
    /// What needs one of those that are left out, without these.
    pub lost: Vec<ComponentId>,
}

pub(super) fn around(graph: &Graph, left_out: &HashSet<ComponentId>) -> Rest {
    let mut lost = Vec::new();
    let mut cannot = left_out.clone();
    for &id in graph.order() {
        if graph.dependencies(id).any(|below| cannot.contains(&below)) && cannot.insert(id) {
            lost.push(id);
        }
    }
    let is_goal = |id: &&ComponentId| {
        !cannot.contains(*id) && graph.dependents(**id).any(|above| cannot.contains(&above))
    };
    Rest { goals: graph.order().iter().filter(is_goal).copied().collect(), lost }
}

/// Errors that no other source is spared: nothing can be stored, or somebody has had enough.
fn ends_everything(result: &sources::Result<Source>) -> bool {
    matches!(result, Err(sources::Error::Store(_) | sources::Error::Cancelled))
}

/// The sources of a graph's components, in building order.
pub fn fetch(
    request: &Request<'_>,
    graph: &Graph,
) -> Result<Vec<(ComponentId, sources::Result<Source>)>> {
    let wanted: Vec<(ComponentId, &Component)> = graph
        .order()
        .iter()
        .filter_map(|&id| Some((id, request.definitions.get(id)?)))
        .filter(|(_, component)| component.chunk().is_some_and(|chunk| chunk.source.is_some()))
        .collect();
    (request.observer)(SourceEvent::Counted(wanted.len()));
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<BTreeMap<usize, sources::Result<Source>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(wanted.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((id, component)) = wanted.get(number) else { break };
                    let Some(result) = resolve_source(request, *id, component).transpose() else {
                        continue;
                    };
                    let outcome = Outcome::of(&result);
                    let done = SourceEvent::Done { component: &component.path, outcome };
                    if ends_everything(&result) || !(request.observer)(done) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    results.lock().insert(number, result);
                }
            });
        }
    });
    let results: Vec<_> = results
        .into_inner()
        .into_iter()
        .filter_map(|(number, result)| Some((wanted.get(number)?.0, result)))
        .collect();
    if !stop.into_inner() {
        return Ok(results);
    }
    let path = |id| request.definitions.path_of(id).to_owned();
    let failures = results.into_iter().filter_map(|(id, result)| Some((path(id), result.err()?)));
    Err(BuildError::Sources(SourceFailures(failures.collect())))
}

/// What a definition says of a source, as it is parsed.
pub fn fields_of(source: &crate::definitions::Source) -> SourceFields<'_> {
    SourceFields {
        repo: &source.repo,
        reference: source.revision(),
        sha256: source.sha256.as_deref(),
        patches: source.patches,
    }
}

fn resolve_source(
    request: &Request<'_>,
    id: ComponentId,
    component: &Component,
) -> sources::Result<Option<Source>> {
    let Some(source) = component.chunk().and_then(|chunk| chunk.source.as_ref()) else {
        return Ok(None);
    };
    let spec = SourceSpec::parse(fields_of(source), request.aliases, request.directory)?;
    let component = component.path.as_str();
    let fetched = Cell::new(false);
    let repo = without_credentials(&source.repo);
    let progress = |progress: Progress<'_>| {
        if !fetched.replace(true) {
            (request.observer)(SourceEvent::Fetching { component, repo: &repo });
        }
        (request.observer)(SourceEvent::Progress { component, progress })
    };
    let sources = request.sources;
    let branch = source.unpetrify_ref.as_deref().filter(|_| request.tracked.contains(&id));
    let (resolved, branch) = match (&spec, branch) {
        (SourceSpec::Git { url, .. }, Some(branch)) => {
            (sources.track(url, branch, &progress)?, Some(branch))
        }
        _ => (sources.resolve(&spec, &progress)?, None),
    };
    if request.tracked.contains(&id) {
        let commit = resolved.commit.to_string();
        let revision = if branch.is_some() { &commit } else { source.revision().unwrap_or("") };
        (request.observer)(SourceEvent::Tracked { component, branch, revision });
    }
    let submodules = match &spec {
        SourceSpec::Git { url, .. } => {
            let overrides = url_overrides(&source.submodules);
            sources.submodules(&resolved, url, &overrides, request.aliases, &progress)?
        }
        _ => Vec::new(),
    };
    let record = SourceRecord {
        repo: repo.into_owned(),
        reference: branch.is_none().then(|| source.revision().map(str::to_owned)).flatten(),
        branch: branch.map(str::to_owned),
        commit: resolved.commit.to_string(),
    };
    Ok(Some(Source { resolved, submodules, record, fetched: fetched.get() }))
}

fn url_overrides(submodules: &BTreeMap<String, Submodule>) -> UrlOverrides {
    let overrides = submodules.iter().map(|(path, submodule)| {
        let submodules = url_overrides(&submodule.submodules);
        (path.clone(), UrlOverride { url: submodule.url.clone(), submodules })
    });
    overrides.collect()
}
