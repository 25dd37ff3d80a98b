//! Everything that is wrong with a definitions tree, whatever is planned of it.

#![forbid(unsafe_code)]

use super::Graph;
use crate::definitions::{Definitions, Files, FilesAgain, Problem, Reading, Severity};

/// Cycles that are told: the place of each step is looked for in the files.
const MOST_CYCLES: usize = 50;

/// What [`check`] finds.
#[derive(Debug)]
pub struct Checked {
    /// As much of the tree as can be understood.
    pub definitions: Definitions,
    /// In the order of files and places.
    pub problems: Vec<Problem>,
}

/// Checks a tree. `unused`: chunks that no stratum has are problems, too, as far as all strata are
/// known.
pub fn check(files: &Files, reading: Reading, unused: bool) -> Checked {
    let (definitions, mut problems) = Definitions::examine(files, reading);
    let is_error = |problem: &Problem| problem.severity == Severity::Error;
    let unused = unused && !problems.iter().any(is_error);
    problems.extend(definitions.further_problems(files, unused));
    let texts = files.texts();
    let mut again = FilesAgain::new(|file: &str| texts.get(file).map(|&text| text.to_owned()));
    for cycle in Graph::cycles(&definitions).iter().take(MOST_CYCLES) {
        problems.push(cycle_problem(&definitions, &cycle.0, cycle.to_string(), &mut again));
    }
    problems.sort_by(|a, b| a.order().cmp(&b.order()));
    Checked { definitions, problems }
}

/// A cycle stands where its first step is said.
fn cycle_problem(
    definitions: &Definitions,
    cycle: &[String],
    message: String,
    files: &mut FilesAgain<impl Fn(&str) -> Option<String>>,
) -> Problem {
    let first = match cycle {
        [from, to, ..] => definitions.find(from).zip(definitions.find(to)),
        _ => None,
    };
    let place = first.and_then(|(from, to)| definitions.reference(from, to, files));
    let (file, line, column) =
        place.map_or((".".to_owned(), 0, 0), |place| (place.file, place.line, place.column));
    let message = format!("{message}{}", definitions.explain_cycle(cycle, files));
    Problem { severity: Severity::Error, file, line, column, message, suggestion: None }
}
