//! `outcrop status`: what of a target is built, and what a build would do.

use super::context::{Context, TargetArguments};
use super::error::CommandResult;
use super::project::{Project, tell_fetching};
use crate::definitions::Detail;
use crate::output;
use crate::store::Key;

/// Show what of a target the store has, and what a build would build
///
/// In building order: `built`, `to build`, `failed` (to build, and the last try failed) and `unused`
/// (not built, and not needed because what is made from it is there). Sources that the store lacks
/// are fetched, because keys cover them.
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
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let resolved = project.resolve(&context, &kit, &tell_fetching)?;
    let plan = project.plan(&context, &kit, &resolved)?;
    let mut built = 0usize;
    for &id in resolved.graph.order() {
        let Some(component) = project.definitions.get(id) else { continue };
        // Strata and clusters have no artifact of their own.
        if !matches!(component.detail, Detail::Chunk(_) | Detail::System(_)) {
            continue;
        }
        let key = resolved.key(id)?;
        let planned = plan.planned.iter().any(|planned| planned.key == key);
        let state = state(&context, &key, planned)?;
        built = built.saturating_add(usize::from(state == "built"));
        if arguments.json {
            let line = serde_json::json!({
                "component": component.path, "key": key.to_string(), "state": state,
            });
            output::print(&line)?;
        } else {
            output::print(format_args!("{state:8} {}", component.path))?;
        }
    }
    output::say(format_args!("{built} built, {} to build", plan.planned.len()));
    Ok(())
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
