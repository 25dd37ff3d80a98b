//! Errors of the agent: one sentence for a person.

use std::fmt;
use std::io::{self, Write};
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

/// Says a sentence at the console, on a line of its own and in one write: the host finds it there,
/// and the terminal's echo of what is being typed must not come between its words.
pub fn tell(sentence: &dyn fmt::Display) {
    let line = format!("\noutcrop-agent: {sentence}\n");
    // Without a console there is nobody to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}
