//! A tree of a million entries.

use std::path::Path;

use super::Case;
use super::memory::resident;
use super::read::run_in;
use crate::bench::{Bench, remove};
use crate::content;
use crate::measure::{Contender, Outcome, Result, take_turns};
use crate::row::{Row, at_most};
use crate::trees::mount_outcrop;

pub const CASE: Case = Case {
    name: "many",
    title: "1,000,000 entries",
    how: "One tar of empty files in directories of 200, and one with a tenth of it. `outcrop mount` \
          with the index present, `find -ls` over the fresh mount, `VmRSS` after it.",
    by_default: true,
    rounds: 2,
    run,
};

const ENTRIES: u64 = 1_000_000;

struct Walk {
    open: f64,
    /// Microseconds an entry.
    walk: f64,
    resident: f64,
}

fn run(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    let place = bench.fresh("many")?;
    let all = bench.scaled(ENTRIES).max(20_000);
    let tenth = all / 10;
    let contender = |name: &str, entries: u64| -> Result<Contender<'_, Walk>> {
        let tar = content::many(&place.join(format!("{entries}.tar")), entries)?;
        mount_outcrop(bench, [Path::new("--layer"), &tar])?.end()?;
        Ok(Contender::new(name, move || walk(bench, &tar, entries)))
    };
    let contenders = vec![contender("Outcrop", all)?, contender("a tenth of the entries", tenth)?];
    let results = take_turns(rounds, contenders)?;
    remove(&place)?;
    let column = |value: fn(&Walk) -> f64| -> Vec<Outcome> {
        results.iter().map(|outcome| outcome.map(value)).collect()
    };
    Ok(vec![
        Row::new("1,000,000 entries: open", column(|walk| walk.open)).targets([at_most(0.05)]),
        Row::new("1,000,000 entries: walk, for each entry", column(|walk| walk.walk))
            .unit("µs")
            .targets([at_most(1.2).of("a tenth of the entries")]),
        Row::new("1,000,000 entries: resident memory", column(|walk| walk.resident))
            .unit("MB")
            .targets([at_most(200.0)]),
    ])
}

fn walk(bench: &Bench, tar: &Path, entries: u64) -> Result<Walk> {
    let opened = mount_outcrop(bench, [Path::new("--layer"), tar])?;
    let open = opened.took;
    let seconds = run_in(&opened.place, "find . -ls > /dev/null")?;
    let process = opened.process.ok_or("the server's process was not found")?;
    let resident = resident(process, "VmRSS:")?;
    opened.end()?;
    Ok(Walk { open, walk: seconds * 1e6 / entries as f64, resident })
}
