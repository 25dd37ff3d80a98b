//! From files to [`Definitions`]: identities, references, merging, checks.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::chunk::{self, Origin};
use super::defaults::Defaults;
use super::model::{Chunk, Cluster, Component, ComponentId, Detail, Kind, Stratum, System};
use super::problem::{Collector, Problem, Severity, Spot};
use super::raw::{RawDefaults, RawFile, RawVersion};
use super::{Definitions, Reading, StepName, node, yaml};

/// Newest version of the format that is understood.
const NEWEST_VERSION: u32 = 8;

/// Build systems that are named where none is similar to what was written.
const MOST_NAMES: usize = 20;

/// A file of a definitions tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Relative to the definitions directory, `/` between parts.
    pub path: String,
    pub text: Vec<u8>,
}

/// The files of a definitions tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub version: Option<TextFile>,
    pub defaults: Option<TextFile>,
    /// `*.morph`, in load order.
    pub definitions: Vec<TextFile>,
    /// Files and directories that could not be read, and why.
    pub unreadable: Vec<Problem>,
}

impl Files {
    /// Whether there is nothing that belongs to definitions, as far as directories could be looked
    /// into.
    pub fn is_empty(&self) -> bool {
        let is_directory = |problem: &Problem| {
            !(problem.file.ends_with(".morph")
                || ["VERSION", "DEFAULTS", "."].contains(&problem.file.as_str()))
        };
        self.version.is_none()
            && self.defaults.is_none()
            && self.definitions.is_empty()
            && self.unreadable.iter().all(is_directory)
    }

    /// The texts of all files, by path.
    pub(crate) fn texts(&self) -> HashMap<&str, &str> {
        let files = self.definitions.iter().chain(&self.version).chain(&self.defaults);
        files
            .filter_map(|file| Some((file.path.as_str(), std::str::from_utf8(&file.text).ok()?)))
            .collect()
    }
}

pub(super) fn resolve(files: &Files, reading: Reading) -> (Definitions, Vec<Problem>) {
    let mut resolver = Resolver { problems: Collector::new(reading), ..Resolver::default() };
    resolver.note_unreadable(files);
    resolver.read_version(files);
    resolver.read_defaults(files);
    let mut loaded = Vec::new();
    for file in &files.definitions {
        let errors = resolver.problems.errors();
        match resolver.read_file(file) {
            Some(read) => loaded.push(read),
            // Without an error it counts as no file at all.
            None if resolver.problems.errors() == errors => {}
            None => {
                resolver.unusable.insert(path_of(&file.path).to_owned());
            }
        }
    }
    let mut later = Vec::new();
    for mut file in loaded {
        match file.kind {
            Kind::Stratum => resolver.stratum(&mut file),
            Kind::System | Kind::Cluster => later.push(file),
            Kind::Chunk => {}
        }
    }
    for mut file in later {
        match file.kind {
            Kind::System => resolver.system(&mut file),
            Kind::Cluster => resolver.cluster(&mut file),
            Kind::Chunk | Kind::Stratum => {}
        }
    }
    resolver.check_build_systems();
    resolver.finish(files)
}

/// A file whose references wait until every file is known.
pub(super) struct Loaded {
    pub id: ComponentId,
    pub kind: Kind,
    pub spot: Spot,
    pub raw: RawFile,
}

#[derive(Default)]
pub(super) struct Resolver {
    pub problems: Collector,
    pub version: u32,
    pub defaults: Defaults,
    components: Vec<Component>,
    pub by_path: HashMap<String, ComponentId>,
    /// Paths of files that have errors of their own, so that nothing is known of them.
    pub unusable: HashSet<String>,
    /// Directories, with a slash at their ends, in which there may be files that nothing is known of.
    unknown: Vec<String>,
    defaults_unusable: bool,
    /// The artifacts of strata that were asked for.
    pub artifacts: HashMap<ComponentId, Rc<HashSet<String>>>,
    /// What the first entry for a chunk said, and where.
    pub origins: HashMap<ComponentId, (Origin, Spot)>,
}

impl Resolver {
    fn note_unreadable(&mut self, files: &Files) {
        for problem in &files.unreadable {
            match problem.file.as_str() {
                "DEFAULTS" => self.defaults_unusable = true,
                "." => self.unknown.push(String::new()),
                file if file.ends_with(".morph") => {
                    self.unusable.insert(path_of(file).to_owned());
                }
                directory => self.unknown.push(format!("{directory}/")),
            }
            self.problems.push(problem.clone());
        }
    }

    fn read_version(&mut self, files: &Files) {
        let Some(file) = &files.version else { return };
        let Some(raw) = self.read_special::<RawVersion>(file) else { return };
        let spot = Spot::file(&file.path).field("version");
        let text = raw.version.unwrap_or_default();
        match text.parse() {
            Ok(version) if version <= NEWEST_VERSION => self.version = version,
            _ => {
                self.version = NEWEST_VERSION;
                let message = format!("version `{text}` of the format is not known");
                let hint = format!("versions 0 to {NEWEST_VERSION} are");
                let instead = format!("the tree is read as version {NEWEST_VERSION}");
                self.problems.tolerated(spot, message, Some(hint), &instead);
            }
        }
    }

    fn read_defaults(&mut self, files: &Files) {
        let Some(file) = &files.defaults else { return };
        self.came_with(7, "`DEFAULTS`", || Spot::file(&file.path));
        if self.problems.reading == Reading::Compatible
            && let Some(fault) = self.text(file).and_then(|text| node::parse(text).faults.pop())
        {
            let message = format!("{}; Outcrop's own defaults apply", fault.message);
            let (severity, file) = (Severity::Warning, file.path.clone());
            let (line, column) = (fault.line, fault.column);
            self.problems.push(Problem { severity, file, line, column, message, suggestion: None });
            return;
        }
        let Some(raw) = self.read_special::<RawDefaults>(file) else {
            self.defaults_unusable = true;
            return;
        };
        self.defaults = Defaults::from_raw(raw, &Spot::file(&file.path), &mut self.problems);
    }

    fn read_special<T: serde::de::DeserializeOwned + Default>(
        &mut self,
        file: &TextFile,
    ) -> Option<T> {
        let text = self.text(file)?;
        if is_blank(text) {
            return Some(T::default());
        }
        yaml::read(&file.path, text, &mut self.problems)
    }

    fn text<'a>(&mut self, file: &'a TextFile) -> Option<&'a str> {
        if file.text.len() > yaml::MAX_FILE {
            self.problems.error(Spot::file(&file.path), "the file is too large to be a definition");
            return None;
        }
        match std::str::from_utf8(&file.text) {
            Ok(text) => Some(text),
            Err(error) => {
                let before = file.text.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.split(|&b| b == b'\n').count();
                let last = before.rsplit(|&b| b == b'\n').next().unwrap_or_default();
                let column = String::from_utf8_lossy(last).chars().count().saturating_add(1);
                self.problems.push(Problem {
                    severity: Severity::Error,
                    file: file.path.clone(),
                    line,
                    column,
                    message: "the file is not UTF-8 here".to_owned(),
                    suggestion: None,
                });
                None
            }
        }
    }

    fn read_file(&mut self, file: &TextFile) -> Option<Loaded> {
        let text = self.text(file)?;
        let spot = Spot::file(&file.path);
        if is_blank(text) {
            self.problems.warning(spot, "the file is empty and ignored");
            return None;
        }
        let mut raw: RawFile = yaml::read(&file.path, text, &mut self.problems)?;
        let kind = self.kind_of(&raw, &spot)?;
        if kind == Kind::Cluster {
            // Parameters depend on what was quoted, which only the exact reader knows.
            raw = yaml::read_exact(&file.path, text, &mut self.problems)?;
        }
        let path = path_of(&file.path).to_owned();
        let steps = raw.take_steps();
        for field in raw
            .foreign_fields(kind)
            .chain(steps.iter().filter(|_| kind != Kind::Chunk).map(|(name, _)| name.field()))
        {
            let message = format!("a {kind} has no field `{field}`");
            self.problems.tolerated(spot.field(field), message, None, "it is ignored");
        }
        let name = self.name_of(raw.name.take(), &path, &spot);
        let detail = match kind {
            Kind::Chunk => {
                for (name, _) in &steps {
                    if matches!(name, StepName::PreStrip | StepName::Strip | StepName::PostStrip) {
                        let what = format!("`{}`", name.field());
                        self.came_with(5, &what, || spot.field(name.field()));
                    }
                }
                Detail::Chunk(Box::new(chunk::from_file(
                    &mut raw,
                    steps,
                    &spot,
                    &mut self.problems,
                )))
            }
            Kind::Stratum => Detail::Stratum(Stratum::default()),
            Kind::System => Detail::System(System::default()),
            Kind::Cluster => Detail::Cluster(Cluster::default()),
        };
        let description = raw.description.take();
        let id = self.add(Component { path, name, description, file: file.path.clone(), detail });
        Some(Loaded { id: id?, kind, spot, raw })
    }

    fn kind_of(&mut self, raw: &RawFile, spot: &Spot) -> Option<Kind> {
        let Some(name) = &raw.kind else {
            self.problems.warning(spot.clone(), "the file has no `kind`; it is taken for a chunk");
            return Some(Kind::Chunk);
        };
        let kind = Kind::from_name(name);
        if kind.is_none() {
            self.problems.error_hint(
                spot.field("kind"),
                format!("there is no kind `{name}`"),
                "chunk, stratum, system and cluster are known",
            );
        }
        kind
    }

    fn name_of(&mut self, name: Option<String>, path: &str, spot: &Spot) -> String {
        let base = path.rsplit('/').next().unwrap_or(path);
        let Some(name) = name else {
            let message = format!("the file has no `name`; it is called `{base}`");
            self.problems.warning(spot.clone(), message);
            return base.to_owned();
        };
        let spot = spot.field("name");
        if let Err(reason) = check_name(&name) {
            self.problems.error(spot, format!("`{name}` cannot be a name: {reason}"));
        } else if !name.contains(base) {
            let message = format!("the name `{name}` does not contain the file's, `{base}`");
            self.problems.warning(spot, message);
        }
        name
    }

    /// What an older version of the format does not have yet: harmless, but other tools refuse it.
    pub fn came_with(&mut self, version: u32, what: &str, spot: impl FnOnce() -> Spot) {
        if self.version < version {
            let message = format!("{what} came with version {version}; this is {}", self.version);
            self.problems.warning(spot(), message);
        }
    }

    pub fn add(&mut self, component: Component) -> Option<ComponentId> {
        let Ok(index) = u32::try_from(self.components.len()) else {
            self.problems.error(Spot::file(&component.file), "there are too many components");
            return None;
        };
        let id = ComponentId(index);
        self.by_path.insert(component.path.clone(), id);
        self.components.push(component);
        Some(id)
    }

    pub fn get(&self, id: ComponentId) -> Option<&Component> {
        self.components.get(id.index())
    }

    pub fn set(&mut self, id: ComponentId, detail: Detail) {
        if let Some(component) = self.components.get_mut(id.index()) {
            component.detail = detail;
        }
    }

    pub fn chunk_mut(&mut self, id: ComponentId) -> Option<&mut Chunk> {
        match &mut self.components.get_mut(id.index())?.detail {
            Detail::Chunk(chunk) => Some(chunk),
            _ => None,
        }
    }

    /// The component of `kind` in the file that `morph` names.
    pub fn reference(&mut self, morph: &str, kind: Kind, spot: &Spot) -> Option<ComponentId> {
        let path = match identity(morph) {
            Ok(path) => path,
            Err(reason) => {
                self.problems.error(spot.clone(), format!("`{morph}` {reason}"));
                return None;
            }
        };
        match self.by_path.get(path).copied() {
            Some(id) => match self.get(id).map(Component::kind) {
                Some(found) if found != kind => {
                    let message = format!("`{morph}` is a {found}, not a {kind}");
                    self.problems.error(spot.clone(), message);
                    None
                }
                _ => Some(id),
            },
            None if self.is_unusable(path) => None,
            None => {
                let message = format!("there is no file `{path}.morph`");
                let hint = self.similar_file(path, kind);
                self.problems.with_hint(spot.clone(), message, hint);
                None
            }
        }
    }

    /// Whether there is such a file, or may be, of which nothing is known.
    pub fn is_unusable(&self, path: &str) -> bool {
        self.unusable.contains(path) || self.unknown.iter().any(|place| path.starts_with(place))
    }

    /// The file of a kind that may have been meant, as a hint.
    pub fn similar_file(&mut self, path: &str, kind: Kind) -> Option<String> {
        let known = self.components.iter().filter(|c| c.kind() == kind);
        self.problems.suggestion(path, known.map(|c| c.path.as_str()), ".morph")
    }

    fn check_build_systems(&mut self) {
        if self.defaults_unusable {
            return;
        }
        for (index, component) in (0u32..).zip(&self.components) {
            let Some(chunk) = component.chunk() else { continue };
            let known = &self.defaults.build_systems;
            let Some(name) = self.defaults.unknown(chunk) else { continue };
            let spot = match self.origins.get(&ComponentId(index)) {
                Some((origin, spot)) if origin.build_system.as_deref() == Some(name) => {
                    spot.field("build-system")
                }
                _ => Spot::file(&component.file).field("build-system"),
            };
            let names = || known.keys().map(String::as_str);
            let near = self.problems.suggestion(name, names(), "");
            let hint =
                near.unwrap_or_else(|| names().take(MOST_NAMES).collect::<Vec<_>>().join(", "));
            let message = format!("there is no build system `{name}`");
            self.problems.tolerated(spot, message, Some(hint), "the chunk cannot be built");
        }
    }

    fn finish(self, files: &Files) -> (Definitions, Vec<Problem>) {
        let definitions = Definitions {
            version: self.version,
            reading: self.problems.reading,
            defaults: self.defaults,
            warnings: Vec::new(),
            components: self.components,
            by_path: self.by_path,
        };
        let mut problems = self.problems;
        if definitions.reading == Reading::Compatible {
            // Otherwise an error of whoever plans such a system.
            definitions.check_integration(&mut problems);
        }
        let texts = files.texts();
        let problems = problems.finish(|path| texts.get(path).copied());
        (definitions, problems)
    }
}

/// The identity that a file gives its component.
fn path_of(file: &str) -> &str {
    file.strip_suffix(".morph").unwrap_or(file)
}

/// Comments and white space only.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// Names become directories (`/<name>.build`) and parts of keys.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name == "." || name == ".." {
        Err("it names no file")
    } else if name.contains('/') {
        Err("it contains a slash")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err("it contains a space or control character")
    } else if name.len() > 200 {
        Err("it is longer than 200 bytes")
    } else {
        Ok(())
    }
}

/// The identity behind a `morph` field: relative to the top of the definitions.
pub(super) fn identity(morph: &str) -> Result<&str, &'static str> {
    let path = morph.trim_start_matches("./");
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err("leaves the definitions directory; paths are relative to its top");
    }
    Ok(path.strip_suffix(".morph").unwrap_or(path))
}
