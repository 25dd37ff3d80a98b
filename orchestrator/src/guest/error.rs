//! What can go wrong with a guest.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use outcrop_guest::protocol::ProtocolError;

/// How many lines of the console an error message shows.
const SHOWN_LINES: usize = 15;

/// The end of what the guest's console and QEMU printed, and where all of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords {
    pub text: String,
    pub log: Option<PathBuf>,
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> =
            self.text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return write!(f, "\nits console is empty");
        }
        write!(f, "\nthe end of its console:")?;
        for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
            // A guest must not be able to move the cursor of the user's terminal.
            let clean: String =
                line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            write!(f, "\n  | {clean}")?;
        }
        if let Some(log) = &self.log {
            write!(f, "\nall of it is in {}", log.display())?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("{doing} {}: {source}", path.display())]
    Host {
        /// A phrase: "cannot open the kernel".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    #[error("cannot run {program}: {source}; `outcrop doctor` says which package has it")]
    QemuMissing {
        program: String,
        #[source]
        source: std::io::Error,
    },

    #[error(
        "{program} has no machine type {machine}, which the kit's guests are; install Debian's \
         {package}, of QEMU 7.2 or later"
    )]
    NoMachine { program: String, machine: String, package: String },

    #[error("QEMU ended ({status}) while the guest was running{last_words}")]
    QemuEnded { status: String, last_words: LastWords },

    #[error("the guest's kernel panicked: {reason}{last_words}")]
    KernelPanicked { reason: String, last_words: LastWords },

    #[error("the agent in the guest gave up: {reason}{last_words}")]
    AgentDied { reason: String, last_words: LastWords },

    #[error("the guest did not start within {} s{last_words}", limit.as_secs())]
    StartTimeout { limit: Duration, last_words: LastWords },

    #[error("the guest has not answered for {} s{last_words}", limit.as_secs())]
    Unresponsive { limit: Duration, last_words: LastWords },

    /// The agent's own words: a whole sentence.
    #[error("in the guest: {0}")]
    Agent(String),

    #[error("the agent's message was not understood: {0}")]
    Protocol(#[from] ProtocolError),

    #[error(
        "the agent {build_id} speaks version {theirs} of the control protocol, this program \
         version {ours}; the agent and the program beside it must be of one version, so make both \
         again (scripts/build)"
    )]
    Version { build_id: String, theirs: u32, ours: u32 },

    #[error("the guest broke the control protocol: {0}")]
    Unexpected(&'static str),

    #[error("the command is too large to be sent: {0}")]
    CommandTooLarge(ProtocolError),

    #[error("the command did not end within {} s{last_words}", limit.as_secs())]
    CommandTimeout { limit: Duration, last_words: LastWords },

    #[error("cannot use this terminal: {0}")]
    Terminal(#[source] std::io::Error),
}

impl GuestError {
    /// Lets `move_away` take the console's log, which lies where the guest ran, to a place that
    /// lasts; `None` from it means that the log is lost.
    pub fn move_console_log(&mut self, move_away: impl FnOnce(PathBuf) -> Option<PathBuf>) {
        let (GuestError::QemuEnded { last_words, .. }
        | GuestError::KernelPanicked { last_words, .. }
        | GuestError::AgentDied { last_words, .. }
        | GuestError::StartTimeout { last_words, .. }
        | GuestError::Unresponsive { last_words, .. }
        | GuestError::CommandTimeout { last_words, .. }) = self
        else {
            return;
        };
        last_words.log = last_words.log.take().and_then(move_away);
    }
}

/// Tells from the console why a guest is gone.
pub(super) fn explain_end(status: String, last_words: LastWords) -> GuestError {
    let after = |mark: &str| {
        let (_, rest) = last_words.text.rsplit_once(mark)?;
        Some(rest.lines().next()?.trim().to_owned())
    };
    // The agent's own words come first: its end makes the kernel panic.
    if let Some(reason) = after("outcrop-agent: ") {
        return GuestError::AgentDied { reason, last_words };
    }
    match after("Kernel panic - not syncing: ") {
        Some(reason) if reason.contains("Attempted to kill init") => {
            let reason = format!("it crashed ({reason})");
            GuestError::AgentDied { reason, last_words }
        }
        Some(reason) => GuestError::KernelPanicked { reason, last_words },
        None => GuestError::QemuEnded { status, last_words },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(console: &str) -> GuestError {
        explain_end("exit status: 0".into(), LastWords { text: console.into(), log: None })
    }

    #[test]
    fn a_kernel_panic_is_told_from_a_dead_agent_and_from_a_killed_qemu() {
        let panic = ended("[ 1.0] Kernel panic - not syncing: sysrq triggered crash\r\n[ 1.1] x");
        assert!(
            matches!(&panic, GuestError::KernelPanicked { reason, .. } if reason == "sysrq triggered crash")
        );
        let init =
            ended("Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\r\n");
        assert!(
            matches!(&init, GuestError::AgentDied { reason, .. } if reason.contains("0x0000000b"))
        );
        let own =
            ended("outcrop-agent: cannot mount /dev: no\r\n[1] Kernel panic - not syncing: x");
        assert!(
            matches!(&own, GuestError::AgentDied { reason, .. } if reason == "cannot mount /dev: no")
        );
        assert!(matches!(ended(""), GuestError::QemuEnded { .. }));
    }

    #[test]
    fn the_console_cannot_control_the_users_terminal() {
        let last_words = LastWords { text: "a\x1b[2Jb\r\n".into(), log: None };
        assert_eq!(last_words.to_string(), "\nthe end of its console:\n  | a [2Jb");
    }

    #[test]
    fn a_console_log_that_is_moved_or_lost_is_named_truly() {
        let last_words = LastWords { text: "x".into(), log: Some("/run/1/console.log".into()) };
        let mut error = explain_end("signal: 9".into(), last_words);
        error.move_console_log(|_| Some("/logs/a.console".into()));
        assert!(error.to_string().ends_with("all of it is in /logs/a.console"));
        error.move_console_log(|_| None);
        assert!(!error.to_string().contains("all of it"));
    }

    #[test]
    fn of_an_empty_console_no_log_is_named() {
        let last_words = LastWords { text: "\r\n".into(), log: Some("/log".into()) };
        assert_eq!(last_words.to_string(), "\nits console is empty");
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let shown = LastWords { text, log: Some("/log".into()) }.to_string();
        assert!(shown.contains("| line 99") && shown.contains("| line 85"));
        assert!(!shown.contains("| line 84"));
        assert!(shown.ends_with("/log"));
    }
}
