use std::collections::BTreeMap;

use proptest::prelude::*;

use super::queue::graphs;
use crate::build::plan::tasks;
use crate::graph::reach::ComponentSet;

proptest! {
    /// Whatever of a graph the store lacks: each waits for all of it that its build needs, and for
    /// nothing else, though few of the needs are named.
    #[test]
    fn tasks_wait_for_what_is_missing_and_needed(
        graph in graphs(),
        there in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut needs: Vec<ComponentSet> = Vec::new();
        for task in &graph {
            let mut own = ComponentSet::default();
            for &dependency in &task.dependencies {
                own.insert(dependency);
                own.add(&needs[dependency]);
            }
            needs.push(own);
        }
        let missing: BTreeMap<usize, ComponentSet> =
            (0..graph.len()).filter(|&id| !there[id]).map(|id| (id, needs[id].clone())).collect();
        let tasks = tasks(&missing, &vec![1.0; missing.len()]);
        prop_assert_eq!(tasks.len(), missing.len());
        let places: Vec<usize> = missing.keys().copied().collect();
        let mut waits: Vec<ComponentSet> = Vec::new();
        for (task, needs) in tasks.iter().zip(missing.values()) {
            let mut all = ComponentSet::default();
            for &dependency in &task.dependencies {
                prop_assert!(dependency < waits.len(), "it depends on a later one");
                all.insert(places[dependency]);
                all.add(&waits[dependency]);
            }
            let wanted: Vec<usize> = needs.iter().filter(|id| !there[*id]).collect();
            prop_assert_eq!(all.iter().collect::<Vec<_>>(), wanted);
            waits.push(all);
        }
    }
}
