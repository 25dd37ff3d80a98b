//! `outcrop key`: the cache keys of a target.

use crate::definitions::ComponentId;
use crate::keys::{FORMAT, ybd};
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
/// Example: outcrop key minimal-x86_64 --definitions examples/minimal --format ybd-8
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// Everything that the target is made of, too, in building order
    #[arg(long)]
    all: bool,

    /// Show what went into the key, and behind it where the source is from
    #[arg(long)]
    explain: bool,

    /// Whose keys: outcrop-key-1, or ybd-0 to ybd-8, those of YBD at that artifact-version, which
    /// need no kit
    #[arg(long, default_value = FORMAT, value_parser = parse_format)]
    format: Format,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Own,
    Ybd(ybd::Version),
}

fn parse_format(text: &str) -> Result<Format, String> {
    if text == FORMAT {
        return Ok(Format::Own);
    }
    let version = text.strip_prefix("ybd-").and_then(|number| number.parse().ok());
    match version.and_then(ybd::Version::new).filter(|version| version.to_string() == text) {
        Some(version) => Ok(Format::Ybd(version)),
        None => Err(format!("known are {FORMAT} and ybd-0 to {}", ybd::Version::NEWEST)),
    }
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let context = Context::open()?;
    match arguments.format {
        Format::Own => show_own(arguments, &project, &context),
        Format::Ybd(version) => show_ybd(arguments, &project, &context, version),
    }
}

fn show_own(arguments: &Arguments, project: &Project, context: &Context) -> CommandResult {
    let kit = project.kit(context)?;
    let resolved = project.resolve(context, &kit, &tell_fetching)?;
    for id in shown(arguments, resolved.target, resolved.graph.order()) {
        output::print(resolved.key(id).map_err(CommandError::from)?)?;
        if let (true, Some(record)) = (arguments.explain, resolved.keys.get(id)) {
            let text = serde_json::to_string_pretty(&record.inputs).unwrap_or_default();
            output::print(&text)?;
            if let Some(source) = resolved.record(id) {
                output::print(serde_json::json!({ "from": source }))?;
            }
        }
    }
    Ok(())
}

fn show_ybd(
    arguments: &Arguments,
    project: &Project,
    context: &Context,
    version: ybd::Version,
) -> CommandResult {
    let definitions = &project.definitions;
    let gathered = project.gather(context, &tell_fetching)?;
    let tree = |component: &crate::definitions::Component| {
        let source = definitions.find(&component.path).and_then(|id| gathered.sources.get(&id));
        source.map(|source| source.resolved.tree.to_string()).ok_or("it was not fetched")
    };
    let keys = ybd::keys(definitions, &gathered.graph, project.arch, version, tree)
        .map_err(|error| CommandError::input(error.to_string()))?;
    if !ybd::has_recipes(definitions) {
        output::say(
            "the definitions have no build systems of their own (DEFAULTS): keys of what YBD's \
             built-in ones build are not YBD's",
        );
    }
    for id in shown(arguments, gathered.target, gathered.graph.order()) {
        match keys.get(&id) {
            Some(Some(record)) => {
                output::print(&record.key)?;
                if arguments.explain {
                    output::print(&record.text)?;
                }
            }
            _ => output::say(format_args!(
                "{} is for another architecture and has no key",
                definitions.path_of(id)
            )),
        }
    }
    Ok(())
}

fn shown(arguments: &Arguments, target: ComponentId, order: &[ComponentId]) -> Vec<ComponentId> {
    if arguments.all { order.to_vec() } else { vec![target] }
}
