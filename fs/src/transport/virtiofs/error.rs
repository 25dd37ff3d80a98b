//! Why a tree cannot be served over virtiofs.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum VirtiofsError {
    #[error("{doing} {}: {source}", path.display())]
    Host {
        /// A phrase: "cannot listen on".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// The connection to QEMU could not be set up or broke.
    #[error("the virtiofs connection {}: {reason}", path.display())]
    Connection { path: PathBuf, reason: String },
}
