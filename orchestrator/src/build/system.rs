//! Assembling one system: its chunks' artifacts as a tree, integration commands in a guest, and the
//! whole tree captured.
//!
//! Integration runs in the system itself, with nothing of the kit in it: a command that scans the
//! tree finds what the system will have, and no tool of the builder can end up in the result.

use std::collections::BTreeMap;
use std::time::Instant;

use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::node::{Attributes, ROOT_INO, Timestamp};

use super::chunk::{Description, capture};
use super::error::{BuildError, Result};
use super::event::Event;
use super::log::BuildLog;
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking, stack_alone};
use crate::definitions::IntegrationStep;
use crate::guest::{Command, Guest};
use crate::store::{Artifact, Key};

/// Directories that the guest mounts something on. Where the system has none, the guest's mount
/// points must not become part of it.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// Everything that the assembly of one system needs to know.
pub struct SystemJob {
    pub component: String,
    pub name: String,
    pub arch: String,
    pub key: Key,
    pub inputs: BTreeMap<String, String>,
    /// Keys of its chunks, lowest layer first.
    pub chunks: Vec<Key>,
    pub integration: Vec<IntegrationStep>,
    pub environment: BTreeMap<String, String>,
    /// Newest of its sources: times that integration makes are not later than this.
    pub latest_mtime: Timestamp,
}

/// Assembles and publishes; the key's lock is held by the caller.
pub async fn build(workshop: &Workshop, job: &SystemJob, log: &mut BuildLog) -> Result<Artifact> {
    let started = Instant::now();
    let artifacts = workshop.artifacts(&job.chunks)?;
    let layers = stack_alone(&artifacts)?;
    let mut tree = GuestTree::new(&workshop.store, layers, "/")?;
    let foreign = missing_mount_points(&tree)?;
    if !job.integration.is_empty() {
        if !has_shell(&tree) {
            return Err(BuildError::Invalid(format!(
                "{}: its integration commands need a /bin/sh, and no chunk of it brings one",
                job.component
            )));
        }
        let outcome = integrate(workshop, job, &mut tree, log, started).await;
        let ended = tree.end_service();
        outcome.map_err(|mut error| {
            workshop.keep_console(&job.key, &mut error);
            error
        })?;
        ended?;
    }
    let description = Description {
        key: job.key.clone(),
        name: job.name.clone(),
        kind: "system",
        arch: job.arch.clone(),
        inputs: job.inputs.clone(),
        dependencies: job.chunks.iter().map(Key::to_string).collect(),
        latest_mtime: job.latest_mtime,
    };
    let store = workshop.store.clone();
    blocking(move || {
        let exclude = |path: &[u8], _: &Attributes| {
            foreign.iter().any(|name| name.as_bytes() == path.strip_prefix(b"/").unwrap_or(path))
        };
        capture(&store, &tree, ROOT_INO, description, started, Some(&exclude))
    })
    .await
}

fn missing_mount_points(tree: &GuestTree) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for name in MOUNT_POINTS {
        match tree.sysroot.lookup(ROOT_INO, name.as_bytes()) {
            Ok(found) => tree.sysroot.forget(found.ino, 1),
            Err(error) if error.errno() == outcrop_fs::Errno::NOENT => missing.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

fn has_shell(tree: &GuestTree) -> bool {
    ["/bin/sh", "/usr/bin/sh"].iter().any(|path| tree.sysroot.resolve(path.as_bytes()).is_ok())
}

async fn integrate(
    workshop: &Workshop,
    job: &SystemJob,
    tree: &mut GuestTree,
    log: &mut BuildLog,
    started: Instant,
) -> Result<()> {
    let options = workshop.guest_options(tree, false)?;
    let mut guest = Guest::start(options).await?;
    let component = job.component.clone();
    let seconds = started.elapsed().as_secs_f64();
    workshop.observer.observe(Event::GuestReady { component, seconds });
    log.environment(&job.environment);
    for step in &job.integration {
        let component = job.component.clone();
        workshop.observer.observe(Event::Step { component, step: step.key.clone() });
        for script in &step.commands {
            log.command(&step.key, script);
            let mut command = Command::script(script);
            for (name, value) in &job.environment {
                command = command.env(name, value);
            }
            let exit = guest.run(&command, |_, bytes| log.output(bytes, |_| {})).await?;
            log.exit(&exit);
            if !exit.success() {
                return Err(BuildError::Command {
                    step: step.key.clone(),
                    command: script.clone(),
                    exit: exit.to_string(),
                });
            }
        }
    }
    guest.shut_down().await?;
    Ok(())
}
