//! `outcrop source fetch`: everything that a target is built from, ahead of time.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::build::BuildError;
use crate::build::gather::{Outcome, Source, SourceEvent, SourceFailures};
use crate::cli::context::{Context, TargetArguments};
use crate::cli::error::CommandResult;
use crate::cli::interrupt::{blocking, run_interruptible};
use crate::cli::project::{Project, line_of};
use crate::cli::size::human_size;
use crate::definitions::ComponentId;
use crate::output;
use crate::sources::{self, Progress};
use crate::words::{counted, without_credentials};

type Results = Vec<(ComponentId, sources::Result<Source>)>;

pub fn run(target: &TargetArguments, json: bool) -> CommandResult {
    let project = Project::open(target)?;
    let context = Context::open()?;
    let results = run_interruptible(async {
        blocking(|stopped| {
            let shown = Shown::new();
            project.fetch(&context, &|event| {
                shown.observe(&event);
                !stopped()
            })
        })
    })?;
    if json {
        for (id, result) in &results {
            output::print(object(&project, *id, result))?;
        }
    }
    report(&project, results)
}

/// What programs are told of a source (docs/operations.md).
fn object(
    project: &Project,
    id: ComponentId,
    result: &sources::Result<Source>,
) -> serde_json::Value {
    let component = project.definitions.get(id);
    let source = component.and_then(|component| component.chunk()?.source.as_ref());
    let found = result.as_ref().ok();
    serde_json::json!({
        "component": project.definitions.path_of(id),
        "repo": source.map(|source| without_credentials(&source.repo)),
        "ref": source.and_then(|source| source.revision()),
        "branch": found.and_then(|found| found.record.branch.as_ref()),
        "commit": found.map(|found| &found.record.commit),
        "tree": found.map(|found| found.resolved.tree.to_string()),
        "state": match Outcome::of(result) {
            Outcome::Present => "present",
            Outcome::Fetched => "fetched",
            Outcome::Failed => "failed",
        },
        "error": result.as_ref().err().map(|error| error.to_string()),
    })
}

fn report(project: &Project, results: Results) -> CommandResult {
    let count = |wanted| results.iter().filter(|(_, r)| Outcome::of(r) == wanted).count() as u64;
    let (fetched, present) = (count(Outcome::Fetched), count(Outcome::Present));
    output::say(format_args!(
        "{}: {fetched} fetched, {present} already there",
        counted(results.len() as u64, "source", "sources")
    ));
    let path = |id| project.definitions.path_of(id).to_owned();
    let failures = results.into_iter().filter_map(|(id, result)| Some((path(id), result.err()?)));
    let failures = SourceFailures(failures.collect());
    if failures.0.is_empty() {
        return Ok(());
    }
    Err(project.explain_offline(BuildError::Sources(failures)))
}

/// What people see: a line for each source on its way, redrawn in place; in a pipe a line where one
/// begins or ends.
struct Shown {
    state: Mutex<State>,
    /// `None` where lines cannot be redrawn.
    bars: Option<MultiProgress>,
}

#[derive(Default)]
struct State {
    done: usize,
    total: usize,
    summary: Option<ProgressBar>,
    running: BTreeMap<String, ProgressBar>,
}

impl Shown {
    fn new() -> Shown {
        let bars = MultiProgress::new();
        // A terminal that cannot redraw (TERM=dumb) would be shown nothing at all.
        let live = std::io::stderr().is_terminal() && !bars.is_hidden();
        Shown { state: Mutex::default(), bars: live.then_some(bars) }
    }

    fn observe(&self, event: &SourceEvent<'_>) {
        let mut state = self.state.lock();
        match event {
            SourceEvent::Counted(total) => {
                state.total = *total;
                state.summary = self.bars.as_ref().map(|bars| bars.add(summary(*total)));
            }
            SourceEvent::Fetching { component, repo } => match &self.bars {
                Some(bars) => {
                    let bar = running(component);
                    bar.set_message(format!("fetching {repo}"));
                    let bar = bars.insert_from_back(1, bar);
                    bar.enable_steady_tick(Duration::from_millis(200));
                    state.running.insert((*component).to_owned(), bar);
                }
                None => self.say(&state, event),
            },
            SourceEvent::Progress { component, progress } => {
                if let Some(bar) = state.running.get(*component) {
                    bar.set_message(describe(progress));
                }
            }
            SourceEvent::Tracked { .. } => self.say(&state, event),
            SourceEvent::Done { component, outcome } => {
                state.done = state.done.saturating_add(1);
                if let Some(summary) = &state.summary {
                    summary.inc(1);
                }
                if let Some(bar) = state.running.remove(*component) {
                    bar.finish_and_clear();
                }
                match outcome {
                    Outcome::Present => {}
                    Outcome::Fetched => self.line(&state, &format!("{component}: fetched")),
                    Outcome::Failed => self.line(&state, &format!("{component}: FAILED")),
                }
            }
        }
    }

    fn say(&self, state: &State, event: &SourceEvent<'_>) {
        if let Some(line) = line_of(event) {
            self.line(state, &line);
        }
    }

    fn line(&self, state: &State, line: &str) {
        let line = format!("[{}/{}] {line}", state.done, state.total);
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => output::say(line),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let state = self.state.lock();
        for bar in state.running.values().chain(&state.summary) {
            bar.finish_and_clear();
        }
    }
}

fn summary(total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} sources, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn running(component: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:16} {elapsed:>5} {wide_msg}")
    {
        bar.set_style(style);
    }
    bar.set_prefix(component.to_owned());
    bar
}

fn describe(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Fetching { url, total: 0, .. } => format!("fetching {url}"),
        Progress::Fetching { url, received, total, bytes } => {
            format!("{received}/{total} objects, {} of {url}", human_size(*bytes))
        }
        Progress::Downloading { what, bytes } => format!("{} of {what}", human_size(*bytes)),
        Progress::Importing { what, members } => format!("importing {what}, {members} members"),
        Progress::Refreshing { what } => format!("fetching {what}"),
    }
}
