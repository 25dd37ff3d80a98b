//! The dependency graph of a target: order, cycles, critical path, staging sets.
//!
//! Nodes are components; an edge goes from a component to each thing that it is built from: its
//! `build-depends` and its contents.

#![forbid(unsafe_code)]

pub mod check;
pub mod reach;
mod staging;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::definitions::{BuildMode, Component, ComponentId, Definitions, Detail};

/// Components that need each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dependency cycle: {}", shown(.0))]
pub struct Cycle(
    /// Paths along the cycle; the first stands again at the end.
    pub Vec<String>,
);

/// Names of a cycle that one message has.
const MOST_NAMES: usize = 20;

fn shown(cycle: &[String]) -> String {
    let more = cycle.len().saturating_sub(MOST_NAMES);
    match (cycle.get(..MOST_NAMES), cycle.last()) {
        (Some(first), Some(last)) if more > 1 => {
            format!("{} → ({} more) → {last}", first.join(" → "), more.saturating_sub(1))
        }
        _ => cycle.join(" → "),
    }
}

/// Everything that is needed for some targets.
#[derive(Debug, Clone)]
pub struct Graph {
    edges: DiGraph<ComponentId, ()>,
    nodes: HashMap<ComponentId, NodeIndex>,
    order: Vec<ComponentId>,
    rank: HashMap<ComponentId, Rank>,
}

/// Place of a component in any staging order: its depth, then its position in [`Graph::order`].
/// Both follow from what the component is built from, so that a key which covers that covers the
/// order too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    depth: usize,
    path: usize,
}

/// What a component is directly built from: `build-depends`, then contents.
pub fn direct(component: &Component) -> Vec<ComponentId> {
    match &component.detail {
        Detail::Chunk(chunk) => chunk.build_depends.clone(),
        Detail::Stratum(stratum) => stratum
            .build_depends
            .iter()
            .copied()
            .chain(stratum.members.iter().map(|member| member.chunk))
            .collect(),
        Detail::System(system) => system.strata.iter().map(|entry| entry.stratum).collect(),
        Detail::Cluster(cluster) => cluster.all_systems(),
    }
}

/// The build mode of a chunk.
fn mode_of(definitions: &Definitions, id: ComponentId) -> Option<BuildMode> {
    definitions.get(id)?.chunk().map(|chunk| chunk.build_mode)
}

impl Graph {
    /// The closure of `targets`.
    pub fn new(definitions: &Definitions, targets: &[ComponentId]) -> Result<Graph, Cycle> {
        let (edges, nodes) = closure(definitions, targets);
        let order = topological(definitions, &edges)?;
        let mut graph = Graph { edges, nodes, order, rank: HashMap::new() };
        graph.rank = graph.ranks(definitions);
        Ok(graph)
    }

    /// The closure of everything: for finding cycles anywhere.
    pub fn whole(definitions: &Definitions) -> Result<Graph, Cycle> {
        let all: Vec<_> = definitions.iter().map(|(id, _)| id).collect();
        Graph::new(definitions, &all)
    }

    /// Cycles anywhere: of each set of components that all need each other, a shortest one through
    /// some of them.
    pub fn cycles(definitions: &Definitions) -> Vec<Cycle> {
        let all: Vec<_> = definitions.iter().map(|(id, _)| id).collect();
        let (edges, _) = closure(definitions, &all);
        let name =
            |node: NodeIndex| edges.node_weight(node).map_or("", |&id| definitions.path_of(id));
        // Not Tarjan's algorithm, which recurses in petgraph: chains may be long.
        let sets = petgraph::algo::kosaraju_scc(&edges);
        let is_cyclic = |set: &Vec<NodeIndex>| match set.as_slice() {
            [single] => edges.contains_edge(*single, *single),
            _ => true,
        };
        let cycles = sets
            .into_iter()
            .filter(is_cyclic)
            .filter_map(|set| shortest_cycle(&edges, &set.into_iter().collect(), name).map(Cycle));
        let mut cycles: Vec<Cycle> = cycles.collect();
        cycles.sort_by(|a, b| a.0.cmp(&b.0));
        cycles
    }

    /// All components, each after what it is built from; ties by path, bytewise.
    pub fn order(&self) -> &[ComponentId] {
        &self.order
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn contains(&self, id: ComponentId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// What a component is directly built from.
    pub fn dependencies(&self, id: ComponentId) -> impl Iterator<Item = ComponentId> + '_ {
        self.neighbours(id, Direction::Outgoing)
    }

    /// What is directly built from a component.
    pub fn dependents(&self, id: ComponentId) -> impl Iterator<Item = ComponentId> + '_ {
        self.neighbours(id, Direction::Incoming)
    }

    /// Components along the shortest way from one to something that it needs, both ends included;
    /// of several, the one with the bytewise first paths. `None` if it does not need that.
    pub fn shortest_way(&self, from: ComponentId, to: ComponentId) -> Option<Vec<ComponentId>> {
        let mut came_from: HashMap<ComponentId, ComponentId> = HashMap::new();
        let mut queue = VecDeque::from([*self.order.iter().find(|&&id| id == from)?]);
        while let Some(id) = queue.pop_front() {
            if id == to {
                let mut way = vec![id];
                let mut at = id;
                while at != from {
                    at = came_from.get(&at).copied()?;
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            let mut below: Vec<_> = self.dependencies(id).collect();
            below.sort_by_key(|id| self.rank.get(id).map(|rank| rank.path));
            for next in below {
                if next != from {
                    came_from.entry(next).or_insert_with(|| {
                        queue.push_back(next);
                        id
                    });
                }
            }
        }
        None
    }

    fn neighbours(
        &self,
        id: ComponentId,
        direction: Direction,
    ) -> impl Iterator<Item = ComponentId> + '_ {
        self.nodes
            .get(&id)
            .into_iter()
            .flat_map(move |&node| self.edges.neighbors_directed(node, direction))
            .filter_map(|node| self.edges.node_weight(node).copied())
    }

    /// For each component, the weight of the heaviest chain that begins with it and leads up to a
    /// target, itself included: what is left to do once it starts. Build the largest first.
    pub fn remaining(&self, weight: impl Fn(ComponentId) -> u64) -> HashMap<ComponentId, u64> {
        let mut remaining = HashMap::with_capacity(self.order.len());
        for &id in self.order.iter().rev() {
            let above =
                self.dependents(id).filter_map(|above| remaining.get(&above)).max().copied();
            remaining.insert(id, weight(id).saturating_add(above.unwrap_or(0)));
        }
        remaining
    }

    /// The heaviest chain, dependencies first; ties by [`Graph::order`].
    pub fn critical_path(&self, weight: impl Fn(ComponentId) -> u64) -> Vec<ComponentId> {
        let remaining = self.remaining(weight);
        let heaviest = |ids: &mut dyn Iterator<Item = ComponentId>| {
            let ranked = ids.filter_map(|id| {
                Some(((*remaining.get(&id)?, Reverse(self.rank.get(&id)?.path)), id))
            });
            ranked.max().map(|(_, id)| id)
        };
        let mut path = Vec::new();
        let mut next = heaviest(&mut self.order.iter().copied());
        while let Some(id) = next {
            path.push(id);
            next = heaviest(&mut self.dependents(id));
        }
        path
    }

    fn ranks(&self, definitions: &Definitions) -> HashMap<ComponentId, Rank> {
        let mut by_path: Vec<_> = self.order.clone();
        by_path.sort_by_key(|&id| definitions.path_of(id));
        let paths: HashMap<_, _> = by_path.into_iter().zip(0usize..).collect();
        let mut ranks: HashMap<ComponentId, Rank> = HashMap::with_capacity(self.order.len());
        for &id in &self.order {
            let below = self.dependencies(id).filter_map(|d| ranks.get(&d)).map(|r| r.depth).max();
            let depth = below.map_or(0, |depth| depth.saturating_add(1));
            ranks.insert(id, Rank { depth, path: paths.get(&id).copied().unwrap_or(0) });
        }
        ranks
    }
}

/// Targets and everything that they need, with an edge to each thing that something is built from.
fn closure(
    definitions: &Definitions,
    targets: &[ComponentId],
) -> (DiGraph<ComponentId, ()>, HashMap<ComponentId, NodeIndex>) {
    let mut edges = DiGraph::new();
    let mut nodes = HashMap::new();
    let mut queue: Vec<ComponentId> = Vec::new();
    let mut node = |id, edges: &mut DiGraph<ComponentId, ()>, queue: &mut Vec<_>| {
        *nodes.entry(id).or_insert_with(|| {
            queue.push(id);
            edges.add_node(id)
        })
    };
    for &target in targets {
        node(target, &mut edges, &mut queue);
    }
    while let Some(id) = queue.pop() {
        let from = node(id, &mut edges, &mut queue);
        let Some(component) = definitions.get(id) else { continue };
        let unique: HashSet<ComponentId> = direct(component).into_iter().collect();
        let mut unique: Vec<_> = unique.into_iter().collect();
        unique.sort();
        for dependency in unique {
            let to = node(dependency, &mut edges, &mut queue);
            edges.add_edge(from, to, ());
        }
    }
    (edges, nodes)
}

/// Kahn's algorithm with the smallest path first. Nothing here recurses: chains may be long.
fn topological(
    definitions: &Definitions,
    edges: &DiGraph<ComponentId, ()>,
) -> Result<Vec<ComponentId>, Cycle> {
    let mut waiting: HashMap<NodeIndex, usize> = edges
        .node_indices()
        .map(|node| (node, edges.neighbors_directed(node, Direction::Outgoing).count()))
        .collect();
    let name = |node: NodeIndex| edges.node_weight(node).map_or("", |&id| definitions.path_of(id));
    let mut ready: BinaryHeap<Reverse<(&str, NodeIndex)>> = waiting
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(&node, _)| Reverse((name(node), node)))
        .collect();
    let mut order = Vec::with_capacity(edges.node_count());
    while let Some(Reverse((_, node))) = ready.pop() {
        waiting.remove(&node);
        order.extend(edges.node_weight(node));
        for above in edges.neighbors_directed(node, Direction::Incoming) {
            if let Some(count) = waiting.get_mut(&above) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.push(Reverse((name(above), above)));
                }
            }
        }
    }
    match shortest_cycle(edges, &waiting.into_keys().collect(), name) {
        Some(cycle) => Err(Cycle(cycle)),
        None => Ok(order),
    }
}

/// The shortest cycle through one component of those that wait for each other.
fn shortest_cycle<'a>(
    edges: &DiGraph<ComponentId, ()>,
    waiting: &HashSet<NodeIndex>,
    name: impl Fn(NodeIndex) -> &'a str,
) -> Option<Vec<String>> {
    let below = |node| {
        let outgoing = edges.neighbors_directed(node, Direction::Outgoing);
        let mut below: Vec<_> = outgoing.filter(|n| waiting.contains(n)).collect();
        below.sort_by_key(|&node| name(node));
        below
    };
    // Everything left waits for something left, so walking down must come back to a cycle.
    let mut start = waiting.iter().copied().min_by_key(|&node| name(node))?;
    let mut walked = HashSet::new();
    while walked.insert(start) {
        start = below(start).first().copied()?;
    }
    let mut came_from: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in below(node) {
            if next == start {
                let mut trail = vec![start];
                let mut at = node;
                while at != start {
                    trail.push(at);
                    at = *came_from.get(&at)?;
                }
                trail.push(start);
                return Some(trail.into_iter().rev().map(|n| name(n).to_owned()).collect());
            }
            came_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                node
            });
        }
    }
    None
}
