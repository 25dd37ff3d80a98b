//! What can go wrong in an export.

use outcrop_fs::Errno;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree could not be read or the output not written.
    #[error(transparent)]
    Files(outcrop_fs::Error),

    /// The host lacks a program (exit code 3).
    #[error("{format} needs {program}, which this host lacks: install the package {package}")]
    HostLacks { format: &'static str, program: String, package: &'static str },

    /// A program of the host failed.
    #[error("{program} failed ({status}){}", tail(output))]
    Builder {
        program: String,
        status: String,
        /// The end of what it said.
        output: String,
    },

    /// The caller wanted no more.
    #[error("the export was cancelled")]
    Cancelled,

    /// What was asked for makes no sense or cannot be; a whole sentence.
    #[error("{0}")]
    Invalid(String),
}

fn tail(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}

impl From<outcrop_fs::Error> for Error {
    fn from(error: outcrop_fs::Error) -> Self {
        match error {
            outcrop_fs::Error::Os(Errno::CANCELED) => Error::Cancelled,
            other => Error::Files(other),
        }
    }
}
