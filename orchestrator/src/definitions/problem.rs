//! Problems of definition files: collected, located, shown together.

#![forbid(unsafe_code)]

use std::fmt;

use super::Reading;
use super::node::{self, Node};
use crate::words::{counted, without_credentials};

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The definitions cannot be used.
    Error,
    /// The definitions can be used; their author may have meant something else.
    Warning,
}

/// One thing that is wrong with a definition file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Path of the file, relative to the definitions directory.
    pub file: String,
    /// 1-based; 0 when the problem concerns the whole file.
    pub line: usize,
    /// 1-based, in characters; 0 when the problem concerns the whole file.
    pub column: usize,
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
}

impl Problem {
    /// By file and place; what is said of the whole tree comes last.
    pub fn order(&self) -> impl Ord + '_ {
        (self.file == ".", &self.file, self.line, self.column)
    }
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity.name(), self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " ({suggestion})")?;
        }
        Ok(())
    }
}

/// Why definitions were refused: every problem of the run, warnings included, in file order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(.0))]
pub struct Problems(pub Vec<Problem>);

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A step from a YAML node to one of its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    Item(usize),
}

/// A node of a file, by the way to it from the root. Its line and column are looked up only when
/// there is something to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub file: String,
    pub steps: Vec<Step>,
}

impl Spot {
    pub fn file(file: &str) -> Self {
        Spot { file: file.to_owned(), steps: Vec::new() }
    }

    pub fn field(&self, name: &str) -> Self {
        let mut spot = self.clone();
        spot.steps.push(Step::Field(name.to_owned()));
        spot
    }

    pub fn item(&self, index: usize) -> Self {
        let mut spot = self.clone();
        spot.steps.push(Step::Item(index));
        spot
    }
}

/// Errors, and warnings, that wait for their place; whatever comes after that many is only counted.
const MAX_PENDING: usize = 1_000;
/// Errors, and warnings, of the form of files; the same holds for them.
const MAX_LOCATED: usize = 10_000;
/// Bytes of a message, about: what is quoted in it may be of any length.
const LONGEST_MESSAGE: usize = 2_000;
/// Further places of a problem that are told.
const MOST_PLACES: usize = 20;
/// Misspellings that are looked up among the known names.
const MAX_SUGGESTIONS: usize = 20;

/// A problem whose place is still to be looked up.
#[derive(Debug)]
struct Pending {
    spot: Spot,
    severity: Severity,
    message: String,
    hint: Option<String>,
    /// Further places, each with what is said there.
    trail: Vec<(Spot, String)>,
}

/// Collects problems; positions of [`Spot`]s are resolved by [`Collector::finish`].
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub reading: Reading,
    located: Vec<Problem>,
    pending: Vec<Pending>,
    /// What of each is kept: many warnings must not crowd out an error.
    kept_located: Counts,
    kept_pending: Counts,
    /// What came after the limits.
    more: Counts,
    suggestions: usize,
}

impl Collector {
    pub fn new(reading: Reading) -> Self {
        Collector { reading, ..Collector::default() }
    }

    /// A problem whose place is known.
    pub fn push(&mut self, mut problem: Problem) {
        problem.message = tidied(&problem.message);
        if has_room(&mut self.kept_located, &mut self.more, problem.severity, MAX_LOCATED) {
            self.located.push(problem);
        }
    }

    /// Errors so far.
    pub fn errors(&self) -> usize {
        [&self.kept_located, &self.kept_pending, &self.more]
            .iter()
            .fold(0, |sum, counts| sum.saturating_add(counts.errors))
    }

    /// How bad it is what YBD put up with.
    pub fn tolerated_severity(&self) -> Severity {
        match self.reading {
            Reading::Strict => Severity::Error,
            Reading::Compatible => Severity::Warning,
        }
    }

    /// What YBD put up with: an error, or a warning that says what it did `instead`.
    pub fn tolerated(&mut self, spot: Spot, message: String, hint: Option<String>, instead: &str) {
        let severity = self.tolerated_severity();
        let message = match severity {
            Severity::Error => message,
            Severity::Warning => format!("{message}; {instead}"),
        };
        self.add(spot, severity, message, hint);
    }

    pub fn error(&mut self, spot: Spot, message: impl Into<String>) {
        self.add(spot, Severity::Error, message.into(), None);
    }

    /// A problem that several places make together; each gets a line of its own below the message.
    pub fn with_trail(
        &mut self,
        spot: Spot,
        severity: Severity,
        message: String,
        trail: Vec<(Spot, String)>,
    ) {
        self.push_pending(Pending { spot, severity, message, hint: None, trail });
    }

    pub fn with_hint(&mut self, spot: Spot, message: String, hint: Option<String>) {
        self.add(spot, Severity::Error, message, hint);
    }

    pub fn error_hint(&mut self, spot: Spot, message: impl Into<String>, hint: impl Into<String>) {
        self.add(spot, Severity::Error, message.into(), Some(hint.into()));
    }

    pub fn warning(&mut self, spot: Spot, message: impl Into<String>) {
        self.add(spot, Severity::Warning, message.into(), None);
    }

    /// An error about `word`, with the most similar of `known` as a hint.
    pub fn misspelt<'a>(
        &mut self,
        spot: Spot,
        message: String,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let hint = self.suggestion(word, known, "");
        self.add(spot, Severity::Error, message, hint);
    }

    /// The most similar of `known`, as a hint: "did you mean `x.morph`?" for the ending `.morph`.
    pub fn suggestion<'a>(
        &mut self,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
        ending: &str,
    ) -> Option<String> {
        self.suggestions = self.suggestions.saturating_add(1);
        // Comparing everything with everything would take hours on hostile input.
        let near = (self.suggestions <= MAX_SUGGESTIONS).then(|| nearest(word, known)).flatten();
        near.map(|near| format!("did you mean `{near}{ending}`?"))
    }

    pub fn warning_hint(&mut self, spot: Spot, message: String, hint: Option<String>) {
        self.add(spot, Severity::Warning, message, hint);
    }

    fn add(&mut self, spot: Spot, severity: Severity, message: String, hint: Option<String>) {
        self.push_pending(Pending { spot, severity, message, hint, trail: Vec::new() });
    }

    fn push_pending(&mut self, mut problem: Pending) {
        problem.message = tidied(&problem.message);
        if has_room(&mut self.kept_pending, &mut self.more, problem.severity, MAX_PENDING) {
            self.pending.push(problem);
        }
    }

    /// The problems in file order. `text` gives the content of a file.
    pub fn finish<'a>(self, text: impl Fn(&str) -> Option<&'a str>) -> Vec<Problem> {
        // One tree at a time: those of all files would take gigabytes where somebody wants that.
        let mut of_file: (String, Option<Node>) = (String::new(), None);
        let mut place_of = |spot: &Spot| {
            if of_file.0 != spot.file {
                let tree = text(&spot.file).and_then(|text| node::parse(text).root);
                of_file = (spot.file.clone(), tree);
            }
            of_file.1.as_ref().filter(|_| !spot.steps.is_empty()).map_or((0, 0), |root| {
                let node = root.find(&spot.steps);
                (node.line, node.column)
            })
        };
        let mut problems = self.located;
        let mut pending = self.pending;
        pending.sort_by(|a, b| a.spot.file.cmp(&b.spot.file));
        for Pending { spot, severity, mut message, hint, trail } in pending {
            let (line, column) = place_of(&spot);
            let more = trail.len().saturating_sub(MOST_PLACES);
            for (spot, said) in trail.into_iter().take(MOST_PLACES) {
                let (line, column) = place_of(&spot);
                message += &format!("\n    {}:{line}:{column}: {said}", spot.file);
            }
            if more > 0 {
                message += &format!("\n    and {more} more");
            }
            let (file, suggestion) = (spot.file, hint);
            problems.push(Problem { severity, file, line, column, message, suggestion });
        }
        // A stable sort by place only: problems of one place stay in the order they were found.
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        let Counts { errors, warnings } = self.more;
        if errors.saturating_add(warnings) > 0 {
            problems.push(Problem {
                severity: if errors > 0 { Severity::Error } else { Severity::Warning },
                file: ".".to_owned(),
                line: 0,
                column: 0,
                message: format!(
                    "and {} and {}",
                    counted(errors as u64, "more error", "more errors"),
                    counted(warnings as u64, "more warning", "more warnings")
                ),
                suggestion: None,
            });
        }
        problems
    }
}

/// A name may hold anything, at any length, and a problem is one line that people read.
fn tidied(text: &str) -> String {
    let text = without_credentials(text);
    let mut line = String::with_capacity(text.len().min(LONGEST_MESSAGE));
    for character in text.chars() {
        if line.len() > LONGEST_MESSAGE {
            line.push('…');
            break;
        }
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

#[derive(Debug, Default)]
struct Counts {
    errors: usize,
    warnings: usize,
}

impl Counts {
    fn of(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        }
    }
}

/// Counts a problem, as one that is kept or as one more; which of the two.
fn has_room(kept: &mut Counts, more: &mut Counts, severity: Severity, most: usize) -> bool {
    let has_room = *kept.of(severity) < most;
    let count = if has_room { kept } else { more }.of(severity);
    *count = count.saturating_add(1);
    has_room
}

/// The candidate that `word` is most likely a misspelling of.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Damerau-Levenshtein is quadratic; nobody misspells a name of hundreds of characters.
    if word.len() > 200 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    let candidates: Vec<&str> = candidates.into_iter().filter(|c| c.len() <= 200).collect();
    let misspelt = candidates
        .iter()
        .map(|c| (strsim::damerau_levenshtein(word, c), *c))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, c)| c);
    // Systems are often called after what they are and for which machine.
    let begins = |c: &&str| c.strip_prefix(word).is_some_and(|rest| rest.starts_with(['-', '_']));
    misspelt.or_else(|| candidates.into_iter().filter(begins).min())
}
