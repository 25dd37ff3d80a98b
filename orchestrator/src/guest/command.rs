//! A command for a guest, and how it ended.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use outcrop_guest::protocol::{self, Outcome, Program, ProgramUse};

/// A command. It gets the environment given here and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: Program,
    /// An absolute path inside the sysroot.
    pub directory: OsString,
    pub environment: Vec<(OsString, OsString)>,
    pub uid: u32,
    pub gid: u32,
    /// What it reads; without it, `/dev/null`.
    pub input: Option<Vec<u8>>,
    pub time_limit: Option<Duration>,
}

impl Command {
    /// Run as root by `/bin/sh -e -c SCRIPT` in `/` with an empty environment.
    pub fn script(script: impl AsRef<OsStr>) -> Self {
        Self::new(Program::Script(script.as_ref().as_bytes().to_vec()))
    }

    /// A program, looked up in the command's own `PATH`, and its arguments.
    pub fn arguments(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().as_bytes().to_vec()).collect();
        Self::new(Program::Arguments(words))
    }

    fn new(program: Program) -> Self {
        Command {
            program,
            directory: "/".into(),
            environment: Vec::new(),
            uid: 0,
            gid: 0,
            input: None,
            time_limit: None,
        }
    }

    #[must_use]
    pub fn directory(mut self, directory: impl Into<OsString>) -> Self {
        self.directory = directory.into();
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    pub(super) fn message(&self, id: u32, input: protocol::Input) -> protocol::Run {
        let bytes = |value: &OsString| value.as_bytes().to_vec();
        protocol::Run {
            id,
            program: self.program.clone(),
            directory: bytes(&self.directory),
            environment: self.environment.iter().map(|(n, v)| (bytes(n), bytes(v))).collect(),
            uid: self.uid,
            gid: self.gid,
            // 0 would mean no limit.
            time_limit_milliseconds: self
                .time_limit
                .map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)),
            input,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub outcome: Outcome,
    /// Measured by the guest's clock.
    pub duration: Duration,
    /// What the guest's processes cost that ended with it, as the kernel counted them.
    pub programs: Vec<ProgramUse>,
}

impl Exit {
    pub fn success(&self) -> bool {
        self.outcome == Outcome::Exited(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Exited(status) => write!(f, "exit status {status}"),
            Outcome::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Outcome::TimedOut => {
                write!(f, "killed at its time limit, after {} s", self.duration.as_secs())
            }
            Outcome::NotStarted(reason) => f.write_str(&String::from_utf8_lossy(reason)),
        }
    }
}
