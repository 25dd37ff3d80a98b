//! The data of a changed file: its extent map and the I/O that the map asks for.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::content::{Extent, ExtentMap, Origin, Segment, SpoolRange};
use super::merge::{LowerTree, Source};
use super::spool::Spool;
use crate::error::{Errno, Result};
use crate::filesystem::DataSink;
use crate::layer::{Layer, ends_early};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A growing file reserves as much again as it has, up to this many bytes: appends to many files
/// in turn then leave each in a few pieces.
const MAX_RESERVATION: u64 = 8 << 20;

/// Locked before the sysroot's structure, never while that is locked.
pub(super) struct FileData {
    spool: Arc<Spool>,
    state: RwLock<FileState>,
    data_bytes: AtomicU64,
}

#[derive(Default)]
struct FileState {
    extents: ExtentMap,
    reservation: Option<Reservation>,
}

/// Room in the spool for the bytes that follow the last write.
#[derive(Clone, Copy)]
struct Reservation {
    file_offset: u64,
    room: SpoolRange,
}

/// A part of a file for copying into another.
pub(super) enum Piece {
    Hole { length: u64 },
    Lower { length: u64, source: Source, offset: u64 },
    Bytes(Vec<u8>),
}

impl FileData {
    pub(super) fn empty(spool: Arc<Spool>) -> FileData {
        FileData { spool, state: RwLock::default(), data_bytes: AtomicU64::new(0) }
    }

    /// The content of a layer's file, by reference.
    pub(super) fn of_lower(
        spool: Arc<Spool>,
        layer: &dyn Layer,
        source: Source,
        size: u64,
    ) -> Result<FileData> {
        let data = FileData::empty(spool);
        let mut writer = data.write();
        for (offset, length) in lower_runs(layer, source, 0, size)? {
            writer.share(offset, length, source, offset);
        }
        drop(writer);
        Ok(data)
    }

    /// A content that was worked out before.
    pub(super) fn of_extents(spool: Arc<Spool>, extents: Vec<Extent>) -> FileData {
        let data = FileData::empty(spool);
        let mut writer = data.write();
        for extent in extents {
            writer.insert(extent);
        }
        drop(writer);
        data
    }

    pub(super) fn extents(&self) -> Vec<Extent> {
        self.state.read().extents.extents().collect()
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn extent_count(&self) -> usize {
        self.state.read().extents.extents().count()
    }

    pub(super) fn write(&self) -> Writer<'_> {
        Writer { data: self, state: self.state.write() }
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { data: self, state: self.state.read() }
    }

    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        self.state.read().extents.next_data(offset)
    }

    pub(super) fn next_hole(&self, offset: u64) -> u64 {
        self.state.read().extents.next_hole(offset)
    }
}

impl Drop for FileData {
    fn drop(&mut self) {
        let ranges: Vec<SpoolRange> = (self.state.get_mut().extents.extents())
            .filter_map(|extent| match extent.origin {
                Origin::Spool(offset) => Some(SpoolRange { offset, length: extent.length }),
                Origin::Lower(..) => None,
            })
            .collect();
        self.spool.free(&ranges);
    }
}

/// The right to read a file's data, which nobody overwrites or gives back meanwhile. Ask for the
/// file's size after taking it: only then do size and bytes belong together.
pub(super) struct Reader<'a> {
    data: &'a FileData,
    state: RwLockReadGuard<'a, FileState>,
}

impl Reader<'_> {
    /// Fills the buffer, which must end within the file; holes are zeros.
    pub(super) fn read(&self, tree: &LowerTree, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut rest = buffer;
        for segment in self.state.extents.segments(offset, rest.len() as u64) {
            let length = usize::try_from(segment.length).map_err(|_| Errno::FBIG)?;
            let (part, after) = rest.split_at_mut_checked(length).ok_or(Errno::IO)?;
            self.read_segment(tree, &segment, part)?;
            rest = after;
        }
        Ok(())
    }

    fn read_segment(&self, tree: &LowerTree, segment: &Segment, part: &mut [u8]) -> Result<()> {
        match segment.origin {
            None => part.fill(0),
            Some(Origin::Spool(offset)) => self.data.spool.read(offset, part)?,
            Some(Origin::Lower(source, offset)) => {
                read_lower(tree.layer(source)?, source, offset, part)?;
            }
        }
        Ok(())
    }

    /// Hands a range that ends within the file on to a sink.
    pub(super) fn read_to(
        &self,
        tree: &LowerTree,
        offset: u64,
        length: u64,
        sink: &mut dyn DataSink,
    ) -> Result<()> {
        for segment in self.state.extents.segments(offset, length) {
            match segment.origin {
                None => sink.zeros(segment.length)?,
                Some(Origin::Spool(offset)) => {
                    self.data.spool.read_to(offset, segment.length, sink)?
                }
                Some(Origin::Lower(source, offset)) => {
                    let layer = tree.layer(source)?;
                    layer.read_to(source.entry, offset, segment.length, sink)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn pieces(&self, tree: &LowerTree, offset: u64, length: u64) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for segment in self.state.extents.segments(offset, length) {
            let length = segment.length;
            pieces.push(match segment.origin {
                None => Piece::Hole { length },
                Some(Origin::Lower(source, offset)) => Piece::Lower { length, source, offset },
                Some(Origin::Spool(_)) => {
                    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::FBIG)?];
                    self.read_segment(tree, &segment, &mut bytes)?;
                    Piece::Bytes(bytes)
                }
            });
        }
        Ok(pieces)
    }
}

/// The right to change a file's data. Hold it until the file's size is recorded too.
pub(super) struct Writer<'a> {
    data: &'a FileData,
    state: RwLockWriteGuard<'a, FileState>,
}

impl Writer<'_> {
    /// Writes all or, where the spool is full, changes nothing but what it overwrote in place.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut fresh = Vec::new();
        let outcome = self.write_segments(offset, bytes, &mut fresh);
        if outcome.is_err() {
            let ranges: Vec<SpoolRange> = fresh
                .iter()
                .filter_map(|extent| match extent.origin {
                    Origin::Spool(offset) => Some(SpoolRange { offset, length: extent.length }),
                    Origin::Lower(..) => None,
                })
                .collect();
            self.data.spool.free(&ranges);
            self.state.reservation = None;
            return outcome;
        }
        for extent in fresh {
            self.insert(extent);
        }
        Ok(())
    }

    fn write_segments(&mut self, offset: u64, bytes: &[u8], fresh: &mut Vec<Extent>) -> Result<()> {
        let mut rest = bytes;
        for segment in self.writable_segments(offset, bytes.len() as u64) {
            let mut at = segment.offset;
            let mut left = segment.length;
            while left > 0 {
                let room = match segment.origin {
                    Some(Origin::Spool(spool)) => SpoolRange {
                        offset: spool.saturating_add(at - segment.offset),
                        length: left,
                    },
                    _ => self.room(at, left)?,
                };
                let length = room.length.min(left);
                let (now, later) = usize::try_from(length)
                    .ok()
                    .and_then(|length| rest.split_at_checked(length))
                    .ok_or(Errno::IO)?;
                let origin = Origin::Spool(room.offset);
                if segment.origin.is_none() {
                    fresh.push(Extent { offset: at, length, origin });
                }
                self.data.spool.write(room.offset, now)?;
                rest = later;
                at += length;
                left -= length;
            }
        }
        Ok(())
    }

    /// The range as parts that the spool has and parts that need room there (without an origin),
    /// the latter as long as they can be.
    fn writable_segments(&self, offset: u64, length: u64) -> Vec<Segment> {
        let mut parts: Vec<Segment> = Vec::new();
        for mut segment in self.state.extents.segments(offset, length) {
            segment.origin = segment.origin.filter(|origin| matches!(origin, Origin::Spool(_)));
            match parts.last_mut() {
                Some(last) if last.origin.is_none() && segment.origin.is_none() => {
                    last.length += segment.length;
                }
                _ => parts.push(segment),
            }
        }
        parts
    }

    /// Takes room for at most `length` bytes at a file offset.
    fn room(&mut self, file_offset: u64, length: u64) -> Result<SpoolRange> {
        let reservation = match self.state.reservation {
            Some(known) if known.file_offset == file_offset && known.room.length > 0 => known,
            _ => {
                let ahead = self.data.data_bytes().min(MAX_RESERVATION);
                let room = self.data.spool.reserve(length.max(ahead))?;
                Reservation { file_offset, room }
            }
        };
        let taken = reservation.room.length.min(length);
        self.state.reservation = Some(Reservation {
            file_offset: file_offset.saturating_add(taken),
            room: SpoolRange {
                offset: reservation.room.offset.saturating_add(taken),
                length: reservation.room.length - taken,
            },
        });
        Ok(SpoolRange { offset: reservation.room.offset, length: taken })
    }

    fn insert(&mut self, extent: Extent) {
        let freed = self.state.extents.insert(extent);
        self.settle(&freed);
    }

    fn settle(&mut self, freed: &[SpoolRange]) {
        self.data.spool.free(freed);
        self.data.data_bytes.store(self.state.extents.data_bytes(), Ordering::Relaxed);
    }

    /// Lets a range refer to a layer's file.
    pub(super) fn share(&mut self, offset: u64, length: u64, source: Source, from: u64) {
        self.insert(Extent { offset, length, origin: Origin::Lower(source, from) });
    }

    pub(super) fn remove(&mut self, offset: u64, length: u64) {
        let freed = self.state.extents.remove(offset, length);
        self.settle(&freed);
    }

    pub(super) fn truncate(&mut self, size: u64) {
        let freed = self.state.extents.truncate(size);
        self.settle(&freed);
    }

    /// Claims space on disk for the holes of a range, so that writing there cannot fail for want
    /// of it.
    pub(super) fn claim(&mut self, offset: u64, length: u64) -> Result<()> {
        for hole in self.state.extents.segments(offset, length) {
            if hole.origin.is_some() {
                continue;
            }
            let mut room = self.data.spool.reserve(hole.length)?;
            room.length = hole.length;
            if let Err(error) = self.data.spool.claim(room) {
                self.data.spool.free(&[room]);
                return Err(error);
            }
            self.insert(Extent {
                offset: hole.offset,
                length: hole.length,
                origin: Origin::Spool(room.offset),
            });
        }
        Ok(())
    }
}

/// Fills the buffer from a layer's file; a file that turns out shorter than its layer said is
/// a fault of the layer.
pub(super) fn read_lower(
    layer: &dyn Layer,
    source: Source,
    offset: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let read = layer.read(source.entry, offset.saturating_add(done as u64), rest)?;
        if read == 0 {
            return Err(ends_early(layer.label()));
        }
        done += read;
    }
    Ok(())
}

/// The runs of data of a layer's file in a range: offset and length.
pub(super) fn lower_runs(
    layer: &dyn Layer,
    source: Source,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut at = from;
    while at < to {
        let Some(run) = layer.next_data(source.entry, at)? else { break };
        let start = run.offset.max(at);
        let end = run.offset.saturating_add(run.length).min(to);
        if start >= end {
            break;
        }
        runs.push((start, end - start));
        at = end;
    }
    Ok(runs)
}
