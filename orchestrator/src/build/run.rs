//! Carrying out a plan: several guests at once, one lock for each key, failures as asked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::chunk;
use super::error::{BuildError, Result};
use super::event::Event;
use super::failed;
use super::log::BuildLog;
use super::plan::{Plan, Planned, Work};
use super::queue::{Queue, TaskId};
use super::system;
use super::workshop::Workshop;
use crate::store::{Artifact, KeyLock};

/// How often a lock that another process holds is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// Guests at once, at least 1.
    pub guests: usize,
    /// Go on with what does not need a failed component.
    pub keep_going: bool,
}

/// One build that did not succeed.
#[derive(Debug)]
pub struct Failure {
    pub component: String,
    pub key: String,
    pub error: BuildError,
    pub log: PathBuf,
    /// The last lines of the log.
    pub tail: Vec<String>,
    /// Whether there is a tree for `outcrop shell --failed`.
    pub tree_is_kept: bool,
}

impl Failure {
    /// A failure outside of any build.
    pub fn without_build(component: String, error: BuildError) -> Failure {
        let (key, log, tail) = (String::new(), PathBuf::new(), Vec::new());
        Failure { component, key, error, log, tail, tree_is_kept: false }
    }
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    pub built: Vec<String>,
    pub failures: Vec<Failure>,
    /// Not tried, because they need something that failed or the run was ended early.
    pub skipped: Vec<String>,
}

/// What one task ended with.
type Ended = (TaskId, Result<(), Box<Failure>>);

/// Builds everything that is planned. Dropping the future kills all guests; what was published
/// stays.
pub async fn run(workshop: Arc<Workshop>, plan: Plan, options: RunOptions) -> Outcome {
    let mut queue = Queue::new(&plan.tasks);
    let names: Vec<String> = plan.planned.iter().map(|p| p.component.clone()).collect();
    let mut jobs: HashMap<TaskId, Planned> = plan.planned.into_iter().enumerate().collect();
    let mut running: JoinSet<Ended> = JoinSet::new();
    let mut outcome = Outcome::default();
    let name_of = |task: TaskId| names.get(task).cloned().unwrap_or_default();
    let mut done = vec![false; names.len()];
    loop {
        let may_start = options.keep_going || outcome.failures.is_empty();
        while may_start && running.len() < options.guests.max(1) {
            let Some(task) = queue.start_next() else { break };
            if let Some(planned) = jobs.remove(&task) {
                let workshop = workshop.clone();
                running.spawn(async move { (task, build_one(&workshop, planned).await) });
            }
        }
        match running.join_next().await {
            None => break,
            Some(Ok((task, result))) => {
                if let Some(done) = done.get_mut(task) {
                    *done = true;
                }
                match result {
                    Ok(()) => {
                        queue.finished(task);
                        outcome.built.push(name_of(task));
                    }
                    Err(failure) => {
                        queue.failed(task);
                        outcome.failures.push(*failure);
                    }
                }
            }
            // A worker that panicked: nothing more can be known about its task.
            Some(Err(error)) => {
                let error = BuildError::Worker(error.to_string());
                outcome.failures.push(Failure::without_build("a worker".to_owned(), error));
            }
        }
    }
    let untried = names.iter().zip(&done).filter(|(_, done)| !**done);
    outcome.skipped = untried.map(|(name, _)| name.clone()).collect();
    outcome
}

async fn build_one(workshop: &Workshop, planned: Planned) -> Result<(), Box<Failure>> {
    let Planned { component, key, work } = planned;
    let log_path = workshop.store.log_path(&key);
    let started = Instant::now();
    let mut tail = Vec::new();
    match attempt(workshop, &component, &key, &work, &mut tail).await {
        Ok(artifact) => {
            failed::forget(workshop, &key);
            workshop.observer.observe(Event::Finished {
                component,
                key: key.to_string(),
                seconds: started.elapsed().as_secs_f64(),
                bytes: artifact.info.size,
            });
            Ok(())
        }
        Err(error) => {
            workshop.observer.observe(Event::Failed {
                component: component.clone(),
                key: key.to_string(),
                seconds: started.elapsed().as_secs_f64(),
                reason: error.to_string(),
                log: log_path.display().to_string(),
            });
            let tree_is_kept = workshop.store.failed_path(&key).is_dir();
            let (key, log) = (key.to_string(), log_path);
            Err(Box::new(Failure { component, key, error, log, tail, tree_is_kept }))
        }
    }
}

async fn attempt(
    workshop: &Workshop,
    component: &str,
    key: &crate::store::Key,
    work: &Work,
    tail: &mut Vec<String>,
) -> Result<Artifact> {
    let _lock = lock(workshop, component, key).await?;
    // Somebody else may have built it while we waited.
    if let Some(artifact) = workshop.store.held_artifact(key)? {
        return Ok(artifact);
    }
    let started = Event::Started { component: component.to_owned(), key: key.to_string() };
    workshop.observer.observe(started);
    let mut log = BuildLog::create(&workshop.store.log_path(key))?;
    log.begin(component, key.as_str());
    let result = match work {
        Work::Chunk(job) => chunk::build(workshop, job, &mut log).await,
        Work::System(job) => system::build(workshop, job, &mut log).await,
    };
    match &result {
        // What needs it may be built much later.
        Ok(_) => drop(workshop.store.held_artifact(key)?),
        Err(error) => {
            log.note(&error.to_string());
            *tail = log.tail();
        }
    }
    log.finish();
    result
}

/// Waits for the lock of a key without holding a thread: an interrupted build must not wait on.
async fn lock(workshop: &Workshop, component: &str, key: &crate::store::Key) -> Result<KeyLock> {
    let mut told = false;
    loop {
        if let Some(lock) = workshop.store.try_lock(key)? {
            return Ok(lock);
        }
        if !told {
            told = true;
            workshop.notice(format!("{component}: another process builds it; waiting"));
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}
