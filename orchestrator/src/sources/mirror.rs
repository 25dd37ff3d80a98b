//! Bare mirrors of git repositories in the store.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use sha2::{Digest, Sha256};

use super::error::{Context, Error, Result};
use super::fetch::{PASSING, fetch, forget_passing, is_local};
use super::url::Url;
use super::{ResolvedSource, Session, lfs, spec};
use crate::store::{FileLock, hex};

/// Longest mirror name before its distinguishing digits.
const LONGEST_NAME: usize = 180;

/// Configuration key by which a mirror remembers what it mirrors.
const URL_KEY: &str = "outcrop.url";

const BRANCHES_AND_TAGS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
const EVERYTHING: [&str; 1] = ["+refs/*:refs/*"];

/// Of a commit's id.
const ID_DIGITS: usize = 40;

/// The branch of an imported archive or package.
const IMPORTED: &str = "refs/heads/main";

/// Resolves a git source, fetching only if the revision is not there.
pub(super) fn resolve(session: &Session<'_>, url: &Url, reference: &str) -> Result<ResolvedSource> {
    let path = mirror_path(session, url)?;
    if let Ok(repo) = Repository::open_bare(&path)
        && let Some(found) = find(&repo, &path, reference)?
    {
        return Ok(found);
    }
    let _lock = lock(session, &path)?;
    resolve_anew(session, url, &path, reference).map_err(|error| match error {
        Error::Offline { what } => Error::Offline { what: format!("{what} at {reference}") },
        error => error,
    })
}

/// For the holder of the mirror's lock.
fn resolve_anew(
    session: &Session<'_>,
    url: &Url,
    path: &Path,
    reference: &str,
) -> Result<ResolvedSource> {
    if path.exists() {
        let repo = open(path)?;
        // Another process may have fetched while this one waited for the lock.
        if let Some(found) = find(&repo, path, reference)? {
            return Ok(found);
        }
        session.log(format!("fetching {url}"));
        fetch(session, &repo, url, &BRANCHES_AND_TAGS)?;
    } else {
        clone(session, url, path)?;
    }
    let repo = open(path)?;
    if let Some(found) = find(&repo, path, reference)? {
        return Ok(found);
    }
    fetch(session, &repo, url, &EVERYTHING)?;
    if let Some(found) = find(&repo, path, reference)? {
        return Ok(found);
    }
    // Some servers give what no ref of theirs leads to any more.
    if reference.len() == ID_DIGITS && Oid::from_str(reference).is_ok() {
        let wanted = format!("+{reference}:refs/outcrop/kept/{reference}");
        match fetch(session, &repo, url, &[&wanted]) {
            Err(error @ Error::Cancelled) => return Err(error),
            Err(error) => session.log(format!("{url} does not give {reference}: {error}")),
            Ok(()) => {}
        }
    }
    find(&repo, path, reference)?.ok_or_else(|| missing(&repo, &url.to_string(), reference))
}

/// Where a branch is now, or the tag where no branch has the name.
pub(super) fn track(session: &Session<'_>, url: &Url, branch: &str) -> Result<ResolvedSource> {
    let names = [format!("refs/heads/{branch}"), format!("refs/tags/{branch}")];
    if !names.iter().all(|name| git2::Reference::is_valid_name(name)) {
        return Err(Error::Invalid(format!("{branch:?} cannot be the name of a branch")));
    }
    let path = mirror_path(session, url)?;
    if session.offline && !is_local(url) {
        let absent = || Error::Offline { what: format!("the branch {branch} of {url}") };
        let repo = Repository::open_bare(&path).map_err(|_| absent())?;
        let found = names.iter().find_map(|name| find(&repo, &path, name).transpose());
        return found.unwrap_or_else(|| Err(absent()));
    }
    let _lock = lock(session, &path)?;
    let asked = (url.clone(), branch.to_owned());
    let known = session.tips.lock().get(&asked).copied().filter(|_| path.exists());
    let tip = match known {
        Some(tip) => tip,
        None => {
            let ask = |repo: &Repository| fetch_tip(session, repo, url, branch);
            match path.exists() {
                true => ask(&open(&path)?)?,
                false => create(session, &path, &url.to_string(), ask)?,
            }
        }
    };
    session.tips.lock().insert(asked, tip);
    let repo = open(&path)?;
    let tip = tip.to_string();
    find(&repo, &path, &tip)?.ok_or_else(|| missing(&repo, &url.to_string(), &tip))
}

/// Fetches, and gives what the branch or tag is at the server. One that is gone there stays in the
/// mirror for those who have pinned it, so the mirror's own cannot tell.
fn fetch_tip(session: &Session<'_>, repo: &Repository, url: &Url, branch: &str) -> Result<Oid> {
    let specs = [
        format!("+refs/heads/{branch}:{PASSING}heads/{branch}"),
        format!("+refs/tags/{branch}:{PASSING}tags/{branch}"),
    ];
    let forget = || forget_passing(repo).context("cannot update the mirror of", url.to_string());
    // A killed fetch may have left some.
    forget()?;
    session.log(format!("fetching {url}"));
    let refspecs: Vec<&str> =
        BRANCHES_AND_TAGS.into_iter().chain(specs.iter().map(String::as_str)).collect();
    fetch(session, repo, url, &refspecs)?;
    let places = ["heads", "tags"].map(|kind| format!("{PASSING}{kind}/{branch}"));
    let tip = places.iter().find_map(|place| repo.refname_to_id(place).ok());
    forget()?;
    tip.ok_or_else(|| {
        let near = outcrop_fs::layer::git::near_matches(repo, branch);
        Error::Invalid(format!("{url} has no branch {branch}.{near}"))
    })
}

pub(super) fn open(path: &Path) -> Result<Repository> {
    Repository::open_bare(path).context("cannot open the mirror", path)
}

/// Keeps other processes from making or fetching the same mirror.
pub(super) fn lock(session: &Session<'_>, path: &Path) -> Result<FileLock> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(session.store.lock_name(&format!("mirror-{name}"))?)
}

/// Where the mirror of a URL is or will be.
fn mirror_path(session: &Session<'_>, url: &Url) -> Result<PathBuf> {
    // Who asks makes no other repository of it.
    let url = url.to_string();
    let mut name = spec::mirror_name(&url);
    let marked = |name: &str| {
        let short: String = name.chars().take(LONGEST_NAME).collect();
        let digits = hex(&Sha256::digest(url.as_bytes()));
        format!("{short}_{}", digits.get(..8).unwrap_or_default())
    };
    if name.len() > LONGEST_NAME {
        name = marked(&name);
    }
    let path = session.store.mirrors().join(&name);
    if !path.exists() {
        return Ok(path);
    }
    // Its own file alone: opening the repository reads a dozen more.
    let config = git2::Config::open(&path.join("config"));
    let known = config.and_then(|config| config.get_string(URL_KEY));
    if known.is_ok_and(|known| same_place(&known, &url)) {
        return Ok(path);
    }
    Ok(session.store.mirrors().join(marked(&name)))
}

fn same_place(a: &str, b: &str) -> bool {
    fn plain(url: &str) -> &str {
        let url = url.trim_end_matches('/');
        url.strip_suffix(".git").unwrap_or(url)
    }
    plain(a) == plain(b)
}

fn clone(session: &Session<'_>, url: &Url, place: &Path) -> Result<()> {
    session.log(format!("mirroring {url}"));
    create(session, place, &url.to_string(), |repo| fetch(session, repo, url, &BRANCHES_AND_TAGS))
}

/// Makes a single-commit mirror of what `fill` puts into it.
pub(super) fn import(
    session: &Session<'_>,
    place: &Path,
    url: &str,
    fill: impl FnOnce(&Repository) -> Result<Oid>,
) -> Result<ResolvedSource> {
    create(session, place, url, |repo| {
        let commit = fill(repo)?;
        let packs = repo.path().join("objects/pack");
        pack(repo, commit, None, &packs).context("cannot pack the import of", url)?;
        remove_loose_objects(repo)?;
        repo.reference(IMPORTED, commit, true, "import")
            .context("cannot name the import of", url)?;
        Ok(())
    })?;
    imported(place)?.ok_or_else(|| {
        Error::Invalid(format!("{}: the import was lost; run it again.", place.display()))
    })
}

/// Writes everything that a commit and those before it need, and that a known one does not, into one
/// pack: a file a blob costs more to look up, and much more disk. No deltas are made, because a build
/// reads every file once, at random.
pub(super) fn pack(
    repo: &Repository,
    newest: Oid,
    known: Option<Oid>,
    packs: &Path,
) -> std::result::Result<(), git2::Error> {
    // libgit2 takes this option as the size up to which it tries to find deltas, too. Should that
    // change, packs become smaller and slower to read, nothing else.
    const NO_DELTAS: &str = "pack.deltaCacheSize";
    repo.config()?.set_i64(NO_DELTAS, 1)?;
    let mut builder = repo.packbuilder()?;
    let mut commits = repo.revwalk()?;
    commits.push(newest)?;
    if let Some(known) = known {
        commits.hide(known)?;
    }
    builder.insert_walk(&mut commits)?;
    builder.write(packs, 0o444)?;
    repo.config()?.remove(NO_DELTAS)
}

pub(super) fn remove_loose_objects(repo: &Repository) -> Result<()> {
    let objects = repo.path().join("objects");
    for item in std::fs::read_dir(&objects).context("cannot read", &objects)? {
        let path = item.context("cannot read", &objects)?.path();
        if path.file_name().is_some_and(|name| name.len() == 2) {
            crate::store::remove_tree(&path)?;
        }
    }
    repo.odb().and_then(|odb| odb.refresh()).context("cannot read", &objects)
}

/// What an earlier import left at this place.
pub(super) fn imported(place: &Path) -> Result<Option<ResolvedSource>> {
    if !place.exists() {
        return Ok(None);
    }
    find(&open(place)?, place, IMPORTED)
}

/// Makes a bare repository whole or not at all: filled beside, synced, renamed.
pub(super) fn create<T>(
    session: &Session<'_>,
    place: &Path,
    url: &str,
    fill: impl FnOnce(&Repository) -> Result<T>,
) -> Result<T> {
    in_draft(session, url, |repo, draft| {
        let filled = fill(repo)?;
        sync(draft)?;
        std::fs::rename(draft, place).context("cannot move the mirror to", place)?;
        Ok(filled)
    })
    .and_then(|filled| sync(place).map(|()| filled))
}

/// Works with a bare repository that is gone afterwards, unless it was moved.
pub(super) fn in_draft<T>(
    session: &Session<'_>,
    url: &str,
    work: impl FnOnce(&Repository, &Path) -> Result<T>,
) -> Result<T> {
    let draft = session.store.temporary_path();
    let mut options = git2::RepositoryInitOptions::new();
    // Neither the user's templates nor the user's default branch name belong into a mirror.
    options.bare(true).external_template(false).initial_head("main").no_reinit(true);
    let done = Repository::init_opts(&draft, &options)
        .and_then(|repo| repo.config()?.set_str(URL_KEY, url).map(|()| repo))
        .context("cannot make a mirror in", &draft)
        .and_then(|repo| work(&repo, &draft));
    crate::store::remove_tree(&draft)?;
    done
}

/// Brings the file system that holds the path to disk: cheaper than syncing thousands of objects.
pub(super) fn sync(path: &Path) -> Result<()> {
    let file = std::fs::File::open(path).context("cannot open", path)?;
    rustix::fs::syncfs(&file).map_err(std::io::Error::from).context("cannot sync", path)
}

/// The source in a mirror, or `None` where the revision is not there.
pub(super) fn find(
    repo: &Repository,
    path: &Path,
    reference: &str,
) -> Result<Option<ResolvedSource>> {
    let Ok(object) = repo.revparse_single(reference) else { return Ok(None) };
    let Ok(commit) = object.peel_to_commit() else {
        return Err(Error::Invalid(format!(
            "{}: {reference} is not a commit; name a commit, tag or branch.",
            path.display()
        )));
    };
    let seconds = commit.committer().when().seconds();
    if let Some(pointer) = lfs::pointer(repo, path, &commit).context("cannot read", path)? {
        let url = repo.config().and_then(|config| config.get_string(URL_KEY));
        return Err(Error::Invalid(format!(
            "{}: {pointer} at {reference} is kept by Git LFS, which is not supported; \
             use an archive or a mirror with the real file.",
            url.unwrap_or_else(|_| path.display().to_string())
        )));
    }
    Ok(Some(ResolvedSource {
        repo: path.to_owned(),
        commit: commit.id(),
        tree: commit.tree_id(),
        names_submodules: commit.tree().is_ok_and(|tree| tree.get_name(".gitmodules").is_some()),
        time: outcrop_fs::Timestamp::new(seconds, 0),
    }))
}

pub(super) fn missing(repo: &Repository, url: &str, reference: &str) -> Error {
    let near = outcrop_fs::layer::git::near_matches(repo, reference);
    Error::Invalid(format!("{url} has no revision {reference}.{near}"))
}
