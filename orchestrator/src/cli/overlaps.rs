//! `outcrop overlaps`: paths that several layers have, with different content.

use outcrop_fs::diff::kind_name;
use outcrop_fs::sysroot::{Options, Overlap, Sysroot};

use super::context::Context;
use super::error::{CommandError, CommandResult, Exit};
use super::printable::printable;
use super::tree::{self, TreeArguments};
use crate::output;
use crate::words::counted;

/// List paths that more than one layer brings, with different content
///
/// Example: outcrop overlaps a.tar b.deb
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Built components, artifact:KEY, or layers, lowest first and over those of --layer
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    #[command(flatten)]
    tree: TreeArguments,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    /// End with exit code 1 if there is any
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let layers = tree::open_layers_and_targets(&context, &arguments.tree, &arguments.targets)?;
    let sysroot = Sysroot::new(layers, Options::default())?;
    let overlaps = sysroot.overlaps()?;
    for overlap in &overlaps {
        output::print(format_args!("{}", line(overlap, arguments.json)))?;
    }
    if arguments.check && !overlaps.is_empty() {
        let text = counted(overlaps.len() as u64, "path overlaps", "paths overlap");
        return Err(CommandError::new(Exit::BuildFailed, text));
    }
    Ok(())
}

fn line(overlap: &Overlap, json: bool) -> String {
    let Overlap { path, shown, shown_kind, hidden, hidden_kind } = overlap;
    let path = String::from_utf8_lossy(path);
    if !json {
        return format!("{}: {shown} hides {hidden}", printable(&path));
    }
    let line = serde_json::json!({
        "path": path, "shown": shown, "shown_kind": kind_name(*shown_kind),
        "hidden": hidden, "hidden_kind": kind_name(*hidden_kind),
    });
    line.to_string()
}
