//! Errors of the agent: one sentence for a person.

use std::fmt;
use std::io;
use std::path::Path;

#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(sentence: impl Into<String>) -> Self {
        Failure(sentence.into())
    }

    /// `doing` is a phrase such as "cannot mount".
    pub fn at(doing: &str, path: &Path, error: io::Error) -> Self {
        Failure(format!("{doing} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
