//! Reading, writing, copying and allocating file data.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Sysroot;
use super::changes::{Body, is_lower};
use super::file::{FileData, Piece, Writer, lower_runs, read_lower};
use super::merge::Source;
use super::metadata::check_file;
use crate::error::{Errno, Result};
use crate::filesystem::{Allocate, DataSink, Seek};
use crate::layer::DataRun;
use crate::node::Ino;

/// Bytes that a copy takes at once: what it may hold in memory.
const COPY_WINDOW: u64 = 1 << 20;
/// The largest file: `off_t` is signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Where a file's bytes are now.
enum Content {
    Lower(Source),
    Data(Arc<FileData>),
}

impl Sysroot {
    /// A file's content and size.
    fn content(&self, ino: Ino) -> Result<(Content, u64)> {
        let changes = self.changes.read();
        let lower = || self.tree.origin(ino).ok_or(Errno::STALE);
        match changes.nodes.get(&ino) {
            Some(node) => {
                check_file(node.meta.kind)?;
                let content = match &node.body {
                    Body::Data(data) => Content::Data(Arc::clone(data)),
                    _ => Content::Lower(lower()?),
                };
                Ok((content, node.meta.size))
            }
            None if is_lower(ino) => {
                let meta = self.tree.metadata(ino)?;
                check_file(meta.kind)?;
                Ok((Content::Lower(lower()?), meta.size))
            }
            None => Err(Errno::STALE.into()),
        }
    }

    pub(super) fn read_data(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let room = buffer.len();
        let within = |size: u64| {
            usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(room)
        };
        match self.content(ino)? {
            (Content::Lower(source), size) => {
                let part = buffer.get_mut(..within(size)).unwrap_or_default();
                read_lower(self.tree.layer(source)?, source, offset, part)?;
                Ok(part.len())
            }
            (Content::Data(data), _) => {
                let reader = data.reader();
                let part = buffer.get_mut(..within(self.file_size(ino)?)).unwrap_or_default();
                reader.read(&self.tree, offset, part)?;
                Ok(part.len())
            }
        }
    }

    pub(super) fn hand_on_data(
        &self,
        ino: Ino,
        offset: u64,
        length: usize,
        sink: &mut dyn DataSink,
    ) -> Result<usize> {
        let within = |size: u64| size.saturating_sub(offset).min(length as u64);
        let handed_on = match self.content(ino)? {
            (Content::Lower(source), size) => {
                let length = within(size);
                if length > 0 {
                    self.tree.layer(source)?.read_to(source.entry, offset, length, sink)?;
                }
                length
            }
            (Content::Data(data), _) => {
                let reader = data.reader();
                let length = within(self.file_size(ino)?);
                reader.read_to(&self.tree, offset, length, sink)?;
                length
            }
        };
        Ok(usize::try_from(handed_on).unwrap_or(usize::MAX))
    }

    pub(super) fn find_data(&self, ino: Ino, offset: u64, size: u64) -> Result<Option<DataRun>> {
        if offset >= size {
            return Ok(None);
        }
        match self.content(ino)?.0 {
            Content::Lower(source) => {
                let Some(run) = self.tree.layer(source)?.next_data(source.entry, offset)? else {
                    return Ok(None);
                };
                let start = run.offset.max(offset);
                let end = run.offset.saturating_add(run.length).min(size);
                Ok((start < end).then(|| DataRun { offset: start, length: end - start }))
            }
            Content::Data(data) => Ok(data
                .next_data(offset)
                .map(|start| (start, data.next_hole(start).min(size)))
                .filter(|(start, end)| start < end)
                .map(|(start, end)| DataRun { offset: start, length: end - start })),
        }
    }

    pub(super) fn seek_data(&self, ino: Ino, offset: u64, seek: Seek) -> Result<u64> {
        let size = self.file_size(ino)?;
        if offset >= size {
            return Err(Errno::NXIO.into());
        }
        match seek {
            Seek::Data => Ok(self.find_data(ino, offset, size)?.ok_or(Errno::NXIO)?.offset),
            Seek::Hole => {
                let mut at = offset;
                while let Some(run) = self.find_data(ino, at, size)? {
                    if run.offset > at {
                        break;
                    }
                    at = run.offset.saturating_add(run.length);
                }
                Ok(at)
            }
        }
    }

    pub(super) fn write_data(&self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.store_data(ino, offset, bytes);
        if let Err(error) = &written
            && error.is_fault()
        {
            self.lost_write.get_or_init(|| error.to_string());
        }
        written
    }

    fn store_data(&self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = end_of(offset, bytes.len() as u64)?;
        let data = self.data_for_write(ino)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut writer = data.write();
        writer.write(offset, bytes)?;
        self.record_write(ino, &data, |size| size.max(end))
    }

    /// The data of a file that can have this size.
    pub(super) fn data_to_resize(&self, ino: Ino, size: u64) -> Result<Arc<FileData>> {
        end_of(size, 0)?;
        self.data_for_write(ino)
    }

    pub(super) fn allocate_data(
        &self,
        ino: Ino,
        offset: u64,
        length: u64,
        how: Allocate,
    ) -> Result<()> {
        if length == 0 {
            return Err(Errno::INVAL.into());
        }
        let end = end_of(offset, length)?;
        let data = self.data_for_write(ino)?;
        let mut writer = data.write();
        match how {
            Allocate::Reserve => writer.claim(offset, length)?,
            // Beyond the end a claim would be lost with the next truncation and is visible to
            // nobody, so it is only made inside the file.
            Allocate::ReserveKeepSize => {
                let size = self.file_size(ino)?;
                writer.claim(offset, length.min(size.saturating_sub(offset)))?;
            }
            Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize => {
                writer.remove(offset, length);
            }
        }
        let grows = matches!(how, Allocate::Reserve | Allocate::ZeroRange);
        self.record_write(ino, &data, |size| if grows { size.max(end) } else { size })
    }

    pub(super) fn copy_data(
        &self,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        length: u64,
    ) -> Result<u64> {
        let length = length.min(self.file_size(from)?.saturating_sub(from_offset));
        end_of(to_offset, length)?;
        if from == to && from_offset.abs_diff(to_offset) < length {
            return Err(Errno::INVAL.into());
        }
        let data = self.data_for_write(to)?;
        let mut done = 0;
        while done < length {
            let window = COPY_WINDOW.min(length - done);
            let pieces = self.pieces(from, from_offset.saturating_add(done), window)?;
            let start = to_offset.saturating_add(done);
            let mut writer = data.write();
            let copied = put_pieces(&mut writer, start, pieces)?;
            if copied == 0 {
                break;
            }
            let end = start.saturating_add(copied);
            self.record_write(to, &data, |size| size.max(end))?;
            done += copied;
        }
        Ok(done)
    }

    /// A range of a file for copying: by reference where a layer has it.
    fn pieces(&self, ino: Ino, offset: u64, length: u64) -> Result<Vec<Piece>> {
        let within = |size: u64| offset.saturating_add(length).min(size);
        let (source, end) = match self.content(ino)? {
            (Content::Lower(source), size) => (source, within(size)),
            (Content::Data(data), _) => {
                let reader = data.reader();
                let end = within(self.file_size(ino)?);
                return reader.pieces(&self.tree, offset, end.saturating_sub(offset));
            }
        };
        let mut pieces = Vec::new();
        let mut at = offset;
        for (start, length) in lower_runs(self.tree.layer(source)?, source, offset, end)? {
            if start > at {
                pieces.push(Piece::Hole { length: start - at });
            }
            pieces.push(Piece::Lower { length, source, offset: start });
            at = start.saturating_add(length);
        }
        if at < end {
            pieces.push(Piece::Hole { length: end - at });
        }
        Ok(pieces)
    }
}

fn put_pieces(writer: &mut Writer<'_>, start: u64, pieces: Vec<Piece>) -> Result<u64> {
    let mut at = start;
    for piece in pieces {
        let length = match piece {
            Piece::Hole { length } => {
                writer.remove(at, length);
                length
            }
            Piece::Lower { length, source, offset } => {
                writer.share(at, length, source, offset);
                length
            }
            Piece::Bytes(bytes) => {
                writer.write(at, &bytes)?;
                bytes.len() as u64
            }
        };
        at = at.saturating_add(length);
    }
    Ok(at - start)
}

/// The end of a range, if a file can reach that far.
fn end_of(offset: u64, length: u64) -> Result<u64> {
    offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Errno::FBIG.into())
}
