//! What Outcrop costs, next to what others cost for the same content in the same run.
//!
//! Contenders of a case take turns, so that a busy machine hurts them alike; medians and ranges are
//! reported. A case that fails is reported as failed and takes nothing from the others.

mod bench;
mod cases;
mod content;
mod guest;
mod markdown;
mod measure;
mod peers;
mod report;
mod row;
mod trees;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use bench::Bench;
use cases::{ALL, Case};
use measure::Result;
use report::{CaseReport, Report};

/// Measure Outcrop against its peers; run by scripts/bench
#[derive(Parser)]
struct Arguments {
    /// Only this case, and cases that are off by default; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// In the compile cases run this contender alone; of the others the figures stay that
    /// are stored. May be repeated
    #[arg(long, value_name = "NAME")]
    contender: Vec<String>,

    /// This much of the content: 0.05 is a quick try
    #[arg(long, value_name = "FRACTION", default_value_t = 1.0)]
    scale: f64,

    /// How often each contender runs; each case has its own default
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Where benchmarks.json and benchmarks.md are brought up to date; by default `docs`, or
    /// `target/bench` with --scale
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,

    /// Print the names of the cases
    #[arg(long)]
    list: bool,

    /// A contender that needs a process of its own
    #[command(subcommand)]
    helper: Option<Helper>,
}

#[derive(clap::Subcommand)]
enum Helper {
    #[command(flatten)]
    Original(peers::original::Peer),
    #[command(flatten)]
    Serve(guest::serve::Serve),
    /// Write benchmarks.md of this directory again from its benchmarks.json and the notes
    Render { directory: PathBuf },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.helper {
        Some(Helper::Original(peer)) => peers::original::run(peer).map(|()| true),
        Some(Helper::Serve(serve)) => guest::serve::run(serve).map(|()| true),
        Some(Helper::Render { directory }) => render(directory).map(|unexplained| {
            unexplained.iter().for_each(|row| eprintln!("bench: missed, not explained: {row}"));
            true
        }),
        None => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all cases could be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        for case in ALL {
            println!("{:<16}{}", case.name, case.title);
        }
        return Ok(true);
    }
    let chosen = choose(&arguments.only)?;
    if !(arguments.scale > 0.0 && arguments.scale <= 1.0) {
        return Err("--scale is a fraction: more than 0, at most 1".into());
    }
    let default = if arguments.scale == 1.0 { "docs" } else { "target/bench" };
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(default));
    std::fs::create_dir_all(&output)?;
    let file = output.join("benchmarks.json");
    let mut report = Report::load(&file)?;
    let bench = Bench::new(arguments.scale, arguments.contender.clone())?;
    report.host = report::host(bench.peers.versions());
    let names: Vec<&str> = ALL.iter().map(|case| case.name).collect();
    let mut failed = Vec::new();
    for case in chosen {
        let measured = measure(case, &bench, arguments.rounds);
        if measured.failed.is_some() {
            failed.push(case.name);
        }
        report.replace(measured, &names);
        // At once: a later case may be interrupted.
        report.save(&file)?;
        render(&output)?;
    }
    eprintln!("bench: results are in {}", output.display());
    for row in render(&output)? {
        eprintln!("bench: missed, and docs/benchmarks-notes.md does not say why: {row}");
    }
    if !failed.is_empty() {
        eprintln!("bench: these cases failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn choose(only: &[String]) -> Result<Vec<&'static Case>> {
    if let Some(unknown) = only.iter().find(|name| ALL.iter().all(|case| case.name != **name)) {
        return Err(format!("there is no case {unknown}; `scripts/bench --list` has all").into());
    }
    let is_chosen = |case: &&Case| match only {
        [] => case.by_default,
        names => names.iter().any(|name| name == case.name),
    };
    Ok(ALL.iter().filter(is_chosen).collect())
}

fn measure(case: &Case, bench: &Bench, rounds: Option<usize>) -> CaseReport {
    eprintln!("bench: {}", case.name);
    let rounds = rounds.unwrap_or(case.rounds).max(1);
    let (date, load, start) = (report::now(), report::load(), Instant::now());
    let (rows, failed) = match (case.run)(bench, rounds) {
        Ok(rows) => (rows, None),
        Err(error) => {
            eprintln!("bench: {} failed: {error}", case.name);
            (Vec::new(), Some(error.to_string()))
        }
    };
    for row in &rows {
        eprint!("{}", markdown::lines(row));
    }
    CaseReport {
        name: case.name.to_owned(),
        date,
        outcrop: report::revision(),
        scale: bench.scale,
        rounds,
        load,
        seconds: start.elapsed().as_secs_f64(),
        failed,
        rows,
    }
}

/// Gives the rows that miss their target and that no note explains.
fn render(directory: &Path) -> Result<Vec<String>> {
    let report = Report::load(&directory.join("benchmarks.json"))?;
    let notes = std::fs::read_to_string("docs/benchmarks-notes.md").unwrap_or_default();
    std::fs::write(directory.join("benchmarks.md"), markdown::markdown(&report, &ALL, &notes))?;
    Ok(markdown::unexplained(&report, &notes))
}
