//! Building a target: plan, scheduler, chunks, systems.
//!
//! ```text
//! definitions ─► gather (sources) ─► keys, store ─► plan ─► queue ─► run ─► chunk or system ─► store
//! ```

mod chunk;
mod compilers;
pub mod durations;
mod error;
pub mod event;
pub mod failed;
pub mod gather;
mod hidden;
mod log;
mod places;
pub mod plan;
mod programs;
pub mod progress;
pub mod queue;
mod report;
mod run;
pub mod schedule;
pub mod shell;
mod strip;
mod synthetic;
mod system;
#[cfg(test)]
mod tests;
pub mod totals;
pub mod track;
mod tree;
pub mod workshop;

pub use chunk::ChunkJob;
pub use error::{BuildError, Result};
pub use log::log_title;
pub use report::StepReport;
pub use run::{Failure, Outcome, RunOptions, run};
pub use system::{SystemChunk, SystemJob};
pub use tree::MOUNT_POINTS;
