//! What is visible to a chunk while it is built, and what a system is assembled from.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashSet};

use super::{Graph, mode_of};
use crate::definitions::{ComponentId, Definitions, Detail};

impl Graph {
    /// The chunks that are staged to build `chunk`, in staging order (each after what it was
    /// built from itself; ties by path). Later ones win where files overlap.
    ///
    /// Staged are the chunks named in its `build-depends` whatever their mode, and through these
    /// and through its strata, at any distance, the chunks of its own build mode. What is not
    /// staged brings nothing along.
    pub fn staged_dependencies(
        &self,
        definitions: &Definitions,
        chunk: ComponentId,
    ) -> Vec<ComponentId> {
        let Some(root) = definitions.get(chunk).and_then(|c| c.chunk()) else { return Vec::new() };
        let mode = root.build_mode;
        let mut seen: HashSet<ComponentId> = root.build_depends.iter().copied().collect();
        let mut queue = root.build_depends.clone();
        let mut staged = Vec::new();
        let same_mode = |id: ComponentId| mode_of(definitions, id).is_none_or(|m| m == mode);
        while let Some(id) = queue.pop() {
            let Some(component) = definitions.get(id) else { continue };
            if matches!(component.detail, Detail::Chunk(_)) {
                staged.push(id);
            }
            for next in super::direct(component) {
                if next != chunk && same_mode(next) && seen.insert(next) {
                    queue.push(next);
                }
            }
        }
        self.sort_for_staging(&mut staged);
        staged
    }

    /// The chunks that a system is assembled from, in staging order: every chunk of its strata
    /// that is not of bootstrap mode.
    pub fn system_chunks(
        &self,
        definitions: &Definitions,
        system: ComponentId,
    ) -> Vec<ComponentId> {
        let mut chunks = definitions.system_chunks(system);
        self.sort_for_staging(&mut chunks);
        chunks
    }

    /// Every distinct prefix among `chunks`: what goes on `PATH`.
    pub fn prefixes(&self, definitions: &Definitions, chunks: &[ComponentId]) -> BTreeSet<String> {
        chunks
            .iter()
            .filter_map(|&id| definitions.get(id)?.chunk())
            .map(|chunk| chunk.prefix().to_owned())
            .collect()
    }

    fn sort_for_staging(&self, chunks: &mut [ComponentId]) {
        chunks.sort_by_key(|id| self.rank.get(id).copied());
    }
}
