//! The kernel's command line, as far as it speaks to the agent.

use crate::failure::Failure;
use std::fs;
use std::path::Path;

pub struct Arguments(String);

pub fn read() -> Result<Arguments, Failure> {
    let path = Path::new("/proc/cmdline");
    let text = fs::read(path).map_err(|e| Failure::at("cannot read", path, e))?;
    Ok(Arguments(String::from_utf8_lossy(&text).into_owned()))
}

impl Arguments {
    /// The value of the last `name=value`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .split_ascii_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.split_ascii_whitespace().any(|word| word == name)
    }
}
