//! `outcrop store`: what is in the store, whether it is sound, and making room.

mod verify;

use std::time::UNIX_EPOCH;

use crate::kit::Kits;
use crate::output;
use crate::store::{Collection, Item, Part};
use crate::words::counted;

use super::context::Context;
use super::error::CommandResult;
use super::kept::needed_artifacts;
use super::size::{human_size, parse_size};

/// List, verify and shrink the store
#[derive(clap::Subcommand)]
pub enum Command {
    /// List the artifacts
    ///
    /// Example: outcrop store list --json
    #[command(verbatim_doc_comment)]
    List {
        /// One JSON object a line, with everything that is known of the artifact
        #[arg(long)]
        json: bool,
    },
    /// Read artifacts, layers, downloads and kits' packages again and compare their digests
    ///
    /// Exit code 1 if something is damaged.
    ///
    /// Example: outcrop store verify
    #[command(verbatim_doc_comment)]
    Verify {
        /// Take away what is damaged: the next build makes or fetches it again, `kit create` a kit's
        /// packages
        #[arg(long)]
        remove: bool,
    },
    /// Remove what was not used for longest, until the rest fits into a size
    ///
    /// Artifacts, indexed layers, mirrors, downloads, logs, trees of failed builds, and kits that
    /// are not current. What a running build or mount uses stays. A mirror that is removed is cloned
    /// again when it is needed, if upstream still has it.
    ///
    /// Example: outcrop store gc --size 20G --dry-run
    /// Example: outcrop store gc --size 0 --only failed,logs
    #[command(verbatim_doc_comment)]
    Gc(Gc),
    /// How much room everything takes on disk
    ///
    /// Example: outcrop store du
    #[command(verbatim_doc_comment)]
    Du {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub struct Gc {
    /// What the whole store may take on disk, as in 500M or 20G
    #[arg(long, value_parser = parse_size)]
    size: u64,

    /// Remove from these parts only: artifacts, layers, mirrors, sources, kits, logs, failed
    #[arg(long, value_name = "PART", value_delimiter = ',', value_parser = parse_part)]
    only: Vec<Part>,

    /// Show what would go, and remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// One JSON object for each thing that goes
    #[arg(long)]
    json: bool,
}

fn parse_part(text: &str) -> Result<Part, String> {
    Part::ALL.into_iter().find(|part| part.directory() == text).ok_or_else(|| {
        let names = Part::ALL.map(Part::directory).join(", ");
        format!("there is no part {text:?}; the parts are {names}")
    })
}

pub fn run(command: &Command) -> CommandResult {
    let context = Context::open()?;
    match command {
        Command::List { json } => list(&context, *json),
        Command::Verify { remove } => verify::run(&context, *remove),
        Command::Gc(arguments) => gc(&context, arguments),
        Command::Du { json } => du(&context, *json),
    }
}

fn list(context: &Context, json: bool) -> CommandResult {
    for info in context.store.descriptions()? {
        let info = info?;
        if json {
            output::print(serde_json::to_string(&info).unwrap_or_default())?;
        } else {
            output::print(format_args!("{:8} {:>12} {}", info.kind, info.size, info.key))?;
        }
    }
    Ok(())
}

fn du(context: &Context, json: bool) -> CommandResult {
    let usage = context.store.usage()?;
    for one in &usage.directories {
        if json {
            output::print(serde_json::to_string(one).unwrap_or_default())?;
        } else {
            let items = one.items.map(|items| format!(" ({items})")).unwrap_or_default();
            output::print(format_args!("{:>14} {}{items}", one.bytes, one.name))?;
        }
    }
    if !json {
        output::print(format_args!("{:>14} total", usage.total()))?;
    }
    Ok(())
}

fn gc(context: &Context, arguments: &Gc) -> CommandResult {
    let collection = Collection {
        budget: arguments.size,
        only: arguments.only.clone(),
        more: unused_kits(context)?,
        keep: needed_artifacts(context)?,
        dry_run: arguments.dry_run,
    };
    let collected = context.store.gc(&collection)?;
    for item in &collected.removed {
        let used = item.used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let part = item.part.directory();
        if arguments.json {
            let line = serde_json::json!({
                "part": part, "name": item.name, "bytes": item.size, "used": used,
            });
            output::print(&line)?;
        } else {
            output::print(format_args!("{part:9} {:>9} {}", human_size(item.size), item.name))?;
        }
    }
    let (freed, left) = (human_size(collected.freed), human_size(collected.left));
    if arguments.dry_run {
        output::say(format_args!("{freed} would be freed, {left} left"));
    } else {
        output::say(format_args!("{freed} freed, {left} left"));
    }
    if collected.left > arguments.size {
        let why = match collected.in_use {
            0 => "the rest is not removed by this command".to_owned(),
            count => counted(count as u64, "thing is in use", "things are in use"),
        };
        output::say(format_args!("that is more than {}: {why}", human_size(arguments.size)));
    }
    Ok(())
}

/// Kits that are not current with their own packages, and packages that no kit has.
fn unused_kits(context: &Context) -> CommandResult<Vec<Item>> {
    let unused = Kits::new(context.store.kits()).unused()?;
    let maker = Some(unused.maker);
    let kits = unused.kits.into_iter().filter_map(|kit| {
        let paths = [vec![kit.directory.clone()], kit.packages].concat();
        Item::new(Part::Kits, kit.name, paths, kit.directory, maker.clone())
    });
    let packages = unused.packages.into_iter().filter_map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Item::new(Part::Kits, format!("packages/{name}"), vec![path.clone()], path, maker.clone())
    });
    Ok(kits.chain(packages).collect())
}
