//! Sources: git repositories, archives and Debian source packages, all made git trees in bare
//! mirrors of the store. What is accepted and what comes out is written in `docs/sources.md`.
//!
//! Everything blocks; an asynchronous caller uses a blocking thread.

mod apt;
mod archive;
mod command;
mod debian;
mod download;
mod error;
mod fetch;
mod lfs;
mod mirror;
mod patches;
mod series;
mod spec;
mod submodules;
mod url;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outcrop_fs::Timestamp;
use parking_lot::Mutex;

pub use download::digest_of;
pub use error::{Cause, Error, Result};
pub use git2::Oid;
pub use series::Release;
pub use spec::{
    Aliases, DebianSpec, Location, SERIES_MIRROR, SeriesName, Sha256Digest, SourceFields,
    SourceSpec, is_archive_name, mirror_name,
};
pub use url::Url;

use crate::store::Store;
use error::Context;

/// What is going on, for people. Counts and sizes so far. Told at least once of whatever is not in the
/// store yet, and of nothing else.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// Objects of a git repository.
    Fetching {
        url: &'a str,
        received: u64,
        total: u64,
        bytes: u64,
    },
    Downloading {
        what: &'a str,
        bytes: u64,
    },
    /// Members of an archive.
    Importing {
        what: &'a str,
        members: u64,
    },
    /// An index; its size is not known.
    Refreshing {
        what: &'a str,
    },
}

/// Is told of progress; `false` stops the work with [`Error::Cancelled`].
pub type ProgressFn<'a> = dyn Fn(Progress<'_>) -> bool + 'a;

/// A source as the build uses it: a tree of a bare repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSource {
    pub repo: PathBuf,
    pub commit: Oid,
    pub tree: Oid,
    /// Whether the tree has a `.gitmodules`.
    pub names_submodules: bool,
    /// The committer's time.
    pub time: Timestamp,
}

/// A submodule with its content, for a nested tree at `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSubmodule {
    /// From the top of the outermost source, without a leading slash.
    pub path: String,
    pub source: ResolvedSource,
}

/// Other URLs for the submodules of a source, by path in its tree.
pub type UrlOverrides = BTreeMap<String, UrlOverride>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UrlOverride {
    pub url: String,
    /// For the submodules of this one.
    pub submodules: UrlOverrides,
}

/// Where branches are, by URL and name.
type Tips = HashMap<(Url, String), Oid>;

/// Gets sources into a store.
#[derive(Debug, Clone)]
pub struct Sources {
    store: Store,
    offline: bool,
    /// Each server is asked once, so that all who track one branch get one commit.
    tips: Arc<Mutex<Tips>>,
}

/// A store and somebody to tell of progress.
struct Session<'a> {
    store: &'a Store,
    offline: bool,
    tips: &'a Mutex<Tips>,
    progress: &'a ProgressFn<'a>,
}

impl Session<'_> {
    fn tell(&self, progress: Progress<'_>) -> bool {
        (self.progress)(progress)
    }

    fn log(&self, message: String) {
        log::info!("{message}");
    }
}

/// Deepest nesting of submodules within submodules.
const DEEPEST_SUBMODULE: usize = 8;

impl Sources {
    pub fn new(store: Store) -> Sources {
        Sources { store, offline: false, tips: Arc::default() }
    }

    /// With `offline` nothing is asked of a server; what is on this machine is still read.
    pub fn offline(self, offline: bool) -> Sources {
        Sources { offline, ..self }
    }

    /// The commit and tree of a source; goes to the network only for what the store lacks. No
    /// collection removes the mirror while the store is open.
    pub fn resolve(&self, spec: &SourceSpec, progress: &ProgressFn<'_>) -> Result<ResolvedSource> {
        let session = self.session(progress);
        self.hold(|| match spec {
            SourceSpec::Git { url, reference } => mirror::resolve(&session, url, reference),
            SourceSpec::Archive { location, sha256 } => self.import(&session, location, sha256),
            SourceSpec::Debian(spec) => debian::resolve(&session, spec),
            SourceSpec::Series { name, reference } => series::resolve(&session, name, reference),
        })
    }

    /// Where a branch of a git repository is now, or the tag where no branch has the name. The server
    /// is asked once; offline the mirror is.
    pub fn track(
        &self,
        url: &Url,
        branch: &str,
        progress: &ProgressFn<'_>,
    ) -> Result<ResolvedSource> {
        let session = self.session(progress);
        self.hold(|| mirror::track(&session, url, branch))
    }

    /// Imports archives of one project as a series, or adds them to it; gives where each is, in the
    /// order of their versions.
    pub fn import_series(
        &self,
        name: &SeriesName,
        archives: &[PathBuf],
        progress: &ProgressFn<'_>,
    ) -> Result<Vec<Release>> {
        series::import(&self.session(progress), name, archives)
    }

    fn session<'a>(&'a self, progress: &'a ProgressFn<'a>) -> Session<'a> {
        Session { store: &self.store, offline: self.offline, tips: &self.tips, progress }
    }

    fn hold(&self, get: impl Fn() -> Result<ResolvedSource>) -> Result<ResolvedSource> {
        loop {
            let found = get()?;
            // A collection may have taken the mirror in between; then it is made once more.
            if self.store.hold(&found.repo)? {
                return Ok(found);
            }
        }
    }

    fn import(
        &self,
        session: &Session<'_>,
        location: &Location,
        sha256: &Sha256Digest,
    ) -> Result<ResolvedSource> {
        let name = format!("archive_{sha256}");
        let place = self.store.mirrors().join(&name);
        if let Some(found) = mirror::imported(&place)? {
            return Ok(found);
        }
        let path = match location {
            Location::Path(path) => path.clone(),
            Location::Url(url) => download::fetch(session, url, sha256)?,
        };
        let _lock = self.store.lock_name(&format!("mirror-{name}"))?;
        if let Some(found) = mirror::imported(&place)? {
            return Ok(found);
        }
        let url = match location {
            Location::Path(path) => format!("tar:{}", path.display()),
            Location::Url(url) => format!("tar:{url}"),
        };
        mirror::import(session, &place, &url, |repo| import_archive(session, repo, &path, sha256))
    }

    /// All submodules of a git source, nested ones included; URLs may use aliases.
    pub fn submodules(
        &self,
        source: &ResolvedSource,
        url: &Url,
        overrides: &UrlOverrides,
        aliases: &Aliases,
        progress: &ProgressFn<'_>,
    ) -> Result<Vec<ResolvedSubmodule>> {
        let mut found = Vec::new();
        let none = UrlOverrides::new();
        let mut todo = vec![(String::new(), source.clone(), url.clone(), overrides, 0)];
        while let Some((prefix, source, url, overrides, depth)) = todo.pop() {
            let entries = submodules::entries(&self.store, &source, url.whole(), overrides)?;
            let named: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
            for path in overrides.keys().filter(|path| !named.contains(path.as_str())) {
                log::warn!("{url}: another URL is given for {path}, which is no submodule of it");
            }
            for entry in &entries {
                let path = format!("{prefix}{}", entry.path);
                if depth >= DEEPEST_SUBMODULE {
                    return Err(Error::Invalid(format!("{path}: submodules are nested too deep.")));
                }
                let commit = entry.commit.to_string();
                let (spec, url) = SourceSpec::of_submodule(&entry.url, &commit, aliases)
                    .map_err(|error| Error::Invalid(format!("{path}: {error}")))?;
                let resolved =
                    self.resolve(&spec, progress).map_err(|error| error.of_submodule(&path))?;
                let below = format!("{path}/");
                let nested = overrides.get(&entry.path).map_or(&none, |entry| &entry.submodules);
                let depth = depth.saturating_add(1);
                todo.push((below, resolved.clone(), url, nested, depth));
                found.push(ResolvedSubmodule { path, source: resolved });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Names of all mirrors, sorted, with what each mirrors.
    pub fn list(&self) -> Result<BTreeSet<(String, String)>> {
        let place = self.store.mirrors();
        let mut found = BTreeSet::new();
        for item in std::fs::read_dir(&place).context("cannot read", &place)? {
            let path = item.context("cannot read", &place)?.path();
            let Ok(repo) = git2::Repository::open_bare(&path) else { continue };
            let url = repo.config().and_then(|config| config.get_string("outcrop.url"));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.insert((name, url.unwrap_or_default()));
        }
        Ok(found)
    }
}

/// For [`outcrop_fs::layer::git::GitLayer`]: where the repository of each submodule is.
pub fn submodule_resolver(
    submodules: &[ResolvedSubmodule],
) -> Box<outcrop_fs::layer::git::SubmoduleResolver> {
    let places: BTreeMap<(Vec<u8>, Oid), PathBuf> = submodules
        .iter()
        .map(|one| ((one.path.clone().into_bytes(), one.source.commit), one.source.repo.clone()))
        .collect();
    Box::new(move |path, commit| places.get(&(path.to_vec(), commit)).cloned())
}

fn import_archive(
    session: &Session<'_>,
    repo: &git2::Repository,
    path: &Path,
    sha256: &Sha256Digest,
) -> Result<Oid> {
    let content = archive::read(session, repo, path);
    let found = match &content {
        Ok(content) => content.sha256.clone(),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        // A wrong file is told as such, whatever its content did to the reader.
        Err(_) => digest_of(path)?,
    };
    let what = path.display().to_string();
    if found != sha256.as_str() {
        return Err(Error::Checksum { what, found, wanted: sha256.to_string() });
    }
    let content = content?;
    let members = archive::strip(content.members);
    let description = archive::Description {
        subject: "Import",
        seconds: content.newest,
        checksums: &[content.sha256],
        parent: None,
    };
    archive::commit(repo, &members, &description, &what)
}

#[cfg(test)]
mod tests;
