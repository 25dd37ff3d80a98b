//! What a failed command tells a person, and the exit code that it tells a script.

use std::fmt;

use super::printable::printable_lines;
use crate::words::without_credentials;

/// Exit codes of every command (docs/operations.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something that was to be built did not build.
    BuildFailed = 1,
    /// The command line, a definition, an archive or another input is wrong.
    BadInput = 2,
    /// The host lacks a program, a device or a permission; `outcrop doctor` says which.
    HostLacks = 3,
    /// Stopped by SIGINT or SIGTERM after cleaning up.
    Interrupted = 130,
}

impl Exit {
    /// The code of several failures together: a wrong input fails again whatever else is mended,
    /// so it comes first; 3 promises that the host is all that has to be mended, so it comes last.
    pub fn of_several(failures: impl IntoIterator<Item = Exit>) -> Option<Exit> {
        failures.into_iter().min_by_key(|exit| match exit {
            Exit::Interrupted => 0,
            Exit::BadInput => 1,
            Exit::BuildFailed => 2,
            Exit::HostLacks => 3,
        })
    }
}

/// One sentence that says what is wrong and where, and a hint that says what to do.
#[derive(Debug)]
pub struct CommandError {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl CommandError {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = without_credentials(&message.into()).into_owned();
        CommandError { exit, message, hint: None }
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message)
    }

    pub fn host(message: impl Into<String>) -> Self {
        Self::new(Exit::HostLacks, message)
    }

    pub fn build(message: impl Into<String>) -> Self {
        Self::new(Exit::BuildFailed, message)
    }

    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outcrop: {}", printable_lines(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<outcrop_fs::Error> for CommandError {
    fn from(error: outcrop_fs::Error) -> Self {
        let exit = match &error {
            outcrop_fs::Error::Host { source, .. } if names_the_wrong_file(source) => {
                Exit::BadInput
            }
            outcrop_fs::Error::Os(_) | outcrop_fs::Error::Host { .. } => Exit::BuildFailed,
            outcrop_fs::Error::Malformed { .. } | outcrop_fs::Error::Invalid(_) => Exit::BadInput,
        };
        CommandError::new(exit, error.to_string())
    }
}

impl From<crate::output::OutputError> for CommandError {
    fn from(error: crate::output::OutputError) -> Self {
        CommandError::build(error.to_string())
    }
}

/// What a person gets by naming a file that is not there, is something else, or is somebody else's.
fn names_the_wrong_file(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
    )
}

pub type CommandResult<T = ()> = Result<T, CommandError>;

#[cfg(test)]
mod tests {
    use super::Exit::{self, BadInput, BuildFailed, HostLacks};

    #[test]
    fn of_several_failures_the_one_that_no_mended_host_cures_counts() {
        assert_eq!(Exit::of_several([]), None);
        assert_eq!(Exit::of_several([HostLacks, HostLacks]), Some(HostLacks));
        for order in [[HostLacks, BuildFailed], [BuildFailed, HostLacks]] {
            assert_eq!(Exit::of_several(order), Some(BuildFailed));
        }
        for order in [[HostLacks, BadInput, BuildFailed], [BuildFailed, BadInput, HostLacks]] {
            assert_eq!(Exit::of_several(order), Some(BadInput));
        }
    }
}
