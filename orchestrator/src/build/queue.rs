//! Which task to start next: a ready queue ordered by the critical path. Pure.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A task of the queue, by its number.
pub type TaskId = usize;

/// What a task waits for, and how long it is expected to take.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub dependencies: Vec<TaskId>,
    /// Seconds; an estimate.
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    /// It failed, or something that it needs did.
    Lost,
}

#[derive(Debug, PartialEq)]
struct Ready {
    /// Seconds from the start of this task to the end of everything that waits for it.
    rank: f64,
    task: TaskId,
}

impl Eq for Ready {}

impl Ord for Ready {
    fn cmp(&self, other: &Self) -> Ordering {
        // Longest way to go first; then in order of the task numbers.
        self.rank.total_cmp(&other.rank).then_with(|| other.task.cmp(&self.task))
    }
}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
struct Entry {
    state: State,
    missing: usize,
    dependents: Vec<TaskId>,
    seconds: f64,
    rank: f64,
}

/// What is left of a plan, as far as durations are known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Left {
    /// Seconds of the longest chain of unfinished tasks.
    pub critical_path: f64,
    /// Seconds of all unfinished tasks, one after the other.
    pub work: f64,
}

impl Left {
    /// Seconds that at least pass with so many guests.
    pub fn seconds(&self, guests: usize) -> f64 {
        self.critical_path.max(self.work / guests.max(1) as f64)
    }
}

/// A ready queue over tasks numbered in topological order: each depends on lower numbers only.
#[derive(Debug)]
pub struct Queue {
    entries: Vec<Entry>,
    ready: BinaryHeap<Ready>,
}

impl Queue {
    /// Dependencies that are not lower numbers are ignored: the graph has refused cycles before.
    pub fn new(tasks: &[Task]) -> Queue {
        let mut entries: Vec<Entry> = Vec::with_capacity(tasks.len());
        for (id, task) in tasks.iter().enumerate() {
            let mut missing = 0;
            for dependency in &task.dependencies {
                if let Some(entry) = entries.get_mut(*dependency) {
                    entry.dependents.push(id);
                    missing += 1;
                }
            }
            entries.push(Entry {
                state: State::Waiting,
                missing,
                dependents: Vec::new(),
                seconds: task.seconds.max(0.0),
                rank: task.seconds.max(0.0),
            });
        }
        rank(&mut entries);
        let ready = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.missing == 0)
            .map(|(task, entry)| Ready { rank: entry.rank, task })
            .collect();
        Queue { entries, ready }
    }

    /// The most urgent task that can start now; it counts as running from here on.
    pub fn start_next(&mut self) -> Option<TaskId> {
        while let Some(Ready { task, .. }) = self.ready.pop() {
            if let Some(entry) = self.entries.get_mut(task)
                && entry.state == State::Waiting
            {
                entry.state = State::Running;
                return Some(task);
            }
        }
        None
    }

    /// A running task succeeded: what waited for it alone becomes ready.
    pub fn finished(&mut self, task: TaskId) {
        let Some(entry) = self.entries.get_mut(task) else { return };
        entry.state = State::Done;
        for dependent in std::mem::take(&mut entry.dependents) {
            if let Some(entry) = self.entries.get_mut(dependent) {
                entry.missing = entry.missing.saturating_sub(1);
                if entry.missing == 0 && entry.state == State::Waiting {
                    self.ready.push(Ready { rank: entry.rank, task: dependent });
                }
            }
        }
    }

    /// A running task failed. Returns everything that can therefore never start.
    pub fn failed(&mut self, task: TaskId) -> Vec<TaskId> {
        let mut lost = Vec::new();
        let mut pending = vec![task];
        while let Some(task) = pending.pop() {
            let Some(entry) = self.entries.get_mut(task) else { continue };
            if entry.state == State::Lost {
                continue;
            }
            entry.state = State::Lost;
            lost.push(task);
            pending.extend(std::mem::take(&mut entry.dependents));
        }
        lost.retain(|lost| *lost != task);
        lost.sort_unstable();
        lost
    }

    /// What is left, where running tasks have run for `elapsed` seconds.
    pub fn left(&self, elapsed: impl Fn(TaskId) -> f64) -> Left {
        let mut left = Left::default();
        for (task, entry) in self.entries.iter().enumerate() {
            let passed = match entry.state {
                State::Waiting => 0.0,
                State::Running => elapsed(task).clamp(0.0, entry.seconds),
                State::Done | State::Lost => continue,
            };
            left.critical_path = left.critical_path.max(entry.rank - passed);
            left.work += entry.seconds - passed;
        }
        left
    }

    /// Seconds that the longest chain of unfinished tasks takes, running ones from their start.
    pub fn critical_path(&self) -> f64 {
        self.left(|_| 0.0).critical_path
    }
}

/// Adds to each task's own seconds the longest rank among its dependents. Dependents have higher
/// numbers, so one pass from the end is enough.
fn rank(entries: &mut [Entry]) {
    for id in (0..entries.len()).rev() {
        let longest = match entries.get(id) {
            Some(entry) => entry
                .dependents
                .iter()
                .filter_map(|dependent| entries.get(*dependent))
                .map(|entry| entry.rank)
                .fold(0.0, f64::max),
            None => 0.0,
        };
        if let Some(entry) = entries.get_mut(id) {
            entry.rank += longest;
        }
    }
}
