//! Bare mirrors of git repositories in the store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::{AutotagOption, FetchOptions, Oid, ProxyOptions, RemoteCallbacks, Repository};
use sha2::{Digest, Sha256};

use super::error::{Context, Error, Result};
use super::{Progress, ResolvedSource, Session};
use super::{lfs, spec};
use crate::store::{FileLock, hex};

/// Longest mirror name before its distinguishing digits.
const LONGEST_NAME: usize = 180;

/// A silent server is given up after this many milliseconds.
const SERVER_TIMEOUT: i32 = 60_000;

/// Configuration key by which a mirror remembers what it mirrors.
const URL_KEY: &str = "outcrop.url";

const BRANCHES_AND_TAGS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
const EVERYTHING: [&str; 1] = ["+refs/*:refs/*"];

/// Of a commit's id.
const ID_DIGITS: usize = 40;

/// Below this are refs that only serve a fetch.
const PASSING: &str = "refs/outcrop/passing/";

/// What the server has now, for comparison.
const THEIRS: &str = "refs/outcrop/passing/theirs/";

/// What the names of packs begin with that libgit2 is still writing.
const PARTIAL_PACK: &str = "pack_git2_";

/// The branch of an imported archive or package.
const IMPORTED: &str = "refs/heads/main";

/// Resolves a git source, fetching only if the revision is not there.
pub(super) fn resolve(session: &Session<'_>, url: &str, reference: &str) -> Result<ResolvedSource> {
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
    url: &str,
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
    find(&repo, path, reference)?.ok_or_else(|| missing(&repo, url, reference))
}

/// Where a branch is now, or the tag where no branch has the name.
pub(super) fn track(session: &Session<'_>, url: &str, branch: &str) -> Result<ResolvedSource> {
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
    let asked = (url.to_owned(), branch.to_owned());
    let known = session.tips.lock().get(&asked).copied().filter(|_| path.exists());
    let tip = match known {
        Some(tip) => tip,
        None => {
            let ask = |repo: &Repository| fetch_tip(session, repo, url, branch);
            match path.exists() {
                true => ask(&open(&path)?)?,
                false => create(session, &path, url, ask)?,
            }
        }
    };
    session.tips.lock().insert(asked, tip);
    let repo = open(&path)?;
    let tip = tip.to_string();
    find(&repo, &path, &tip)?.ok_or_else(|| missing(&repo, url, &tip))
}

/// Fetches, and gives what the branch or tag is at the server. One that is gone there stays in the
/// mirror for those who have pinned it, so the mirror's own cannot tell.
fn fetch_tip(session: &Session<'_>, repo: &Repository, url: &str, branch: &str) -> Result<Oid> {
    let specs = [
        format!("+refs/heads/{branch}:{PASSING}heads/{branch}"),
        format!("+refs/tags/{branch}:{PASSING}tags/{branch}"),
    ];
    let forget = || forget_passing(repo).context("cannot update the mirror of", url);
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

fn forget_passing(repo: &Repository) -> std::result::Result<(), git2::Error> {
    for left in repo.references_glob(&format!("{PASSING}*"))? {
        left?.delete()?;
    }
    Ok(())
}

pub(super) fn open(path: &Path) -> Result<Repository> {
    Repository::open_bare(path).context("cannot open the mirror", path)
}

/// Keeps other processes from making or fetching the same mirror.
pub(super) fn lock(session: &Session<'_>, path: &Path) -> Result<FileLock> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(session.store.lock_name(&format!("mirror-{name}"))?)
}

/// Whether a repository is on this machine.
fn is_local(url: &str) -> bool {
    url.starts_with('/') || url.starts_with("file://")
}

/// Where the mirror of a URL is or will be.
fn mirror_path(session: &Session<'_>, url: &str) -> Result<PathBuf> {
    let mut name = spec::mirror_name(url);
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
    if known.is_ok_and(|known| same_place(&known, url)) {
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

fn clone(session: &Session<'_>, url: &str, place: &Path) -> Result<()> {
    session.log(format!("mirroring {url}"));
    create(session, place, url, |repo| fetch(session, repo, url, &BRANCHES_AND_TAGS))
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

/// What every fetch has: the environment's proxy, and nothing that was not asked for.
fn fetch_options<'a>() -> FetchOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    let mut options = FetchOptions::new();
    options.proxy_options(proxy).download_tags(AutotagOption::None).update_fetchhead(false);
    options
}

fn fetch(session: &Session<'_>, repo: &Repository, url: &str, refspecs: &[&str]) -> Result<()> {
    limit_patience();
    let mut remote = repo.remote_anonymous(url).context("cannot use the URL", url)?;
    // The user's git configuration may lead elsewhere than the URL does.
    if session.offline && !remote.url().is_ok_and(is_local) {
        return Err(Error::Offline { what: url.to_owned() });
    }
    // A server may be silent for long before there is anything to count.
    if !session.tell(Progress::Fetching { url, received: 0, total: 0, bytes: 0 }) {
        return Err(Error::Cancelled);
    }
    let cancelled = std::cell::Cell::new(false);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|state| {
        let go_on = session.tell(Progress::Fetching {
            url,
            received: state.received_objects() as u64,
            total: state.total_objects() as u64,
            bytes: state.received_bytes() as u64,
        });
        cancelled.set(!go_on);
        go_on
    });
    let mut options = fetch_options();
    options.remote_callbacks(callbacks);
    remove_partial_packs(repo)?;
    // As `fetch` does it, but with the objects on disk before anything refers to them.
    let downloaded = remote.download(refspecs, Some(&mut options));
    drop(options);
    if cancelled.get() {
        return Err(Error::Cancelled);
    }
    downloaded.map_err(|source| not_fetched(url, source))?;
    sync(repo.path())?;
    let flags = git2::RemoteUpdateFlags::empty();
    if remote.update_tips(None, flags, AutotagOption::None, None).is_err() {
        remove_obstacles(session, repo, url).context("cannot update the mirror of", url)?;
        remote
            .update_tips(None, flags, AutotagOption::None, None)
            .context("cannot update the mirror of", url)?;
    }
    sync(repo.path())
}

/// Removes branches and tags that the server cannot have any more: beside `a` there is no `a/b`. Others
/// that are gone there stay, because definitions may have pinned them.
fn remove_obstacles(
    session: &Session<'_>,
    repo: &Repository,
    url: &str,
) -> std::result::Result<(), git2::Error> {
    // The binding's own list of the server's refs panics where a name is not UTF-8.
    forget_passing(repo)?;
    session.log(format!("listing the branches of {url}"));
    let refspecs = ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:{THEIRS}{kind}/*"));
    let mut remote = repo.remote_anonymous(url)?;
    remote.download(&refspecs, Some(&mut fetch_options()))?;
    remote.update_tips(None, git2::RemoteUpdateFlags::empty(), AutotagOption::None, None)?;
    let mut wanted = BTreeSet::new();
    for theirs in repo.references_glob(&format!("{THEIRS}*"))? {
        let theirs = theirs?;
        wanted.extend(theirs.name_bytes().strip_prefix(THEIRS.as_bytes()).map(<[u8]>::to_vec));
    }
    forget_passing(repo)?;
    for pattern in ["refs/heads/*", "refs/tags/*"] {
        for own in repo.references_glob(pattern)? {
            let mut own = own?;
            if is_obstacle(own.name_bytes(), &wanted) {
                own.delete()?;
            }
        }
    }
    Ok(())
}

/// Whether a ref is a directory of wanted ones, or lies below one.
fn is_obstacle(name: &[u8], wanted: &BTreeSet<Vec<u8>>) -> bool {
    let Some(name) = name.strip_prefix(b"refs/") else { return false };
    let below = [name, b"/"].concat();
    let next = wanted.range(below.clone()..).next();
    let mut ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    next.is_some_and(|next| next.starts_with(&below))
        || ends.any(|end| name.get(..end).is_some_and(|parent| wanted.contains(parent)))
}

/// A killed fetch leaves what it had of its pack. Whoever holds the mirror's lock is alone with it.
fn remove_partial_packs(repo: &Repository) -> Result<()> {
    let packs = repo.path().join("objects/pack");
    for item in std::fs::read_dir(&packs).context("cannot read", &packs)? {
        let path = item.context("cannot read", &packs)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL_PACK)) {
            crate::store::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// A repository that is not where the definition says is no server's fault.
fn not_fetched(url: &str, source: git2::Error) -> Error {
    let local = url.strip_prefix("file://").unwrap_or(url);
    if local.starts_with('/') {
        // What libgit2 says of a path that does not exist is misleading.
        if !Path::new(local).exists() {
            return Error::Invalid(format!("cannot fetch {url}: it does not exist"));
        }
        if Repository::open(local).is_err_and(|e| e.code() == git2::ErrorCode::NotFound) {
            return Error::Invalid(format!("cannot fetch {url}: it is not a git repository"));
        }
    }
    Error::Git { doing: "cannot fetch", what: url.to_owned(), source }
}

#[allow(unsafe_code)]
fn limit_patience() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: both set an int inside libgit2. `Once` keeps our own threads from setting them
        // at the same time, and every connection of ours is opened after this.
        let set = unsafe {
            git2::opts::set_server_connect_timeout_in_milliseconds(SERVER_TIMEOUT)
                .and(git2::opts::set_server_timeout_in_milliseconds(SERVER_TIMEOUT))
        };
        if let Err(error) = set {
            log::debug!("no time limit for git servers: {}", error.message());
        }
    });
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
