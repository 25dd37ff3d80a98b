//! The content of a changed file as a map of runs: pure arithmetic, no I/O.

#![forbid(unsafe_code)]

use super::merge::Source;
use super::runs::Runs;

/// Where the bytes of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In a layer's file, from this offset on.
    Lower(Source, u64),
    /// In the spool, from this offset on.
    Spool(u64),
}

impl Origin {
    fn advanced(self, by: u64) -> Origin {
        match self {
            Origin::Lower(source, offset) => Origin::Lower(source, offset.saturating_add(by)),
            Origin::Spool(offset) => Origin::Spool(offset.saturating_add(by)),
        }
    }
}

/// A run of bytes that are somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub offset: u64,
    pub length: u64,
    pub origin: Origin,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// The part of the extent inside a range.
    fn clipped(&self, from: u64, to: u64) -> Option<Extent> {
        let start = self.offset.max(from);
        let end = self.end().min(to);
        (start < end).then(|| Extent {
            offset: start,
            length: end - start,
            origin: self.origin.advanced(start - self.offset),
        })
    }

    fn is_followed_by(&self, next: &Extent) -> bool {
        self.end() == next.offset && self.origin.advanced(self.length) == next.origin
    }
}

/// A part of a file: data that is somewhere, or a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
    pub origin: Option<Origin>,
}

/// A range of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpoolRange {
    pub offset: u64,
    pub length: u64,
}

/// Extents in order, none overlapping, none empty, neighbours joined where they can be. What no
/// extent covers is a hole.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ExtentMap {
    runs: Runs,
    data_bytes: u64,
}

impl ExtentMap {
    pub(super) fn extents(&self) -> impl Iterator<Item = Extent> {
        self.runs.from(0)
    }

    /// Bytes that are not holes.
    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Lets `extent` take the place of what was in its range; gives back the spool's part of it.
    pub(super) fn insert(&mut self, extent: Extent) -> Vec<SpoolRange> {
        self.replace(extent.offset, extent.end(), Some(extent))
    }

    /// Makes a hole; gives back the spool's part of what was there.
    pub(super) fn remove(&mut self, offset: u64, length: u64) -> Vec<SpoolRange> {
        self.replace(offset, offset.saturating_add(length), None)
    }

    fn replace(&mut self, from: u64, to: u64, new: Option<Extent>) -> Vec<SpoolRange> {
        if from >= to {
            return Vec::new();
        }
        let replaced = self.runs.take(from, to);
        let mut freed = Vec::new();
        for part in replaced.iter().filter_map(|extent| extent.clipped(from, to)) {
            self.data_bytes = self.data_bytes.saturating_sub(part.length);
            if let Origin::Spool(offset) = part.origin {
                freed.push(SpoolRange { offset, length: part.length });
            }
        }
        // The range may cut one extent into two.
        let before = replaced.first().and_then(|extent| extent.clipped(0, from));
        let after = replaced.last().and_then(|extent| extent.clipped(to, u64::MAX));
        for kept in before.into_iter().chain(after) {
            self.runs.put(kept);
        }
        if let Some(new) = new.filter(|new| new.length > 0) {
            self.data_bytes = self.data_bytes.saturating_add(new.length);
            self.put_joined(new);
        }
        freed
    }

    /// Puts an extent into a free range, joined with its neighbours where they can be.
    fn put_joined(&mut self, mut extent: Extent) {
        if let Some(before) = self.runs.ending_at(extent.offset)
            && before.is_followed_by(&extent)
        {
            self.runs.take(before.offset, before.end());
            extent = Extent { length: before.length.saturating_add(extent.length), ..before };
        }
        let after = self.runs.from(extent.end()).next();
        if let Some(after) = after
            && extent.is_followed_by(&after)
        {
            self.runs.take(after.offset, after.end());
            extent.length = extent.length.saturating_add(after.length);
        }
        self.runs.put(extent);
    }

    /// Forgets everything from `size` on.
    pub(super) fn truncate(&mut self, size: u64) -> Vec<SpoolRange> {
        self.remove(size, u64::MAX - size)
    }

    /// What a range consists of, holes included, without gaps.
    pub(super) fn segments(&self, offset: u64, length: u64) -> Vec<Segment> {
        let to = offset.saturating_add(length);
        let mut at = offset;
        let mut segments = Vec::new();
        for extent in self.runs.from(offset) {
            let Some(part) = extent.clipped(offset, to) else { break };
            if at < part.offset {
                segments.push(Segment { offset: at, length: part.offset - at, origin: None });
            }
            at = part.end();
            segments.push(Segment {
                offset: part.offset,
                length: part.length,
                origin: Some(part.origin),
            });
        }
        if at < to {
            segments.push(Segment { offset: at, length: to - at, origin: None });
        }
        segments
    }

    /// The first byte of data at or after `offset`.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        self.runs.from(offset).next().map(|extent| extent.offset.max(offset))
    }

    /// The first byte at or after `offset` that is in no extent.
    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        let mut at = offset;
        for extent in self.runs.from(offset) {
            if extent.offset > at {
                break;
            }
            at = extent.end();
        }
        at
    }
}
