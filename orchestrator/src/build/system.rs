//! Assembling one system: what it selects of its chunks' artifacts as a tree, integration commands
//! in a guest, and the whole tree captured.
//!
//! Integration runs in the system itself, with nothing of the kit in it: a command that scans the
//! tree finds what the system will have, and no tool of the builder can end up in the result.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::layer::without::WithoutLayer;
use outcrop_fs::node::{Attributes, ROOT_INO, Timestamp};

use super::chunk::{Description, capture, end_guest, run_logged};
use super::error::{BuildError, Result};
use super::event::Event;
use super::failed;
use super::hidden;
use super::log::BuildLog;
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking, open_all, stack_layers};
use crate::definitions::{IntegrationStep, Selection};
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
    pub strata: BTreeMap<String, BTreeMap<String, String>>,
    /// Its chunks, lowest layer first.
    pub chunks: Vec<SystemChunk>,
    pub integration: Vec<IntegrationStep>,
    pub environment: BTreeMap<String, String>,
    /// Newest of its sources: times that integration makes are not later than this.
    pub latest_mtime: Timestamp,
}

/// A chunk of a system.
pub struct SystemChunk {
    pub key: Key,
    /// What the system takes of it; `None`: everything.
    pub selection: Option<Selection>,
}

/// Assembles and publishes; the key's lock is held by the caller. On failure the tree is kept for
/// `outcrop shell --failed` and nothing is published.
pub async fn build(workshop: &Workshop, job: &SystemJob, log: &mut BuildLog) -> Result<Artifact> {
    let started = Instant::now();
    let mut tree = prepare(workshop, job, None)?;
    hidden::tell(workshop, &job.component, tree.sysroot.clone(), log).await?;
    let foreign = missing_mount_points(&tree)?;
    if !job.integration.is_empty() && !has_shell(&tree) {
        return Err(BuildError::Invalid(format!(
            "{}: its integration commands need a /bin/sh, and no chunk of it brings one",
            job.component
        )));
    }
    let integrated = if job.integration.is_empty() {
        Ok(())
    } else {
        let outcome = integrate(workshop, job, &mut tree, log, started).await;
        outcome.and(tree.end_service())
    };
    let published = match integrated {
        Ok(()) => publish(workshop, job, &tree, foreign, started).await,
        Err(error) => Err(error),
    };
    failed::keep_on_failure(workshop, &job.component, &job.key, &tree, published).await
}

/// Stacks what the system takes of its chunks; with `kept` also what an earlier assembly has changed.
pub fn prepare(workshop: &Workshop, job: &SystemJob, kept: Option<&Path>) -> Result<GuestTree> {
    let keys: Vec<Key> = job.chunks.iter().map(|chunk| chunk.key.clone()).collect();
    let mut opened = open_all(&workshop.artifacts(&keys)?)?;
    for (layer, chunk) in opened.iter_mut().zip(&job.chunks) {
        if let Some(selection) = &chunk.selection {
            let wanted = |path: &[u8]| selection.takes(path);
            *layer = Arc::new(WithoutLayer::selecting(layer.clone(), &wanted)?);
        }
    }
    GuestTree::new(&workshop.store, stack_layers(opened)?, "/", kept)
}

async fn publish(
    workshop: &Workshop,
    job: &SystemJob,
    tree: &GuestTree,
    foreign: Vec<&'static str>,
    started: Instant,
) -> Result<Artifact> {
    let description = Description {
        key: job.key.clone(),
        name: job.name.clone(),
        kind: "system",
        arch: job.arch.clone(),
        inputs: job.inputs.clone(),
        strata: job.strata.clone(),
        dependencies: job.chunks.iter().map(|chunk| chunk.key.to_string()).collect(),
        source: None,
        latest_mtime: job.latest_mtime,
    };
    let (store, sysroot) = (workshop.store.clone(), tree.sysroot.clone());
    blocking(move || {
        let exclude = |path: &[u8], _: &Attributes| {
            foreign.iter().any(|name| name.as_bytes() == path.strip_prefix(b"/").unwrap_or(path))
        };
        capture(&store, &sysroot, ROOT_INO, description, started, Some(&exclude))
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
    let outcome = run_integration(workshop, job, &mut guest, log).await;
    end_guest(guest, &job.component, outcome).await
}

async fn run_integration(
    workshop: &Workshop,
    job: &SystemJob,
    guest: &mut Guest,
    log: &mut BuildLog,
) -> Result<()> {
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
            let exit = run_logged(workshop, &job.component, guest, log, &command).await?;
            if !exit.success() {
                return Err(BuildError::Command {
                    step: step.key.clone(),
                    command: script.clone(),
                    exit: exit.to_string(),
                });
            }
        }
    }
    Ok(())
}
