//! `outcrop graph`: what a target is made from.

use super::context::TargetArguments;
use super::error::CommandResult;
use super::project::Project;
use crate::definitions::{BuildMode, Component};
use crate::output;

/// Show what a target is made from, in building order
///
/// Each line is a component and what it directly needs. Needs neither kit nor sources.
///
/// Example: outcrop graph minimal-x86_64 --definitions examples/minimal --dot | dot -Tsvg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// A directed graph in the language of Graphviz
    #[arg(long, conflicts_with = "json")]
    dot: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let definitions = &project.definitions;
    let (_, graph) = project.graph()?;
    let mut text = String::new();
    if arguments.dot {
        text += "digraph {\n    rankdir=LR;\n";
    }
    for &id in graph.order() {
        let Some(component) = definitions.get(id) else { continue };
        let mut needs: Vec<&str> =
            graph.dependencies(id).map(|id| definitions.path_of(id)).collect();
        needs.sort_unstable();
        text += &match (arguments.dot, arguments.json) {
            (true, _) => dot(component, &needs),
            (false, true) => json(component, &needs),
            (false, false) if needs.is_empty() => component.path.clone(),
            (false, false) => format!("{}: {}", component.path, needs.join(" ")),
        };
        text.push('\n');
    }
    if arguments.dot {
        text += "}\n";
    }
    output::write(text.as_bytes())?;
    Ok(())
}

fn json(component: &Component, needs: &[&str]) -> String {
    let source = component.chunk().and_then(|chunk| chunk.source.as_ref());
    let mode = component.chunk().map(|chunk| chunk.build_mode.name());
    let line = serde_json::json!({
        "component": component.path, "name": component.name, "kind": component.kind().name(),
        "file": component.file, "needs": needs, "build_mode": mode,
        "repo": source.map(|source| &source.repo),
        "ref": source.and_then(|source| source.revision()),
    });
    line.to_string()
}

fn dot(component: &Component, needs: &[&str]) -> String {
    let shape = match component.chunk().map(|chunk| chunk.build_mode) {
        None => "box",
        Some(BuildMode::Bootstrap) => "ellipse, style=dashed",
        Some(_) => "ellipse",
    };
    let path = quoted(&component.path);
    let mut lines = format!("    {path} [shape={shape}];");
    for need in needs {
        lines += &format!("\n    {path} -> {};", quoted(need));
    }
    lines
}

/// A name as Graphviz wants it: in quotes, which are the only thing that is escaped.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
