//! Building one chunk: a sysroot, a guest, the steps, the capture.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use outcrop_fs::capture::{CaptureOptions, MtimePolicy};
use outcrop_fs::filesystem::{Creation, Filesystem};
use outcrop_fs::layer::Layer;
use outcrop_fs::layer::git::GitLayer;
use outcrop_fs::layer::placed::Placed;
use outcrop_fs::node::{Device, Ino, Kind, Timestamp};
use outcrop_fs::sysroot::{Options, Sysroot};

use super::compilers::{Brought, brought};
use super::error::{BuildError, Result};
use super::event::Event;
use super::failed;
use super::hidden;
use super::log::BuildLog;
use super::programs::Programs;
use super::report::StepReport;
use super::tree::GuestTree;
use super::workshop::{Workshop, blocking, stack_alone};
use crate::compile::JOB_LOG;
use crate::compile::Outside;
use crate::compile::job_log::JobLog;
use crate::definitions::{self, DeviceKind, Step, StepName};
use crate::guest::{Command, Exit, Guest};
use crate::sources::{ResolvedSource, ResolvedSubmodule};
use crate::store::{Artifact, ArtifactInfo, Key, SourceRecord};
use crate::words::counted;

/// Latest modification time in artifacts of chunks without a source: 1980-01-01, the earliest that
/// every archive format can hold.
pub(super) const TIME_WITHOUT_SOURCE: Timestamp = Timestamp::new(315_532_800, 0);

/// Makes the environment of a step, given the parallelism of build steps.
pub type Environment = Box<dyn Fn(Option<StepName>, u32) -> BTreeMap<String, String> + Send + Sync>;

/// Everything that the build of one chunk needs to know.
pub struct ChunkJob {
    /// The component's path: how people know it.
    pub component: String,
    pub name: String,
    pub arch: String,
    pub key: Key,
    /// What went into the key.
    pub inputs: BTreeMap<String, String>,
    /// What went into the strata that `inputs` name, by key or staging digest.
    pub strata: BTreeMap<String, BTreeMap<String, String>>,
    /// Keys of everything staged, lowest layer first.
    pub staged: Vec<Key>,
    pub source: Option<ResolvedSource>,
    /// Where the source is from.
    pub record: Option<SourceRecord>,
    pub steps: Vec<Step>,
    /// Submodules by path in the source.
    pub submodules: Vec<ResolvedSubmodule>,
    /// The environment of a step's commands, given the parallelism of build steps.
    pub environment: Environment,
    pub devices: Vec<definitions::Device>,
    /// Whether the host strips what was installed, after the last step.
    pub strip: bool,
}

impl ChunkJob {
    pub fn build_directory(&self) -> String {
        format!("/{}.build", self.name)
    }

    pub fn install_directory(&self) -> String {
        format!("/{}.inst", self.name)
    }

    fn latest_mtime(&self) -> Timestamp {
        self.source.as_ref().map_or(TIME_WITHOUT_SOURCE, |source| source.time)
    }
}

/// Builds and publishes; the key's lock is held by the caller. On failure the tree is kept for
/// `outcrop shell --failed` and nothing is published.
pub async fn build(workshop: &Workshop, job: &ChunkJob, log: &mut BuildLog) -> Result<Artifact> {
    let started = Instant::now();
    let dependencies = stack_alone(&workshop.artifacts(&job.staged)?)?;
    let dependencies = Arc::new(Sysroot::new(dependencies, Options::default())?);
    hidden::tell(workshop, &job.component, dependencies, log).await?;
    let mut tree = prepare(workshop, job, None).await?;
    let outcome = run_in_guest(workshop, job, &mut tree, log, started).await;
    // Whatever happened, the tree is only looked at again once nobody serves it.
    let ended = tree.end_service();
    let published = match outcome.and(ended) {
        Ok(()) => finish(workshop, job, &tree, log, started).await,
        Err(error) => Err(error),
    };
    failed::keep_on_failure(workshop, &job.component, &job.key, &tree, published).await
}

/// Stacks what the chunk is built in: kit, dependencies, source; with `kept` also what an earlier
/// build has changed.
pub async fn prepare(
    workshop: &Workshop,
    job: &ChunkJob,
    kept: Option<&Path>,
) -> Result<GuestTree> {
    let artifacts = workshop.artifacts(&job.staged)?;
    let mut layers = workshop.stack(&artifacts).await?;
    if let Some(source) = &job.source {
        layers.push(source_layer(job, source, &job.build_directory())?);
    }
    for submodule in &job.submodules {
        let place = format!("{}/{}", job.build_directory(), submodule.path);
        layers.push(source_layer(job, &submodule.source, &place)?);
    }
    let tree = GuestTree::new(&workshop.store, layers, &job.install_directory(), kept)?;
    if kept.is_some() {
        return Ok(tree);
    }
    tree.make_directory(&job.build_directory())?;
    tree.make_directory(&job.install_directory())?;
    Ok(tree)
}

fn source_layer(job: &ChunkJob, source: &ResolvedSource, place: &str) -> Result<Arc<dyn Layer>> {
    let git =
        GitLayer::from_tree(&source.repo, source.tree, source.time, job.component.as_str(), None)?;
    Ok(Arc::new(Placed::new(Arc::new(git), place.as_bytes())?))
}

async fn run_in_guest(
    workshop: &Workshop,
    job: &ChunkJob,
    tree: &mut GuestTree,
    log: &mut BuildLog,
    started: Instant,
) -> Result<()> {
    let brought = workshop.compile.as_ref().and_then(|_| brought(&workshop.kit, &tree.sysroot));
    if let Some(Brought { path, by }) = &brought {
        let sentence = format!("the guest compiles: {path} is of {by}, not of the kit");
        log.note(&sentence);
        workshop.notice(format!("{}: {sentence}", job.component));
    }
    let compile = brought.is_none();
    let options = workshop.guest_options(tree, compile)?;
    let mut guest = Guest::start(options).await?;
    note_start(workshop, job, &guest, log, started);
    let mut jobs = JobLog::new(tree.run_directory().join(JOB_LOG));
    let outside = workshop.compile.as_ref().filter(|_| compile);
    let outcome = run_steps(workshop, job, outside, &mut guest, &mut jobs, log).await;
    end_guest(guest, &job.component, outcome).await
}

/// Shuts the guest of a build down, with `outcome` unless that fails.
pub(super) async fn end_guest(guest: Guest, component: &str, outcome: Result<()>) -> Result<()> {
    match outcome {
        Ok(()) => Ok(guest.shut_down().await?),
        Err(error @ BuildError::Command { .. }) => {
            // What the failed command left is worth a look: let the guest write it back.
            if let Err(problem) = guest.shut_down().await {
                log::warn!("{component}: the failed tree is not complete: {problem}");
            }
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn note_start(
    workshop: &Workshop,
    job: &ChunkJob,
    guest: &Guest,
    log: &mut BuildLog,
    started: Instant,
) {
    let seconds = started.elapsed().as_secs_f64();
    let timings = guest.timings();
    log.note(&format!(
        "guest ready after {seconds:.2} s: QEMU to agent {:.2} s (guest uptime {:.2} s), \
         mounting {:.2} s over {}",
        timings.hello.as_secs_f64(),
        timings.uptime_at_hello.as_secs_f64(),
        timings.setup.as_secs_f64(),
        workshop.transport
    ));
    let component = job.component.clone();
    workshop.observer.observe(Event::GuestReady { component, seconds });
}

async fn run_steps(
    workshop: &Workshop,
    job: &ChunkJob,
    outside: Option<&Outside>,
    guest: &mut Guest,
    jobs: &mut JobLog,
    log: &mut BuildLog,
) -> Result<()> {
    let mut used = guest.cpu_seconds();
    for step in &job.steps {
        let label = step.name.to_string();
        let component = job.component.clone();
        workshop.observer.observe(Event::Step { component, step: label.clone() });
        let mut environment = (job.environment)(Some(step.name), workshop.jobs);
        if let Some(compile) = outside {
            compile.extend_environment(&mut environment);
        }
        log.environment(&environment);
        let begun = Instant::now();
        let mut outcome = Ok(());
        let mut guest_programs = Programs::default();
        for script in &step.commands {
            let ran = run_command(workshop, job, guest, log, &label, script, &environment).await;
            outcome = ran.and_then(|exit| {
                guest_programs.add(&exit.programs);
                let (step, command) = (label.clone(), script.clone());
                let failure = BuildError::Command { step, command, exit: exit.to_string() };
                exit.success().then_some(()).ok_or(failure)
            });
            if outcome.is_err() {
                break;
            }
        }
        let used_before = std::mem::replace(&mut used, guest.cpu_seconds());
        let report = StepReport {
            step: label,
            seconds: begun.elapsed().as_secs_f64(),
            guest_cpu_seconds: (used - used_before).max(0.0),
            guest_programs,
            compiled: jobs.news().unwrap_or_default(),
        };
        log.note(&report.describe());
        outcome?;
        let component = job.component.clone();
        workshop.observer.observe(Event::StepDone { component, report });
    }
    Ok(())
}

async fn run_command(
    workshop: &Workshop,
    job: &ChunkJob,
    guest: &mut Guest,
    log: &mut BuildLog,
    step: &str,
    script: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Exit> {
    log.command(step, script);
    let mut command = Command::script(script).directory(job.build_directory());
    for (name, value) in environment {
        command = command.env(name, value);
    }
    run_logged(workshop, &job.component, guest, log, &command).await
}

/// Runs a command whose output goes to the log and, line by line, to who watches the build.
pub(super) async fn run_logged(
    workshop: &Workshop,
    component: &str,
    guest: &mut Guest,
    log: &mut BuildLog,
    command: &Command,
) -> Result<Exit> {
    let observer = workshop.observer.clone();
    let tell = |line: &str| {
        let (component, line) = (component.to_owned(), line.to_owned());
        observer.observe(Event::Output { component, line });
    };
    let ran = guest.run(command, |_, bytes| log.output(bytes, tell)).await;
    log.end_output(tell);
    let exit = ran?;
    log.exit(&exit);
    Ok(exit)
}

/// What is done to the install tree on the host, where no guest is needed.
async fn finish(
    workshop: &Workshop,
    job: &ChunkJob,
    tree: &GuestTree,
    log: &mut BuildLog,
    started: Instant,
) -> Result<Artifact> {
    if job.strip {
        let sysroot = tree.sysroot.clone();
        let root = install_root(tree, job)?;
        let begun = Instant::now();
        let summary =
            blocking(move || Ok(super::strip::strip_tree(sysroot.as_ref(), root)?)).await?;
        let (files, saved, took) = (summary.files, summary.saved, begun.elapsed().as_secs_f64());
        let files = counted(files, "file", "files");
        log.note(&format!("stripped {files}, {saved} bytes less, in {took:.2} s"));
    }
    make_devices(tree, job)?;
    publish(workshop, job, tree, started).await
}

fn install_root(tree: &GuestTree, job: &ChunkJob) -> Result<Ino> {
    Ok(tree.sysroot.resolve(job.install_directory().as_bytes())?.ino)
}

/// Device nodes of the definition.
fn make_devices(tree: &GuestTree, job: &ChunkJob) -> Result<()> {
    for device in &job.devices {
        let numbers = Device { major: device.major, minor: device.minor };
        let kind = match device.kind {
            DeviceKind::Character => Kind::CharDevice(numbers),
            DeviceKind::Block => Kind::BlockDevice(numbers),
            DeviceKind::Fifo => Kind::Fifo,
        };
        let filename = device.filename.trim_start_matches('/');
        let (parent, name) = match filename.rsplit_once('/') {
            Some((parent, name)) => (format!("{}/{parent}", job.install_directory()), name),
            None => (job.install_directory(), filename),
        };
        let parent = tree.make_directory(&parent)?;
        let creation = Creation { mode: device.permissions, uid: device.uid, gid: device.gid };
        tree.sysroot.make_node(parent, name.as_bytes(), kind, creation).map_err(|error| {
            BuildError::Invalid(format!(
                "{}: cannot make the device {}: {error}",
                job.component, device.filename
            ))
        })?;
    }
    Ok(())
}

async fn publish(
    workshop: &Workshop,
    job: &ChunkJob,
    tree: &GuestTree,
    started: Instant,
) -> Result<Artifact> {
    let root = install_root(tree, job)?;
    let description = Description {
        key: job.key.clone(),
        name: job.name.clone(),
        kind: "chunk",
        arch: job.arch.clone(),
        inputs: job.inputs.clone(),
        strata: job.strata.clone(),
        dependencies: job.staged.iter().map(Key::to_string).collect(),
        source: job.record.clone(),
        latest_mtime: job.latest_mtime(),
    };
    let (store, sysroot) = (workshop.store.clone(), tree.sysroot.clone());
    blocking(move || capture(&store, &sysroot, root, description, started, None)).await
}

/// What an artifact is, apart from its content.
pub(super) struct Description {
    pub key: Key,
    pub name: String,
    pub kind: &'static str,
    pub arch: String,
    pub inputs: BTreeMap<String, String>,
    pub strata: BTreeMap<String, BTreeMap<String, String>>,
    pub dependencies: Vec<String>,
    pub source: Option<SourceRecord>,
    pub latest_mtime: Timestamp,
}

/// Captures everything below `root` and publishes it.
pub(super) fn capture(
    store: &crate::store::Store,
    sysroot: &Sysroot,
    root: Ino,
    description: Description,
    started: Instant,
    exclude: Option<outcrop_fs::capture::Exclude<'_>>,
) -> Result<Artifact> {
    if let Some(why) = sysroot.lost_write() {
        return Err(BuildError::LostWrite(why.to_owned()));
    }
    let draft = store.draft(&description.key)?;
    let options = CaptureOptions {
        mtime: MtimePolicy::Clamp(description.latest_mtime),
        digest: true,
        exclude,
        ..CaptureOptions::default()
    };
    let captured = outcrop_fs::capture::capture_with_index(
        sysroot,
        root,
        &draft.tar_path(),
        &draft.index_path(),
        &options,
    )?;
    for skipped in &captured.report.skipped {
        let path = String::from_utf8_lossy(&skipped.path);
        log::warn!("{}: {path} is not in the artifact: {}", description.name, skipped.reason);
    }
    let created = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let info = ArtifactInfo {
        key: description.key.to_string(),
        name: description.name,
        kind: description.kind.to_owned(),
        arch: description.arch,
        digest: crate::store::hex(&captured.sha256),
        size: captured.report.bytes,
        created,
        duration: started.elapsed().as_secs_f64(),
        inputs: description.inputs,
        strata: description.strata,
        dependencies: description.dependencies,
        source: description.source,
    };
    Ok(draft.publish(info)?)
}
