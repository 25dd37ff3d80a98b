//! Reads a definition file: `serde_yaml` when all is well, [`super::node`] when it is not.
//!
//! `serde_yaml` is not developed any more; no other module may use it, so that a compatible fork
//! can take its place here.

#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;

use super::decode::{self, Finding};
use super::node::{self, Fault};
use super::problem::{Collector, Problem, Severity};

/// Largest definition file that is read, in bytes; the largest real one has 60 kB.
pub(super) const MAX_FILE: usize = 4 << 20;

/// Opening brackets from which on the exact reader, which is linear and stops at a depth, takes a
/// file: serde_yaml needs quadratic time for nested flow style (0.7 s for 10,000 levels).
const MANY_BRACKETS: usize = 2_000;

/// Decodes `text`. Whatever is wrong with it goes to `problems`; nothing is returned where that
/// makes it unusable.
pub(super) fn read<T: DeserializeOwned>(
    file: &str,
    text: &str,
    problems: &mut Collector,
) -> Option<T> {
    // A byte order mark may begin any YAML stream, and means nothing in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(fault) = control_character(file, text) {
        problems.push(fault);
        return None;
    }
    // serde_yaml does not apply merge keys to typed data.
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[' | b'?'));
    if text.contains("<<") || brackets.take(MANY_BRACKETS).count() == MANY_BRACKETS {
        return read_exact(file, text, problems);
    }
    let error = match serde_yaml::from_str(text) {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    match exact(file, text, problems) {
        // The readers disagree: the stricter one is right, and knows the place.
        (Some(_), Said::Nothing) => {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            problems.push(problem(Severity::Error, file, line, column, error.to_string()));
            None
        }
        (value, _) => value,
    }
}

/// Decodes `text` by the slower reader, which applies merge keys and knows what was quoted.
pub(super) fn read_exact<T: DeserializeOwned>(
    file: &str,
    text: &str,
    problems: &mut Collector,
) -> Option<T> {
    exact(file, text, problems).0
}

/// Whether there was anything to say about a file.
#[derive(PartialEq, Eq)]
enum Said {
    Nothing,
    Something,
}

fn exact<T: DeserializeOwned>(
    file: &str,
    text: &str,
    problems: &mut Collector,
) -> (Option<T>, Said) {
    let tolerated = problems.tolerated_severity();
    let parsed = node::parse(text);
    let mut said = Said::Nothing;
    let mut usable = true;
    let mut say = |severity, fault: Fault, suggestion| {
        said = Said::Something;
        usable &= severity == Severity::Warning;
        let problem = problem(severity, file, fault.line, fault.column, fault.message);
        problems.push(Problem { suggestion, ..problem });
    };
    parsed.faults.into_iter().for_each(|fault| say(Severity::Error, fault, None));
    for mut fault in parsed.duplicates {
        if tolerated == Severity::Warning {
            fault.message += "; the last one counts";
        }
        say(tolerated, fault, None);
    }
    let skipped =
        tolerated == Severity::Warning && parsed.root.as_ref().is_some_and(|root| !root.is_map());
    let value = parsed.root.and_then(|root| {
        let (value, findings) = decode::decode(root, tolerated == Severity::Warning);
        for Finding { mut fault, suggestion, ignored } in findings {
            match (skipped, ignored) {
                (true, _) => fault.message += "; the file is skipped",
                (false, true) => fault.message += "; it is ignored",
                (false, false) => {}
            }
            let severity = if skipped || ignored { Severity::Warning } else { Severity::Error };
            say(severity, fault, suggestion);
        }
        value
    });
    if value.is_none() && usable && !skipped {
        let message = match said {
            Said::Nothing => "the file is empty",
            Said::Something => "there is too much wrong with the file",
        };
        problems.push(problem(Severity::Error, file, 0, 0, message.to_owned()));
    }
    (value.filter(|_| usable), said)
}

/// The first character that YAML has only in its escaped form; neither reader knows its place.
fn control_character(file: &str, text: &str) -> Option<Problem> {
    let forbidden = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    // Bytes are looked through faster.
    if !text.bytes().any(|byte| forbidden(char::from(byte))) {
        return None;
    }
    let (before, _) = text.split_at_checked(text.find(forbidden)?)?;
    let character = text.chars().find(|c| forbidden(*c))?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let code = u32::from(character);
    let message = format!("the character U+{code:04X} cannot stand in YAML");
    let suggestion = format!("in double quotes it can be written as \\x{code:02X}");
    let problem = problem(Severity::Error, file, line, column, message);
    Some(Problem { suggestion: Some(suggestion), ..problem })
}

fn problem(severity: Severity, file: &str, line: usize, column: usize, message: String) -> Problem {
    Problem { severity, file: file.to_owned(), line, column, message, suggestion: None }
}
