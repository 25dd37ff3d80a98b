//! Programs of the host, with what they say collected.

use std::io::{self, Read};
use std::process::{Command, Output};

use super::error::{Error, Result};
use crate::process::Launch;

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
        command: Command,
        what: &str,
        tick: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        let failed = |source: io::Error| self.failed(what, "did not run", &source.to_string());
        let mut child = Launch::from(command).start().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::Missing { program: self.name, purpose: self.purpose, package: self.package }
            }
            _ => failed(source),
        })?;
        let (stdout, stderr) = child.take_outputs().unzip();
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        let status = child.wait(tick).map_err(failed)?;
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
        command: Command,
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
