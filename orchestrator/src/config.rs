//! `outcrop.toml`: settings of a definitions tree or of a user (docs/operations.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::guest::TransportChoice;
use crate::sources::Aliases;

const FILE: &str = "outcrop.toml";

/// Settings. A file beside the definitions wins over the user's, setting by setting and alias
/// by alias.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What the first part of a `repo` stands for: `upstream: → URL`.
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Guests at once, unless `--guests` says otherwise.
    #[serde(default)]
    pub guests: Option<usize>,
    /// Memory of a guest that builds, in MiB.
    #[serde(default)]
    pub memory: Option<u32>,
    /// How guests reach their sysroots, unless `--transport` says otherwise.
    #[serde(default)]
    pub transport: Option<TransportChoice>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
}

impl Config {
    /// Reads the user's file and the one beside the definitions; both may be absent.
    pub fn load(definitions: &Path) -> Result<Config, ConfigError> {
        let user = user_directory().map(|directory| directory.join(FILE));
        let mut config = match user {
            Some(path) => read(&path)?,
            None => Config::default(),
        };
        let own = read(&definitions.join(FILE))?;
        config.aliases.extend(own.aliases);
        config.guests = own.guests.or(config.guests);
        config.memory = own.memory.or(config.memory);
        config.transport = own.transport.or(config.transport);
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

fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn user_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|directory| directory.join("outcrop"))
}
