//! Finds the component that a person means.

#![forbid(unsafe_code)]

use super::problem::nearest;
use super::{ComponentId, Definitions};

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
            [] => {
                let names = self.iter().flat_map(|(_, c)| [c.name.as_str(), c.path.as_str()]);
                let near = nearest(path, names).map(str::to_owned);
                Err(TargetError::Unknown { target: target.to_owned(), near })
            }
            several => Err(TargetError::Ambiguous {
                target: target.to_owned(),
                candidates: several.iter().map(|(_, c)| c.path.clone()).collect(),
            }),
        }
    }
}
