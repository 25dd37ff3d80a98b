//! `outcrop check`: everything that is wrong with definitions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::gather::fields_of;
use crate::config::Config;
use crate::definitions::{Definitions, Problem, Severity, Source, Submodule, load};
use crate::graph::check::{Checked, check};
use crate::output;
use crate::sources::{Aliases, Sha256Digest, SourceFields, SourceSpec, is_archive_name};
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
    problems.extend(unusable_sources(&definitions, &config, &place.definitions));
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
        let mut found = Vec::new();
        if let Err(error) = SourceSpec::parse(mended(source, &aliases), &aliases, directory) {
            found.push((vec!["repo"], error.to_string()));
        }
        check_submodules(&source.submodules, &["submodules"], &aliases, &mut found);
        for (way, message) in found {
            let place = definitions.place_of_source(id, &way, &mut files);
            let (file, line, column) = place.map_or((component.file.clone(), 0, 0), |place| {
                (place.file, place.line, place.column)
            });
            let severity = Severity::Error;
            problems.push(Problem { severity, file, line, column, message, suggestion: None });
        }
    }
    problems
}

/// A source without those mistakes that are found in every tree, whatever its aliases.
fn mended<'a>(source: &'a Source, aliases: &Aliases) -> SourceFields<'a> {
    const ANY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    let mut fields = fields_of(source);
    if fields.repo.trim().is_empty() {
        fields.repo = "/";
    }
    if fields.sha256.is_some_and(|sum| Sha256Digest::parse(sum).is_err()) {
        fields.sha256 = Some(ANY);
    }
    let names_revision = fields.reference.is_some_and(|reference| !reference.trim().is_empty());
    if !names_revision && fields.sha256.is_none() {
        let repo = aliases.expand(fields.repo.trim());
        match repo.starts_with("tar:") || is_archive_name(&repo) {
            true => fields.sha256 = Some(ANY),
            false if repo.starts_with("debian:") && repo.contains('=') => {}
            false => fields.reference = Some(ANY),
        }
    }
    fields
}

/// What is wrong with URLs that are to replace those of submodules, each with the way to it.
fn check_submodules<'a>(
    submodules: &'a BTreeMap<String, Submodule>,
    way: &[&'a str],
    aliases: &Aliases,
    found: &mut Vec<(Vec<&'a str>, String)>,
) {
    for (path, submodule) in submodules {
        let way = [way, &[path.as_str()]].concat();
        if let Err(error) = SourceSpec::of_submodule(&submodule.url, &"0".repeat(40), aliases) {
            let message = format!("the submodule `{path}`: {error}");
            found.push(([way.as_slice(), &["url"]].concat(), message));
        }
        let below = [way.as_slice(), &["submodules"]].concat();
        check_submodules(&submodule.submodules, &below, aliases, found);
    }
}

fn json(problem: &Problem) -> serde_json::Value {
    let known = |number: usize| (number > 0).then_some(number);
    serde_json::json!({
        "severity": problem.severity.name(), "file": problem.file, "line": known(problem.line),
        "column": known(problem.column), "message": problem.message,
        "suggestion": problem.suggestion,
    })
}
