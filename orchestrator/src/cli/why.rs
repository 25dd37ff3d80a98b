//! `outcrop why`: why a target would be built, or how it comes to need a component.

use crate::output;

use super::context::TargetArguments;
use super::error::{CommandError, CommandResult};
use super::project::Project;
use super::rebuild;

/// Show why a target would be built, or why it needs a component
///
/// With a target alone: what changed since the newest artifact of each component that a build would
/// build, and which of them only follow others. Sources that the store lacks are fetched, because
/// keys cover them.
///
/// With a component: the shortest way from the target to it. Each line is a step, with the place in
/// the definitions that says so. Exit code 1 if the target does not need the component.
///
/// Example: outcrop why minimal-x86_64 --definitions examples/minimal
/// Example: outcrop why minimal-x86_64 musl --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// The component that the target needs, by path or name
    component: Option<String>,

    /// One JSON object for each component or step
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    match &arguments.component {
        Some(component) => show_way(&project, component, arguments.json),
        None => rebuild::explain(&project, arguments.json),
    }
}

fn show_way(project: &Project, component: &str, json: bool) -> CommandResult {
    let definitions = &project.definitions;
    let component =
        definitions.select(component).map_err(|error| CommandError::input(error.to_string()))?;
    let (target, graph) = project.graph()?;
    let Some(way) = graph.shortest_way(target, component) else {
        let (target, component) = (definitions.path_of(target), definitions.path_of(component));
        return Err(CommandError::build(format!("{target} does not need {component}")));
    };
    let mut files = project.files_again();
    for step in way.windows(2) {
        let [from, to] = step else { continue };
        let place = definitions.reference(*from, *to, &mut files);
        let (from, to) = (definitions.path_of(*from), definitions.path_of(*to));
        if json {
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
