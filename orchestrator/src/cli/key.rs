//! `outcrop key`: the cache keys of a target.

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::project::Project;

/// Print the key under which the store has a component
///
/// The key covers everything that can change the result: see docs/keys.md.
///
/// Example: outcrop key minimal-x86_64 --definitions examples/minimal --all
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A path in the definitions, or a name that only one of them has
    target: String,

    #[command(flatten)]
    definitions: DefinitionsArguments,

    /// Baserock name of the architecture; a system names its own
    #[arg(long)]
    arch: Option<String>,

    /// Everything that the target is made of, too, in building order
    #[arg(long)]
    all: bool,

    /// Show what went into the key
    #[arg(long)]
    explain: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let arch = arguments.arch.as_deref();
    let project = Project::open(&context, &arguments.definitions, &arguments.target, arch)?;
    let fetching = |component: &str, source: &str| eprintln!("{component}: fetching {source}");
    let resolved = project.resolve(&context, &arguments.target, &fetching)?;
    let shown = if arguments.all { resolved.graph.order().to_vec() } else { vec![resolved.target] };
    for id in shown {
        println!("{}", resolved.key(id).map_err(CommandError::from)?);
        if let (true, Some(record)) = (arguments.explain, resolved.keys.get(id)) {
            let text = serde_json::to_string_pretty(&record.inputs).unwrap_or_default();
            println!("{text}");
        }
    }
    Ok(())
}
