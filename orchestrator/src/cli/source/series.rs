//! `outcrop source import --series`: the releases of a project as one repository.

use std::path::PathBuf;

use crate::cli::context::Context;
use crate::cli::error::{CommandError, CommandResult};
use crate::output;
use crate::sources::{Progress, SeriesName, Sources, is_archive_name};
use crate::words::counted;

use super::local_archive;

pub fn import(context: &Context, name: &str, given: &[String]) -> CommandResult {
    let name = SeriesName::parse(name)?;
    let mut archives = Vec::new();
    for text in given {
        archives.extend(archives_of(text)?);
    }
    let told = std::cell::RefCell::new(String::new());
    let progress = |progress: Progress<'_>| {
        if let Progress::Importing { what, .. } = progress
            && told.replace(what.to_owned()) != what
        {
            output::say(format_args!("importing {what}"));
        }
        true
    };
    let releases =
        Sources::new(context.store.clone()).import_series(&name, &archives, &progress)?;
    for (number, release) in releases.iter().enumerate() {
        if number > 0 {
            output::print("")?;
        }
        output::print(format_args!("repo: series:{name}"))?;
        output::print(format_args!("ref: {}", release.commit))?;
        output::print(format_args!("unpetrify-ref: {}", release.tag))?;
    }
    let added = releases.iter().filter(|release| release.added).count();
    let present = releases.len().saturating_sub(added);
    output::say(format_args!(
        "series:{name}: {} added, {present} already there",
        counted(added as u64, "release", "releases")
    ));
    Ok(())
}

/// The archives that an argument names: itself, or those in the directory.
fn archives_of(text: &str) -> CommandResult<Vec<PathBuf>> {
    let place = PathBuf::from(text);
    if !place.is_dir() {
        return match local_archive(text) {
            Some(path) => Ok(vec![path]),
            None => Err(CommandError::input(format!("{text} is not an archive on this machine"))
                .hint(
                    "a series is made of archives such as app-1.0.tar.gz, or directories of them",
                )),
        };
    }
    let unreadable =
        |error: std::io::Error| CommandError::input(format!("cannot read {text}: {error}"));
    let mut found = Vec::new();
    for item in std::fs::read_dir(&place).map_err(unreadable)? {
        let item = item.map_err(unreadable)?;
        if item.file_name().to_str().is_some_and(is_archive_name) {
            found.push(item.path());
        }
    }
    if found.is_empty() {
        return Err(CommandError::input(format!("there is no archive in {text}")));
    }
    Ok(found)
}
