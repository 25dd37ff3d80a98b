//! Programs of the host, supervised: own process group, gone when we are, output collected.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::error::{Error, Result};

/// How often a running program's progress is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Most of a program's output that is kept for messages and parsing.
const MOST_OUTPUT: u64 = 64 << 20;

/// A program of the host and what is to be said when it is missing.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    pub purpose: &'static str,
    pub package: &'static str,
}

impl Program {
    pub fn command(self) -> Command {
        let mut command = Command::new(self.name);
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs to the end, whatever the exit status; `tick` is called now and then and may cancel.
    pub fn output(
        self,
        command: &mut Command,
        what: &str,
        tick: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        die_with_parent(command);
        let failed = |source: io::Error| self.failed(what, "did not run", &source.to_string());
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::Missing { program: self.name, purpose: self.purpose, package: self.package }
            }
            _ => failed(source),
        })?;
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let status = supervise(&mut child, tick).map_err(failed)?;
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match status {
            Some(status) => Ok(Output { status, stdout, stderr }),
            None => Err(Error::Cancelled),
        }
    }

    /// As `output`, but a program that fails is an error.
    pub fn run(
        self,
        command: &mut Command,
        what: &str,
        tick: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<u8>> {
        let output = self.output(command, what, tick)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(self.failed(what, &output.status.to_string(), &tail(said)))
    }

    fn failed(self, what: &str, status: &str, said: &str) -> Error {
        Error::Program {
            program: self.name,
            status: status.to_owned(),
            what: what.to_owned(),
            said: said.to_owned(),
        }
    }
}

/// Waits for the end; `None` when cancelled, after the whole process group was killed.
fn supervise(child: &mut Child, tick: &mut dyn FnMut() -> bool) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if !tick() {
            let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(group) = group {
                // The child may be gone already; there is nobody left to tell then.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(TICK);
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut output = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a failure is still worth showing.
            let _ = pipe.by_ref().take(MOST_OUTPUT).read_to_end(&mut output);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        output
    })
}

/// The last lines of what a program said, on one line.
pub fn tail(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(6);
    lines.get(from..).unwrap_or_default().join(" / ")
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call (prctl), which is async-signal-safe, and neither
    // allocates nor touches memory of the parent.
    unsafe {
        command.pre_exec(|| {
            let signal = Some(rustix::process::Signal::KILL);
            Ok(rustix::process::set_parent_process_death_signal(signal)?)
        });
    }
}
