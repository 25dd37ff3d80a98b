//! Reads the files of a definitions directory: the only I/O of this room.

#![forbid(unsafe_code)]

use std::io::Read;
use std::path::Path;

use super::problem::{Problem, Problems, Severity};
use super::resolve::{Files, TextFile};
use super::{ComponentId, Definitions, Place, yaml};

/// Most `.morph` files that are read; the largest published tree has 776.
const MAX_FILES: usize = 200_000;
/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 64;

/// Loads a definitions directory.
pub fn load(directory: &Path) -> Result<Definitions, Problems> {
    Definitions::parse(&read_files(directory)?)
}

/// Whether there is nothing in a directory that belongs to definitions, as far as it can be looked
/// into.
pub fn has_none(directory: &Path) -> bool {
    let mut names = Vec::new();
    scan(directory, "", 0, &mut names, &mut Vec::new());
    names.is_empty() && !["VERSION", "DEFAULTS"].iter().any(|name| directory.join(name).exists())
}

/// Where it is said that `from` needs `to` or is made of it.
pub fn place_of_reference(
    directory: &Path,
    definitions: &Definitions,
    from: ComponentId,
    to: ComponentId,
) -> Option<Place> {
    let text = |file: &str| String::from_utf8(read(directory, file).ok()?).ok();
    definitions.reference(from, to, text)
}

/// The steps of a cycle (paths of components, the first again at the end), each with its place, a
/// line each.
pub fn explain_cycle(directory: &Path, definitions: &Definitions, cycle: &[String]) -> String {
    let mut lines = String::new();
    for step in cycle.windows(2) {
        let [from, to] = step else { continue };
        let ids = definitions.find(from).zip(definitions.find(to));
        let place = ids.and_then(|(from, to)| place_of_reference(directory, definitions, from, to));
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        lines += &format!("\n    {place}`{from}` needs `{to}`");
    }
    lines
}

/// Reads `VERSION`, `DEFAULTS` and every `*.morph` below `directory`, in load order: directories
/// by the bytes of their paths, the files of each by the bytes of their names; directories whose
/// name starts with a dot are left out, and symbolic links to directories are not followed.
pub fn read_files(directory: &Path) -> Result<Files, Problems> {
    let mut problems = Vec::new();
    let mut files = Files {
        version: optional(directory, "VERSION", &mut problems),
        defaults: optional(directory, "DEFAULTS", &mut problems),
        definitions: Vec::new(),
    };
    let mut names = Vec::new();
    scan(directory, "", 0, &mut names, &mut problems);
    // `/` sorts before every other byte of a name here: a directory's own files come before those
    // of its subdirectories, and `a/` before `a-b/`.
    names.sort_by(|a, b| split(a).cmp(&split(b)));
    for name in names {
        match read(directory, &name) {
            Ok(text) => files.definitions.push(TextFile { path: name, text }),
            Err(message) => problems.push(whole_file(&name, message)),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(Problems(problems)) }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn whole_file(file: &str, message: String) -> Problem {
    let (severity, file) = (Severity::Error, file.to_owned());
    Problem { severity, file, line: 0, column: 0, message, suggestion: None }
}

fn optional(directory: &Path, name: &str, problems: &mut Vec<Problem>) -> Option<TextFile> {
    if !directory.join(name).is_file() {
        return None;
    }
    match read(directory, name) {
        Ok(text) => Some(TextFile { path: name.to_owned(), text }),
        Err(message) => {
            problems.push(whole_file(name, message));
            None
        }
    }
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let path = directory.join(name);
    // Opening a fifo would wait for a writer.
    if !std::fs::metadata(&path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut text = Vec::new();
    // One byte more than allowed tells a file that is too large.
    let limit = (yaml::MAX_FILE as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut text).map_err(cannot)?;
    if text.len() > yaml::MAX_FILE {
        return Err(format!("is larger than {} MiB; is it a definition?", yaml::MAX_FILE >> 20));
    }
    Ok(text)
}

fn scan(
    root: &Path,
    below: &str,
    depth: usize,
    names: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    let shown = if below.is_empty() { "." } else { below };
    if depth > MAX_DEPTH {
        problems.push(whole_file(shown, format!("is nested deeper than {MAX_DEPTH} directories")));
        return;
    }
    let entries = match std::fs::read_dir(root.join(below)) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(whole_file(shown, format!("the directory cannot be read: {error}")));
            return;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.push(whole_file(shown, format!("the directory cannot be read: {error}")));
                return;
            }
        };
        let name = entry.file_name();
        let is_directory = entry.file_type().is_ok_and(|t| t.is_dir());
        let Some(name) = name.to_str() else {
            let lossy = name.to_string_lossy();
            if !is_directory && lossy.ends_with(".morph") {
                let message = "the file's name is not UTF-8; rename it".to_owned();
                problems.push(whole_file(&format!("{shown}/{lossy}"), message));
            }
            continue;
        };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if is_directory {
            if !name.starts_with('.') {
                scan(root, &path, depth.saturating_add(1), names, problems);
            }
        } else if name.ends_with(".morph") {
            if names.len() >= MAX_FILES {
                let message = format!("there are more than {MAX_FILES} definition files");
                problems.push(whole_file(shown, message));
                return;
            }
            names.push(path);
        }
    }
}
