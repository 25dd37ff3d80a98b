//! From `outcrop build` to the first command in the guest, for a chunk that does nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use outcrop_tests::definitions::{fresh_name, tree};
use outcrop_tests::{Scratch, guests_can_run, outcrop, run};
use serde_json::Value;

use super::Case;
use crate::bench::Bench;
use crate::measure::{Contender, Result, take_turns};
use crate::row::Row;

pub const CASE: Case = Case {
    name: "build",
    title: "From `outcrop build` to the first command in the guest",
    how: "`outcrop build --events` of a chunk that installs one empty file, on the kit's 168 packages, \
          over each transport; the parts are what the log notes.",
    by_default: true,
    rounds: 3,
    run: measure,
};

/// How often the file of events is looked at.
const INTERVAL: Duration = Duration::from_millis(2);

/// Rows in the order in which they are shown.
const PARTS: [&str; 8] = [
    "build: to the first command",
    "of it: before the build (store, definitions, keys, kit)",
    "of it: stack layers and serve them",
    "of it: QEMU to agent",
    "(guest's uptime then)",
    "of it: mount the sysroot in the guest",
    "of it: guest ready to first command",
    "build: first command to published artifact",
];
const STACK: usize = 2;
const MOUNT: usize = 5;

fn measure(_: &Bench, rounds: usize) -> Result<Vec<Row>> {
    if !guests_can_run() {
        return Err("guests are not to be started".into());
    }
    let over = |name, transport| Contender::new(name, move || one_build(transport));
    let contenders = vec![over("Outcrop", "virtiofs"), over("Outcrop over 9p", "9p")];
    let results = take_turns(rounds, contenders)?;
    let column = |value: &dyn Fn(&[f64; 8]) -> f64| {
        results.iter().map(|outcome| outcome.map(value)).collect::<Vec<_>>()
    };
    let mut rows = vec![Row::new(
        "build: sysroot usable in the guest, beyond boot",
        column(&|parts| parts[STACK] + parts[MOUNT]),
    )];
    for (position, name) in PARTS.into_iter().enumerate() {
        rows.push(Row::new(name, column(&|parts| parts[position])));
    }
    Ok(rows)
}

/// Builds one chunk that does nothing, and says how long each part took, in the order of `PARTS`.
fn one_build(transport: &str) -> Result<[f64; 8]> {
    let scratch = Scratch::new();
    let name = fresh_name("bench");
    let definitions = tree(&scratch, &[(&name, &[], "touch \"$DESTDIR/done\"")]);
    let events = scratch.join("events");
    let mut command = outcrop();
    command.args(["build", &name, "--arch", "x86_64", "--transport", transport]);
    command.arg("--definitions").arg(&definitions);
    command.arg("--events").arg(&events).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut seen: BTreeMap<String, f64> = BTreeMap::new();
    let mut ready = 0.0;
    let status = loop {
        let ended = child.try_wait()?;
        for event in new_events(&events, seen.len()) {
            if let (Some("guest-ready"), Some(seconds)) =
                (event["event"].as_str(), event["seconds"].as_f64())
            {
                ready = seconds;
            }
            let kind = event["event"].as_str().unwrap_or_default();
            let key = format!("{:03} {kind}", seen.len());
            seen.insert(key, start.elapsed().as_secs_f64());
        }
        match ended {
            Some(status) => break status,
            None => std::thread::sleep(INTERVAL),
        }
    };
    if !status.success() {
        return Err(format!("{name} was not built: run {command:?} to see why").into());
    }
    let at = |kind: &str| -> Result<f64> {
        let found = seen.iter().find(|(key, _)| key.get(4..) == Some(kind)).map(|(_, at)| *at);
        found.ok_or_else(|| format!("the build told of no event {kind}").into())
    };
    let (first, ready_at) = (at("step")?, at("guest-ready")?);
    let guest = guest_parts(&name, &definitions)?;
    Ok([
        first,
        ready_at - ready,
        ready - guest.hello - guest.setup,
        guest.hello,
        guest.uptime,
        guest.setup,
        first - ready_at,
        at("finished")? - first,
    ])
}

/// Complete lines of the file after the first `known`.
fn new_events(path: &Path, known: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete
        .lines()
        .skip(known)
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect()
}

/// What the log notes of a guest's start, in seconds.
struct GuestParts {
    hello: f64,
    uptime: f64,
    setup: f64,
}

fn guest_parts(name: &str, definitions: &Path) -> Result<GuestParts> {
    let said = run(outcrop().args(["log", name, "--definitions"]).arg(definitions)).ok();
    let note = said.stdout.lines().find(|line| line.starts_with("# guest ready after"));
    let note = note.ok_or("the log does not say when the guest was ready")?;
    let after = |words: &str| -> Result<f64> {
        let number = note.split(words).nth(1).and_then(|rest| rest.split(' ').next());
        Ok(number.ok_or_else(|| format!("no {words:?} in: {note}"))?.parse()?)
    };
    Ok(GuestParts {
        hello: after("QEMU to agent ")?,
        uptime: after("guest uptime ")?,
        setup: after("mounting ")?,
    })
}
