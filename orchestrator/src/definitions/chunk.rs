//! The parts of a chunk: what its file says, and what a stratum's entry says.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::defaults::split_rules_from;
use super::model::{BuildMode, Chunk, Device, DeviceKind, Source, Submodule};
use super::problem::{Collector, Spot, nearest};
use super::raw::{Ordered, RawDevice, RawEntry, RawFile, RawSubmodule};
use super::steps::{StepLists, StepName};

/// What a chunk's own file says: how to build it.
pub(super) fn from_file(
    raw: &mut RawFile,
    steps: Vec<(StepName, Vec<String>)>,
    spot: &Spot,
    problems: &mut Collector,
) -> Chunk {
    for (name, commands) in &steps {
        check_commands(commands, &spot.field(name.field()), problems);
    }
    if raw.max_jobs == Some(0) {
        problems.error(spot.field("max-jobs"), "`max-jobs` must be at least 1");
    }
    Chunk {
        build_system: raw.build_system.take(),
        max_jobs: raw.max_jobs,
        steps: StepLists::from_iter(steps),
        products: split_rules_from(
            raw.products.take().unwrap_or_default(),
            &spot.field("products"),
            problems,
        ),
        integration: integration(raw, &spot.field("system-integration"), problems),
        devices: devices(raw.devices.take(), &spot.field("devices"), problems),
        ..Chunk::default()
    }
}

/// In bytes: Linux's MAX_ARG_STRLEN (execve(2)) without the NUL at the end.
const LONGEST_COMMAND: usize = 131_071;

fn check_commands(commands: &[String], spot: &Spot, problems: &mut Collector) {
    for (i, command) in commands.iter().enumerate() {
        if command.trim().is_empty() {
            problems.error(spot.item(i), "this command is empty");
        } else if command.len() > LONGEST_COMMAND {
            let message = format!(
                "this command has {} bytes; a shell takes at most {LONGEST_COMMAND} at once",
                command.len()
            );
            problems.error_hint(spot.item(i), message, "make it a script in the source");
        } else if command.contains('\0') {
            problems.error(spot.item(i), "this command contains a NUL character");
        } else if is_no_text(command.trim()) {
            let message = format!("this command is `{}`, which is no text", command.trim());
            problems.error(spot.item(i), message);
        }
    }
}

/// What YAML reads as a number or as nothing; true and false are programs.
fn is_no_text(scalar: &str) -> bool {
    matches!(scalar, "~" | "null" | "Null" | "NULL") || scalar.parse::<f64>().is_ok()
}

fn integration(
    raw: &mut RawFile,
    spot: &Spot,
    problems: &mut Collector,
) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut integration = BTreeMap::new();
    for (artifact, scripts) in raw.system_integration.take().unwrap_or_default().0 {
        let spot = spot.field(&artifact);
        let mut lists = BTreeMap::new();
        for (script, commands) in scripts.unwrap_or_default().0 {
            let commands = commands.unwrap_or_default();
            check_commands(&commands, &spot.field(&script), problems);
            lists.insert(script, commands);
        }
        integration.insert(artifact, lists);
    }
    integration
}

fn devices(raw: Option<Vec<RawDevice>>, spot: &Spot, problems: &mut Collector) -> Vec<Device> {
    let mut devices = Vec::new();
    for (i, raw) in raw.unwrap_or_default().into_iter().enumerate() {
        let spot = spot.item(i);
        let Some(kind) = DeviceKind::from_letter(&raw.kind) else {
            let message = format!("there is no device type `{}`", raw.kind);
            problems.error_hint(spot.field("type"), message, "c, b and p are known");
            continue;
        };
        let permissions = match u16::from_str_radix(&raw.permissions, 8) {
            Ok(bits) if bits <= 0o7777 => bits,
            _ => {
                let message = format!("`{}` is not an octal mode up to 7777", raw.permissions);
                problems.error_hint(spot.field("permissions"), message, "for example '0600'");
                continue;
            }
        };
        if !is_clean_absolute(&raw.filename) {
            let message = format!("`{}` is not an absolute path without `..`", raw.filename);
            problems.error(spot.field("filename"), message);
            continue;
        }
        if kind != DeviceKind::Fifo && (raw.major.is_none() || raw.minor.is_none()) {
            problems.error(spot, "a device needs `major` and `minor`");
            continue;
        }
        let numbers = [
            ("major", raw.major, outcrop_fs::node::Device::LARGEST_MAJOR),
            ("minor", raw.minor, outcrop_fs::node::Device::LARGEST_MINOR),
        ];
        for (field, number, most) in numbers {
            if let Some(number) = number.filter(|number| *number > most) {
                let message = format!("Linux has no `{field}` {number}; it goes up to {most}");
                problems.error(spot.field(field), message);
            }
        }
        devices.push(Device {
            kind,
            filename: raw.filename,
            major: raw.major.unwrap_or(0),
            minor: raw.minor.unwrap_or(0),
            permissions,
            uid: raw.uid,
            gid: raw.gid,
        });
    }
    devices
}

/// An absolute path that goes nowhere else and can stand in a `PATH`-like list.
fn is_clean_absolute(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.split('/').any(|part| part == ".." || part == ".")
        && !path.chars().any(|c| c.is_control())
}

/// What a stratum's entry says about a chunk: where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub source: Option<Source>,
    pub build_mode: Option<BuildMode>,
    pub prefix: Option<String>,
    pub build_system: Option<String>,
}

impl Origin {
    pub fn from_entry(raw: &mut RawEntry, spot: &Spot, problems: &mut Collector) -> Origin {
        let mode = raw.build_mode.take();
        let build_mode = mode.as_deref().and_then(BuildMode::from_name);
        if let Some(mode) = mode.filter(|_| build_mode.is_none()) {
            let modes = BuildMode::ALL.map(BuildMode::name);
            let hint = nearest(&mode, modes)
                .map_or_else(|| modes.join(", "), |near| format!("did you mean `{near}`?"));
            let message = format!("there is no build mode `{mode}`");
            problems.error_hint(spot.field("build-mode"), message, hint);
        }
        let prefix = raw.prefix.take();
        if let Some(prefix) = prefix.as_deref().filter(|p| !is_clean_absolute(p) || p.contains(':'))
        {
            let message = match prefix {
                "/" => {
                    "the prefix `/` is the whole tree; name a directory such as `/usr`".to_owned()
                }
                _ if is_clean_absolute(prefix) => {
                    format!("the prefix `{prefix}` cannot stand in PATH, because of its colon")
                }
                _ => format!("the prefix `{prefix}` is not an absolute path without `..`"),
            };
            problems.error(spot.field("prefix"), message);
        }
        Origin {
            source: source(raw, spot, problems),
            build_mode,
            prefix,
            build_system: raw.build_system.take(),
        }
    }

    /// The first field in which two entries for one chunk contradict each other. Where `ref` was
    /// taken from is for people only.
    pub fn conflict(&self, other: &Origin) -> Option<&'static str> {
        let source = |origin: &Origin| {
            origin.source.clone().map(|s| Source { unpetrify_ref: None, ..s }).unwrap_or_default()
        };
        let (a, b) = (source(self), source(other));
        [
            ("repo", a.repo == b.repo),
            ("ref", a.reference == b.reference),
            ("sha", a.sha == b.sha),
            ("source", a == b),
            (
                "build-mode",
                self.build_mode.unwrap_or_default() == other.build_mode.unwrap_or_default(),
            ),
            ("prefix", self.prefix == other.prefix),
            ("build-system", self.build_system == other.build_system),
        ]
        .into_iter()
        .find(|(_, same)| !same)
        .map(|(field, _)| field)
    }

    pub fn has_ref(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.reference.is_some())
    }

    /// The fields of `later` over those of this one.
    pub fn overlaid(self, later: Origin) -> Origin {
        let source = match (self.source, later.source) {
            (Some(first), Some(later)) => Some(Source {
                repo: later.repo,
                reference: later.reference.or(first.reference),
                unpetrify_ref: later.unpetrify_ref.or(first.unpetrify_ref),
                sha: later.sha.or(first.sha),
                sha256: later.sha256.or(first.sha256),
                patches: later.patches || first.patches,
                submodules: match later.submodules.is_empty() {
                    true => first.submodules,
                    false => later.submodules,
                },
            }),
            (first, later) => later.or(first),
        };
        Origin {
            source,
            build_mode: later.build_mode.or(self.build_mode),
            prefix: later.prefix.or(self.prefix),
            build_system: later.build_system.or(self.build_system),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a repository is named that is really an archive of a source.
fn is_archive(repo: &str) -> bool {
    if repo.starts_with("tar:") {
        return true;
    }
    let path = repo.split(['?', '#']).next().unwrap_or(repo);
    let path = path.to_ascii_lowercase();
    [".tar", ".tgz", ".tbz2", ".txz"].iter().any(|end| path.ends_with(end))
        || [".gz", ".bz2", ".xz", ".zst", ".lzma"]
            .iter()
            .any(|end| path.strip_suffix(end).is_some_and(|stem| stem.ends_with(".tar")))
}

fn source(raw: &mut RawEntry, spot: &Spot, problems: &mut Collector) -> Option<Source> {
    for (field, value, digits) in [("sha", &raw.sha, 40), ("sha256", &raw.sha256, 64)] {
        if value.as_deref().is_some_and(|value| !is_hex(value, digits)) {
            let message = format!("`{field}` must have {digits} hexadecimal digits");
            problems.error(spot.field(field), message);
        }
    }
    let Some(repo) = raw.repo.take() else {
        if raw.reference.is_some() || raw.sha.is_some() || raw.sha256.is_some() {
            problems.error(spot.clone(), "the entry says what to take but has no `repo`");
        }
        for (field, is_given) in [
            ("unpetrify-ref", raw.unpetrify_ref.is_some()),
            ("submodules", raw.submodules.is_some()),
            ("patches", raw.patches == Some(true)),
        ] {
            if is_given {
                let message = format!("`{field}` has no effect without `repo`");
                problems.warning(spot.field(field), message);
            }
        }
        return None;
    };
    if repo.trim().is_empty() {
        problems.error(spot.field("repo"), "`repo` is empty");
    }
    let pinned = raw.reference.as_deref().is_some_and(|r| !r.trim().is_empty())
        || raw.sha.is_some()
        || (repo.starts_with("debian:") && repo.contains('='));
    if is_archive(&repo) {
        if raw.sha256.is_none() {
            let message = "the source is an archive without `sha256`";
            problems.error_hint(spot.field("repo"), message, "add what `sha256sum` says of it");
        }
    } else if !pinned && raw.sha256.is_none() {
        // With `sha256` an alias may lead to an archive.
        let message = format!("`{repo}` needs a `ref`");
        let hint = match repo.starts_with("debian:") {
            true => "name the package's version",
            false => "name the commit to build",
        };
        problems.error_hint(spot.field("repo"), message, hint);
    }
    Some(Source {
        repo,
        reference: raw.reference.take(),
        unpetrify_ref: raw.unpetrify_ref.take(),
        sha: raw.sha.take().map(|s| s.to_ascii_lowercase()),
        sha256: raw.sha256.take().map(|s| s.to_ascii_lowercase()),
        patches: raw.patches.unwrap_or(false),
        submodules: submodules(raw.submodules.take()),
    })
}

fn submodules(raw: Option<Ordered<RawSubmodule>>) -> BTreeMap<String, Submodule> {
    let entries = raw.unwrap_or_default().0.into_iter();
    entries
        .map(|(path, raw)| {
            (path, Submodule { url: raw.url, submodules: submodules(raw.submodules) })
        })
        .collect()
}
