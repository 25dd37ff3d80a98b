//! What serving a tree takes.

use outcrop_tests::as_user;

use super::Case;
use crate::bench::Bench;
use crate::measure::{Contender, Result, seconds, take_turns};
use crate::row::{Row, at_most};
use crate::trees::Way;

pub const CASE: Case = Case {
    name: "memory",
    title: "Memory of the server after a full walk",
    how: "`find -ls` over a fresh mount of the 20 layers, then `VmRSS` and `RssAnon` of the serving \
          process in /proc.",
    by_default: true,
    rounds: 3,
    run,
};

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let set = bench.trees()?;
    let walk = |way: Way| {
        Contender::with(way.name(), way.probe(bench), move |()| {
            let opened = way.open(bench, set)?;
            seconds(as_user("find").arg(&opened.place).arg("-ls"))?;
            let process = opened.process.ok_or("its process was not found")?;
            let taken = (resident(process, "VmRSS:")?, resident(process, "RssAnon:")?);
            opened.end()?;
            Ok(taken)
        })
    };
    let ways = [Way::Outcrop, Way::Buildbox, Way::FuseOverlayfs];
    let results = take_turns(rounds, ways.map(walk).into())?;
    let column = |value: fn(&(f64, f64)) -> f64| {
        results.iter().map(|outcome| outcome.map(value)).collect::<Vec<_>>()
    };
    Ok(vec![
        Row::new("resident memory", column(|taken| taken.0))
            .unit("MB")
            .targets([at_most(24.0), at_most(1.0).of(Way::Buildbox.name())]),
        Row::new("of it not backed by files", column(|taken| taken.1)).unit("MB"),
    ])
}

/// Megabytes of a process, by the name of a line of its status.
pub fn resident(process: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.ok_or_else(|| format!("/proc has no {field}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
