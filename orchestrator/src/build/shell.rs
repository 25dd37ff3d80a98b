//! A shell in the very sysroot of a component, built, unbuilt or failed. Nothing that it changes is
//! kept.

use std::collections::BTreeMap;
use std::io::Write;

use super::chunk::{self, ChunkJob};
use super::compilers::brought;
use super::error::Result;
use super::tree::GuestTree;
use super::workshop::{Workshop, stack_alone};
use super::{SystemJob, failed, system};
use crate::guest::{Command, Exit, Guest};

/// What runs in the tree.
pub enum Errand {
    /// A shell on this process's terminal.
    Interactive,
    /// A script; its output goes to this process's stdout and stderr.
    Script(String),
}

/// Opens the tree that a chunk is built in; with `of_failure` the tree that its last failed build
/// left.
pub async fn in_chunk(
    workshop: &Workshop,
    job: &ChunkJob,
    of_failure: bool,
    errand: &Errand,
) -> Result<Exit> {
    let kept = match of_failure {
        true => Some(failed::kept(workshop, &job.component, &job.key)?),
        false => None,
    };
    let tree = chunk::prepare(workshop, job, kept.as_deref()).await?;
    let mut environment = (job.environment)(None, workshop.jobs);
    let outside = workshop.compile.as_ref();
    let outside = outside.filter(|_| brought(&workshop.kit, &tree.sysroot).is_none());
    if let Some(compile) = outside {
        compile.extend_environment(&mut environment);
    }
    let compile = outside.is_some();
    run(workshop, tree, errand, &job.build_directory(), environment, compile).await
}

/// Opens the tree of a built system; with `of_failure` the tree that its last failed assembly left.
pub async fn in_system(
    workshop: &Workshop,
    job: &SystemJob,
    of_failure: bool,
    errand: &Errand,
) -> Result<Exit> {
    let tree = if of_failure {
        let kept = failed::kept(workshop, &job.component, &job.key)?;
        system::prepare(workshop, job, Some(&kept))?
    } else {
        let artifacts = workshop.artifacts(std::slice::from_ref(&job.key))?;
        GuestTree::new(&workshop.store, stack_alone(&artifacts)?, "/", None)?
    };
    run(workshop, tree, errand, "/", job.environment.clone(), false).await
}

async fn run(
    workshop: &Workshop,
    mut tree: GuestTree,
    errand: &Errand,
    directory: &str,
    mut environment: BTreeMap<String, String>,
    compile: bool,
) -> Result<Exit> {
    let options = workshop.guest_options(&mut tree, compile)?;
    let mut guest = Guest::start(options).await?;
    if let (Errand::Interactive, Ok(term)) = (errand, std::env::var("TERM")) {
        environment.insert("TERM".to_owned(), term);
    }
    let mut command = match errand {
        Errand::Interactive => Command::arguments(["/bin/sh", "-i"]),
        Errand::Script(script) => Command::script(script),
    }
    .directory(directory);
    for (name, value) in &environment {
        command = command.env(name, value);
    }
    let exit = match errand {
        Errand::Interactive => guest.shell_interactive(&command).await?,
        Errand::Script(_) => {
            guest
                .run(&command, |stream, bytes| {
                    // A reader that went away ends the output, not the command.
                    let _ = match stream {
                        crate::guest::Stream::Output => std::io::stdout().write_all(bytes),
                        crate::guest::Stream::Error => std::io::stderr().write_all(bytes),
                    };
                })
                .await?
        }
    };
    // The tree is thrown away: there is nothing to write back.
    drop(guest);
    tree.end_service()?;
    Ok(exit)
}
