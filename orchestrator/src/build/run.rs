//! Carrying out a plan: several guests at once, one lock for each key, failures as asked.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::chunk;
use super::error::{BuildError, Result};
use super::event::Event;
use super::failed;
use super::log::BuildLog;
use super::places::{Place, Places, Turn};
use super::plan::{Plan, Planned, Work};
use super::queue::{Queue, TaskId};
use super::system;
use super::workshop::Workshop;
use crate::store::{Artifact, Key};

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
    /// Waited for, and taken from other processes.
    pub built_elsewhere: Vec<String>,
    pub failures: Vec<Failure>,
    /// Not tried, because they need something that failed or the run was ended early.
    pub skipped: Vec<String>,
}

/// What a task came to.
enum Attempt {
    Built,
    /// Another process built it meanwhile.
    BuiltElsewhere,
    /// The run ended while another process was at work on it.
    NotTried,
}

/// What one task ended with.
type Ended = (TaskId, Result<Attempt, Box<Failure>>);

/// Builds everything that is planned; `work` says what is to be done for each. Dropping the future
/// kills all guests; what was published stays.
pub async fn run(
    workshop: Arc<Workshop>,
    plan: Plan,
    options: RunOptions,
    work: &(dyn Fn(&Planned) -> Result<Work> + Sync),
) -> Outcome {
    let mut run = Run::new(workshop, plan, options, work);
    loop {
        run.start_what_can();
        run.tell_progress();
        tokio::select! {
            ended = run.running.join_next() => match ended {
                None => break,
                Some(Ok((task, result))) => run.ended(task, result),
                // A worker that panicked: nothing more can be known about its task.
                Some(Err(error)) => {
                    let error = BuildError::Worker(error.to_string());
                    run.failed(Failure::without_build("a worker".to_owned(), error));
                }
            },
            () = run.places.given_back() => {}
        }
    }
    run.outcome()
}

/// A plan that is being carried out.
struct Run<'a> {
    workshop: Arc<Workshop>,
    work: &'a (dyn Fn(&Planned) -> Result<Work> + Sync),
    options: RunOptions,
    queue: Queue,
    /// What has not begun.
    jobs: HashMap<TaskId, Planned>,
    names: Vec<String>,
    begun: HashMap<TaskId, Instant>,
    done: HashSet<TaskId>,
    running: JoinSet<Ended>,
    places: Arc<Places>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(
        workshop: Arc<Workshop>,
        plan: Plan,
        options: RunOptions,
        work: &'a (dyn Fn(&Planned) -> Result<Work> + Sync),
    ) -> Run<'a> {
        Run {
            workshop,
            work,
            options,
            queue: Queue::new(&plan.tasks),
            names: plan.planned.iter().map(|planned| planned.component.clone()).collect(),
            jobs: plan.planned.into_iter().enumerate().collect(),
            begun: HashMap::new(),
            done: HashSet::new(),
            running: JoinSet::new(),
            places: Arc::new(Places::new(options.guests)),
            outcome: Outcome::default(),
        }
    }

    fn start_what_can(&mut self) {
        while self.options.keep_going || self.outcome.failures.is_empty() {
            let Some(place) = self.places.take() else { break };
            let Some(task) = self.queue.start_next() else { break };
            let Some(planned) = self.jobs.remove(&task) else { continue };
            self.begun.insert(task, Instant::now());
            let work = (self.work)(&planned);
            let (workshop, places) = (self.workshop.clone(), self.places.clone());
            self.running.spawn(async move {
                (task, build_one(&workshop, planned, work, &places, place).await)
            });
        }
    }

    fn ended(&mut self, task: TaskId, result: Result<Attempt, Box<Failure>>) {
        let name = self.names.get(task).cloned().unwrap_or_default();
        match result {
            Ok(Attempt::NotTried) => return,
            Ok(Attempt::Built) => self.outcome.built.push(name),
            Ok(Attempt::BuiltElsewhere) => self.outcome.built_elsewhere.push(name),
            Err(failure) => {
                self.done.insert(task);
                self.queue.failed(task);
                return self.failed(*failure);
            }
        }
        self.done.insert(task);
        self.queue.finished(task);
    }

    fn failed(&mut self, failure: Failure) {
        self.outcome.failures.push(failure);
        if !self.options.keep_going {
            self.places.end();
        }
    }

    fn tell_progress(&self) {
        let passed =
            |task: TaskId| self.begun.get(&task).map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let left = self.queue.left(passed);
        let running = self.places.taken();
        let failed = self.outcome.failures.len();
        self.workshop.observer.observe(Event::Progress {
            done: self.done.len().saturating_sub(failed),
            failed,
            to_build: self.names.len(),
            running,
            waiting: self.running.len().saturating_sub(running),
            seconds_left: left.seconds(self.options.guests),
            critical_path: left.critical_path,
        });
    }

    fn outcome(mut self) -> Outcome {
        let untried = self.names.iter().enumerate().filter(|(task, _)| !self.done.contains(task));
        self.outcome.skipped = untried.map(|(_, name)| name.clone()).collect();
        self.outcome
    }
}

async fn build_one(
    workshop: &Workshop,
    planned: Planned,
    work: Result<Work>,
    places: &Places,
    place: Place,
) -> Result<Attempt, Box<Failure>> {
    let Planned { component, key, .. } = planned;
    let mut started = Instant::now();
    let mut tail = Vec::new();
    let wait = || workshop.notice(format!("{component}: another process builds it; waiting"));
    let turn = places.turn(&workshop.store, &key, place, wait).await;
    let result = match turn {
        Ok(Turn::Over) => return Ok(Attempt::NotTried),
        Ok(Turn::Built(artifact)) => Ok((Attempt::BuiltElsewhere, *artifact)),
        Ok(Turn::Ours(_lock, _place)) => {
            // Waiting for another process is no part of what a build takes.
            started = Instant::now();
            match work {
                Ok(work) => build(workshop, &component, &key, &work, &mut tail)
                    .await
                    .map(|artifact| (Attempt::Built, artifact)),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok((attempt, artifact)) => {
            failed::forget(workshop, &key);
            let (key, bytes) = (key.to_string(), artifact.info.size);
            workshop.observer.observe(Event::Finished { component, key, seconds, bytes });
            Ok(attempt)
        }
        Err(error) => {
            let log = workshop.store.log_path(&key);
            workshop.observer.observe(Event::Failed {
                component: component.clone(),
                key: key.to_string(),
                seconds,
                reason: error.to_string(),
                log: log.display().to_string(),
            });
            let tree_is_kept = workshop.store.failed_path(&key).is_dir();
            let key = key.to_string();
            Err(Box::new(Failure { component, key, error, log, tail, tree_is_kept }))
        }
    }
}

async fn build(
    workshop: &Workshop,
    component: &str,
    key: &Key,
    work: &Work,
    tail: &mut Vec<String>,
) -> Result<Artifact> {
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
