//! What can go wrong with a source.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::spec::SeriesName;
use crate::store;
use crate::words::without_credentials;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition or the archive makes no sense; a whole sentence.
    #[error("{0}")]
    Invalid(String),

    /// The content is not what was pinned.
    #[error(
        "{what}: the SHA-256 is {found}, but {wanted} was asked for; \
         check the definition, or whether the file was changed."
    )]
    Checksum { what: String, found: String, wanted: String },

    #[error("{doing} {what}: {}{}", without_credentials(source.message()), hint(source))]
    Git {
        doing: &'static str,
        what: String,
        #[source]
        source: git2::Error,
    },

    #[error("{doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    /// The host lacks a program.
    #[error("{program} is needed to {purpose}, but it is not installed; install {package}.")]
    Missing { program: &'static str, purpose: &'static str, package: &'static str },

    /// A program of the host failed; `said` is what it wrote.
    #[error("{program} failed ({status}) for {what}: {}", without_credentials(said))]
    Program { program: &'static str, status: String, what: String, said: String },

    /// It is not here, and nothing may be asked of a server.
    #[error("{what} is not in the store, and nothing is fetched offline")]
    Offline { what: String },

    /// Nobody can fetch a series: somebody has to import it.
    #[error(
        "series:{0} is not in the store; import its archives with: \
         outcrop source import --series {0} ARCHIVE…"
    )]
    NoSeries(SeriesName),

    /// Of a submodule, by its path in the outermost source.
    #[error("{path}: {source}")]
    Submodule {
        path: String,
        #[source]
        source: Box<Error>,
    },

    #[error(transparent)]
    Store(#[from] store::Error),

    /// The caller's progress function asked to stop.
    #[error("interrupted")]
    Cancelled,
}

/// What has to be mended for a source to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The definition, or a file that it names.
    Input,
    /// Nothing of the user's: a server that does not answer, a disk that is full.
    Circumstances,
    /// The host lacks a program, or its store a source that may not or cannot be fetched.
    Host,
}

impl Error {
    /// Names the submodule, where it is the submodule's.
    pub(super) fn of_submodule(self, path: &str) -> Error {
        match self {
            Error::Store(_) | Error::Cancelled => self,
            source => Error::Submodule { path: path.to_owned(), source: Box::new(source) },
        }
    }

    /// Whether it is only that nothing may be asked of a server.
    pub fn is_offline(&self) -> bool {
        match self {
            Error::Submodule { source, .. } => source.is_offline(),
            error => matches!(error, Error::Offline { .. }),
        }
    }

    pub fn cause(&self) -> Cause {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        match self {
            Error::Invalid(_) | Error::Checksum { .. } => Cause::Input,
            Error::Git { source, .. } if is_of_another(source) || wants_password(source) => {
                Cause::Input
            }
            Error::Io { source, .. } => match source.kind() {
                NotFound | PermissionDenied | NotADirectory | IsADirectory => Cause::Input,
                _ => Cause::Circumstances,
            },
            Error::Submodule { source, .. } => source.cause(),
            Error::Missing { .. } | Error::Offline { .. } | Error::NoSeries(_) => Cause::Host,
            Error::Git { .. } | Error::Program { .. } | Error::Store(_) | Error::Cancelled => {
                Cause::Circumstances
            }
        }
    }
}

fn hint(source: &git2::Error) -> &'static str {
    if is_of_another(source) {
        "; allow it with `git config --global --add safe.directory` and its path"
    } else if wants_password(source) {
        "; put user name and password into the URL, or clone it and name the clone's path"
    } else {
        ""
    }
}

/// Whether it is a repository on this machine of another user, which git reads only if told so.
fn is_of_another(source: &git2::Error) -> bool {
    source.code() == git2::ErrorCode::Owner || source.message().contains("is not owned by current")
}

fn wants_password(source: &git2::Error) -> bool {
    source.code() == git2::ErrorCode::Auth || source.message().contains("authentication required")
}

/// Adds to a result what was attempted, and on what.
pub(super) trait Context<T> {
    fn context(self, doing: &'static str, what: impl AsRef<std::path::Path>) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, doing: &'static str, what: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: what.as_ref().to_owned(), source })
    }
}

impl<T> Context<T> for std::result::Result<T, git2::Error> {
    fn context(self, doing: &'static str, what: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(|source| {
            let what = what.as_ref().display().to_string();
            Error::Git { doing, what, source }
        })
    }
}
