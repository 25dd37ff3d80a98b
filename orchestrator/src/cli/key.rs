//! `outcrop key`: the cache keys of a target.

use crate::output;

use super::context::{Context, TargetArguments};
use super::error::{CommandError, CommandResult};
use super::project::{Project, tell_fetching};

/// Print the key under which the store has a component
///
/// The key covers everything that can change the result, the sources and the kit among it: see
/// docs/keys.md. Sources that the store lacks are fetched.
///
/// Example: outcrop key minimal-x86_64 --definitions examples/minimal --all
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// Everything that the target is made of, too, in building order
    #[arg(long)]
    all: bool,

    /// Show what went into the key
    #[arg(long)]
    explain: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    let kit = project.kit(&context)?;
    let resolved = project.resolve(&context, &kit, &tell_fetching)?;
    let shown = if arguments.all { resolved.graph.order().to_vec() } else { vec![resolved.target] };
    for id in shown {
        output::print(resolved.key(id).map_err(CommandError::from)?)?;
        if let (true, Some(record)) = (arguments.explain, resolved.keys.get(id)) {
            let text = serde_json::to_string_pretty(&record.inputs).unwrap_or_default();
            output::print(&text)?;
        }
    }
    Ok(())
}
