//! `outcrop check`: everything that is wrong with definitions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::gather::fields_of;
use crate::config::Config;
use crate::definitions::{Definitions, Problem, Severity, Submodule, load};
use crate::graph::check::{Checked, check};
use crate::output;
use crate::sources::{Aliases, SourceSpec};
use crate::words::counted;

use super::context::{DefinitionsArguments, SourceArguments, read_definitions, settings};
use super::error::{CommandError, CommandResult};
use super::printable::printable_lines;

/// Check definitions: every problem of a tree, with its place
///
/// Also finds what is otherwise told only when a target is built that it concerns, such as cycles.
/// Needs neither kit nor sources. Exit code 2 if there are errors.
///
/// Example: outcrop check examples/minimal --strict
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The definitions, if not those of --definitions
    #[arg(conflicts_with = "definitions")]
    directory: Option<PathBuf>,

    /// The definitions: a directory with strata/, systems/ and so on
    #[arg(long, value_name = "DIR", default_value = ".")]
    definitions: PathBuf,

    /// Read definitions as YBD did where it put up with what is an error here
    #[arg(long)]
    compat: bool,

    /// Take warnings for errors
    #[arg(long)]
    strict: bool,

    /// Warn of chunks that no stratum has, too
    #[arg(long)]
    unused: bool,

    /// One JSON object for each problem
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let definitions = arguments.directory.as_ref().unwrap_or(&arguments.definitions).clone();
    let compat = arguments.compat;
    let sources = SourceArguments::default();
    let place = DefinitionsArguments { definitions, arch: None, compat, sources };
    let (config, reading) = settings(&place)?;
    let files = read_definitions(&place.definitions)?;
    let Checked { definitions, mut problems } = check(&files, reading, arguments.unused);
    let mut unusable = unusable_sources(&definitions, &config, &place.definitions);
    // What is wrong with an entry's source itself has been told.
    unusable.retain(|one| {
        let is_told = |other: &Problem| (&other.file, other.line) == (&one.file, one.line);
        !problems.iter().any(|other| other.severity == Severity::Error && is_told(other))
    });
    problems.extend(unusable);
    problems.sort_by(|a, b| a.order().cmp(&b.order()));
    if arguments.strict {
        problems.iter_mut().for_each(|problem| problem.severity = Severity::Error);
    }
    let mut text = String::new();
    for problem in &problems {
        text += &match arguments.json {
            true => json(problem).to_string(),
            false => printable_lines(&problem.to_string()).into_owned(),
        };
        text.push('\n');
    }
    output::write(text.as_bytes())?;
    let count = |severity, one, several| match problems
        .iter()
        .filter(|problem| problem.severity == severity)
        .count()
    {
        0 => format!("no {several}"),
        number => counted(number as u64, one, several),
    };
    let summary = format!(
        "{}; {}, {}",
        counted(definitions.len() as u64, "component", "components"),
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
    );
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(CommandError::input(summary));
    }
    output::say(summary);
    Ok(())
}

/// Sources that no fetch could even try.
fn unusable_sources(definitions: &Definitions, config: &Config, directory: &Path) -> Vec<Problem> {
    let aliases = config.aliases();
    let mut files = load::files_again(directory);
    let mut problems = Vec::new();
    for (id, component) in definitions.iter() {
        let Some(source) = component.chunk().and_then(|chunk| chunk.source.as_ref()) else {
            continue;
        };
        let own = SourceSpec::parse(fields_of(source), &aliases, directory).map(drop);
        let below = || check_submodules(&source.submodules, &aliases);
        let Err(message) = own.map_err(|error| error.to_string()).and_then(|()| below()) else {
            continue;
        };
        let place = definitions.place_of_source(id, &mut files);
        let (file, line, column) = place
            .map_or((component.file.clone(), 0, 0), |place| (place.file, place.line, place.column));
        let severity = Severity::Error;
        problems.push(Problem { severity, file, line, column, message, suggestion: None });
    }
    problems
}

/// Says what is wrong with a URL that is to replace a submodule's.
fn check_submodules(
    submodules: &BTreeMap<String, Submodule>,
    aliases: &Aliases,
) -> Result<(), String> {
    for (path, submodule) in submodules {
        SourceSpec::of_submodule(&submodule.url, &"0".repeat(40), aliases)
            .map_err(|error| format!("the submodule `{path}`: {error}"))?;
        check_submodules(&submodule.submodules, aliases)?;
    }
    Ok(())
}

fn json(problem: &Problem) -> serde_json::Value {
    let known = |number: usize| (number > 0).then_some(number);
    serde_json::json!({
        "severity": problem.severity.name(), "file": problem.file, "line": known(problem.line),
        "column": known(problem.column), "message": problem.message,
        "suggestion": problem.suggestion,
    })
}
