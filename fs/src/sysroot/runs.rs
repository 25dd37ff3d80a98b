//! Extents by offset: an array while they are few, which is nearly always, a tree beyond.
//!
//! A tree's smallest node has room for eleven extents, ten times what a file in one piece needs; an
//! array of many moves half of itself with every change.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use super::content::Extent;

/// Extents that an array holds at most.
const FEW: usize = 64;

/// Extents that do not overlap, none empty, ordered by offset.
#[derive(Debug, Clone)]
pub(super) enum Runs {
    Few(Vec<Extent>),
    Many(BTreeMap<u64, Extent>),
}

impl Default for Runs {
    fn default() -> Self {
        Runs::Few(Vec::new())
    }
}

impl PartialEq for Runs {
    fn eq(&self, other: &Self) -> bool {
        self.from(0).eq(other.from(0))
    }
}

impl Eq for Runs {}

impl Runs {
    /// The extents that end after `offset`, in order.
    pub(super) fn from(&self, offset: u64) -> impl Iterator<Item = Extent> {
        let (few, many): (&[Extent], Option<Range<'_, u64, Extent>>) = match self {
            Runs::Few(few) => {
                let first = few.partition_point(|extent| extent.end() <= offset);
                (few.get(first..).unwrap_or_default(), None)
            }
            Runs::Many(many) => {
                let reaching = many.range(..=offset).next_back().map(|(_, extent)| extent);
                let start = reaching.filter(|extent| extent.end() > offset);
                (&[], Some(many.range(start.map_or(offset, |extent| extent.offset)..)))
            }
        };
        few.iter().copied().chain(many.into_iter().flatten().map(|(_, extent)| *extent))
    }

    /// The extent that ends exactly at `offset`.
    pub(super) fn ending_at(&self, offset: u64) -> Option<Extent> {
        let before = match self {
            Runs::Few(few) => {
                let next = few.partition_point(|extent| extent.offset < offset);
                few.get(next.checked_sub(1)?).copied()
            }
            Runs::Many(many) => many.range(..offset).next_back().map(|(_, extent)| *extent),
        };
        before.filter(|extent| extent.end() == offset)
    }

    /// Takes out every extent that has a part in a range.
    pub(super) fn take(&mut self, from: u64, to: u64) -> Vec<Extent> {
        match self {
            Runs::Few(few) => {
                let first = few.partition_point(|extent| extent.end() <= from);
                let last = few.partition_point(|extent| extent.offset < to).max(first);
                few.drain(first..last).collect()
            }
            Runs::Many(_) => {
                let taken: Vec<Extent> =
                    self.from(from).take_while(|extent| extent.offset < to).collect();
                if let Runs::Many(many) = self {
                    for extent in &taken {
                        many.remove(&extent.offset);
                    }
                }
                taken
            }
        }
    }

    /// Adds an extent whose range is free.
    pub(super) fn put(&mut self, extent: Extent) {
        match self {
            Runs::Few(few) if few.len() < FEW => {
                let place = few.partition_point(|other| other.offset < extent.offset);
                // Most files are one run; room for four would triple what such a file costs.
                if few.capacity() == 0 {
                    few.reserve_exact(1);
                }
                few.insert(place, extent);
            }
            Runs::Few(few) => {
                let mut many: BTreeMap<u64, Extent> =
                    few.drain(..).map(|extent| (extent.offset, extent)).collect();
                many.insert(extent.offset, extent);
                *self = Runs::Many(many);
            }
            Runs::Many(many) => {
                many.insert(extent.offset, extent);
            }
        }
    }
}
