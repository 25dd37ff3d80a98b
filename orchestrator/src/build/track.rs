//! Chunks that are built from the tip of a branch instead of what is pinned (docs/sources.md).

#![forbid(unsafe_code)]

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};

use super::error::{BuildError, Result};
use crate::definitions::{ComponentId, Definitions};

/// Which chunks follow the branch in their `unpetrify-ref`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tracking {
    #[default]
    Nothing,
    Everything,
    /// Paths, or names that only one chunk has.
    Chunks(Vec<String>),
}

impl<'de> Deserialize<'de> for Tracking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "`true`, `false` or a list of chunks is needed")]
        enum Value {
            All(bool),
            Some(Vec<String>),
        }
        Ok(match Value::deserialize(deserializer)? {
            Value::All(true) => Tracking::Everything,
            Value::All(false) => Tracking::Nothing,
            Value::Some(paths) => Tracking::Chunks(paths),
        })
    }
}

impl Tracking {
    /// As the command line has it: nothing behind the option, or as in the configuration.
    pub fn from_words(words: &[String]) -> Tracking {
        match words {
            [] => Tracking::Everything,
            [word] if word == "true" => Tracking::Everything,
            [word] if word == "false" => Tracking::Nothing,
            chunks => Tracking::Chunks(chunks.to_vec()),
        }
    }

    /// The chunks that are meant. One that the target does not need is no mistake: the settings are
    /// for all targets.
    pub fn chunks(&self, definitions: &Definitions) -> Result<HashSet<ComponentId>> {
        match self {
            Tracking::Nothing => Ok(HashSet::new()),
            Tracking::Everything => Ok(definitions
                .iter()
                .filter(|(_, component)| component.chunk().is_some())
                .map(|(id, _)| id)
                .collect()),
            Tracking::Chunks(paths) => paths.iter().map(|path| chunk(definitions, path)).collect(),
        }
    }
}

fn chunk(definitions: &Definitions, path: &str) -> Result<ComponentId> {
    let id = definitions
        .select(path)
        .map_err(|error| BuildError::Invalid(format!("cannot track branches: {error}")))?;
    let chunk = definitions.get(id).and_then(|component| component.chunk());
    match chunk.map(|chunk| chunk.source.is_some()) {
        Some(true) => Ok(id),
        Some(false) => Err(BuildError::Invalid(format!(
            "cannot track branches of {}: it has no source",
            definitions.path_of(id)
        ))),
        None => Err(BuildError::Invalid(format!(
            "cannot track branches of {}: it is not a chunk",
            definitions.path_of(id)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let read = |words: &[&str]| {
            Tracking::from_words(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]), Tracking::Everything);
        assert_eq!(read(&["true"]), Tracking::Everything);
        assert_eq!(read(&["false"]), Tracking::Nothing);
        let both = ["false", "strata/a"].map(str::to_owned);
        assert_eq!(read(&["false", "strata/a"]), Tracking::Chunks(both.into()));
    }
}
