//! `outcrop store`: what is in the store, whether it is sound, and making room.

use std::collections::HashSet;

use crate::store::Verdict;

use super::context::Context;
use super::error::{CommandError, CommandResult};

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
    /// Read every artifact again and compare its digest
    ///
    /// Example: outcrop store verify
    #[command(verbatim_doc_comment)]
    Verify,
    /// Remove artifacts, least recently used first, until the rest fits into a budget
    ///
    /// Example: outcrop store gc --budget 20
    #[command(verbatim_doc_comment)]
    Gc {
        /// GiB that may stay
        #[arg(long, value_name = "GIB")]
        budget: u64,
    },
    /// How much room everything takes
    ///
    /// Example: outcrop store du
    #[command(verbatim_doc_comment)]
    Du,
}

pub fn run(command: &Command) -> CommandResult {
    let context = Context::open()?;
    match command {
        Command::List { json } => list(&context, *json),
        Command::Verify => verify(&context),
        Command::Gc { budget } => {
            let collected = context.store.gc(budget.saturating_mul(1 << 30), &HashSet::new())?;
            for key in &collected.removed {
                println!("{key}");
            }
            eprintln!("{} bytes freed, {} left", collected.freed, collected.left);
            Ok(())
        }
        Command::Du => {
            let usage = context.store.usage();
            for (name, bytes) in &usage.directories {
                println!("{bytes:>14} {name}");
            }
            println!("{:>14} total", usage.total());
            Ok(())
        }
    }
}

fn list(context: &Context, json: bool) -> CommandResult {
    for key in context.store.keys()? {
        let Some(info) = context.store.describe(&key)? else { continue };
        if json {
            println!("{}", serde_json::to_string(&info).unwrap_or_default());
        } else {
            println!("{:8} {:>12} {key}", info.kind, info.size);
        }
    }
    Ok(())
}

fn verify(context: &Context) -> CommandResult {
    let mut damaged = Vec::new();
    context.store.verify_all(|key, verdict| {
        if !matches!(verdict, Verdict::Good) {
            damaged.push(key.to_string());
        }
        match verdict {
            Verdict::Good => println!("{key} good"),
            Verdict::Absent => println!("{key} absent"),
            Verdict::Damaged(why) => println!("{key} damaged: {why}"),
        }
    })?;
    if damaged.is_empty() {
        return Ok(());
    }
    Err(CommandError::build(format!("{} artifacts are damaged", damaged.len()))
        .hint("remove them from the store's artifacts/ and build again"))
}
