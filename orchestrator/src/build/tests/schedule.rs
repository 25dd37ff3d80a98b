//! How good the queue's order is, above all for the published GNOME system with made-up durations.

use std::collections::HashMap;

use proptest::prelude::*;

use super::queue::{graphs, task};
use crate::build::queue::Task;
use crate::build::schedule::{lower_bound, makespan};
use crate::definitions::tests::published;
use crate::graph::Graph;

fn planned(tasks: &[Task], guests: usize) -> f64 {
    makespan(tasks, guests, |id| tasks[id].seconds)
}

#[test]
fn bounds_of_small_plans() {
    let alone = [task(&[], 3.0), task(&[], 1.0), task(&[], 2.0)];
    assert_eq!((lower_bound(&alone, 1), planned(&alone, 1)), (6.0, 6.0));
    assert_eq!((lower_bound(&alone, 2), planned(&alone, 2)), (3.0, 3.0));
    let chain = [task(&[], 3.0), task(&[0], 1.0), task(&[1], 2.0)];
    assert_eq!((lower_bound(&chain, 9), planned(&chain, 9)), (6.0, 6.0));
    // Neither the longest chain (3) nor the work shared (3) says that one guest idles at first.
    let fan = [task(&[], 1.0), task(&[0], 2.0), task(&[0], 2.0), task(&[0], 1.0)];
    assert_eq!((lower_bound(&fan, 2), planned(&fan, 2)), (3.5, 4.0));
    assert_eq!((lower_bound(&[], 2), planned(&[], 2)), (0.0, 0.0));
}

/// What a build of the system would build, in its order; about one minute each, one of a hundred
/// twenty times that.
fn gnome(seed: u64) -> Option<Vec<Task>> {
    let definitions = published::definitions()?;
    let system = definitions.select("systems/gnome-system-x86_64").unwrap();
    let graph = Graph::new(&definitions, &[system]).unwrap();
    let mut state = seed;
    let mut random = || {
        // Knuth's MMIX generator; its upper bits are good enough here.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    let mut numbers = HashMap::new();
    let mut tasks = Vec::new();
    for &id in graph.order() {
        let component = definitions.get(id).unwrap();
        let needs = match (component.chunk(), component.system()) {
            (Some(_), _) => graph.staged_dependencies(&definitions, id),
            (_, Some(_)) => graph.system_chunks(&definitions, id),
            _ => continue,
        };
        let dependencies = needs.iter().map(|needed| numbers[needed]).collect();
        numbers.insert(id, tasks.len());
        // The sum of twelve is nearly normal: durations are logarithmically normal, as measured
        // ones are.
        let normal = (0..12).map(|_| random()).sum::<f64>() - 6.0;
        tasks.push(Task { dependencies, seconds: 60.0 * (1.3 * normal).exp() });
    }
    Some(tasks)
}

#[test]
fn the_published_gnome_system_takes_hardly_longer_than_it_must() {
    for seed in 1..=5 {
        let Some(tasks) = gnome(seed) else { return };
        assert!(tasks.len() > 450, "{} tasks", tasks.len());
        for guests in [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64] {
            let (took, bound) = (planned(&tasks, guests), lower_bound(&tasks, guests));
            assert!(took <= bound * 1.05, "seed {seed}, {guests} guests: {took} s, not {bound} s");
        }
    }
}

proptest! {
    #[test]
    fn a_plan_keeps_its_bounds(tasks in graphs(), guests in 1usize..6) {
        let (took, bound) = (planned(&tasks, guests), lower_bound(&tasks, guests));
        let work: f64 = tasks.iter().map(|task| task.seconds).sum();
        let chain = crate::build::queue::Queue::new(&tasks).critical_path();
        let rounding = 1e-6;
        prop_assert!(bound <= took + rounding, "{bound} {took}");
        prop_assert!(bound >= chain - rounding && bound >= work / guests as f64 - rounding);
        // Graham's bound: whatever starts as soon as it can is at most this long.
        let rest = 1.0 - 1.0 / guests as f64;
        prop_assert!(took <= work / guests as f64 + rest * chain + rounding);
    }
}
