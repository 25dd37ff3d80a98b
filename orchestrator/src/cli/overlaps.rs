//! `outcrop overlaps`: paths that several layers have, with different content.

use outcrop_fs::sysroot::{Options, Sysroot};

use super::context::Context;
use super::error::{CommandError, CommandResult, Exit};
use super::printable::printable;
use super::tree::{self, TreeArguments};
use crate::output;
use crate::words::counted;

/// List paths that more than one layer brings, with different content
///
/// Example: outcrop overlaps --layer a.tar --layer b.deb
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    tree: TreeArguments,

    /// End with exit code 1 if there is any
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let layers = tree::open_layers(&context, &arguments.tree)?;
    let sysroot = Sysroot::new(layers, Options::default())?;
    let overlaps = sysroot.overlaps()?;
    for overlap in &overlaps {
        let path = String::from_utf8_lossy(&overlap.path);
        output::print(format_args!(
            "{}: {} hides {}",
            printable(&path),
            overlap.shown,
            overlap.hidden
        ))?;
    }
    if arguments.check && !overlaps.is_empty() {
        let text = counted(overlaps.len() as u64, "path overlaps", "paths overlap");
        return Err(CommandError::new(Exit::BuildFailed, text));
    }
    Ok(())
}
