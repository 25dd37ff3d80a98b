//! `outcrop why`: how a target comes to need a component.

use crate::output;

use super::context::TargetArguments;
use super::error::{CommandError, CommandResult};
use super::project::Project;

/// Show why a target needs a component: the shortest way from one to the other
///
/// Each line is a step, with the place in the definitions that says so. Exit code 1 if the target
/// does not need the component.
///
/// Example: outcrop why minimal-x86_64 musl --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// The component, by path or name
    component: String,

    /// One JSON object for each step
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let definitions = &project.definitions;
    let component = definitions
        .select(&arguments.component)
        .map_err(|error| CommandError::input(error.to_string()))?;
    let (target, graph) = project.graph()?;
    let Some(way) = graph.shortest_way(target, component) else {
        let (target, component) = (definitions.path_of(target), definitions.path_of(component));
        return Err(CommandError::build(format!("{target} does not need {component}")));
    };
    for step in way.windows(2) {
        let [from, to] = step else { continue };
        let place = project.place_of_reference(*from, *to);
        let (from, to) = (definitions.path_of(*from), definitions.path_of(*to));
        if arguments.json {
            let place = place.filter(|place| place.line > 0);
            let (file, line, column) = match &place {
                Some(place) => (Some(&place.file), Some(place.line), Some(place.column)),
                None => (None, None, None),
            };
            let step = serde_json::json!({
                "component": from, "needs": to, "file": file, "line": line, "column": column,
            });
            output::print(&step)?;
        } else {
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            output::print(format_args!("{place}{from} needs {to}"))?;
        }
    }
    Ok(())
}
