//! The table for people and the JSON for machines.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::content::Shape;
use crate::measure::{Result, Samples, is_root};

/// One thing measured, next to the same thing done by others.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    pub ours: Samples,
    pub peers: Vec<(String, Samples)>,
    /// What is aimed at, in words; empty where nothing is.
    pub aim: &'static str,
}

impl Row {
    /// The first contender is ours.
    pub fn new(what: impl Into<String>, aim: &'static str, results: Vec<(String, Samples)>) -> Row {
        let mut results = results.into_iter();
        let ours = results.next().map(|(_, samples)| samples).unwrap_or_default();
        Row { what: what.into(), unit: "s", ours, peers: results.collect(), aim }
    }

    pub fn alone(
        what: impl Into<String>,
        unit: &'static str,
        aim: &'static str,
        ours: Samples,
    ) -> Row {
        Row { what: what.into(), unit, ours, peers: Vec::new(), aim }
    }

    /// Lines of the Markdown table: one for each peer.
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        let ours = shown(&self.ours, self.unit);
        if self.peers.is_empty() {
            let _ = writeln!(lines, "| {} | {ours} | | | | {} |", self.what, self.aim);
        }
        for (position, (name, peer)) in self.peers.iter().enumerate() {
            let (what, ours, aim) = if position == 0 {
                (self.what.as_str(), ours.as_str(), self.aim)
            } else {
                ("", "", "")
            };
            let ratio = self.ours.median() / peer.median();
            let ratio = if ratio < 0.1 { format!("{ratio:.4}") } else { format!("{ratio:.2}") };
            let peer = shown(peer, self.unit);
            let _ = writeln!(lines, "| {what} | {ours} | {name} | {peer} | {ratio} | {aim} |");
        }
        lines
    }

    fn json(&self, case: &str) -> Value {
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|(name, peer)| {
                let mut value = of(peer);
                value["name"] = json!(name);
                value["ratio"] = json!(self.ours.median() / peer.median());
                value
            })
            .collect();
        let mut value = of(&self.ours);
        value["case"] = json!(case);
        value["what"] = json!(self.what);
        value["unit"] = json!(self.unit);
        value["aim"] = json!(self.aim);
        value["peers"] = json!(peers);
        value
    }
}

fn of(samples: &Samples) -> Value {
    json!({
        "median": samples.median(),
        "min": samples.min(),
        "max": samples.max(),
        "samples": samples.0,
    })
}

fn shown(samples: &Samples, unit: &str) -> String {
    let digits = if unit == "s" { 3 } else { 1 };
    let (median, min, max) = (samples.median(), samples.min(), samples.max());
    if samples.0.len() < 2 {
        return format!("{median:.digits$} {unit}");
    }
    format!("{median:.digits$} {unit} ({min:.digits$}–{max:.digits$})")
}

/// Everything measured in one run.
pub struct Report {
    context: Vec<(&'static str, String)>,
    rows: Vec<(&'static str, Row)>,
}

impl Report {
    pub fn new(shape: &Shape, rounds: usize) -> Result<Report> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let content = format!(
            "{} tarballs, {} entries, {} MB; one file of {} MB",
            shape.layers,
            shape.entries,
            shape.bytes / 1_000_000,
            shape.large >> 20
        );
        let user = if is_root() {
            "commands run as an ordinary user; caches are dropped as root for what is called cold"
        } else {
            "an ordinary user; nothing is cold, because only root can drop the kernel's caches"
        };
        let context = vec![
            ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("outcrop", first_line("git", &["describe", "--always", "--dirty"])),
            ("processor", format!("{}, {processors} of them", processor())),
            ("load at the start", load()),
            ("kernel", first_line("uname", &["-sr"])),
            ("tar", first_line("tar", &["--version"])),
            ("cp", first_line("cp", &["--version"])),
            ("find", first_line("find", &["--version"])),
            ("QEMU", first_line("qemu-system-x86_64", &["--version"])),
            ("content", content),
            ("rounds", rounds.to_string()),
            ("who", user.to_owned()),
        ];
        Ok(Report { context, rows: Vec::new() })
    }

    pub fn add(&mut self, case: &'static str, rows: Vec<Row>) {
        self.rows.extend(rows.into_iter().map(|row| (case, row)));
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\nWritten by `scripts/bench`. Contenders of a row took turns; a value is \
             the median of all rounds, with the smallest and largest in parentheses; a ratio is \
             Outcrop's median over the peer's.\n\n",
        );
        for (name, value) in &self.context {
            let _ = writeln!(text, "- {name}: {value}");
        }
        text +=
            "\n| what | Outcrop | peer | its value | ratio | aim |\n|---|---|---|---|---|---|\n";
        for (_, row) in &self.rows {
            text += &row.lines();
        }
        text
    }

    pub fn json(&self) -> Result<String> {
        let context: serde_json::Map<String, Value> =
            self.context.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let rows: Vec<Value> = self.rows.iter().map(|(case, row)| row.json(case)).collect();
        Ok(serde_json::to_string_pretty(&json!({ "context": context, "rows": rows }))?)
    }
}

/// What a program says of itself, or that it is not there.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
