//! Programs of the host that make images.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus};
use std::thread::JoinHandle;

use outcrop_fs::Error as FsError;
use outcrop_fs::capture::Progress;

use super::{Error, Job, Result};
use crate::process::{Blocking, Launch};

/// Where Debian keeps what only administrators usually call; not on an ordinary user's `PATH`.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Bytes of a builder's last words that an error shows.
const TAIL: usize = 4096;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

impl Program {
    /// # Errors
    /// [`Error::HostLacks`].
    pub fn find(self, format: &'static str) -> Result<PathBuf> {
        find_program(self.name).ok_or_else(|| Error::HostLacks {
            format,
            program: self.name.into(),
            package: self.package,
        })
    }
}

/// Where a program that makes images is, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A command with nothing of the caller's environment but the path: locale, time zone and
/// variables such as SOURCE_DATE_EPOCH must not get into an image.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A running builder; killed with its children when dropped.
pub(super) struct Running {
    name: String,
    child: Blocking,
    said: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn start(command: Command) -> Result<Running> {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or(OsStr::new("builder"))
            .to_string_lossy()
            .into_owned();
        let fault = |source| FsError::host("cannot run", command_path(&name), source);
        let mut launch = Launch::from(command);
        launch.pipe_input();
        // One pipe for both, so that the tail has them in order.
        let mut reader = launch.merge_output().map_err(fault)?;
        let child = launch.start().map_err(fault)?;
        let said = std::thread::spawn(move || read_tail(&mut reader));
        Ok(Running { name, child, said: Some(said) })
    }

    /// Feeds the builder and waits for it. If feeding fails because the builder is gone, the
    /// builder's own words are the error.
    pub fn feed(
        mut self,
        job: &Job<'_>,
        write: impl FnOnce(&mut ChildStdin) -> Result<()>,
    ) -> Result<String> {
        let fed = match self.child.take_input() {
            Some(mut stdin) => write(&mut stdin),
            None => Ok(()),
        };
        match fed {
            Ok(()) => self.wait(job),
            Err(error) if is_broken_pipe(&error) => match self.wait(job) {
                Ok(_) => Err(error),
                Err(explanation) => Err(explanation),
            },
            Err(error) => Err(error),
        }
    }

    /// Waits for success; gives the end of what the builder said.
    fn wait(&mut self, job: &Job<'_>) -> Result<String> {
        drop(self.child.take_input());
        let fault = |source| FsError::host("cannot wait for", command_path(&self.name), source);
        let mut cancelled = Ok(());
        let status = self.child.wait(&mut || {
            cancelled = job.report(Progress { entries: job.survey.entries, bytes: 0 });
            cancelled.is_ok()
        });
        let status = status.map_err(fault)?;
        cancelled?;
        let said = self.said.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let output = String::from_utf8_lossy(&said).trim().to_owned();
        match status {
            Some(status) if status.success() => Ok(output),
            Some(status) => {
                Err(Error::Builder { program: self.name.clone(), status: describe(status), output })
            }
            None => Err(Error::Cancelled),
        }
    }

    /// Runs to the end with this as standard input.
    pub fn run(command: Command, job: &Job<'_>, input: &[u8]) -> Result<String> {
        Running::start(command)?.feed(job, |stdin| {
            stdin
                .write_all(input)
                .map_err(|source| FsError::host("cannot write", "a pipe", source).into())
        })
    }
}

fn command_path(name: &str) -> PathBuf {
    PathBuf::from(name)
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown status".into(),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    match error {
        Error::Files(FsError::Host { source, .. }) => source.kind() == io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

/// Reads to the end and keeps the last [`TAIL`] bytes.
fn read_tail(reader: &mut dyn Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let surplus = kept.len().saturating_sub(TAIL);
        kept.drain(..surplus);
    }
    kept
}
