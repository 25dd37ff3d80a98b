//! `outcrop log`: what a build said.

use std::io::Write;

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult};
use super::project::Project;

/// Print the log of a component's last build
///
/// Example: outcrop log musl --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A component of the definitions, or a key (or its beginning)
    target: String,

    #[command(flatten)]
    definitions: DefinitionsArguments,

    /// Print where the log is instead
    #[arg(long)]
    path: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let path = match by_key(&context, &arguments.target)? {
        Some(path) => path,
        None => {
            let project = Project::open(&context, &arguments.definitions, &arguments.target, None)?;
            let resolved = project.resolve(&context, &arguments.target, &|_, _| {})?;
            context.store.log_path(&resolved.key(resolved.target)?)
        }
    };
    if arguments.path {
        println!("{}", path.display());
        return Ok(());
    }
    let text = std::fs::read(&path).map_err(|error| {
        CommandError::input(format!("there is no log of {}: {error}", arguments.target))
            .hint("a component has a log once it was built, or tried, as it is defined now")
    })?;
    match std::io::stdout().write_all(&text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::host(format!("cannot write: {error}")))
        }
        _ => Ok(()),
    }
}

/// The log whose key begins with the text, if there is exactly one and the text looks like a key.
fn by_key(context: &Context, text: &str) -> CommandResult<Option<std::path::PathBuf>> {
    let is_key = text.rsplit_once('.').is_some_and(|(_, digest)| {
        digest.len() >= 6 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if !is_key {
        return Ok(None);
    }
    let logs = context.store.root().join("logs");
    let entries = std::fs::read_dir(&logs)
        .map_err(|error| CommandError::host(format!("cannot read {}: {error}", logs.display())))?;
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(text))
        })
        .collect();
    Ok(if found.len() == 1 { found.pop() } else { None })
}
