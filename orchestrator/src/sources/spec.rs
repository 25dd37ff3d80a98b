//! What a definition says about a source, parsed. Written down in `docs/sources.md`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::url::Url;
use crate::words::without_credentials;

/// What the mirrors of series begin with. No URL's mirror does.
pub const SERIES_MIRROR: &str = "series_";

/// Where a chunk comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceSpec {
    Git {
        url: Url,
        reference: String,
    },
    Archive {
        location: Location,
        sha256: Sha256Digest,
    },
    Debian(DebianSpec),
    /// Archives of one project that were imported as one repository.
    Series {
        name: SeriesName,
        reference: String,
    },
}

/// Names with slashes between them, none of which leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesName(String);

impl SeriesName {
    /// Leaves room for what a file's name has besides.
    const LONGEST: usize = 150;

    pub fn parse(text: &str) -> Result<Self> {
        let good = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'))
        };
        if text.len() <= Self::LONGEST && text.split('/').all(good) {
            return Ok(SeriesName(text.to_owned()));
        }
        Err(Error::Invalid(format!(
            "{text:?} cannot be the name of a series: letters, digits and . _ + - are taken, up to \
             {} of them, beginning with a letter or digit; / may stand between two names",
            Self::LONGEST
        )))
    }

    /// The mirror's directory.
    pub(super) fn mirror(&self) -> String {
        format!("{SERIES_MIRROR}{}", self.0.replace('/', "%2f"))
    }
}

impl fmt::Display for SeriesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    Url(Url),
    Path(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DebianSpec {
    pub name: String,
    /// The source version with its epoch.
    pub version: String,
    /// SHA-256 of the orig archive (of a native package: of its archive).
    pub sha256: Option<Sha256Digest>,
    pub patches: bool,
}

/// 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sha256Digest(String);

impl Sha256Digest {
    pub fn parse(text: &str) -> Result<Self> {
        let digest = text.trim().to_ascii_lowercase();
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Sha256Digest(digest))
        } else {
            Err(Error::Invalid(format!("{text:?} is not a SHA-256: 64 hex digits are needed.")))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prefixes of `repo` and what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, String>);

impl Default for Aliases {
    /// Baserock's table. None of these hosts can be relied upon today.
    fn default() -> Self {
        let table = [
            ("baserock:", "git://git.baserock.org/baserock/"),
            ("upstream:", "git://git.baserock.org/delta/"),
            ("freedesktop:", "git://anongit.freedesktop.org/"),
            ("github:", "git://github.com/"),
            ("gnome:", "git://git.gnome.org/"),
        ];
        Aliases(table.map(|(alias, target)| (alias.to_owned(), target.to_owned())).into())
    }
}

impl Aliases {
    /// No alias at all.
    pub fn none() -> Self {
        Aliases(BTreeMap::new())
    }

    /// Adds an alias or replaces one; `upstream` means `upstream:`.
    pub fn set(&mut self, alias: &str, target: &str) {
        let colon = if alias.contains(':') { "" } else { ":" };
        self.0.insert(format!("{alias}{colon}"), target.to_owned());
    }

    /// Replaces the longest alias that the text begins with.
    pub fn expand(&self, repo: &str) -> String {
        let found = self
            .0
            .iter()
            .filter_map(|(alias, target)| Some((alias.len(), target, repo.strip_prefix(alias)?)))
            .max_by_key(|(length, ..)| *length);
        let Some((_, target, rest)) = found else { return repo.to_owned() };
        let expanded = format!("{target}{rest}");
        let is_http = expanded.starts_with("http://") || expanded.starts_with("https://");
        if is_http && !expanded.ends_with(".git") && !is_archive_name(&expanded) {
            expanded + ".git"
        } else {
            expanded
        }
    }
}

/// The fields of a chunk that say where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceFields<'a> {
    pub repo: &'a str,
    pub reference: Option<&'a str>,
    pub sha256: Option<&'a str>,
    pub patches: bool,
}

impl SourceSpec {
    /// The repository of a submodule, which nothing is relative to; gives its URL, too.
    pub fn of_submodule(url: &str, commit: &str, aliases: &Aliases) -> Result<(SourceSpec, Url)> {
        let fields = SourceFields { repo: url, reference: Some(commit), ..SourceFields::default() };
        let spec = SourceSpec::parse(fields, aliases, Path::new("/"))?;
        match &spec {
            SourceSpec::Git { url, .. } => {
                let url = url.clone();
                Ok((spec, url))
            }
            _ => Err(Error::Invalid(format!(
                "the submodule's URL {} is not a git repository.",
                without_credentials(url)
            ))),
        }
    }

    /// Parses the fields. `base` is what relative archive paths are relative to.
    pub fn parse(fields: SourceFields<'_>, aliases: &Aliases, base: &Path) -> Result<SourceSpec> {
        parse_fields(fields, aliases, base).map_err(|error| match error {
            Error::Invalid(why) => Error::Invalid(without_credentials(&why).into_owned()),
            other => other,
        })
    }
}

fn parse_fields(fields: SourceFields<'_>, aliases: &Aliases, base: &Path) -> Result<SourceSpec> {
    let repo = aliases.expand(fields.repo.trim());
    let reference = fields.reference.map(str::trim).filter(|text| !text.is_empty());
    let sha256 = fields.sha256.map(Sha256Digest::parse).transpose()?;
    if let Some(package) = repo.strip_prefix("debian:") {
        return debian(package, reference, sha256, fields.patches);
    }
    if fields.patches {
        return Err(Error::Invalid(format!(
            "{repo}: `patches` is for Debian source packages (debian:NAME) only."
        )));
    }
    if let Some(name) = repo.strip_prefix("series:") {
        return series(name, reference, sha256);
    }
    let archive = repo.strip_prefix("tar:").or_else(|| is_archive_name(&repo).then_some(&repo));
    if let Some(archive) = archive {
        return parse_archive(archive, reference, sha256, base);
    }
    git(repo, reference, sha256)
}

fn debian(
    package: &str,
    reference: Option<&str>,
    sha256: Option<Sha256Digest>,
    patches: bool,
) -> Result<SourceSpec> {
    let (name, inline) = match package.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (package, None),
    };
    // Debian Policy 5.6.1 and 5.6.12. Neither can then be taken for an option of apt.
    let good_name = name.len() > 1
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    if !good_name {
        return Err(Error::Invalid(format!(
            "{name:?} is not the name of a Debian source package."
        )));
    }
    let version = match (inline, reference) {
        (Some(inline), Some(reference)) if inline != reference => {
            return Err(Error::Invalid(format!(
                "debian:{package}: `ref` says version {reference}; name the version once."
            )));
        }
        (Some(version), _) | (None, Some(version)) => version,
        (None, None) => {
            return Err(Error::Invalid(format!(
                "debian:{name}: the version is missing; give it as `ref`."
            )));
        }
    };
    let good_version = version.starts_with(|first: char| first.is_ascii_digit())
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b':' | b'~'));
    if !good_version {
        return Err(Error::Invalid(format!(
            "debian:{name}: {version:?} is not a Debian version (for example 1:1.2.13.dfsg-1)."
        )));
    }
    let (name, version) = (name.to_owned(), version.to_owned());
    Ok(SourceSpec::Debian(DebianSpec { name, version, sha256, patches }))
}

fn parse_archive(
    archive: &str,
    reference: Option<&str>,
    sha256: Option<Sha256Digest>,
    base: &Path,
) -> Result<SourceSpec> {
    if let Some(reference) = reference {
        return Err(Error::Invalid(format!(
            "{archive}: an archive has no `ref` ({reference}); `sha256` says which one is meant."
        )));
    }
    let Some(sha256) = sha256 else {
        return Err(Error::Invalid(format!(
            "{archive}: `sha256` is missing; an archive is used only with its checksum."
        )));
    };
    let location = if archive.starts_with("http://") || archive.starts_with("https://") {
        Location::Url(Url::new(archive))
    } else if let Some(path) = archive.strip_prefix("file://") {
        Location::Path(PathBuf::from(path))
    } else if archive.contains("://") {
        return Err(Error::Invalid(format!(
            "{archive}: archives come from http://, https://, file:// or a path."
        )));
    } else {
        Location::Path(base.join(archive))
    };
    Ok(SourceSpec::Archive { location, sha256 })
}

fn series(name: &str, reference: Option<&str>, sha256: Option<Sha256Digest>) -> Result<SourceSpec> {
    let name = SeriesName::parse(name)?;
    if sha256.is_some() {
        return Err(Error::Invalid(format!(
            "series:{name}: a series has no `sha256`; its commits are made of the archives' content."
        )));
    }
    let Some(reference) = reference else {
        return Err(Error::Invalid(format!(
            "series:{name}: `ref` is missing; give the commit or tag of a release."
        )));
    };
    check_reference(&format!("series:{name}"), reference)?;
    Ok(SourceSpec::Series { name, reference: reference.to_owned() })
}

fn git(url: String, reference: Option<&str>, sha256: Option<Sha256Digest>) -> Result<SourceSpec> {
    if sha256.is_some() {
        return Err(Error::Invalid(format!(
            "{url}: `sha256` is for archives; a git source is pinned by a commit in `ref`. \
             If this is an archive, write tar:{url}."
        )));
    }
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("http" | "https" | "git" | "file") => {}
        None if url.starts_with('/') => {}
        Some("ssh" | "git+ssh") => return Err(no_ssh(&url)),
        None if url.split('/').next().is_some_and(|host| host.contains('@')) => {
            return Err(no_ssh(&url));
        }
        _ => {
            return Err(Error::Invalid(format!(
                "{url:?} is no source: neither a known alias nor a URL (https, http, git, file), \
                 an absolute path, tar:…, debian:… or series:…."
            )));
        }
    }
    let Some(reference) = reference else {
        return Err(Error::Invalid(format!("{url}: `ref` is missing; give a commit.")));
    };
    check_reference(&url, reference)?;
    Ok(SourceSpec::Git { url: Url::new(url), reference: reference.to_owned() })
}

/// Expressions such as `main~2` mean another commit later, and `HEAD` is the mirror's own.
fn check_reference(url: &str, reference: &str) -> Result<()> {
    let is_name = git2::Reference::is_valid_name(&format!("refs/heads/{reference}"));
    if is_name && reference != "HEAD" {
        return Ok(());
    }
    Err(Error::Invalid(format!("{url}: {reference:?} is no commit, tag or branch by name.")))
}

fn no_ssh(url: &str) -> Error {
    Error::Invalid(format!(
        "{url}: ssh is not supported; make a clone with `git clone --mirror` and name its path."
    ))
}

/// Whether a URL or path ends like a tar archive.
pub fn is_archive_name(name: &str) -> bool {
    archive_stem(name).is_some()
}

/// A URL or path without its ending, where that is a tar archive's.
pub(super) fn archive_stem(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    [".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lzma"]
        .iter()
        .find_map(|ending| name.get(..lower.strip_suffix(ending)?.len()))
}

/// The mirror's directory name for a git URL, see `docs/sources.md`; not yet made unique.
pub fn mirror_name(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '_');
    url.strip_suffix(".git")
        .unwrap_or(url)
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}
