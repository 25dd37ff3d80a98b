//! What can go wrong in the store.

#![forbid(unsafe_code)]

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file of the store failed.
    #[error("{doing} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was attempted, as a phrase: "cannot write".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// What was asked for makes no sense; a whole sentence.
    #[error("{0}")]
    Invalid(String),

    /// A file of the store is not what it should be.
    #[error("{}: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io { doing, path: path.into(), source }
    }

    /// Whether the disk or the user's quota is full.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Error::Io { source, .. } if is_full(source))
    }
}

fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn hint(source: &io::Error) -> &'static str {
    if is_full(source) { "; free some space, for example with `outcrop store gc`" } else { "" }
}

/// Adds to an `io::Result` what was attempted, and on which path.
pub(crate) trait Context<T> {
    fn context(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::io(doing, path, source))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|errno| Error::io(doing, path, errno.into()))
    }
}
