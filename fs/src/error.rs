//! Errors that carry the path, the layer and the errno.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A Linux errno: what a transport hands to the kernel that asked.
pub use rustix::io::Errno;

/// A failure somewhere in a sysroot.
///
/// A transport needs [`Error::errno`]; a person reads the `Display` text. Errors on the hot path
/// (a name that does not exist) are [`Error::Os`], which allocates nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system operation that was refused: the caller's fault, not worth a log line.
    #[error("{0}")]
    Os(Errno),

    /// The content of a layer is not what its format promises.
    #[error("{layer}: {problem}{}", At(path, offset))]
    Malformed {
        /// The layer's label: usually the file it was opened from.
        layer: String,
        /// Path inside the layer, where known; escaped for display.
        path: Option<String>,
        /// Byte offset in the (uncompressed) input, where known.
        offset: Option<u64>,
        problem: String,
    },

    /// Something on the host failed: a file of the store, a spool, a pipe.
    #[error("{doing} {}: {source}", path.display())]
    Host {
        /// What was attempted, as a phrase: "cannot open", "cannot write".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    /// What was asked for does not exist or makes no sense; the text is a whole sentence.
    #[error("{0}")]
    Invalid(String),
}

struct At<'a>(&'a Option<String>, &'a Option<u64>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.0 {
            write!(f, " (entry {path})")?;
        }
        if let Some(offset) = self.1 {
            write!(f, " (at byte {offset})")?;
        }
        Ok(())
    }
}

impl Error {
    pub fn host(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Host { doing, path: path.into(), source }
    }

    pub fn malformed(layer: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Malformed { layer: layer.into(), path: None, offset: None, problem: problem.into() }
    }

    /// The number to answer a kernel with. Anything that is not the caller's doing is `EIO`,
    /// except a full disk, which programs handle.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Os(errno) => *errno,
            Error::Malformed { .. } => Errno::IO,
            Error::Host { source, .. } => match Errno::from_io_error(source) {
                Some(e @ (Errno::NOSPC | Errno::DQUOT | Errno::NOMEM)) => e,
                _ => Errno::IO,
            },
            Error::Invalid(_) => Errno::INVAL,
        }
    }

    /// Whether the failure is ours (worth a log line) and not an answer to the caller.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::Os(_))
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::Os(errno)
    }
}
