//! Samples, and contenders that take turns.

use std::process::{Command, Stdio};
use std::time::Instant;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measurements of one thing, in the unit of their row.
#[derive(Clone, Default)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
        f64::midpoint(lower, upper)
    }

    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// One way to do something: prepares itself, does it, and returns what it measured.
pub struct Contender<'a> {
    pub name: &'a str,
    run: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'a str, run: impl FnMut() -> Result<f64> + 'a) -> Self {
        Contender { name, run: Box::new(run) }
    }
}

/// Lets every contender run once a round, in turning order.
pub fn take_turns(
    rounds: usize,
    mut contenders: Vec<Contender<'_>>,
) -> Result<Vec<(String, Samples)>> {
    let mut results: Vec<(String, Samples)> =
        contenders.iter().map(|c| (c.name.to_owned(), Samples::default())).collect();
    for round in 0..rounds {
        for (contender, (name, samples)) in contenders.iter_mut().zip(&mut results) {
            // What an earlier one left to be written must not slow this one down.
            rustix::fs::sync();
            let sample =
                (contender.run)().map_err(|error| format!("{name} (round {round}): {error}"))?;
            samples.0.push(sample);
        }
        contenders.rotate_left(1);
        results.rotate_left(1);
    }
    let turned = rounds % results.len().max(1);
    results.rotate_right(turned);
    Ok(results)
}

/// Runs a command that must succeed, and says how many seconds it took.
pub fn seconds(command: &mut Command) -> Result<f64> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let took = start.elapsed().as_secs_f64();
    if output.status.success() {
        return Ok(took);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()).into())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the kernel forget file content, names and inodes. Root only.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|error| format!("cannot drop the kernel's caches: {error}").into())
}
