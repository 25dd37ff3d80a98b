//! The environment that build and integration commands see (docs/definitions.md).

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::arch::Arch;
use super::model::{Chunk, DEFAULT_PREFIX};
use super::steps::StepName;

/// Where commands are looked for after the prefixes.
pub const BASE_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Raised whenever a constant below or the way a variable is made changes: it is part of keys.
pub const ENVIRONMENT_VERSION: u32 = 1;

const CONSTANTS: [(&str, &str); 8] = [
    ("HOME", "/tmp"),
    ("LC_ALL", "C"),
    ("LOGNAME", "outcrop"),
    ("SHELL", "/bin/sh"),
    ("TERM", "dumb"),
    ("TZ", "UTC"),
    ("USER", "outcrop"),
    ("USERNAME", "outcrop"),
];

/// Everything that a component's environment is made of.
#[derive(Debug, Clone, Copy)]
pub struct EnvironmentInputs<'a> {
    pub name: &'a str,
    pub arch: Arch,
    pub prefix: &'a str,
    /// Prefixes of everything staged; order and repetition do not matter.
    pub staged_prefixes: &'a BTreeSet<String>,
    /// Seconds since 1970: committer time of the source. `None` for a system.
    pub source_date_epoch: Option<i64>,
    /// Parallelism of build steps.
    pub jobs: u32,
}

impl<'a> EnvironmentInputs<'a> {
    /// For a chunk: `default_jobs` is used unless it sets `max-jobs`.
    pub fn chunk(
        name: &'a str,
        chunk: &'a Chunk,
        arch: Arch,
        staged_prefixes: &'a BTreeSet<String>,
        source_date_epoch: Option<i64>,
        default_jobs: u32,
    ) -> Self {
        EnvironmentInputs {
            name,
            arch,
            prefix: chunk.prefix(),
            staged_prefixes,
            source_date_epoch,
            jobs: chunk.max_jobs.unwrap_or(default_jobs),
        }
    }

    /// For the integration commands of a system.
    pub fn system(name: &'a str, arch: Arch, staged_prefixes: &'a BTreeSet<String>) -> Self {
        EnvironmentInputs {
            name,
            arch,
            prefix: DEFAULT_PREFIX,
            staged_prefixes,
            source_date_epoch: None,
            jobs: 1,
        }
    }
}

/// The whole environment of a command; nothing else is inherited.
pub fn environment(
    inputs: &EnvironmentInputs<'_>,
    step: Option<StepName>,
) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, String> =
        CONSTANTS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut set = |name: &str, value: String| drop(variables.insert(name.to_owned(), value));
    set("PATH", search_path(inputs.prefix, inputs.staged_prefixes));
    set("DESTDIR", format!("/{}.inst", inputs.name));
    set("PREFIX", inputs.prefix.to_owned());
    set("MORPH_ARCH", inputs.arch.name.to_owned());
    set("TARGET", inputs.arch.target());
    set("TARGET_STAGE1", inputs.arch.target_stage1());
    if let Some(time) = inputs.source_date_epoch {
        set("SOURCE_DATE_EPOCH", time.to_string());
    }
    if step.is_some_and(StepName::is_build) {
        set("MAKEFLAGS", format!("-j{}", inputs.jobs.max(1)));
    }
    variables
}

/// The component's own prefix first, then the others bytewise, then [`BASE_PATH`]; none twice.
fn search_path(own: &str, staged: &BTreeSet<String>) -> String {
    let mut directories: Vec<String> = Vec::new();
    let prefixes = std::iter::once(own).chain(staged.iter().map(String::as_str));
    let bins = prefixes.map(|prefix| format!("{}/bin", prefix.trim_end_matches('/')));
    for directory in bins.chain(BASE_PATH.split(':').map(str::to_owned)) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories.join(":")
}
