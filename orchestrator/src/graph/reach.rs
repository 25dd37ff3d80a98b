//! What the builds of many components need, as sets: cheap where walking the graph for each of ten
//! thousand components would not be.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::{Graph, direct, mode_of};
use crate::definitions::{BuildMode, ComponentId, Definitions, Detail};

/// Components of a graph by their places in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentSet(Vec<u64>);

const BITS: usize = u64::BITS as usize;

impl ComponentSet {
    pub fn insert(&mut self, place: usize) {
        let (word, bit) = (place / BITS, place % BITS);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    pub fn take(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / BITS) {
            *word &= !(1 << (place % BITS));
        }
    }

    pub fn add(&mut self, other: &ComponentSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own |= other;
        }
    }

    pub fn remove(&mut self, other: &ComponentSet) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own &= !other;
        }
    }

    pub fn keep(&mut self, other: &ComponentSet) {
        self.0.truncate(other.0.len());
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own &= other;
        }
    }

    /// The place that comes last in the order.
    pub fn last(&self) -> Option<usize> {
        let (word, bits) = self.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        Some(word * BITS + bits.ilog2() as usize)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, &bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(word * BITS + bit)
            })
        })
    }
}

/// Answers for all components of a graph what [`Graph::staged_dependencies`] and
/// [`Graph::system_chunks`] answer for one.
pub struct Reach<'a> {
    graph: &'a Graph,
    definitions: &'a Definitions,
    place: HashMap<ComponentId, usize>,
    /// Of a build mode: for each place the chunks of that mode that lie below, and the component
    /// itself if it is a chunk.
    below: HashMap<BuildMode, Vec<ComponentSet>>,
}

impl<'a> Reach<'a> {
    pub fn new(graph: &'a Graph, definitions: &'a Definitions) -> Reach<'a> {
        let place = graph.order().iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Reach { graph, definitions, place, below: HashMap::new() }
    }

    pub fn place(&self, id: ComponentId) -> Option<usize> {
        self.place.get(&id).copied()
    }

    /// The chunks whose artifacts the build of a chunk or a system needs.
    pub fn needs(&mut self, id: ComponentId) -> ComponentSet {
        let mut needs = ComponentSet::default();
        match self.definitions.get(id).map(|component| &component.detail) {
            Some(Detail::Chunk(chunk)) => {
                let places: Vec<usize> =
                    chunk.build_depends.iter().filter_map(|&id| self.place(id)).collect();
                let below = self.below(chunk.build_mode);
                places.iter().filter_map(|&place| below.get(place)).for_each(|set| needs.add(set));
            }
            Some(Detail::System(_)) => {
                let chunks = self.definitions.system_chunks(id);
                chunks.iter().filter_map(|&id| self.place(id)).for_each(|p| needs.insert(p));
            }
            _ => {}
        }
        needs
    }

    fn below(&mut self, mode: BuildMode) -> &Vec<ComponentSet> {
        let Reach { graph, definitions, place, below } = self;
        below.entry(mode).or_insert_with(|| {
            let mut all: Vec<ComponentSet> = Vec::with_capacity(graph.len());
            for (own, &id) in graph.order().iter().enumerate() {
                let mut set = ComponentSet::default();
                let component = definitions.get(id);
                if component.is_some_and(|component| component.chunk().is_some()) {
                    set.insert(own);
                }
                for next in component.map(direct).unwrap_or_default() {
                    if mode_of(definitions, next).is_none_or(|other| other == mode)
                        && let Some(set_of_next) = place.get(&next).and_then(|p| all.get(*p))
                    {
                        set.add(set_of_next);
                    }
                }
                all.push(set);
            }
            all
        })
    }
}
