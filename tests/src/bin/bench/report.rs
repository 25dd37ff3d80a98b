//! What was measured, as a JSON file that outlives a run: a case that is run again replaces only
//! itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use outcrop_tests::home;
use serde::{Deserialize, Serialize};

use crate::measure::{LEFT_OUT, Result};
use crate::row::Row;

#[derive(Default, Serialize, Deserialize)]
pub struct Report {
    pub host: BTreeMap<String, String>,
    pub cases: Vec<CaseReport>,
}

#[derive(Serialize, Deserialize)]
pub struct CaseReport {
    pub name: String,
    pub date: String,
    pub outcrop: String,
    pub scale: f64,
    pub rounds: usize,
    /// Load of the host when the case began.
    pub load: String,
    /// How long the case took.
    pub seconds: f64,
    /// Why it has no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn load(path: &Path) -> Result<Report> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .map_err(|error| format!("{} is not of this program: {error}", path.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Report::default()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display()).into()),
        }
    }

    /// In the order of `names`. Contenders that were left out keep what they have.
    pub fn replace(&mut self, mut case: CaseReport, names: &[&str]) {
        if let Some(old) = self.cases.iter_mut().find(|old| old.name == case.name) {
            case.keep(&mut old.rows);
        }
        self.cases.retain(|old| old.name != case.name);
        self.cases.push(case);
        self.cases.sort_by_key(|case| names.iter().position(|name| *name == case.name));
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }
}

impl CaseReport {
    fn keep(&mut self, old: &mut [Row]) {
        for row in &mut self.rows {
            let Some(old) = old.iter_mut().find(|old| old.what == row.what) else { continue };
            for contender in &mut row.contenders {
                let is_left_out = contender.lacks.as_deref() == Some(LEFT_OUT);
                let position = old.contenders.iter().position(|one| one.name == contender.name);
                if let (true, Some(position)) = (is_left_out, position) {
                    *contender = old.contenders.swap_remove(position);
                }
            }
        }
    }
}

/// The host and the versions of everybody.
pub fn host(versions: Vec<(&str, String)>) -> BTreeMap<String, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut host = BTreeMap::from([
        ("processor", format!("{}, {processors} of them", processor())),
        ("memory", memory()),
        ("kernel", first_line("uname", &["-sr"])),
        (
            "file system",
            first_line("findmnt", &["-n", "-o", "FSTYPE,OPTIONS", "-T", &home().to_string_lossy()]),
        ),
    ]);
    host.extend(versions);
    host.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub fn now() -> String {
    first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

pub fn revision() -> String {
    first_line("git", &["describe", "--always", "--dirty"])
}

pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// What a program says of itself, or that it is not there.
pub fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("not there").trim().to_owned()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: Option<f64> = total.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    kilobytes.map_or("unknown".to_owned(), |value| format!("{:.1} GB", value * 1024.0 / 1e9))
}
