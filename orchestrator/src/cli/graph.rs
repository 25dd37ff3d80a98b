//! `outcrop graph`: what a target is made from.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::context::TargetArguments;
use super::error::CommandResult;
use super::project::Project;
use crate::definitions::{BuildMode, Component, ComponentId, Definitions};
use crate::graph::Graph;
use crate::output;
use crate::words::without_credentials;

/// Show what a target is made from
///
/// As a tree: below each component stands what it directly needs, once; `(*)` is behind what is shown
/// further up. Needs neither kit nor sources.
///
/// Example: outcrop graph minimal-x86_64 --definitions examples/minimal --dot | dot -Tsvg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// In building order, each component on a line with what it directly needs
    #[arg(long, conflicts_with_all = ["json", "dot"])]
    list: bool,

    /// In building order, one JSON object a line
    #[arg(long)]
    json: bool,

    /// A directed graph in the language of Graphviz
    #[arg(long, conflicts_with = "json")]
    dot: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let project = Project::open(&arguments.target)?;
    let definitions = &project.definitions;
    let (target, graph) = project.graph()?;
    if !(arguments.list || arguments.json || arguments.dot) {
        output::write(tree(definitions, &graph, target).as_bytes())?;
        return Ok(());
    }
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

/// What is still to be shown of a tree: the component, and the lines that lead to it.
struct Branch {
    id: ComponentId,
    before: String,
    /// Of several below one component.
    last: bool,
}

/// Bytes before a line of a tree, some four a level, from which on it is not followed: the output of a
/// chain would grow with its square.
const DEEPEST: usize = 2048;

/// Nothing here recurses: chains may be long.
fn tree(definitions: &Definitions, graph: &Graph, target: ComponentId) -> String {
    let mut text = format!("{}\n", definitions.path_of(target));
    let mut shown = HashSet::from([target]);
    let mut pending = branches(definitions, graph, target, "");
    while let Some(Branch { id, before, last }) = pending.pop() {
        let (corner, below) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let is_new = shown.insert(id);
        let is_leaf = graph.dependencies(id).next().is_none();
        let mark = if is_new || is_leaf { "" } else { " (*)" };
        text += &format!("{before}{corner}{}{mark}\n", definitions.path_of(id));
        if is_new && before.len() > DEEPEST {
            text += &format!("{before}{below}… (--list shows what is deeper)\n");
        } else if is_new {
            pending.extend(branches(definitions, graph, id, &format!("{before}{below}")));
        }
    }
    text
}

/// What a component directly needs, by path, the first one last.
fn branches(
    definitions: &Definitions,
    graph: &Graph,
    id: ComponentId,
    before: &str,
) -> Vec<Branch> {
    let mut needs: Vec<ComponentId> = graph.dependencies(id).collect();
    needs.sort_by_key(|&id| Reverse(definitions.path_of(id)));
    let branch = |(place, id)| Branch { id, before: before.to_owned(), last: place == 0 };
    needs.into_iter().enumerate().map(branch).collect()
}

fn json(component: &Component, needs: &[&str]) -> String {
    let source = component.chunk().and_then(|chunk| chunk.source.as_ref());
    let mode = component.chunk().map(|chunk| chunk.build_mode.name());
    let line = serde_json::json!({
        "component": component.path, "name": component.name, "kind": component.kind().name(),
        "file": component.file, "needs": needs, "build_mode": mode,
        "repo": source.map(|source| without_credentials(&source.repo)),
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
