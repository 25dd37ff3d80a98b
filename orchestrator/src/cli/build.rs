//! `outcrop build`: definitions to artifacts.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::event::{Event, Observer, human_duration};
use crate::build::progress::{JsonLines, Several, for_stderr};
use crate::build::{Failure, Outcome, RunOptions, run as run_plan};
use crate::guest::TransportChoice;

use super::context::{Context, TargetArguments};
use super::error::{CommandError, CommandResult, Exit};
use super::guests::{self, GuestWishes};
use super::interrupt::run_interruptible;
use super::project::Project;

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
    #[arg(long, value_name = "N")]
    guests: Option<usize>,

    /// How guests reach their sysroots
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Option<TransportChoice>,

    /// After a failure go on with what does not need it
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
    let observer = observer(arguments)?;
    let (key, outcome) = run_interruptible(build(arguments, observer))?;
    report(arguments, &key, &outcome, started.elapsed())
}

fn observer(arguments: &Arguments) -> CommandResult<Arc<dyn Observer>> {
    let Some(path) = &arguments.events else { return Ok(for_stderr()) };
    let file = File::create(path).map_err(|error| {
        CommandError::input(format!("cannot write events to {}: {error}", path.display()))
    })?;
    Ok(Arc::new(Several(vec![for_stderr(), Arc::new(JsonLines::new(file))])))
}

async fn build(
    arguments: &Arguments,
    observer: Arc<dyn Observer>,
) -> CommandResult<(String, Outcome)> {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let plan = {
        let fetching = |component: &str, source: &str| {
            observer.observe(Event::Fetching {
                component: component.to_owned(),
                source: source.to_owned(),
            });
        };
        // Fetching blocks; the other threads of the runtime go on.
        tokio::task::block_in_place(|| {
            let resolved = project.resolve(&context, &kit, &fetching)?;
            project.plan(&context, &kit, &resolved)
        })?
    };
    let key = plan.target_key.to_string();
    observer.observe(Event::Planned {
        components: plan.components,
        cached: plan.cached,
        to_build: plan.planned.len(),
    });
    if plan.planned.is_empty() {
        return Ok((key, Outcome::default()));
    }
    let guests = arguments.guests.or(project.config.guests).unwrap_or_else(default_guests);
    let options = RunOptions { guests, keep_going: arguments.keep_going };
    let wishes = GuestWishes::new(&project.config, arguments.transport);
    let workshop = guests::workshop(&context, kit, observer, wishes).await?;
    Ok((key, run_plan(Arc::new(workshop), plan, options).await))
}

/// One guest for each processor: a guest has one, and its compiles run on the host besides.
fn default_guests() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn report(
    arguments: &Arguments,
    key: &str,
    outcome: &Outcome,
    took: std::time::Duration,
) -> CommandResult {
    for failure in &outcome.failures {
        show_failure(&arguments.target.target, failure);
    }
    if arguments.json {
        let result = serde_json::json!({
            "key": key,
            "built": outcome.built,
            "failed": outcome.failures.iter().map(|f| &f.component).collect::<Vec<_>>(),
            "skipped": outcome.skipped,
            "seconds": took.as_secs_f64(),
        });
        println!("{result}");
    } else if outcome.failures.is_empty() {
        println!("{key}");
    }
    let Some(first) = outcome.failures.first() else {
        eprintln!("{} built in {}", outcome.built.len(), human_duration(took));
        return Ok(());
    };
    if !outcome.skipped.is_empty() {
        eprintln!("not tried: {}", outcome.skipped.join(", "));
    }
    let others = match outcome.failures.len() {
        1 => String::new(),
        more => format!(" and {} more", more.saturating_sub(1)),
    };
    // The progress has shown all of it.
    let reason = first.error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    let message = format!("{}{others} failed: {reason}", first.component);
    let exits = outcome.failures.iter().map(|failure| match failure.error.is_host_problem() {
        true => Exit::HostLacks,
        false => Exit::BuildFailed,
    });
    let exit = Exit::of_several(exits).unwrap_or(Exit::BuildFailed);
    let error = CommandError::new(exit, message);
    if exit == Exit::HostLacks {
        return Err(error.hint("`outcrop doctor` checks everything that a host needs"));
    }
    let Some(kept) = outcome.failures.iter().find(|failure| failure.tree_is_kept) else {
        return Err(error);
    };
    Err(error.hint(format!(
        "look around in its tree with: outcrop shell --failed {} --definitions {}",
        kept.component,
        arguments.target.definitions.definitions.display()
    )))
}

fn show_failure(target: &str, failure: &Failure) {
    if failure.tail.is_empty() {
        return;
    }
    eprintln!("--- last lines of {} (building {target})", failure.log.display());
    for line in &failure.tail {
        eprintln!("{line}");
    }
    eprintln!("---");
}
