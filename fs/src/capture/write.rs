//! Writing the stream: one pass over the tree, each byte read once.

use std::io::Write;
use std::path::Path;

use super::holes::extents;
use super::index_sink::{IndexContent, IndexNode, IndexRun, IndexSink};
use super::options::{CaptureOptions, CaptureReport, IndexedCapture, Progress, Skipped};
use super::pipeline::{CHUNK, Chunk, Digested, Mark, Pipeline};
use super::walk::{Visit, at, display, walk};
use crate::archive::write::{
    Body, Entry, Extent, LONGEST_TARGET, TRAILER, append_gnu_target, append_header, padding,
};
use crate::error::{Errno, Error, Result};
use crate::filesystem::Filesystem;
use crate::node::{Ino, Kind, Metadata, Xattrs};

/// Zeros of holes that are hashed for a file's digest at most.
const MOST_ZEROS_DIGESTED: u64 = 1 << 30;

/// Where a stream goes, and how messages name it.
pub struct Output<'a> {
    pub writer: &'a mut (dyn Write + Send),
    pub name: &'a Path,
}

/// Writes everything at and below `root` as a tar stream, in one pass.
///
/// The same tree and options give the same bytes. Sockets, which tar cannot carry, are left out
/// and reported. The writer is flushed, not synced.
///
/// # Errors
/// Failures of the tree carry the path in the tree, failures of the writer the output's name. What
/// was written until then is not a valid artifact.
pub fn capture(
    fs: &dyn Filesystem,
    root: Ino,
    output: Output<'_>,
    options: &CaptureOptions<'_>,
) -> Result<CaptureReport> {
    let (report, _) = stream(fs, root, output, options, None)?;
    Ok(report)
}

/// As [`capture`], with an index and the stream's digest made on another thread meanwhile.
///
/// # Errors
/// As [`capture`], and failures of the index.
pub fn capture_indexed(
    fs: &dyn Filesystem,
    root: Ino,
    output: Output<'_>,
    index: Box<dyn IndexSink>,
    options: &CaptureOptions<'_>,
) -> Result<IndexedCapture> {
    let (report, digested) = stream(fs, root, output, options, Some(index))?;
    let Digested { sha256, index } = digested.ok_or(Errno::IO)?;
    let index = index.finish(report.bytes, sha256)?;
    Ok(IndexedCapture { report, sha256, index })
}

fn stream(
    fs: &dyn Filesystem,
    root: Ino,
    output: Output<'_>,
    options: &CaptureOptions<'_>,
    index: Option<Box<dyn IndexSink>>,
) -> Result<(CaptureReport, Option<Digested>)> {
    let indexed = index.is_some();
    std::thread::scope(|scope| {
        let pipeline = Pipeline::start(scope, output, index)?;
        let chunk = pipeline.first().unwrap_or_default();
        let report = CaptureReport::default();
        let mut writer = Writer { fs, options, indexed, pipeline: &pipeline, chunk, report };
        let walked = walk(fs, root, options.exclude, &mut |visit| writer.visit(visit));
        let outcome = walked.and_then(|()| writer.finish());
        // A failure of another thread explains why this one could not go on.
        match (outcome, pipeline.finish()) {
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(report), Ok(digested)) => Ok((report, digested)),
        }
    })
}

struct Writer<'a, 's> {
    fs: &'a dyn Filesystem,
    options: &'a CaptureOptions<'a>,
    /// Whether somebody digests and indexes.
    indexed: bool,
    pipeline: &'a Pipeline<'s>,
    chunk: Chunk,
    /// `bytes` counts what was handed on: the position without the chunk in hand.
    report: CaptureReport,
}

impl Writer<'_, '_> {
    fn visit(&mut self, visit: Visit<'_>) -> Result<()> {
        let ino = visit.attributes.ino;
        let mut metadata = visit.attributes.meta;
        metadata.mtime = self.options.mtime.apply(metadata.mtime);
        if metadata.kind == Kind::Socket {
            let reason = "tar cannot carry sockets";
            self.report.skipped.push(Skipped { path: visit.path.to_vec(), reason });
            return Ok(());
        }
        self.report.entries += 1;
        let path = prefixed(self.options.prefix, visit.path);
        let (xattrs, content, digest) = match visit.hard_link {
            Some(first) => {
                let first = prefixed(self.options.prefix, first);
                self.header(&path, &metadata, &Xattrs::new(), Body::HardLink(&first))?;
                (Xattrs::new(), IndexContent::HardLink(first), false)
            }
            None => {
                let xattrs = self.xattrs(ino).map_err(|error| at(error, visit.path))?;
                let (content, digest) = self
                    .node(ino, &path, &mut metadata, &xattrs)
                    .map_err(|error| at(error, visit.path))?;
                (xattrs, content, digest)
            }
        };
        if self.indexed {
            let node = Box::new(IndexNode { metadata, content, xattrs, digest: None });
            self.chunk.marks.push(Mark::Entry { path, node, digest });
        }
        if self.chunk.bytes.len() >= CHUNK {
            self.exchange()?;
        }
        Ok(())
    }

    /// Writes a node under its first name; also says whether its content was digested.
    fn node(
        &mut self,
        ino: Ino,
        path: &[u8],
        metadata: &mut Metadata,
        xattrs: &Xattrs,
    ) -> Result<(IndexContent, bool)> {
        match metadata.kind {
            Kind::File => self.file(ino, path, metadata, xattrs),
            Kind::Symlink => {
                let target = self.fs.read_link(ino)?;
                metadata.size = target.len() as u64;
                let mut shown = target.as_slice();
                if self.options.gnu_targets && target.len() > LONGEST_TARGET {
                    append_gnu_target(&mut self.chunk.bytes, &target);
                    shown = target.get(..LONGEST_TARGET).unwrap_or_default();
                }
                self.header(path, metadata, xattrs, Body::Target(shown))?;
                Ok((IndexContent::Target(target), false))
            }
            _ => {
                self.header(path, metadata, xattrs, Body::None)?;
                Ok((IndexContent::None, false))
            }
        }
    }

    fn wants_digests(&self) -> bool {
        self.options.digest && self.indexed
    }

    fn xattrs(&self, ino: Ino) -> Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        for name in self.fs.list_xattrs(ino)? {
            let value = self.fs.get_xattr(ino, &name)?;
            xattrs.insert(name, value);
        }
        Ok(xattrs)
    }

    fn header(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        xattrs: &Xattrs,
        body: Body<'_>,
    ) -> Result<u64> {
        append_header(&mut self.chunk.bytes, &Entry { path, metadata, xattrs, body })
    }

    fn file(
        &mut self,
        ino: Ino,
        path: &[u8],
        metadata: &Metadata,
        xattrs: &Xattrs,
    ) -> Result<(IndexContent, bool)> {
        let size = metadata.size;
        let extents = extents(self.fs, ino, size)?;
        let Some(extents) = extents else {
            self.header(path, metadata, xattrs, Body::Data)?;
            let offset = self.position();
            let digest = self.wants_digests();
            self.data(ino, path, Extent { offset: 0, length: size }, digest)?;
            self.pad(size);
            return Ok((IndexContent::Data { offset }, digest));
        };
        let stored = self.header(path, metadata, xattrs, Body::Sparse(&extents))?;
        let digest = self.wants_digests() && size.saturating_sub(stored) <= MOST_ZEROS_DIGESTED;
        let mut runs = Vec::with_capacity(extents.len());
        let mut end = 0;
        for extent in &extents {
            if digest {
                self.chunk.marks.push(Mark::Zeros(extent.offset.saturating_sub(end)));
            }
            end = extent.offset.saturating_add(extent.length);
            runs.push(IndexRun {
                file_offset: extent.offset,
                data_offset: self.position(),
                length: extent.length,
            });
            self.data(ino, path, *extent, digest)?;
        }
        if digest {
            self.chunk.marks.push(Mark::Zeros(size.saturating_sub(end)));
        }
        self.pad(stored);
        Ok((IndexContent::Sparse { runs }, digest))
    }

    /// Reads a run of a file straight into the chunks.
    fn data(&mut self, ino: Ino, path: &[u8], extent: Extent, digest: bool) -> Result<()> {
        let (mut offset, mut left) = (extent.offset, extent.length);
        while left > 0 {
            if self.chunk.bytes.len() >= CHUNK {
                self.exchange()?;
            }
            let start = self.chunk.bytes.len();
            let step = left.min(CHUNK.saturating_sub(start) as u64);
            self.chunk.bytes.resize(start.saturating_add(step as usize), 0);
            let buffer = self.chunk.bytes.get_mut(start..).unwrap_or_default();
            let got = self.fs.read(ino, offset, buffer)? as u64;
            if got != step {
                let problem = "the file became shorter while it was captured";
                let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, problem);
                return Err(Error::host("cannot read", display(path), source));
            }
            if digest {
                self.chunk.marks.push(Mark::Data(start..self.chunk.bytes.len()));
            }
            offset = offset.saturating_add(step);
            left -= step;
        }
        Ok(())
    }

    fn pad(&mut self, length: u64) {
        let end = self.chunk.bytes.len().saturating_add(padding(length) as usize);
        self.chunk.bytes.resize(end, 0);
    }

    fn position(&self) -> u64 {
        self.report.bytes.saturating_add(self.chunk.bytes.len() as u64)
    }

    /// Hands the chunk on and takes the next one.
    fn exchange(&mut self) -> Result<()> {
        self.report.bytes = self.position();
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk = self.pipeline.exchange(chunk).ok_or(Error::Os(Errno::PIPE))?;
        let progress = Progress { entries: self.report.entries, bytes: self.report.bytes };
        match self.options.progress {
            Some(report) if report(progress).is_break() => Err(Error::Os(Errno::CANCELED)),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<CaptureReport> {
        self.chunk.bytes.extend_from_slice(&TRAILER);
        self.exchange()?;
        Ok(self.report)
    }
}

fn prefixed(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if prefix.is_empty() || path.is_empty() { b"" } else { b"/" };
    [prefix, slash, path].concat()
}
