//! Why a build did not succeed.

use std::path::PathBuf;

use crate::store;

/// A failure of one component's build, or of the whole run.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command of a definition failed.
    #[error("{step} failed: {exit}")]
    Command { step: String, command: String, exit: String },

    #[error(transparent)]
    Guest(#[from] crate::guest::GuestError),

    #[error(transparent)]
    FileSystem(#[from] outcrop_fs::Error),

    #[error(transparent)]
    Mount(#[from] outcrop_fs::transport::MountError),

    #[error(transparent)]
    Virtiofs(#[from] outcrop_fs::transport::VirtiofsError),

    #[error(transparent)]
    Store(#[from] store::Error),

    #[error(transparent)]
    Kit(#[from] crate::kit::Error),

    #[error(transparent)]
    Sources(#[from] super::gather::SourceFailures),

    /// The source of a component that was to be left out.
    #[error(transparent)]
    Source(#[from] crate::sources::Error),

    /// Something was not stored that the guest wrote, and perhaps nobody in the guest knows.
    #[error("not everything that the guest wrote could be stored: {0}")]
    LostWrite(String),

    #[error("cannot write {}: {source}", path.display())]
    Log { path: PathBuf, source: std::io::Error },

    /// What was asked for makes no sense; a whole sentence.
    #[error("{0}")]
    Invalid(String),

    /// A worker of our own died.
    #[error("a worker ended unexpectedly: {0}")]
    Worker(String),
}

impl BuildError {
    /// Whether the host lacks something, as opposed to the build being wrong.
    pub fn is_host_problem(&self) -> bool {
        match self {
            BuildError::Mount(error) => error.is_host_problem(),
            BuildError::Virtiofs(_) => true,
            BuildError::Guest(error) => {
                matches!(error, crate::guest::GuestError::QemuMissing { .. })
            }
            BuildError::Kit(_) => true,
            _ => false,
        }
    }
}

pub type Result<T, E = BuildError> = std::result::Result<T, E>;
