//! `outcrop build`: definitions to artifacts.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::RangedU64ValueParser;

use crate::build::event::{Event, Observer, human_duration};
use crate::build::gather::{Missing, SourceEvent, SourceObserver};
use crate::build::plan::{Planned, Resolved};
use crate::build::progress::{JsonLines, Several, for_stderr};
use crate::build::totals::Totals;
use crate::build::{BuildError, Failure, Outcome, RunOptions, run as run_plan};
use crate::compile::CompileChoice;
use crate::config::MOST_GUESTS;
use crate::guest::TransportChoice;
use crate::kit::Kit;
use crate::output;
use crate::words::counted;

use super::context::{Context, TargetArguments};
use super::error::{CommandError, CommandResult, Exit};
use super::guests::{self, GuestWishes};
use super::interrupt::{blocking, run_interruptible};
use super::printable::{printable, printable_lines};
use super::project::{Project, exit_of, line_of};
use super::room::Room;

/// Build a system, a stratum or a chunk, with everything that it needs
///
/// Each chunk is built natively in a fresh QEMU guest. What the store has is not built again; what
/// failed leaves a log (`outcrop log`) and its tree (`outcrop shell --failed`).
///
/// Example: outcrop build systems/minimal-x86_64 --definitions examples/minimal --guests 2
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// Guests at once
    #[arg(long, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_GUESTS as u64))]
    guests: Option<usize>,

    /// Memory of all guests together, in MiB: as many run at once as fit
    #[arg(long, value_name = "MIB")]
    memory_budget: Option<u64>,

    /// How guests reach their sysroots
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Option<TransportChoice>,

    /// Who compiles
    #[arg(long, value_enum, value_name = "WHO")]
    compile: Option<CompileChoice>,

    /// After a failure, or without a source that cannot be had, go on with what does not need it
    #[arg(long, short)]
    keep_going: bool,

    /// Write every event to this file as JSON lines
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let started = std::time::Instant::now();
    let totals = Arc::new(Totals::default());
    let observer = observer(arguments, totals.clone())?;
    let built = run_interruptible(build(arguments, observer))?;
    totals.describe().into_iter().for_each(output::say);
    report(arguments, &built, &totals, started.elapsed())
}

struct Built {
    /// The target's, where its sources can be had.
    key: Option<String>,
    outcome: Outcome,
    /// What to do about sources that may not be fetched.
    offline_hint: Option<String>,
}

fn observer(arguments: &Arguments, totals: Arc<Totals>) -> CommandResult<Arc<dyn Observer>> {
    let mut observers = vec![for_stderr(), totals];
    if let Some(path) = &arguments.events {
        let file = File::create(path).map_err(|error| {
            CommandError::input(format!("cannot write events to {}: {error}", path.display()))
        })?;
        observers.push(Arc::new(JsonLines::new(file)));
    }
    Ok(Arc::new(Several(observers)))
}

async fn build(arguments: &Arguments, observer: Arc<dyn Observer>) -> CommandResult<Built> {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let (resolved, missing) = blocking(|stopped| {
        resolve(&project, &context, &kit, arguments.keep_going, &|event| {
            observe(observer.as_ref(), event);
            !stopped()
        })
    })?;
    for (component, error) in &missing.failures {
        let (component, reason) = (component.clone(), error.to_string());
        observer.observe(Event::SourceMissing { component, reason });
    }
    let offline_hint = project.offline_hint(missing.failures.iter().map(|(_, error)| error));
    let plan = project.plan(&context, &kit, &resolved)?;
    let key = match missing.failures.is_empty() {
        true => Some(resolved.key(resolved.target)?.to_string()),
        false => None,
    };
    let room = Room::new(&project.config, arguments.guests, arguments.memory_budget)?;
    let guests = room.guests;
    let forecast = plan.forecast(guests);
    observer.observe(Event::Planned {
        components: plan.components,
        cached: plan.cached,
        to_build: plan.planned.len(),
        guests,
        seconds: forecast.seconds,
        critical_path: forecast.critical_path,
        unknown: forecast.unknown,
    });
    let mut outcome = Outcome::default();
    if !plan.planned.is_empty() {
        if let Some(text) = room.notice {
            observer.observe(Event::Notice { text });
        }
        let options = RunOptions { guests, keep_going: arguments.keep_going };
        let wishes = GuestWishes::new(&project.config, arguments.transport, arguments.compile);
        let workshop = guests::workshop(&context, kit.clone(), observer, wishes).await?;
        let work = |planned: &Planned| project.work(&context, &kit, &resolved, planned);
        outcome = run_plan(Arc::new(workshop), plan, options, &work).await;
    }
    outcome.skipped.extend(missing.lost);
    let without_source = missing.failures.into_iter();
    let failures = without_source.map(|(name, error)| Failure::without_build(name, error.into()));
    outcome.failures.splice(0..0, failures);
    Ok(Built { key, outcome, offline_hint })
}

/// Fetches sources and computes keys; with `keep_going` also where some sources cannot be had.
fn resolve(
    project: &Project,
    context: &Context,
    kit: &Kit,
    keep_going: bool,
    observer: &SourceObserver<'_>,
) -> CommandResult<(Resolved, Missing)> {
    match keep_going {
        true => project.resolve_available(context, kit, observer),
        false => Ok((project.resolve(context, kit, observer)?, Missing::default())),
    }
}

/// Tells of a source among the other events of a build.
fn observe(observer: &dyn Observer, event: SourceEvent<'_>) {
    match event {
        SourceEvent::Fetching { component, repo } => observer
            .observe(Event::Fetching { component: component.to_owned(), source: repo.to_owned() }),
        event => {
            if let Some(text) = line_of(&event) {
                observer.observe(Event::Notice { text });
            }
        }
    }
}

fn report(
    arguments: &Arguments,
    built: &Built,
    totals: &Totals,
    took: std::time::Duration,
) -> CommandResult {
    let Built { key, outcome, offline_hint } = built;
    for failure in &outcome.failures {
        for line in failure_lines(&arguments.target.target, failure) {
            output::say(line);
        }
    }
    let mut written = Ok(());
    if arguments.json {
        let result = serde_json::json!({
            "key": key,
            "built": outcome.built,
            "built_elsewhere": outcome.built_elsewhere,
            "failed": outcome.failures.iter().map(|f| &f.component).collect::<Vec<_>>(),
            "skipped": outcome.skipped,
            "steps": totals.steps(),
            "seconds": took.as_secs_f64(),
        });
        written = output::print(&result);
    } else if let Some(key) = key.as_deref().filter(|_| outcome.failures.is_empty()) {
        written = output::print(key);
    }
    let Some(first) = outcome.failures.first() else {
        output::say(summary(outcome, took));
        return Ok(written?);
    };
    if !outcome.skipped.is_empty() {
        output::say(format_args!("not tried: {}", outcome.skipped.join(", ")));
    }
    let others = match outcome.failures.len() {
        1 => String::new(),
        more => format!(" and {} more", more.saturating_sub(1)),
    };
    // The progress has shown all of it.
    let reason = first.error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    let message = format!("{}{others} failed: {reason}", first.component);
    let exits = outcome.failures.iter().map(|failure| match &failure.error {
        BuildError::Source(error) => exit_of(error.cause()),
        error if error.is_host_problem() => Exit::HostLacks,
        _ => Exit::BuildFailed,
    });
    let exit = Exit::of_several(exits).unwrap_or(Exit::BuildFailed);
    let error = CommandError::new(exit, message);
    if let Some(hint) = offline_hint {
        return Err(error.hint(hint));
    }
    if exit == Exit::HostLacks {
        return Err(error.hint("`outcrop doctor` checks everything that a host needs"));
    }
    let Some(kept) = outcome.failures.iter().find(|failure| failure.tree_is_kept) else {
        return Err(error);
    };
    Err(error.hint(format!(
        "look around in its tree with: outcrop shell --failed {} --definitions {}{}",
        kept.component,
        arguments.target.definitions.definitions.display(),
        if arguments.target.definitions.compat { " --compat" } else { "" },
    )))
}

fn summary(outcome: &Outcome, took: std::time::Duration) -> String {
    let elsewhere = match outcome.built_elsewhere.len() {
        0 => String::new(),
        count => format!(", {count} by other processes"),
    };
    format!("{} built{elsewhere} in {}", outcome.built.len(), human_duration(took))
}

/// Lines that are shown of a command that failed.
const COMMAND_LINES: usize = 20;

/// What is shown of a failure: the command that failed, however long ago the log named it, and the
/// last lines of output.
fn failure_lines(target: &str, failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    if let BuildError::Command { step, command, .. } = &failure.error {
        lines.push(format!("--- {}, {}: this command failed", failure.component, printable(step)));
        let mut rest = command.trim().lines();
        let shown = rest.by_ref().take(COMMAND_LINES);
        lines.extend(shown.map(|line| printable_lines(line).into_owned()));
        let more = rest.count();
        if more > 0 {
            let more = counted(more as u64, "more line", "more lines");
            lines.push(format!("({more} of it in the log)"));
        }
    }
    if !failure.tail.is_empty() {
        let log = failure.log.display();
        lines.push(format!("--- last lines of {log} (building {target})"));
        lines.extend(failure.tail.iter().cloned());
    }
    if !lines.is_empty() {
        lines.push("---".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: BuildError, tail: &[&str]) -> Failure {
        Failure {
            component: "strata/base/zlib".into(),
            key: String::new(),
            error,
            log: PathBuf::from("/logs/zlib.log"),
            tail: tail.iter().map(|line| (*line).to_owned()).collect(),
            tree_is_kept: false,
        }
    }

    fn command(script: &str) -> BuildError {
        let (step, exit) = ("build".to_owned(), "exit code 2".to_owned());
        BuildError::Command { step, command: script.to_owned(), exit }
    }

    #[test]
    fn a_failure_shows_its_command_above_the_last_lines_of_output() {
        let shown = failure_lines("zlib", &failure(command("make \x1b[2J"), &["cc", "error"]));
        let expected = [
            "--- strata/base/zlib, build: this command failed",
            "make \\u{1b}[2J",
            "--- last lines of /logs/zlib.log (building zlib)",
            "cc",
            "error",
            "---",
        ];
        assert_eq!(shown, expected);
        let silent = failure_lines("zlib", &failure(command("false"), &[]));
        assert_eq!(silent, ["--- strata/base/zlib, build: this command failed", "false", "---"]);
    }

    #[test]
    fn of_a_long_command_the_beginning_is_shown() {
        let script: Vec<String> = (0..COMMAND_LINES + 2).map(|number| number.to_string()).collect();
        let shown = failure_lines("zlib", &failure(command(&script.join("\n")), &[]));
        assert_eq!(shown[1..=COMMAND_LINES], script[..COMMAND_LINES]);
        assert_eq!(shown[COMMAND_LINES + 1..], ["(2 more lines of it in the log)", "---"]);
    }

    #[test]
    fn where_no_command_failed_only_output_is_shown() {
        let other = || BuildError::Invalid("no shell".into());
        assert_eq!(failure_lines("zlib", &failure(other(), &["said"])).len(), 3);
        assert!(failure_lines("zlib", &failure(other(), &[])).is_empty());
    }
}
