//! The log of one build: everything that its commands said.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{BuildError, Result};
use crate::guest::Exit;

/// Lines that a failure shows.
const TAIL_LINES: usize = 40;

/// Bytes of output that a log takes, so that a command that prints for ever does not fill the disk.
const OUTPUT_LIMIT: u64 = 256 << 20;

/// The longest line that live display and the tail keep, in bytes.
const LINE_LIMIT: usize = 4096;

/// The first line of a log, by which `outcrop log` finds the logs of a component.
pub fn log_title(component: &str, key: &str) -> String {
    format!("# {component}, key {key}")
}

pub struct BuildLog {
    path: PathBuf,
    file: BufWriter<File>,
    /// The last line in the file is not ended.
    mid_line: bool,
    /// Bytes of output that the file still takes.
    room: u64,
    /// Bytes of output that it did not take.
    left_out: u64,
    line: Vec<u8>,
    tail: VecDeque<String>,
    /// A full disk stops the log, not the build; it is told once, at the end.
    problem: Option<std::io::Error>,
}

impl BuildLog {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path)
            .map_err(|source| BuildError::Log { path: path.to_owned(), source })?;
        Ok(BuildLog {
            path: path.to_owned(),
            file: BufWriter::new(file),
            mid_line: false,
            room: OUTPUT_LIMIT,
            left_out: 0,
            line: Vec::new(),
            tail: VecDeque::new(),
            problem: None,
        })
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.problem.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.problem = Some(error);
        }
        self.mid_line = bytes.last().map_or(self.mid_line, |last| *last != b'\n');
    }

    /// The first line.
    pub fn begin(&mut self, component: &str, key: &str) {
        self.write(format!("{}\n", log_title(component, key)).as_bytes());
    }

    /// A line of our own.
    pub fn note(&mut self, text: &str) {
        if self.mid_line {
            self.write(b"\n");
        }
        self.write(format!("# {text}\n").as_bytes());
    }

    pub fn environment(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            let shown = if name.contains("PASSWORD") { "(hidden)" } else { value };
            self.note(&format!("{name}={shown}"));
        }
    }

    pub fn command(&mut self, step: &str, command: &str) {
        // What the last command said in its last line is no part of what this one says.
        self.end_output(|_| {});
        self.note(&format!("{step}:"));
        for line in command.lines() {
            self.note(&format!("  {line}"));
        }
        self.flush();
    }

    /// Whoever follows the log of a running build sees what it is at.
    fn flush(&mut self) {
        if self.problem.is_none()
            && let Err(error) = self.file.flush()
        {
            self.problem = Some(error);
        }
    }

    /// Output of a command; `line` gets each line as it is completed.
    pub fn output(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        self.write_within_limit(bytes);
        self.flush();
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(&mut line),
                _ if self.line.len() < LINE_LIMIT => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// The output of a command is over: what it said last is a line, whether or not it ended it.
    pub fn end_output(&mut self, mut line: impl FnMut(&str)) {
        self.end_line(&mut line);
    }

    fn write_within_limit(&mut self, bytes: &[u8]) {
        let taken = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (taken, dropped) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
        self.write(taken);
        self.room = self.room.saturating_sub(taken.len() as u64);
        if dropped.is_empty() {
            return;
        }
        if self.left_out == 0 {
            self.note("the log is full: what commands say from here on is left out");
        }
        self.left_out = self.left_out.saturating_add(dropped.len() as u64);
    }

    fn end_line(&mut self, line: &mut impl FnMut(&str)) {
        if self.line.is_empty() {
            return;
        }
        let text = shown(&self.line);
        self.line.clear();
        line(&text);
        self.tail.push_back(text);
        if self.tail.len() > TAIL_LINES {
            self.tail.pop_front();
        }
    }

    pub fn exit(&mut self, exit: &Exit) {
        let took = exit.duration.as_secs_f64();
        self.note(&format!("{exit} after {took:.1} s"));
        self.flush();
    }

    /// The last lines of output.
    pub fn tail(&self) -> Vec<String> {
        let rest = (!self.line.is_empty()).then(|| shown(&self.line));
        self.tail.iter().cloned().chain(rest).collect()
    }

    /// Writes out what is buffered, and of output that was left out how it ended.
    pub fn finish(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            self.note(&format!("{left_out} bytes of output were left out; the last lines of it:"));
            for line in self.tail() {
                self.write(format!("{line}\n").as_bytes());
            }
        }
        if let Err(error) = self.file.flush() {
            self.problem.get_or_insert(error);
        }
        if let Some(problem) = self.problem.take() {
            log::warn!("{}: the log is not complete: {problem}", self.path.display());
        }
    }
}

/// A line for a terminal, whose cursor the guest must not be able to move.
fn shown(line: &[u8]) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(line).chars().map(clean).collect()
}

impl Drop for BuildLog {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_build_can_be_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let mut log = BuildLog::create(&path).unwrap();
        log.output(b"checking for cc", |_| {});
        assert_eq!(std::fs::read(&path).unwrap(), b"checking for cc");
    }

    #[test]
    fn output_that_ends_without_a_newline_is_kept_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let mut log = BuildLog::create(&path).unwrap();
        log.command("configure", "printf yes");
        let mut seen = Vec::new();
        log.output(b"really\nyes", |line| seen.push(line.to_owned()));
        log.end_output(|line| seen.push(line.to_owned()));
        log.end_output(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["really", "yes"]);
        log.command("build", "echo no");
        log.output(b"no\n", |_| {});
        assert_eq!(log.tail(), ["really", "yes", "no"]);
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "# configure:\n#   printf yes\nreally\nyes\n# build:\n#   echo no\nno\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_full_log_has_the_beginning_and_the_end_and_says_what_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let mut log = BuildLog::create(&path).unwrap();
        log.room = 10_005;
        log.command("build", "yes");
        let mut seen = 0;
        for number in 0..5000 {
            log.output(format!("line {number:04}\n").as_bytes(), |_| seen += 1);
        }
        log.command("install", "make install");
        log.output(b"no rule", |_| seen += 1);
        let tail = log.tail();
        drop(log);
        assert_eq!((seen, tail.len()), (5000, TAIL_LINES + 1));
        assert_eq!(tail.last().unwrap(), "no rule");
        let text = std::fs::read_to_string(&path).unwrap();
        // 10 bytes a line: 1000 whole ones and a half.
        let (kept, after) = text.split_once("line 0999\nline \n# the log is full: ").unwrap();
        assert!(kept.starts_with("# build:\n#   yes\nline 0000\n"));
        let (notes, end) = after.split_once("\n# 40002 bytes of output were left out; ").unwrap();
        assert!(notes.ends_with("\n# install:\n#   make install"), "{notes}");
        assert!(end.ends_with(&format!(":\n{}\n", tail.join("\n"))), "{end}");
    }
}
