//! Reads the files of a definitions directory: the only I/O of this room.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::problem::{Problem, Problems, Severity};
use super::resolve::{Files, TextFile};
use super::{Definitions, FilesAgain, Reading, yaml};

/// Most `.morph` files that are read; the largest published tree has 776.
const MAX_FILES: usize = 200_000;
/// Most bytes of all files together; the largest published tree has 0.7 MB.
const MAX_BYTES: usize = 128 << 20;
/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 64;
/// Files and directories that cannot be read before the rest is given up.
const MAX_UNREADABLE: usize = 1_000;

/// Loads a definitions directory.
pub fn load(directory: &Path, reading: Reading) -> Result<Definitions, Problems> {
    Definitions::parse(&read_files(directory), reading)
}

/// The files of a definitions directory, for finding places in them.
pub fn files_again(directory: &Path) -> FilesAgain<impl Fn(&str) -> Option<String>> {
    FilesAgain::new(move |file: &str| String::from_utf8(read(directory, file).ok()?).ok())
}

/// The steps of a cycle (paths of components, the first again at the end), each with its place, a
/// line each.
pub fn explain_cycle(directory: &Path, definitions: &Definitions, cycle: &[String]) -> String {
    definitions.explain_cycle(cycle, &mut files_again(directory))
}

/// Reads `VERSION`, `DEFAULTS` and every `*.morph` below `directory`, in load order: directories
/// by the bytes of their paths, the files of each by the bytes of their names; directories whose
/// name starts with a dot are left out, and symbolic links to directories are not followed.
pub fn read_files(directory: &Path) -> Files {
    let mut reader = Reader { root: directory, real_root: None, bytes: 0, unreadable: Vec::new() };
    let version = reader.optional("VERSION");
    let defaults = reader.optional("DEFAULTS");
    let mut names = Vec::new();
    reader.scan("", 0, &mut names);
    // `/` sorts before every other byte of a name here: a directory's own files come before those
    // of its subdirectories, and `a/` before `a-b/`.
    names.sort_by(|a, b| split(a).cmp(&split(b)));
    let mut definitions = Vec::with_capacity(names.len());
    for name in names {
        if reader.has_given_up() {
            reader.problem(".", "what else there is was not looked at".to_owned());
            break;
        }
        definitions.extend(reader.file(&name));
    }
    Files { version, defaults, definitions, unreadable: reader.unreadable }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
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

struct Reader<'a> {
    root: &'a Path,
    /// Without symbolic links; found out when the first one is met.
    real_root: Option<PathBuf>,
    /// What was read so far.
    bytes: usize,
    unreadable: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, file: &str, message: String) {
        let (severity, file) = (Severity::Error, file.to_owned());
        let problem = Problem { severity, file, line: 0, column: 0, message, suggestion: None };
        self.unreadable.push(problem);
    }

    fn has_given_up(&self) -> bool {
        self.bytes > MAX_BYTES || self.unreadable.len() >= MAX_UNREADABLE
    }

    fn optional(&mut self, name: &str) -> Option<TextFile> {
        match std::fs::symlink_metadata(self.root.join(name)) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                None
            }
            _ => self.file(name),
        }
    }

    fn file(&mut self, name: &str) -> Option<TextFile> {
        match self.stays_inside(name).and_then(|()| read(self.root, name)) {
            Ok(text) => {
                self.bytes = self.bytes.saturating_add(text.len());
                if self.bytes > MAX_BYTES {
                    let most = MAX_BYTES >> 20;
                    self.problem(
                        ".",
                        format!("the definitions have more than {most} MiB together"),
                    );
                }
                Some(TextFile { path: name.to_owned(), text })
            }
            Err(message) => {
                self.problem(name, message);
                None
            }
        }
    }

    /// Whoever wrote the definitions need not be allowed to read what their reader can.
    fn stays_inside(&mut self, name: &str) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("cannot be read: {error}");
        let path = self.root.join(name);
        if !std::fs::symlink_metadata(&path).map_err(cannot)?.is_symlink() {
            return Ok(());
        }
        let root = match &mut self.real_root {
            Some(root) => root,
            empty => empty.insert(std::fs::canonicalize(self.root).map_err(cannot)?),
        };
        match std::fs::canonicalize(path).map_err(cannot)?.starts_with(root) {
            true => Ok(()),
            false => Err("is a symbolic link that leaves the definitions directory".to_owned()),
        }
    }

    fn scan(&mut self, below: &str, depth: usize, names: &mut Vec<String>) {
        let shown = if below.is_empty() { "." } else { below };
        if depth > MAX_DEPTH {
            return self.problem(shown, format!("is nested deeper than {MAX_DEPTH} directories"));
        }
        let cannot = |error: std::io::Error| format!("the directory cannot be read: {error}");
        let entries = match std::fs::read_dir(self.root.join(below)) {
            Ok(entries) => entries,
            Err(error) => return self.problem(shown, cannot(error)),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.problem(shown, cannot(error)),
            };
            if self.has_given_up() || names.len() > MAX_FILES {
                return;
            }
            self.entry(&entry, below, depth, names);
        }
    }

    fn entry(
        &mut self,
        entry: &std::fs::DirEntry,
        below: &str,
        depth: usize,
        names: &mut Vec<String>,
    ) {
        let shown = if below.is_empty() { "." } else { below };
        let name = entry.file_name();
        let is_directory = entry.file_type().is_ok_and(|t| t.is_dir());
        let Some(name) = name.to_str() else {
            let lossy = name.to_string_lossy();
            if !is_directory && lossy.ends_with(".morph") {
                let message = "the file's name is not UTF-8; rename it".to_owned();
                self.problem(&format!("{shown}/{lossy}"), message);
            }
            return;
        };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if is_directory {
            if !name.starts_with('.') {
                self.scan(&path, depth.saturating_add(1), names);
            }
        } else if name.ends_with(".morph") {
            names.push(path);
            if names.len() > MAX_FILES {
                self.problem(".", format!("there are more than {MAX_FILES} definition files"));
            }
        }
    }
}
