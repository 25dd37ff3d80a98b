//! Turning a zone of a sysroot into an artifact: a deterministic tar stream and its index.
//!
//! `docs/artifacts.md` says what the stream looks like and what makes it deterministic.

#![forbid(unsafe_code)]

mod file;
mod holes;
mod index_sink;
mod options;
mod pipeline;
mod walk;
mod write;
mod write_back;

#[cfg(test)]
mod tests;

pub use file::{can_capture_to, capture_to_file, capture_with_index};
pub use holes::extents;
pub use index_sink::{IndexContent, IndexNode, IndexRun, IndexSink};
pub use options::{
    CaptureOptions, CaptureReport, Exclude, IndexedCapture, MtimePolicy, OnProgress, Progress,
    Skipped,
};
pub use walk::{Visit, walk};
pub use write::{Output, capture, capture_indexed};

pub use crate::archive::write::Extent;
