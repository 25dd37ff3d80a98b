//! What became of each job of a guest's compile service: one line of JSON a job.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::words::counted;

/// Messages are shortened to so many bytes, so that each line is one write.
const LONGEST_MESSAGE: usize = 1024;

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Seconds that the compiler ran; 0 where it did not.
    pub seconds: f64,
    /// Where it was compiled: `host`, or a distcc server's address. Missing: the guest had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl JobRecord {
    /// Appends the record. Lines of several endpoints do not mix: each is one write.
    pub fn append(&self, log: &Path) -> io::Result<()> {
        let mut record = self.clone();
        if let Some(message) = &mut record.refused {
            let end = (0..=LONGEST_MESSAGE.min(message.len()))
                .rev()
                .find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or_default());
        }
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        OpenOptions::new().create(true).append(true).open(log)?.write_all(&line)
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
    /// How many the guest had to compile by itself, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Of the compiled ones, how many each distcc server took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, u64>,
}

impl JobSummary {
    /// Reads a log; lines that are no records are passed over. Without a log nothing was sent.
    pub fn read(log: &Path) -> io::Result<JobSummary> {
        match std::fs::read_to_string(log) {
            Ok(text) => Ok(JobSummary::of(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(JobSummary::default()),
            Err(error) => Err(error),
        }
    }

    pub fn of(log: &str) -> JobSummary {
        let mut summary = JobSummary::default();
        for record in log.lines().filter_map(|line| serde_json::from_str::<JobRecord>(line).ok()) {
            summary.sent += 1;
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

    /// What has been added to an earlier summary of the same log.
    pub fn since(&self, earlier: &JobSummary) -> JobSummary {
        JobSummary {
            sent: self.sent.saturating_sub(earlier.sent),
            compiled: self.compiled.saturating_sub(earlier.compiled),
            seconds: (self.seconds - earlier.seconds).max(0.0),
            refused: difference(&self.refused, &earlier.refused),
            elsewhere: difference(&self.elsewhere, &earlier.elsewhere),
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

fn difference(
    counts: &BTreeMap<String, u64>,
    earlier: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let left = |name: &String, count: &u64| {
        count.saturating_sub(earlier.get(name).copied().unwrap_or_default())
    };
    counts
        .iter()
        .map(|(name, count)| (name.clone(), left(name, count)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// What [`JobRecord::by`] says of this machine.
pub const HOST: &str = "host";

/// Reasons that a sentence names.
const MOST_REASONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(by: Option<&str>, refused: Option<&str>) -> JobRecord {
        JobRecord { seconds: 0.25, by: by.map(str::to_owned), refused: refused.map(str::to_owned) }
    }

    #[test]
    fn what_is_appended_is_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert_eq!(JobSummary::read(&log).unwrap(), JobSummary::default());
        for job in [
            record(Some(HOST), None),
            record(Some("farm:3632"), None),
            record(None, Some("why\nso")),
            record(None, Some("why\nso")),
            record(None, Some(&"ä".repeat(2000))),
        ] {
            job.append(&log).unwrap();
        }
        let summary = JobSummary::read(&log).unwrap();
        assert_eq!((summary.sent, summary.compiled, summary.seconds), (5, 2, 0.5));
        assert_eq!(summary.refused["why\nso"], 2);
        assert_eq!(summary.refused.keys().map(String::len).max(), Some(LONGEST_MESSAGE));
        let said = summary.describe().unwrap();
        assert!(
            said.starts_with("2 of 5 jobs compiled by the host (1 by farm:3632) in 0.5 s; 2 by")
        );
    }

    #[test]
    fn a_step_counts_what_came_since_the_last_one() {
        let log = "{\"seconds\":1.0,\"by\":\"host\"}\n{\"seconds\":1.0,\"refused\":\"a\"}\n";
        let (first, both) = (JobSummary::of(log), JobSummary::of(&log.repeat(2)));
        assert_eq!(both.since(&first), first);
        assert_eq!(first.since(&first), JobSummary::default());
    }

    #[test]
    fn garbage_in_a_log_is_passed_over() {
        let summary = JobSummary::of("{\"seconds\":1.0,\"by\":\"host\"}\n{half\n\n");
        assert_eq!((summary.sent, summary.compiled), (1, 1));
        assert_eq!(JobSummary::of("").describe(), None);
    }
}
