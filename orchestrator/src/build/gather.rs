//! Getting the sources of everything that a target needs, several at a time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::error::{BuildError, Result};
use crate::definitions::{Component, ComponentId, Definitions, load};
use crate::graph::Graph;
use crate::sources::{
    self, Aliases, Progress, ResolvedSource, ResolvedSubmodule, SourceFields, SourceSpec, Sources,
};
use crate::store::Store;

/// Sources that are fetched at once: most of the time is spent waiting for servers.
const AT_ONCE: usize = 4;

/// Where sources are described, and where they are kept.
pub struct Request<'a> {
    pub store: &'a Store,
    pub definitions: &'a Definitions,
    /// The directory of the definitions: relative archive paths start there.
    pub directory: &'a Path,
    pub aliases: &'a Aliases,
    /// Told which source is being fetched: component, then repo.
    pub fetching: &'a (dyn Fn(&str, &str) + Sync),
}

/// A target, what it needs, and the source of each component that has one.
pub struct Gathered {
    pub target: ComponentId,
    pub graph: Graph,
    pub sources: HashMap<ComponentId, Source>,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub resolved: ResolvedSource,
    pub submodules: Vec<ResolvedSubmodule>,
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

/// Fetches and imports what the store lacks of the target's sources. A source that cannot be had
/// does not keep the others from being fetched; all that failed are told together.
pub fn gather(request: &Request<'_>, target: &str) -> Result<Gathered> {
    let (target, graph) = graph_of(request.definitions, request.directory, target)?;
    let wanted: Vec<(ComponentId, &Component)> = graph
        .order()
        .iter()
        .filter_map(|&id| Some((id, request.definitions.get(id)?)))
        .filter(|(_, component)| component.chunk().is_some_and(|chunk| chunk.source.is_some()))
        .collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<BTreeMap<usize, sources::Result<Source>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(wanted.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, component)) = wanted.get(number) else { break };
                    let Some(result) = resolve_source(request, component).transpose() else {
                        continue;
                    };
                    // Nothing else can be stored either.
                    if matches!(&result, Err(sources::Error::Store(_))) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    results.lock().insert(number, result);
                }
            });
        }
    });
    let mut sources = HashMap::new();
    let mut failures = Vec::new();
    for (number, result) in results.into_inner() {
        let Some((id, component)) = wanted.get(number) else { continue };
        match result {
            Ok(source) => {
                sources.insert(*id, source);
            }
            Err(error) => failures.push((component.path.clone(), error)),
        }
    }
    match failures.is_empty() {
        true => Ok(Gathered { target, graph, sources }),
        false => Err(BuildError::Sources(SourceFailures(failures))),
    }
}

fn resolve_source(request: &Request<'_>, component: &Component) -> sources::Result<Option<Source>> {
    let Some(source) = component.chunk().and_then(|chunk| chunk.source.as_ref()) else {
        return Ok(None);
    };
    let fields = SourceFields {
        repo: &source.repo,
        reference: source.revision(),
        sha256: source.sha256.as_deref(),
        patches: source.patches,
    };
    let spec = SourceSpec::parse(fields, request.aliases, request.directory)?;
    let told = std::cell::Cell::new(false);
    let progress = |_: Progress<'_>| {
        if !told.replace(true) {
            (request.fetching)(&component.path, &source.repo);
        }
        true
    };
    let sources = Sources::new(request.store.clone());
    let resolved = sources.resolve(&spec, &progress)?;
    let submodules = match &spec {
        SourceSpec::Git { url, .. } => {
            let overrides: BTreeMap<String, String> = source
                .submodules
                .iter()
                .map(|(path, submodule)| (path.clone(), submodule.url.clone()))
                .collect();
            sources.submodules(&resolved, url, &overrides, request.aliases, &progress)?
        }
        _ => Vec::new(),
    };
    Ok(Some(Source { resolved, submodules }))
}
