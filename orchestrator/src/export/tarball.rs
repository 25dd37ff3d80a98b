//! `tar` and `tar.zst`: the capture's own stream.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use outcrop_fs::Error as FsError;
use outcrop_fs::capture::{CaptureOptions, Output, capture};

use super::{Exporter, Job, Outcome, Result};

/// zstd's own default: beyond it, time grows much faster than size shrinks.
const ZSTD_LEVEL: i32 = 3;

pub(super) struct Tarball {
    pub zstd: bool,
}

impl Exporter for Tarball {
    fn name(&self) -> &'static str {
        if self.zstd { "tar.zst" } else { "tar" }
    }

    fn about(&self) -> &'static str {
        if self.zstd { "the tar stream, compressed with zstd" } else { "a POSIX tar stream" }
    }

    fn write(&self, job: &Job<'_>, draft: &Path) -> Result<Outcome> {
        let fault = |source| FsError::host("cannot write", draft, source);
        let mut file = File::create(draft).map_err(fault)?;
        if self.zstd {
            let mut encoder = zstd::Encoder::new(&mut file, ZSTD_LEVEL).map_err(fault)?;
            encoder.include_checksum(true).map_err(fault)?;
            let outcome = stream(job, &mut encoder, draft)?;
            encoder.finish().map_err(fault)?;
            Ok(outcome)
        } else {
            stream(job, &mut file, draft)
        }
    }
}

/// Writes the tree's tar stream into a file, a compressor or a builder's standard input.
pub(super) fn stream(
    job: &Job<'_>,
    writer: &mut (dyn Write + Send),
    name: &Path,
) -> Result<Outcome> {
    stream_with(job, writer, name, &job.capture_options())
}

/// The same with options of the format's own.
pub(super) fn stream_with(
    job: &Job<'_>,
    writer: &mut (dyn Write + Send),
    name: &Path,
    options: &CaptureOptions<'_>,
) -> Result<Outcome> {
    let output = Output { writer, name };
    let report = capture(job.tree, job.root, output, options)?;
    Ok(Outcome { skipped: report.skipped, warnings: Vec::new() })
}
