use proptest::prelude::*;

use crate::build::queue::{Queue, Task};

pub(super) fn task(dependencies: &[usize], seconds: f64) -> Task {
    Task { dependencies: dependencies.to_vec(), seconds }
}

#[test]
fn the_longest_way_to_go_starts_first() {
    // 0 and 1 are ready; only 1 has a long chain behind it.
    let mut queue = Queue::new(&[task(&[], 5.0), task(&[], 1.0), task(&[1], 10.0)]);
    assert_eq!(queue.critical_path(), 11.0);
    assert_eq!(queue.start_next(), Some(1));
    assert_eq!(queue.start_next(), Some(0));
    assert_eq!(queue.start_next(), None);
    queue.finished(1);
    assert_eq!(queue.start_next(), Some(2));
}

#[test]
fn a_failure_takes_its_dependents_along_and_nothing_else() {
    let mut queue = Queue::new(&[task(&[], 1.0), task(&[0], 1.0), task(&[1], 1.0), task(&[], 0.5)]);
    assert_eq!(queue.start_next(), Some(0));
    assert_eq!(queue.failed(0), vec![1, 2]);
    assert_eq!(queue.start_next(), Some(3));
    queue.finished(3);
    assert_eq!(queue.start_next(), None);
}

pub(super) fn graphs() -> impl Strategy<Value = Vec<Task>> {
    prop::collection::vec((prop::collection::vec(0usize..40, 0..4), 0.0f64..9.0), 0..40).prop_map(
        |rows| {
            rows.into_iter()
                .enumerate()
                .map(|(id, (wanted, seconds))| Task {
                    dependencies: wanted.into_iter().filter(|wanted| *wanted < id).collect(),
                    seconds,
                })
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn every_task_starts_once_and_after_what_it_needs(tasks in graphs(), guests in 1usize..5) {
        let mut queue = Queue::new(&tasks);
        let mut done = vec![false; tasks.len()];
        let mut started = vec![false; tasks.len()];
        let mut running = Vec::new();
        loop {
            while running.len() < guests {
                let Some(next) = queue.start_next() else { break };
                prop_assert!(!started[next]);
                prop_assert!(tasks[next].dependencies.iter().all(|needed| done[*needed]));
                started[next] = true;
                running.push(next);
            }
            if running.is_empty() {
                break;
            }
            let ended = running.remove(0);
            done[ended] = true;
            queue.finished(ended);
        }
        prop_assert!(done.iter().all(|done| *done));
        prop_assert_eq!(queue.critical_path(), 0.0);
    }
}
