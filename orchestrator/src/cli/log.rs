//! `outcrop log`: what a build said.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::context::{Context, TargetArguments};
use super::error::{CommandError, CommandResult};
use super::project::Project;
use crate::build::log_title;
use crate::output;
use crate::store::Key;

/// Print the log of a component's last build
///
/// Needs no kit and fetches nothing: it is the newest log of the component, whichever definition of
/// it that was.
///
/// Example: outcrop log musl --definitions examples/minimal
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArguments,

    /// Print where the log is instead
    #[arg(long)]
    path: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let target = &arguments.target.target;
    let path = match by_key(&context, target)? {
        Some(path) => path,
        None => newest(&context, &arguments.target)?,
    };
    if arguments.path {
        output::print(path.display())?;
        return Ok(());
    }
    let text = std::fs::read(&path)
        .map_err(|error| CommandError::host(format!("cannot read {}: {error}", path.display())))?;
    output::write(&text)?;
    Ok(())
}

/// The logs of the store: key as text, path.
fn logs(context: &Context) -> CommandResult<Vec<(String, PathBuf)>> {
    let logs = context.store.root().join("logs");
    let entries = std::fs::read_dir(&logs)
        .map_err(|error| CommandError::host(format!("cannot read {}: {error}", logs.display())))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name.strip_suffix(".log")?.to_owned(), entry.path()))
        })
        .collect())
}

/// The log whose key begins with the text, if there is exactly one and the text looks like a key.
fn by_key(context: &Context, text: &str) -> CommandResult<Option<PathBuf>> {
    let is_key = text.rsplit_once('.').is_some_and(|(_, digest)| {
        digest.len() >= 6 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if !is_key {
        return Ok(None);
    }
    let mut found = logs(context)?;
    found.retain(|(key, _)| key.starts_with(text));
    Ok(if found.len() == 1 { found.pop().map(|(_, path)| path) } else { None })
}

/// The newest log of a component: its first line names the component, as two may share a name.
fn newest(context: &Context, arguments: &TargetArguments) -> CommandResult<PathBuf> {
    let project = Project::open(arguments)?;
    let id = project.target()?;
    let component = project.definitions.path_of(id);
    let name = project.definitions.get(id).map_or("", |component| &component.name);
    let escaped = Key::new(name, &[0; 32]);
    let newest = logs(context)?
        .into_iter()
        .filter(|(key, path)| {
            let key = key.parse::<Key>();
            key.is_ok_and(|key| key.name() == escaped.name()) && is_of(path, component)
        })
        .filter_map(|(_, path)| {
            let modified: SystemTime = path.metadata().ok()?.modified().ok()?;
            Some((modified, path))
        })
        .max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        CommandError::input(format!("there is no log of {component}"))
            .hint("a component has a log once it was built, or tried")
    })
}

fn is_of(log: &Path, component: &str) -> bool {
    let Ok(file) = std::fs::File::open(log) else { return false };
    let mut first = Vec::new();
    // A component's path is far shorter.
    let read = BufReader::new(file).take(1 << 16).read_until(b'\n', &mut first);
    read.is_ok() && first.starts_with(log_title(component, "").as_bytes())
}
