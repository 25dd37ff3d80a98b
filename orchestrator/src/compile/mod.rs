//! The compile service: the host compiles what a guest preprocessed (docs/compile-service.md).
//!
//! A guest's distcc client connects to an address that exists only in its QEMU; QEMU starts one
//! [`endpoint`] for each connection. No port listens on the host.

mod choice;
mod connection;
pub mod endpoint;
pub mod equivalence;
mod farm;
pub mod job_log;
pub mod options;
mod probe;
pub mod protocol;
mod runner;
mod service;
mod source;

#[cfg(test)]
mod endpoint_tests;
#[cfg(test)]
mod farm_tests;

pub use choice::CompileChoice;
pub use endpoint::{Compiler, Limits, Settings};
pub use farm::{Farm, NoServer, Server};
pub use service::{CompileService, JOB_LOG, Unavailable};
