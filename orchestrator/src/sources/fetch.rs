//! Fetching into mirrors: what is asked of servers, and what of a mirror gives way to the answer.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{AutotagOption, FetchOptions, ProxyOptions, RemoteCallbacks, Repository};

use super::error::{Context, Error, Result};
use super::mirror::sync;
use super::url::Url;
use super::{Progress, Session};

/// A silent server is given up after this many milliseconds.
const SERVER_TIMEOUT: i32 = 60_000;

/// Below this are refs that only serve a fetch.
pub(super) const PASSING: &str = "refs/outcrop/passing/";

/// What the server has now, for comparison.
const THEIRS: &str = "refs/outcrop/passing/theirs/";

/// What the names of packs begin with that libgit2 is still writing.
const PARTIAL_PACK: &str = "pack_git2_";

/// Whether a repository is on this machine.
pub(super) fn is_local(url: &Url) -> bool {
    is_path(url.whole())
}

fn is_path(url: &str) -> bool {
    url.starts_with('/') || url.starts_with("file://")
}

pub(super) fn forget_passing(repo: &Repository) -> std::result::Result<(), git2::Error> {
    for left in repo.references_glob(&format!("{PASSING}*"))? {
        left?.delete()?;
    }
    Ok(())
}

/// What every fetch has: the environment's proxy, and nothing that was not asked for.
fn fetch_options<'a>() -> FetchOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    let mut options = FetchOptions::new();
    options.proxy_options(proxy).download_tags(AutotagOption::None).update_fetchhead(false);
    options
}

/// Fetches into a mirror whose lock the caller holds.
pub(super) fn fetch(
    session: &Session<'_>,
    repo: &Repository,
    url: &Url,
    refspecs: &[&str],
) -> Result<()> {
    limit_patience();
    let shown = url.to_string();
    let mut remote = repo.remote_anonymous(url.whole()).context("cannot use the URL", &shown)?;
    // The user's git configuration may lead elsewhere than the URL does.
    if session.offline && !remote.url().is_ok_and(is_path) {
        return Err(Error::Offline { what: shown });
    }
    // A server may be silent for long before there is anything to count.
    if !session.tell(Progress::Fetching { url: &shown, received: 0, total: 0, bytes: 0 }) {
        return Err(Error::Cancelled);
    }
    let cancelled = std::cell::Cell::new(false);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|state| {
        let go_on = session.tell(Progress::Fetching {
            url: &shown,
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
        remove_obstacles(session, repo, url).context("cannot update the mirror of", &shown)?;
        remote
            .update_tips(None, flags, AutotagOption::None, None)
            .context("cannot update the mirror of", &shown)?;
    }
    sync(repo.path())
}

/// Removes branches and tags that the server cannot have any more: beside `a` there is no `a/b`. Others
/// that are gone there stay, because definitions may have pinned them.
fn remove_obstacles(
    session: &Session<'_>,
    repo: &Repository,
    url: &Url,
) -> std::result::Result<(), git2::Error> {
    // The binding's own list of the server's refs panics where a name is not UTF-8.
    forget_passing(repo)?;
    session.log(format!("listing the branches of {url}"));
    let refspecs = ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:{THEIRS}{kind}/*"));
    let mut remote = repo.remote_anonymous(url.whole())?;
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
fn not_fetched(url: &Url, source: git2::Error) -> Error {
    let local = url.whole();
    let local = local.strip_prefix("file://").unwrap_or(local);
    if local.starts_with('/') {
        // What libgit2 says of a path that does not exist is misleading.
        if !Path::new(local).exists() {
            return Error::Invalid(format!("cannot fetch {url}: it does not exist"));
        }
        if Repository::open(local).is_err_and(|e| e.code() == git2::ErrorCode::NotFound) {
            return Error::Invalid(format!("cannot fetch {url}: it is not a git repository"));
        }
    }
    Error::Git { doing: "cannot fetch", what: url.to_string(), source }
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
