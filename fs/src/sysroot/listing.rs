//! The names of a directory that several layers contribute to, in a fixed order.
//!
//! Kept as runs of consecutive children of one layer, so a directory that hardly overlaps costs
//! a few words, whatever its size.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::merge::Source;
use crate::error::{Errno, Result};
use crate::layer::{Entry, Layer};

/// Consecutive children of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Index into the directory's sources.
    pub source: usize,
    /// Position of the first child in that source.
    pub start: u64,
    pub length: u64,
}

struct Placed {
    /// Position in the merged order.
    at: u64,
    source: u32,
    start: u64,
    length: u64,
}

pub(super) struct Listing {
    runs: Box<[Placed]>,
    len: u64,
    subdirectories: u32,
}

struct Candidate {
    name: Vec<u8>,
    source: u32,
    position: u64,
    entry: Entry,
}

impl Listing {
    pub(super) fn merge(layers: &[Arc<dyn Layer>], sources: &[Source]) -> Result<Listing> {
        let layer_of = |source: &Source| layers.get(source.layer as usize).ok_or(Errno::STALE);
        let mut candidates = Vec::new();
        for (number, source) in (0u32..).zip(sources) {
            let mut position = 0;
            layer_of(source)?.children(source.entry, 0, &mut |name, entry| {
                candidates.push(Candidate { name: name.to_vec(), source: number, position, entry });
                position += 1;
                ControlFlow::Continue(())
            })?;
        }
        // Stable: of equal names the topmost source's comes first.
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        candidates.dedup_by(|later, first| later.name == first.name);

        let mut runs: Vec<Placed> = Vec::new();
        let mut len = 0;
        let mut subdirectories = 0u32;
        for winner in &candidates {
            if is_whited_out(layers, sources, winner)? {
                continue;
            }
            let source = sources.get(winner.source as usize).ok_or(Errno::STALE)?;
            if layer_of(source)?.metadata(winner.entry)?.kind.is_directory() {
                subdirectories = subdirectories.saturating_add(1);
            }
            match runs.last_mut() {
                Some(run)
                    if run.source == winner.source && run.start + run.length == winner.position =>
                {
                    run.length += 1;
                }
                _ => runs.push(Placed {
                    at: len,
                    source: winner.source,
                    start: winner.position,
                    length: 1,
                }),
            }
            len += 1;
        }
        Ok(Listing { runs: runs.into(), len, subdirectories })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn subdirectories(&self) -> u32 {
        self.subdirectories
    }

    /// The runs from the `start`-th name on.
    pub(super) fn from(&self, start: u64) -> impl Iterator<Item = Run> {
        let first = self.runs.partition_point(|run| run.at + run.length <= start);
        self.runs.get(first..).unwrap_or_default().iter().map(move |run| {
            let skipped = start.saturating_sub(run.at);
            Run {
                source: run.source as usize,
                start: run.start + skipped,
                length: run.length.saturating_sub(skipped),
            }
        })
    }
}

fn is_whited_out(
    layers: &[Arc<dyn Layer>],
    sources: &[Source],
    candidate: &Candidate,
) -> Result<bool> {
    for source in sources.iter().take(candidate.source as usize) {
        let layer = layers.get(source.layer as usize).ok_or(Errno::STALE)?;
        if layer.whiteout(source.entry, &candidate.name)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
