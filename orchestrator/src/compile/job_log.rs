//! What became of each job of a guest's compile service: one line of JSON a job.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::words::counted;

/// Messages are shortened to so many bytes, so that each line is one write.
const LONGEST_MESSAGE: usize = 1024;

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Seconds that the compiler ran; 0 where it did not.
    pub seconds: f64,
    /// Seconds of a processor that it took of this machine.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Where it was compiled: `host`, or a distcc server's address. Missing: the guest had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl JobRecord {
    /// Appends the record.
    pub fn append(&self, log: &Path) -> io::Result<()> {
        self.append_to(&mut OpenOptions::new().create(true).append(true).open(log)?)
    }

    /// The same to a log that is open for appending. Lines of several writers do not mix: each is one
    /// write.
    pub fn append_to(&self, log: &mut File) -> io::Result<()> {
        let mut record = self.clone();
        if let Some(message) = &mut record.refused {
            let end = (0..=LONGEST_MESSAGE.min(message.len()))
                .rev()
                .find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or_default());
        }
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        log.write_all(&line)
    }
}

/// The jobs of a build, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Jobs that the guest sent.
    pub sent: u64,
    /// How many were compiled outside of the guest.
    pub compiled: u64,
    /// Seconds that these took, added up; several may have run at once.
    pub seconds: f64,
    /// Seconds of this machine's processors that jobs took.
    pub cpu_seconds: f64,
    /// How many the guest had to compile by itself, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Of the compiled ones, how many each distcc server took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, u64>,
}

impl JobSummary {
    pub fn of(log: &str) -> JobSummary {
        let mut summary = JobSummary::default();
        for record in log.lines().filter_map(|line| serde_json::from_str::<JobRecord>(line).ok()) {
            summary.sent += 1;
            summary.cpu_seconds += record.cpu_seconds;
            match (record.by, record.refused) {
                (Some(by), None) => {
                    summary.compiled += 1;
                    summary.seconds += record.seconds;
                    if by != HOST {
                        *summary.elsewhere.entry(by).or_default() += 1;
                    }
                }
                (_, why) => {
                    let why = why.unwrap_or_else(|| "no reason was given".to_owned());
                    *summary.refused.entry(why).or_default() += 1;
                }
            }
        }
        summary
    }

    /// Counts another build's jobs, too.
    pub fn add(&mut self, other: &JobSummary) {
        self.sent += other.sent;
        self.compiled += other.compiled;
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        for (counts, more) in
            [(&mut self.refused, &other.refused), (&mut self.elsewhere, &other.elsewhere)]
        {
            for (name, count) in more {
                *counts.entry(name.clone()).or_default() += count;
            }
        }
    }

    /// One sentence for a person; `None` where nothing was sent.
    pub fn describe(&self) -> Option<String> {
        if self.sent == 0 {
            return None;
        }
        let mut text = format!(
            "{} of {} compiled by the host",
            self.compiled,
            counted(self.sent, "job", "jobs")
        );
        if !self.elsewhere.is_empty() {
            let servers: Vec<String> =
                self.elsewhere.iter().map(|(name, count)| format!("{count} by {name}")).collect();
            text.push_str(&format!(" ({})", servers.join(", ")));
        }
        text.push_str(&format!(" in {:.1} s", self.seconds));
        let mut reasons: Vec<(&String, &u64)> = self.refused.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        for (why, count) in reasons.iter().take(MOST_REASONS) {
            text.push_str(&format!("; {count} by the guest: {why}"));
        }
        let rest: u64 = reasons.iter().skip(MOST_REASONS).map(|(_, count)| **count).sum();
        if rest > 0 {
            text.push_str(&format!("; {rest} by the guest for other reasons"));
        }
        Some(text)
    }
}

/// A log that is read piece by piece while it grows.
#[derive(Debug)]
pub struct JobLog {
    path: PathBuf,
    read: u64,
}

impl JobLog {
    pub fn new(path: PathBuf) -> JobLog {
        JobLog { path, read: 0 }
    }

    /// The jobs that came since the last call; a line that is half written waits for the next.
    /// Without a log nothing was sent.
    pub fn news(&mut self) -> io::Result<JobSummary> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(JobSummary::default());
            }
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(end);
        self.read = self.read.saturating_add(end as u64);
        Ok(JobSummary::of(&String::from_utf8_lossy(&bytes)))
    }
}

/// What [`JobRecord::by`] says of this machine.
pub const HOST: &str = "host";

/// Reasons that a sentence names.
const MOST_REASONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(by: Option<&str>, refused: Option<&str>) -> JobRecord {
        JobRecord {
            seconds: 0.25,
            cpu_seconds: 0.125,
            by: by.map(str::to_owned),
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_appended_is_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut reader = JobLog::new(log.clone());
        assert_eq!(reader.news().unwrap(), JobSummary::default());
        for job in [
            record(Some(HOST), None),
            record(Some("farm:3632"), None),
            record(None, Some("why\nso")),
            record(None, Some("why\nso")),
            record(None, Some(&"ä".repeat(2000))),
        ] {
            job.append(&log).unwrap();
        }
        let summary = reader.news().unwrap();
        assert_eq!((summary.sent, summary.compiled, summary.seconds), (5, 2, 0.5));
        assert_eq!(summary.cpu_seconds, 0.625);
        assert_eq!(summary.refused["why\nso"], 2);
        assert_eq!(summary.refused.keys().map(String::len).max(), Some(LONGEST_MESSAGE));
        let said = summary.describe().unwrap();
        assert!(
            said.starts_with("2 of 5 jobs compiled by the host (1 by farm:3632) in 0.5 s; 2 by")
        );
    }

    #[test]
    fn a_log_is_read_on_from_where_it_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let line = "{\"seconds\":1.0,\"by\":\"host\"}\n";
        let (half, rest) = line.split_at(9);
        let mut reader = JobLog::new(log.clone());
        let mut expect = |written: String, sent| {
            std::fs::write(&log, written).unwrap();
            assert_eq!(reader.news().unwrap().sent, sent);
        };
        expect(format!("{line}{line}{half}"), 2);
        expect(format!("{line}{line}{half}{rest}"), 1);
        expect(line.repeat(3), 0);
    }

    #[test]
    fn garbage_in_a_log_is_passed_over() {
        let summary = JobSummary::of("{\"seconds\":1.0,\"by\":\"host\"}\n{half\n\n");
        assert_eq!((summary.sent, summary.compiled), (1, 1));
        assert_eq!(JobSummary::of("").describe(), None);
    }
}
