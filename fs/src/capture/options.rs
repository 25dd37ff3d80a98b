//! What a capture is told and what it tells.

use std::ops::ControlFlow;

use crate::node::{Attributes, Timestamp};

/// Which modification times an artifact gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtimePolicy {
    /// As the tree has them, to the nanosecond.
    #[default]
    Keep,
    /// Later times become this one; earlier ones stay (SOURCE_DATE_EPOCH's meaning).
    Clamp(Timestamp),
    /// Every node gets this time.
    Fixed(Timestamp),
    /// Times beyond these two become the nearer one.
    Within(Timestamp, Timestamp),
}

impl MtimePolicy {
    pub fn apply(self, mtime: Timestamp) -> Timestamp {
        match self {
            MtimePolicy::Keep => mtime,
            MtimePolicy::Clamp(latest) => mtime.min(latest),
            MtimePolicy::Fixed(time) => time,
            MtimePolicy::Within(earliest, latest) => mtime.min(latest).max(earliest),
        }
    }
}

/// How far a capture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Entries begun.
    pub entries: u64,
    /// Bytes of the stream so far.
    pub bytes: u64,
}

/// Called now and then from the capturing thread; `Break` stops with `Errno::CANCELED`.
pub type OnProgress<'a> = &'a dyn Fn(Progress) -> ControlFlow<()>;

/// Whether a node (with everything below it) is left out, by its path from the captured root.
pub type Exclude<'a> = &'a dyn Fn(&[u8], &Attributes) -> bool;

#[derive(Clone, Copy, Default)]
pub struct CaptureOptions<'a> {
    pub mtime: MtimePolicy,
    /// Path that the captured root gets in the archive; empty for the archive's own root. Parents
    /// of the prefix get no entries.
    pub prefix: &'a [u8],
    /// Whether the index gets a SHA-256 of each file. Sparse files with more than 1 GiB of holes
    /// get none.
    pub digest: bool,
    pub exclude: Option<Exclude<'a>>,
    /// Whether long targets of symlinks are written as GNU tar does, not as pax records. For
    /// `sqfstar` 4.5 alone, which takes a leading `/`, `./` or `../` off targets in pax records.
    pub gnu_targets: bool,
    pub progress: Option<OnProgress<'a>>,
}

/// A node that an archive format cannot carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub path: Vec<u8>,
    pub reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureReport {
    pub entries: u64,
    /// Length of the stream in bytes.
    pub bytes: u64,
    pub skipped: Vec<Skipped>,
}

/// A capture whose stream was digested and indexed as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedCapture {
    pub report: CaptureReport,
    /// SHA-256 of the stream.
    pub sha256: [u8; 32],
    pub index: Vec<u8>,
}
