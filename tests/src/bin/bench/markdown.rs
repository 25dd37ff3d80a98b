//! docs/benchmarks.md, made of the report and of hand-written notes on what was missed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cases::Case;
use crate::report::{CaseReport, Report};
use crate::row::{Measured, Row};

const OPENING: &str = "# Benchmarks

Written by `scripts/bench` from `benchmarks.json`; do not edit. Why a target is missed is explained
in [benchmarks-notes.md](benchmarks-notes.md), from where it is copied to here.

Contenders of a row took turns in one run, but where a note says otherwise. A value is the median of all rounds, with the smallest and
the largest in parentheses; a ratio is Outcrop's median over the peer's. Commands are run as an
ordinary user unless said; root mounts overlayfs, runs virtiofsd, and drops the kernel's caches.

";

pub fn markdown(report: &Report, cases: &[Case], notes: &str) -> String {
    let mut text = String::from(OPENING);
    for (name, value) in &report.host {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text += &targets(report, &read_notes(notes));
    for measured in &report.cases {
        if let Some(case) = cases.iter().find(|case| case.name == measured.name) {
            text += &section(case, measured);
        }
    }
    text
}

/// Sections of the notes, by the row that is their heading.
fn read_notes(notes: &str) -> BTreeMap<&str, &str> {
    let sections = notes.split("\n## ").skip(1);
    sections
        .filter_map(|section| section.split_once('\n'))
        .map(|(row, text)| (row.trim(), text.trim()))
        .collect()
}

fn targets(report: &Report, notes: &BTreeMap<&str, &str>) -> String {
    let mut table =
        String::from("\n## Targets\n\n| what | target | measured | met |\n|---|---|---|---|\n");
    let mut missed: Vec<&Row> = Vec::new();
    let rows = report.cases.iter().flat_map(|case| &case.rows);
    for row in rows {
        for target in &row.targets {
            let unit = if target.peer.is_some() { "×" } else { &row.unit };
            let measured =
                target.measured(row).map_or("–".to_owned(), |value| shown(value, unit));
            let met = match target.is_met(row) {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            let aim = target.text(&row.unit);
            let _ = writeln!(table, "| {} | {aim} | {measured} | {met} |", row.what);
        }
        if row.targets.iter().any(|target| target.is_met(row) == Some(false)) {
            missed.push(row);
        }
    }
    if !missed.is_empty() {
        table += "\n### What is missed, and why\n\n";
    }
    for row in missed {
        let why = notes.get(row.what.as_str()).unwrap_or(&"not explained yet.");
        let _ = writeln!(table, "- **{}**: {}", row.what, why.replace('\n', "\n  "));
    }
    table
}

/// Rows whose target is missed and that no note explains.
pub fn unexplained(report: &Report, notes: &str) -> Vec<String> {
    let notes = read_notes(notes);
    let rows = report.cases.iter().flat_map(|case| &case.rows);
    rows.filter(|row| row.targets.iter().any(|target| target.is_met(row) == Some(false)))
        .map(|row| row.what.clone())
        .filter(|what| !notes.contains_key(what.as_str()))
        .collect()
}

fn section(case: &Case, measured: &CaseReport) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n", case.title, case.how.trim());
    let _ = writeln!(
        text,
        "`scripts/bench --only {}`, {}, Outcrop {}, {} rounds, scale {}, load before {}, {:.0} s.\n",
        case.name,
        measured.date,
        measured.outcrop,
        measured.rounds,
        measured.scale,
        measured.load,
        measured.seconds
    );
    if let Some(reason) = &measured.failed {
        let _ = writeln!(text, "**Failed**: {}", reason.replace('\n', " "));
        return text;
    }
    text += "| what | contender | value | Outcrop's is |\n|---|---|---|---|\n";
    for row in &measured.rows {
        text += &lines(row);
    }
    text
}

/// Lines of a table: one for each contender.
pub fn lines(row: &Row) -> String {
    let mut lines = String::new();
    let ours = row.contenders.first().and_then(|ours| ours.median);
    for (position, contender) in row.contenders.iter().enumerate() {
        let what = if position == 0 { row.what.as_str() } else { "" };
        let ratio = match (ours, contender.median) {
            (Some(ours), Some(peer)) if position > 0 && peer > 0.0 => shown(ours / peer, "×"),
            _ => String::new(),
        };
        let value = value(contender, &row.unit);
        let _ = writeln!(lines, "| {what} | {} | {value} | {ratio} |", contender.name);
    }
    lines
}

fn value(contender: &Measured, unit: &str) -> String {
    let reason = contender.lacks.as_ref().map(|reason| {
        let line = reason.lines().next().unwrap_or_default();
        format!("not measured: {}", line.replace('|', "/"))
    });
    match (contender.median, contender.min, contender.max) {
        (Some(median), Some(min), Some(max)) if contender.samples.len() > 1 => {
            let digits = digits(median, unit);
            let range = format!("{min:.digits$}–{max:.digits$}");
            format!("{} ({range})", shown(median, unit))
        }
        (Some(median), ..) => shown(median, unit),
        _ => reason.unwrap_or_default(),
    }
}

fn digits(value: f64, unit: &str) -> usize {
    match unit {
        "×" if value < 0.1 => 4,
        "×" | "GB/s" => 2,
        "s" if value >= 10.0 => 1,
        "s" => 3,
        "names" => 0,
        _ => 1,
    }
}

fn shown(value: f64, unit: &str) -> String {
    let digits = digits(value, unit);
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;
    use crate::row::at_most;

    fn report() -> Report {
        let row = |what: &str, target| {
            Row::new(what, vec![Outcome::alone("Outcrop", vec![2.0])]).targets([at_most(target)])
        };
        let rows = vec![row("missed", 1.0), row("met", 3.0)];
        let case = CaseReport {
            name: "ready".to_owned(),
            date: String::new(),
            outcrop: String::new(),
            scale: 1.0,
            rounds: 1,
            load: String::new(),
            seconds: 1.0,
            failed: None,
            rows,
        };
        Report { cases: vec![case], ..Report::default() }
    }

    #[test]
    fn what_is_missed_is_explained_by_its_note() {
        let notes = "# Notes\n\n## missed\n\nThe disk bounds it.\n\n## met\n\nNo matter.\n";
        let text = markdown(&report(), &crate::cases::ALL, notes);
        assert!(text.contains("- **missed**: The disk bounds it.\n"), "{text}");
        assert!(!text.contains("No matter"), "{text}");
        assert!(unexplained(&report(), notes).is_empty());
    }

    #[test]
    fn the_report_in_docs_is_of_its_json_its_notes_and_this_program() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
        let report = Report::load(&docs.join("benchmarks.json")).unwrap();
        let text = markdown(&report, &crate::cases::ALL, &read("benchmarks-notes.md"));
        let written = read("benchmarks.md");
        let differs = text.lines().zip(written.lines()).find(|(now, then)| now != then);
        assert!(text == written, "`bench render docs` writes it again; first line: {differs:?}");
    }

    #[test]
    fn what_is_missed_and_has_no_note_is_told() {
        assert_eq!(unexplained(&report(), "# Notes\n"), ["missed"]);
    }
}
