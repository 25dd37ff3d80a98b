//! Reads a definition file: `serde_yaml` when all is well, [`super::node`] when it is not.
//!
//! `serde_yaml` is not developed any more; no other module may use it, so that a compatible fork
//! can take its place here.

#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;

use super::decode;
use super::node;
use super::problem::{Problem, Severity};

/// Largest definition file that is read, in bytes; the largest real one has 60 kB.
pub(super) const MAX_FILE: usize = 4 << 20;

/// Opening brackets from which on the exact reader, which is linear and stops at a depth, takes a
/// file: serde_yaml needs quadratic time for nested flow style (0.7 s for 10,000 levels).
const MANY_BRACKETS: usize = 2_000;

/// Decodes `text`, or says everything that is wrong with it.
pub(super) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Problem>> {
    // A byte order mark may begin any YAML stream, and means nothing in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(fault) = control_character(file, text) {
        return Err(vec![fault]);
    }
    // serde_yaml does not apply merge keys to typed data.
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[' | b'?'));
    if text.contains("<<") || brackets.take(MANY_BRACKETS).count() == MANY_BRACKETS {
        return read_exact(file, text);
    }
    match serde_yaml::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) => {
            let problems = match read_exact::<T>(file, text) {
                Err(problems) => problems,
                // The readers disagree: the stricter one is right, and knows the place.
                Ok(_) => {
                    let (line, column) =
                        error.location().map_or((0, 0), |at| (at.line(), at.column()));
                    vec![problem(file, line, column, error.to_string(), None)]
                }
            };
            Err(problems)
        }
    }
}

/// Decodes `text` by the slower reader, which applies merge keys and knows what was quoted.
pub(super) fn read_exact<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Problem>> {
    let parsed = node::parse(text);
    let mut problems: Vec<Problem> = parsed
        .faults
        .into_iter()
        .map(|f| problem(file, f.line, f.column, f.message, None))
        .collect();
    let value = match parsed.root {
        Some(root) => {
            let (value, findings) = decode::decode(root);
            problems.extend(findings.into_iter().map(|f| {
                problem(file, f.fault.line, f.fault.column, f.fault.message, f.suggestion)
            }));
            value
        }
        None => None,
    };
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => {
            if problems.is_empty() {
                problems.push(problem(file, 0, 0, "the file is empty".to_owned(), None));
            }
            Err(problems)
        }
    }
}

/// The first character that YAML has only in its escaped form; neither reader knows its place.
fn control_character(file: &str, text: &str) -> Option<Problem> {
    let forbidden = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    let (before, _) = text.split_at_checked(text.find(forbidden)?)?;
    let character = text.chars().find(|c| forbidden(*c))?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let code = u32::from(character);
    let message = format!("the character U+{code:04X} cannot stand in YAML");
    let suggestion = format!("in double quotes it can be written as \\x{code:02X}");
    Some(problem(file, line, column, message, Some(suggestion)))
}

fn problem(
    file: &str,
    line: usize,
    column: usize,
    message: String,
    suggestion: Option<String>,
) -> Problem {
    let severity = Severity::Error;
    Problem { severity, file: file.to_owned(), line, column, message, suggestion }
}
