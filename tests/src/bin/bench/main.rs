//! What Outcrop costs, next to what others cost for the same content in the same run.
//!
//! Contenders of a case take turns, so that a busy machine hurts them alike; medians and ranges are
//! reported. Nothing here passes or fails.

mod cases;
mod content;
mod measure;
mod original;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use cases::Bench;
use content::Shape;
use measure::Result;
use report::Report;

/// Measure Outcrop against its peers; run by scripts/bench
#[derive(Parser)]
struct Arguments {
    /// A tenth of the content, three rounds
    #[arg(long)]
    quick: bool,

    /// Only this case
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// How often each contender runs
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,

    /// Write the samples here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the table here
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// A peer that needs a process of its own; see `original`
    #[command(subcommand)]
    peer: Option<original::Peer>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.peer {
        Some(peer) => original::run(peer),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let shape = if arguments.quick { Shape::TENTH } else { Shape::FULL };
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 }).max(1);
    let mut report = Report::new(&shape, rounds)?;
    let bench = Bench::new(shape, rounds)?;
    for (name, case) in cases::ALL {
        if arguments.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        eprintln!("bench: {name}");
        let rows = case(&bench).map_err(|error| format!("{name}: {error}"))?;
        for row in &rows {
            eprint!("{}", row.lines());
        }
        report.add(name, rows);
    }
    print!("{}", report.markdown());
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json()?)?;
    }
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, report.markdown())?;
    }
    Ok(())
}
