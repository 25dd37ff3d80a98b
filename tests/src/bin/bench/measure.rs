//! Samples, and contenders that take turns.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::bench::Bench;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One way to do something: prepares itself, does it, and returns what it measured.
pub struct Contender<'a, T = f64> {
    name: String,
    run: std::result::Result<Box<dyn FnMut() -> Result<T> + 'a>, String>,
}

impl<'a, T> Contender<'a, T> {
    pub fn new(name: &str, run: impl FnMut() -> Result<T> + 'a) -> Self {
        Contender { name: name.to_owned(), run: Ok(Box::new(run)) }
    }

    /// One that needs something, which may not be there.
    pub fn with<N: 'a>(
        name: &str,
        need: Result<N>,
        mut run: impl FnMut(&N) -> Result<T> + 'a,
    ) -> Self {
        match need {
            Ok(need) => Contender::new(name, move || run(&need)),
            Err(reason) => Contender { name: name.to_owned(), run: Err(reason.to_string()) },
        }
    }
}

/// Why a contender has no figures of this run.
pub const LEFT_OUT: &str = "left out";

impl<T> Contender<'_, T> {
    /// Does not run where it is not wanted.
    pub fn if_wanted(self, bench: &Bench) -> Self {
        match bench.wants(&self.name) {
            true => self,
            false => Contender { name: self.name, run: Err(LEFT_OUT.to_owned()) },
        }
    }
}

/// What a contender measured, or why it did not.
pub struct Outcome<T = f64> {
    pub name: String,
    pub samples: Vec<T>,
    pub lacks: Option<String>,
}

impl<T> Outcome<T> {
    pub fn alone(name: &str, samples: Vec<T>) -> Self {
        Outcome { name: name.to_owned(), samples, lacks: None }
    }

    pub fn map(&self, value: impl Fn(&T) -> f64) -> Outcome {
        let samples = self.samples.iter().map(value).collect();
        Outcome { name: self.name.clone(), samples, lacks: self.lacks.clone() }
    }
}

/// Lets every contender run once a round, in turning order. The first one is ours and must succeed;
/// a peer that fails is left out from then on, with the reason.
pub fn take_turns<T>(rounds: usize, contenders: Vec<Contender<'_, T>>) -> Result<Vec<Outcome<T>>> {
    let mut running: Vec<_> = contenders
        .into_iter()
        .map(|contender| {
            let (run, lacks) = match contender.run {
                Ok(run) => (Some(run), None),
                Err(reason) => (None, Some(reason)),
            };
            (run, Outcome { name: contender.name, samples: Vec::new(), lacks })
        })
        .collect();
    let count = running.len();
    for round in 0..rounds {
        for turn in 0..count {
            let position = (round + turn) % count;
            let (run, outcome) = &mut running[position];
            let Some(contend) = run else { continue };
            // What an earlier one left to be written must not slow this one down.
            rustix::fs::sync();
            match contend() {
                Ok(sample) => outcome.samples.push(sample),
                Err(error) if position == 0 => {
                    return Err(format!("{} (round {round}): {error}", outcome.name).into());
                }
                Err(error) => {
                    eprintln!("bench: {} failed: {error}", outcome.name);
                    outcome.lacks = Some(error.to_string());
                    *run = None;
                }
            }
        }
    }
    Ok(running.into_iter().map(|(_, outcome)| outcome).collect())
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
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
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // Not how it became the user's.
    let own = words.iter().position(|word| word == "--").map_or(0, |position| position + 1);
    let shown: Vec<_> = words.iter().skip(own).take(4).map(AsRef::as_ref).collect();
    Err(format!("{} …: {}: {}", shown.join(" "), output.status, said.trim()).into())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What of the kernel's caches is dropped.
#[derive(Clone, Copy)]
pub enum Caches {
    /// Names and inodes; content that is held open stays.
    Names = 2,
    All = 3,
}

/// Makes the kernel forget. Root only.
pub fn drop_caches(what: Caches) -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", (what as u8).to_string())
        .map_err(|error| format!("cannot drop the kernel's caches: {error}").into())
}
