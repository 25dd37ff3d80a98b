//! `outcrop.toml`: settings of a definitions tree or of a user (docs/operations.md).

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::build::track::Tracking;
use crate::compile::{CompileChoice, Server};
use crate::guest::TransportChoice;
use crate::sources::Aliases;

const FILE: &str = "outcrop.toml";

/// Settings take some hundred.
const MOST_BYTES: u64 = 1 << 20;

/// More are a slip of the finger: each guest takes memory and a processor.
pub const MOST_GUESTS: usize = 1024;

/// MiB that a guest may have: less does not hold a kernel with its initramfs, more is a slip of the
/// finger.
pub const GUEST_MEMORY: RangeInclusive<u32> = 128..=1 << 20;

/// Settings. A file beside the definitions wins over the user's, setting by setting and alias
/// by alias.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What the first part of a `repo` stands for: `upstream: → URL`.
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Guests at once, unless `--guests` says otherwise.
    #[serde(default, deserialize_with = "guests")]
    pub guests: Option<usize>,
    /// Memory of a guest that builds, in MiB.
    #[serde(default, deserialize_with = "memory")]
    pub memory: Option<u32>,
    /// Memory of all guests of a build together, in MiB, unless `--memory-budget` says otherwise.
    #[serde(default)]
    pub memory_budget: Option<u64>,
    /// How guests reach their sysroots, unless `--transport` says otherwise.
    #[serde(default)]
    pub transport: Option<TransportChoice>,
    /// Who compiles for guests, unless `--compile` says otherwise.
    #[serde(default)]
    pub compile: Option<CompileChoice>,
    /// Other machines' distcc servers that compile, too; those of the definitions' file replace the
    /// user's.
    #[serde(default)]
    pub distcc_servers: Option<Vec<Server>>,
    /// Whether sources are taken from this machine alone, unless `--offline` says otherwise.
    #[serde(default)]
    pub offline: Option<bool>,
    /// Chunks that follow a branch, unless `--track-branches` says otherwise.
    #[serde(default)]
    pub track_branches: Option<Tracking>,
    /// Whether definitions are read as YBD did where it put up with errors, as with `--compat`.
    #[serde(default)]
    pub compat: Option<bool>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse { path: PathBuf, line: usize, column: usize, message: String },
}

impl Config {
    /// Reads the user's file and the one beside the definitions; both may be absent.
    pub fn load(definitions: &Path) -> Result<Config, ConfigError> {
        let user = user_directory().map(|directory| directory.join(FILE));
        let mut config = match user {
            Some(path) => read(&path)?,
            None => Config::default(),
        };
        let own = definitions.join(FILE);
        stays_inside(definitions, &own)?;
        let own = read(&own)?;
        config.aliases.extend(own.aliases);
        config.guests = own.guests.or(config.guests);
        config.memory = own.memory.or(config.memory);
        config.memory_budget = own.memory_budget.or(config.memory_budget);
        config.transport = own.transport.or(config.transport);
        config.compile = own.compile.or(config.compile);
        config.distcc_servers = own.distcc_servers.or(config.distcc_servers);
        config.offline = own.offline.or(config.offline);
        config.track_branches = own.track_branches.or(config.track_branches);
        config.compat = own.compat.or(config.compat);
        Ok(config)
    }

    /// Baserock's aliases with those of the files over them.
    pub fn aliases(&self) -> Aliases {
        let mut aliases = Aliases::default();
        for (name, target) in &self.aliases {
            aliases.set(name, target);
        }
        aliases
    }
}

/// Whoever wrote the definitions need not be allowed to read what their reader can.
fn stays_inside(definitions: &Path, path: &Path) -> Result<(), ConfigError> {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let leaves = || -> std::io::Result<bool> {
        Ok(!path.canonicalize()?.starts_with(definitions.canonicalize()?))
    };
    match is_link.then(leaves) {
        None | Some(Ok(false)) => Ok(()),
        Some(Ok(true)) => Err(std::io::Error::new(
            ErrorKind::InvalidData,
            "it is a symbolic link that leaves the definitions directory",
        )),
        Some(Err(error)) => Err(error),
    }
    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Config::default());
        }
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    toml::from_str(&text).map_err(|error| {
        let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
        let message = plain(error.message());
        ConfigError::Parse { path: path.to_owned(), line, column, message }
    })
}

/// A tree of definitions may be anybody's, and its settings a device, a pipe or without an end.
fn read_text(path: &Path) -> std::io::Result<String> {
    let invalid = |why: String| std::io::Error::new(ErrorKind::InvalidData, why);
    // Opening a fifo would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MOST_BYTES.saturating_add(1)).read_to_string(&mut text)?;
    match text.len() as u64 > MOST_BYTES {
        true => Err(invalid(format!("it is larger than {} MiB", MOST_BYTES >> 20))),
        false => Ok(text),
    }
}

/// Line and column, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count().saturating_add(1), line.chars().count().saturating_add(1))
}

/// What the parser says, without its names of types.
fn plain(message: &str) -> String {
    let mut message = message.replace('\n', "; ");
    for name in ["usize", "u64", "u32"] {
        message = message.replace(&format!("expected {name}"), "a whole number is needed");
    }
    message
}

fn guests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let guests = usize::deserialize(deserializer)?;
    if (1..=MOST_GUESTS).contains(&guests) {
        return Ok(Some(guests));
    }
    Err(D::Error::custom(format_args!(
        "{guests} guests cannot build: set a number from 1 to {MOST_GUESTS}, or leave `guests` out \
         for one guest for each processor"
    )))
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let memory = u32::deserialize(deserializer)?;
    if GUEST_MEMORY.contains(&memory) {
        return Ok(Some(memory));
    }
    let (least, most) = (GUEST_MEMORY.start(), GUEST_MEMORY.end());
    Err(D::Error::custom(format_args!(
        "a guest cannot have {memory} MiB: set a number from {least} to {most}"
    )))
}

fn user_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|directory| directory.join("outcrop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        let problem = read(&path).unwrap_err().to_string();
        assert!(problem.starts_with(path.to_str().unwrap()), "{problem}");
        problem
    }

    #[test]
    fn numbers_of_guests_that_cannot_build_are_refused_with_place_and_remedy() {
        for number in ["0", "1025"] {
            let problem = problem(&format!("memory = 512\nguests = {number}\n"));
            assert!(problem.contains(":2:"), "{problem}");
            assert!(problem.contains("set a number from 1 to 1024"), "{problem}");
        }
        for wrong in ["-1", "\"1\"", "1.5", "true"] {
            let problem = problem(&format!("guests = {wrong}"));
            assert!(problem.contains(":1:10: "), "{problem}");
            assert!(problem.ends_with(", a whole number is needed"), "{problem}");
        }
    }

    #[test]
    fn memory_that_no_guest_can_have_is_refused_with_place_and_remedy() {
        for number in [0, GUEST_MEMORY.start() - 1, GUEST_MEMORY.end() + 1] {
            let problem = problem(&format!("guests = 1\nmemory = {number}\n"));
            assert!(problem.contains(":2:"), "{problem}");
            assert!(problem.contains("set a number from"), "{problem}");
        }
        for number in [GUEST_MEMORY.start(), GUEST_MEMORY.end()] {
            let config: Config = toml::from_str(&format!("memory = {number}")).unwrap();
            assert_eq!(config.memory, Some(*number));
        }
    }

    #[test]
    fn what_is_no_distcc_server_is_refused_with_its_place() {
        let problem = problem("guests = 1\ndistcc-servers = [\"farm/16\", \"farm,lzo\"]\n");
        assert!(problem.contains(":2:") && problem.contains("HOST:PORT/SLOTS"), "{problem}");
    }

    #[test]
    fn every_other_number_of_guests_is_taken() {
        for number in [1, MOST_GUESTS] {
            let config: Config = toml::from_str(&format!("guests = {number}")).unwrap();
            assert_eq!(config.guests, Some(number));
        }
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }
}
