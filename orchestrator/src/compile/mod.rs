//! The compile service: the host compiles what a guest preprocessed (docs/compile-service.md).
//!
//! A guest's distcc client connects to an address that exists only in its QEMU; QEMU starts one
//! [`endpoint`] for each connection. No port listens on the host.

pub mod calls;
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

use std::collections::BTreeMap;

use calls::toolchain::{CALLER_DIRECTORY, Toolchain};

/// How the host compiles for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// What the guest has preprocessed.
    Distcc(CompileService),
    /// Everything, in the guest's own view.
    InView(Toolchain),
}

impl Outside {
    /// Adds what a guest's commands need for that to their environment.
    pub fn extend_environment(&self, variables: &mut BTreeMap<String, String>) {
        match self {
            Outside::Distcc(service) => service.extend_environment(variables),
            Outside::InView(_) => {
                let path = variables.entry("PATH".to_owned()).or_default();
                *path = format!("/{CALLER_DIRECTORY}:{path}");
            }
        }
    }
}
