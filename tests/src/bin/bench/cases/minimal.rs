//! The whole of `examples/minimal` over both transports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use outcrop_tests::{as_user, examples, guests_can_run, outcrop, run, shared_store};

use super::Case;
use crate::bench::Bench;
use crate::measure::{Contender, Result, seconds, take_turns};
use crate::row::Row;

pub const CASE: Case = Case {
    name: "minimal",
    title: "All of examples/minimal, over both transports",
    how: "`outcrop build minimal-x86_64 --guests 2` in a new store with the kit and the sources; for \
          each component the seconds that `outcrop log` notes for its commands, added up.",
    by_default: false,
    rounds: 1,
    run: measure,
};

/// The last one needs all the others.
const COMPONENTS: [&str; 6] = ["skeleton", "musl", "zlib", "busybox", "dropbear", "minimal-x86_64"];

fn measure(bench: &Bench, rounds: usize) -> Result<Vec<Row>> {
    if !guests_can_run() {
        return Err("guests are not to be started".into());
    }
    let components = if bench.scale < 1.0 { &COMPONENTS[..1] } else { &COMPONENTS[..] };
    let over = |name, transport| Contender::new(name, move || build(bench, transport, components));
    let contenders = vec![over("Outcrop", "virtiofs"), over("Outcrop over 9p", "9p")];
    let results = take_turns(rounds, contenders)?;
    let mut rows = Vec::new();
    for name in ["all"].iter().chain(components) {
        let of = |taken: &BTreeMap<&str, f64>| taken.get(*name).copied().unwrap_or(f64::NAN);
        let what = format!("examples/minimal: {name}");
        rows.push(Row::new(what, results.iter().map(|outcome| outcome.map(of)).collect()));
    }
    Ok(rows)
}

/// Seconds for everything, and for the commands of each component.
fn build(
    bench: &Bench,
    transport: &str,
    components: &[&'static str],
) -> Result<BTreeMap<&'static str, f64>> {
    let target = components.last().copied().unwrap_or_default();
    let store = bench.fresh("store")?;
    for part in ["kits", "sources", "mirrors", "layers", "version"] {
        let from = shared_store().join(part);
        if from.exists() {
            seconds(as_user("cp").arg("-a").arg(from).arg(&store))?;
        }
    }
    let definitions = examples().join("minimal");
    // So that nothing is fetched in the measured time.
    let mut fetch = with_store(&store, &["source", "fetch", target], &definitions);
    fetch.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let arguments =
        ["build", target, "--arch", "x86_64", "--guests", "2", "--transport", transport];
    let mut taken = BTreeMap::new();
    taken.insert("all", seconds(&mut with_store(&store, &arguments, &definitions))?);
    for component in components.iter().copied() {
        let said = run(&mut with_store(&store, &["log", component], &definitions)).ok();
        taken.insert(component, noted_seconds(&said.stdout));
    }
    Ok(taken)
}

fn with_store(store: &Path, arguments: &[&str], definitions: &Path) -> std::process::Command {
    let mut command = outcrop();
    command.args(arguments).arg("--definitions").arg(definitions).env("OUTCROP_HOME", store);
    command
}

/// The sum of notes like `# exit status 0 after 12.3 s`, one for each command.
fn noted_seconds(log: &str) -> f64 {
    let notes = log.lines().filter(|line| line.starts_with("# ") && !line.contains("guest ready"));
    let numbers = notes.filter_map(|line| line.rsplit_once(" after ")?.1.strip_suffix(" s"));
    numbers.filter_map(|number| number.parse::<f64>().ok()).sum()
}
