//! Finds the component that a person means.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::problem::nearest;
use super::{ComponentId, Definitions};

/// Names that one suggestion has.
const MOST_NAMES: usize = 4;

/// A target names nothing, or more than one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("there is no component `{target}`{}", hint(.near))]
    Unknown { target: String, near: Option<String> },
    /// Paths of all candidates, in load order.
    #[error(
        "`{target}` is the name of {} components; give the path of one: {}",
        candidates.len(), candidates.join(", ")
    )]
    Ambiguous { target: String, candidates: Vec<String> },
}

fn hint(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

impl Definitions {
    /// A path (with or without `.morph`, with or without a leading `./`) selects exactly that
    /// component; a bare name must be the name of one component only.
    pub fn select(&self, target: &str) -> Result<ComponentId, TargetError> {
        let path = target.trim_start_matches("./");
        let path = path.strip_suffix(".morph").unwrap_or(path);
        if let Some(id) = self.find(path) {
            return Ok(id);
        }
        let named: Vec<_> = self.iter().filter(|(_, c)| c.name == target).collect();
        match named.as_slice() {
            [(id, _)] => Ok(*id),
            [] => Err(TargetError::Unknown { target: target.to_owned(), near: self.near(path) }),
            several => Err(TargetError::Ambiguous {
                target: target.to_owned(),
                candidates: several.iter().map(|(_, c)| c.path.clone()).collect(),
            }),
        }
    }

    /// What may have been meant: a few names that go on where the word ends, as those of a system for
    /// several architectures do, or the most similar one.
    fn near(&self, word: &str) -> Option<String> {
        let beginning = format!("{word}-");
        let names = self.iter().map(|(_, c)| c.name.as_str());
        let longer: BTreeSet<&str> = names.filter(|name| name.starts_with(&beginning)).collect();
        if (2..=MOST_NAMES).contains(&longer.len()) {
            return Some(longer.into_iter().collect::<Vec<_>>().join("`, `"));
        }
        let names = self.iter().flat_map(|(_, c)| [c.name.as_str(), c.path.as_str()]);
        nearest(word, names).map(str::to_owned)
    }
}
