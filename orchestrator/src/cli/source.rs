//! `outcrop source`: the sources that the store mirrors.

use crate::sources::Sources;

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::project::Project;

/// Fetch and list sources
#[derive(clap::Subcommand)]
pub enum Command {
    /// Fetch everything that a target is built from
    ///
    /// Example: outcrop source fetch minimal-x86_64 --definitions examples/minimal
    #[command(verbatim_doc_comment)]
    Fetch {
        /// A path in the definitions, or a name that only one of them has
        target: String,

        #[command(flatten)]
        definitions: DefinitionsArguments,

        /// Baserock name of the architecture; a system names its own
        #[arg(long)]
        arch: Option<String>,
    },
    /// List what the store mirrors
    ///
    /// Example: outcrop source list
    #[command(verbatim_doc_comment)]
    List,
}

pub fn run(command: &Command) -> CommandResult {
    let context = Context::open()?;
    match command {
        Command::Fetch { target, definitions, arch } => {
            let project = Project::open(&context, definitions, target, arch.as_deref())?;
            let fetching = |component: &str, source: &str| {
                eprintln!("{component}: fetching {source}");
            };
            project.resolve(&context, target, &fetching)?;
            Ok(())
        }
        Command::List => {
            let mirrors = Sources::new(context.store.clone())
                .list()
                .map_err(|error| CommandError::host(error.to_string()))?;
            for (name, url) in mirrors {
                println!("{name} {url}");
            }
            Ok(())
        }
    }
}
