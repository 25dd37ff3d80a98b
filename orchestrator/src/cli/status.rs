//! `outcrop status`: what of a target is built, and what a build would do.

use std::collections::HashMap;

use clap::builder::RangedU64ValueParser;

use super::context::{Context, TargetArguments};
use super::error::CommandResult;
use super::project::{Project, tell_fetching};
use super::room::Room;
use crate::build::durations::UNKNOWN;
use crate::build::event::rough_duration;
use crate::build::plan::{Forecast, Planned};
use crate::config::MOST_GUESTS;
use crate::definitions::Detail;
use crate::output;
use crate::store::Key;
use crate::words::counted;

/// Show what of a target the store has, and what a build would build
///
/// In building order: `built`, `to build`, `failed` (to build, and the last try failed) and `unused`
/// (not built, and not needed because what is made from it is there); of what is to be built, how long
/// it took the last time. Sources that the store lacks are fetched, because keys cover them; what has
/// `no source`, and what is `blocked` because it needs such a component, is told as well.
///
/// Example: outcrop status minimal-x86_64 --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// Guests at once that the estimate is for
    #[arg(long, value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_GUESTS as u64))]
    guests: Option<usize>,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let (resolved, missing) = project.resolve_available(&context, &kit, &tell_fetching)?;
    let plan = project.plan(&context, &kit, &resolved)?;
    let planned: HashMap<&Key, &Planned> =
        plan.planned.iter().map(|planned| (&planned.key, planned)).collect();
    let mut built = 0usize;
    for &id in resolved.graph.order() {
        let Some(component) = project.definitions.get(id) else { continue };
        // Strata and clusters have no artifact of their own.
        if !matches!(component.detail, Detail::Chunk(_) | Detail::System(_)) {
            continue;
        }
        let key = resolved.key(id)?;
        let planned = planned.get(&key);
        let state = state(&context, &key, planned.is_some())?;
        let expected = planned.and_then(|planned| planned.expected);
        built = built.saturating_add(usize::from(state == "built"));
        if arguments.json {
            let line = serde_json::json!({
                "component": component.path, "key": key.to_string(), "state": state,
                "seconds": expected,
            });
            output::print(&line)?;
        } else {
            let expected = expected.map(|seconds| format!(", {}", rough_duration(seconds)));
            let expected = expected.unwrap_or_default();
            output::print(format_args!("{state:9} {}{expected}", component.path))?;
        }
    }
    let without_source = missing.failures.iter().map(|(component, _)| (component, "no source"));
    let blocked = missing.lost.iter().map(|component| (component, "blocked"));
    for (component, state) in without_source.chain(blocked) {
        if arguments.json {
            output::print(serde_json::json!({
                "component": component, "key": null, "state": state, "seconds": null,
            }))?;
        } else {
            output::print(format_args!("{state:9} {component}"))?;
        }
    }
    output::say(format_args!("{built} built, {} to build", plan.planned.len()));
    if !plan.planned.is_empty() {
        let guests = Room::new(&project.config, arguments.guests, None)?.guests;
        output::say(estimate(&plan.forecast(guests), guests));
    }
    project.tell_missing(missing)
}

fn estimate(forecast: &Forecast, guests: usize) -> String {
    let guests = counted(guests as u64, "guest", "guests");
    let mut text = format!("about {} with {guests}", rough_duration(forecast.seconds));
    if forecast.seconds > forecast.critical_path {
        let chain = rough_duration(forecast.critical_path);
        text += &format!("; the longest chain takes {chain} with any number");
    }
    if forecast.unknown > 0 {
        let guess = rough_duration(UNKNOWN);
        text += &format!("; {} never built here, taken for {guess} each", forecast.unknown);
    }
    text
}

fn state(context: &Context, key: &Key, planned: bool) -> CommandResult<&'static str> {
    Ok(if context.store.describe(key)?.is_some() {
        "built"
    } else if !planned {
        "unused"
    } else if context.store.failed_path(key).is_dir() {
        "failed"
    } else {
        "to build"
    })
}
