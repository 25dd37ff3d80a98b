//! Pure parts of talking to apt: its configuration, its source lists, its index.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, Result};
use super::spec::Sha256Digest;

/// Configuration for a private apt below `directory`. It is read after the host's own, whose
/// proxies and keys stay in force while its hooks are cleared: they would touch the host.
pub(super) fn configuration(directory: &Path) -> Result<String> {
    let place = directory.to_str().filter(|place| !place.contains(['"', '\n', '\\']));
    let Some(place) = place else {
        return Err(Error::Invalid(format!(
            "{}: apt cannot work in a directory of this name; set OUTCROP_HOME to another one.",
            directory.display()
        )));
    };
    let mut text = String::new();
    for cleared in ["APT::Update", "APT::Install", "DPkg"] {
        text.push_str(&format!("#clear {cleared};\n"));
    }
    for (option, value) in [
        ("Dir::State", ""),
        ("Dir::State::Lists", "/lists"),
        ("Dir::State::status", "/status"),
        ("Dir::Cache", "/cache"),
        ("Dir::Etc::SourceParts", "/parts"),
    ] {
        text.push_str(&format!("{option} \"{place}{value}\";\n"));
    }
    for (option, value) in [
        ("Dir::Etc::SourceList", "/dev/null"),
        ("Dir::Etc::Preferences", "/dev/null"),
        ("Dir::Etc::PreferencesParts", "/dev/null"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "2"),
        ("Acquire::http::Timeout", "30"),
        ("Acquire::https::Timeout", "30"),
        // Dropping to apt's own user would need a privilege, and a directory that it can enter.
        ("APT::Sandbox::User", "root"),
        // Our own lock is held, and apt's would need files in places of the host.
        ("Debug::NoLocking", "1"),
    ] {
        text.push_str(&format!("{option} \"{value}\";\n"));
    }
    Ok(text)
}

/// The source entries for everything that a one-line list names.
pub(super) fn one_line_sources(text: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some((kind, rest)) = line.split_once(char::is_whitespace) else { continue };
        if !matches!(kind, "deb" | "deb-src") {
            continue;
        }
        let rest = rest.trim();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let options: Vec<&str> = options
            .split_whitespace()
            .filter(|option| !option.to_ascii_lowercase().starts_with("arch"))
            .collect();
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        found.insert(match options.is_empty() {
            true => format!("deb-src {rest}"),
            false => format!("deb-src [{}] {rest}", options.join(" ")),
        });
    }
    found.into_iter().collect()
}

/// The source entries for every enabled stanza of a deb822 list.
pub(super) fn deb822_sources(text: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for stanza in stanzas(text) {
        let field = |wanted: &str| {
            stanza.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.trim())
        };
        let disabled = field("Enabled")
            .is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "no" | "false" | "0"));
        if disabled || field("URIs").is_none() {
            continue;
        }
        let mut text = "Types: deb-src\n".to_owned();
        for (name, value) in &stanza {
            if !["types", "architectures", "enabled"].contains(&name.to_ascii_lowercase().as_str())
            {
                text.push_str(&format!("{name}:{value}\n"));
            }
        }
        found.insert(text);
    }
    found.into_iter().collect()
}

/// Fields of each stanza of a control file: name and value; continuation lines keep their breaks.
fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            if !fields.is_empty() {
                all.push(std::mem::take(&mut fields));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    if !fields.is_empty() {
        all.push(fields);
    }
    all
}

/// One source package of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourcePackage {
    pub version: String,
    pub format: String,
    pub files: Vec<SourceFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub name: String,
    pub sha256: Sha256Digest,
}

/// Packages of exactly this name in the output of `apt-cache showsrc`, without repetitions.
pub(super) fn parse_showsrc(text: &str, wanted: &str) -> Vec<SourcePackage> {
    let mut found: Vec<SourcePackage> = Vec::new();
    for stanza in stanzas(text) {
        let field = |name: &str| {
            stanza.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
        };
        if field("Package") != Some(wanted) {
            continue;
        }
        let Some(version) = field("Version") else { continue };
        let files = field("Checksums-Sha256").unwrap_or_default().lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let sha256 = Sha256Digest::parse(words.next()?).ok()?;
            let name = words.nth(1)?.to_owned();
            (!name.contains('/')).then_some(SourceFile { name, sha256 })
        });
        let package = SourcePackage {
            version: version.to_owned(),
            format: field("Format").unwrap_or("1.0").to_owned(),
            files: files.collect(),
        };
        if !found.contains(&package) {
            found.push(package);
        }
    }
    found
}

/// The files of a source package by their part in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFiles {
    /// The orig archive, or the only one of a native package.
    pub main: SourceFile,
    /// Further components and the directory of each, sorted.
    pub components: Vec<(String, SourceFile)>,
    /// `.debian.tar.*` or `.diff.gz`; none for a native package.
    pub packaging: Option<SourceFile>,
}

impl SourcePackage {
    /// Sorts the files by their names (dpkg-source(1), "Source package formats").
    pub(super) fn classify(&self) -> Option<SourceFiles> {
        let (mut main, mut native, mut packaging, mut components) = (None, None, None, Vec::new());
        for file in &self.files {
            let name = file.name.as_str();
            if name.ends_with(".dsc") || name.ends_with(".asc") {
                continue;
            }
            if name.contains(".orig.tar.") {
                main = Some(file.clone());
            } else if let Some((_, rest)) = name.split_once(".orig-")
                && let Some((component, _)) = rest.split_once(".tar.")
                && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            {
                components.push((component.to_owned(), file.clone()));
            } else if name.contains(".debian.tar.") || name.ends_with(".diff.gz") {
                packaging = Some(file.clone());
            } else if name.contains(".tar.") {
                native = Some(file.clone());
            }
        }
        components.sort_by(|a, b| a.0.cmp(&b.0));
        Some(SourceFiles { main: main.or(native)?, components, packaging })
    }
}
