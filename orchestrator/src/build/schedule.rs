//! How long a plan takes on some number of guests, by carrying it out in imagination. Pure.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::queue::{Queue, Task, TaskId};

/// A moment, in seconds from the start.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Seconds from the first start to the last end where `tasks` run on `guests` guests as the queue
/// orders them, each as long as `seconds` says; 0 where that does not name it.
pub fn makespan(tasks: &[Task], guests: usize, seconds: impl Fn(TaskId) -> f64) -> f64 {
    let mut queue = Queue::new(tasks);
    let mut running: BinaryHeap<Reverse<(Moment, TaskId)>> = BinaryHeap::new();
    let mut now = 0.0;
    loop {
        while running.len() < guests.max(1) {
            let Some(task) = queue.start_next() else { break };
            running.push(Reverse((Moment(now + seconds(task).max(0.0)), task)));
        }
        let Some(Reverse((Moment(end), task))) = running.pop() else { return now };
        now = end;
        queue.finished(task);
    }
}

/// Seconds that no order of `tasks` can beat on `guests` guests, each task as long as it says.
///
/// Of every set of tasks: the way up to the first of them, their work shared evenly by the guests,
/// and the way on from the last. All tasks give the work divided by the guests; a single one on the
/// longest chain gives that chain. Between them lie those that some chain leads to and another from.
pub fn lower_bound(tasks: &[Task], guests: usize) -> f64 {
    let ways = Ways::new(tasks);
    let mut by_after: Vec<TaskId> = (0..tasks.len()).collect();
    by_after.sort_by(|a, b| ways.after(*b).total_cmp(&ways.after(*a)));
    let mut bound = 0.0_f64;
    for first in 0..tasks.len() {
        let earliest = ways.before(first);
        let mut work = 0.0;
        for &task in by_after.iter().filter(|task| ways.before(**task) >= earliest) {
            work += seconds_of(tasks, task);
            bound = bound.max(earliest + work / guests.max(1) as f64 + ways.after(task));
        }
        bound = bound.max(earliest + seconds_of(tasks, first) + ways.after(first));
    }
    bound
}

/// Of each task the longest chain that leads to it, and the longest that it leads to, without it.
struct Ways(Vec<(f64, f64)>);

impl Ways {
    fn new(tasks: &[Task]) -> Ways {
        let mut ways = Ways(vec![(0.0, 0.0); tasks.len()]);
        for (id, task) in tasks.iter().enumerate() {
            let ends = task.dependencies.iter().map(|d| ways.before(*d) + seconds_of(tasks, *d));
            let before = ends.fold(0.0, f64::max);
            if let Some(way) = ways.0.get_mut(id) {
                way.0 = before;
            }
        }
        for (id, task) in tasks.iter().enumerate().rev() {
            let length = ways.after(id) + seconds_of(tasks, id);
            for dependency in &task.dependencies {
                if let Some(way) = ways.0.get_mut(*dependency) {
                    way.1 = way.1.max(length);
                }
            }
        }
        ways
    }

    fn before(&self, task: TaskId) -> f64 {
        self.0.get(task).map_or(0.0, |way| way.0)
    }

    fn after(&self, task: TaskId) -> f64 {
        self.0.get(task).map_or(0.0, |way| way.1)
    }
}

fn seconds_of(tasks: &[Task], task: TaskId) -> f64 {
    tasks.get(task).map_or(0.0, |task| task.seconds.max(0.0))
}
