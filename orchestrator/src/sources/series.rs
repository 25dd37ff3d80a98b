//! Release archives of one project as one repository: a commit for each, in the order of their
//! versions. The rules are in `docs/sources.md`.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::archive::{self, Description};
use super::download::digest_of;
use super::error::{Context, Error, Result};
use super::spec::{SeriesName, archive_stem};
use super::{ResolvedSource, Session, mirror};

const MAIN: &str = "refs/heads/main";

/// What the first line of a commit has before its tag.
const SUBJECT: &str = "Import ";

/// A version that a series has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub tag: String,
    pub commit: Oid,
    /// Whether this import has added it.
    pub added: bool,
}

/// An archive on its way into a series.
struct Archive<'a> {
    tag: &'a str,
    path: &'a Path,
}

/// A commit of a series.
struct Known {
    tag: String,
    commit: Oid,
    sha256: Option<String>,
}

pub(super) fn resolve(
    session: &Session<'_>,
    name: &SeriesName,
    reference: &str,
) -> Result<ResolvedSource> {
    let place = session.store.mirrors().join(name.mirror());
    if !place.exists() {
        return Err(Error::NoSeries(name.clone()));
    }
    let repo = mirror::open(&place)?;
    let found = mirror::find(&repo, &place, reference)?;
    found.ok_or_else(|| mirror::missing(&repo, &format!("series:{name}"), reference))
}

pub(super) fn import(
    session: &Session<'_>,
    name: &SeriesName,
    archives: &[PathBuf],
) -> Result<Vec<Release>> {
    let archives = in_order(archives)?;
    let url = format!("series:{name}");
    let place = session.store.mirrors().join(name.mirror());
    let _lock = mirror::lock(session, &place)?;
    let known = match place.exists() {
        true => known(&mirror::open(&place)?).context("cannot read", &place)?,
        false => Vec::new(),
    };
    let new = new_ones(&url, &archives, &known)?;
    let parent = known.last().map(|newest| newest.commit);
    let added = match (parent, new.is_empty()) {
        (_, true) => Vec::new(),
        (Some(parent), _) => append(session, &url, &place, &new, parent)?,
        (None, _) => mirror::create(session, &place, &url, |repo| {
            let packs = repo.path().join("objects/pack");
            let added = commit_all(session, repo, &new, None)?;
            pack(repo, &added, None, &packs, &url)?;
            mirror::remove_loose_objects(repo)?;
            name_all(repo, &added, &url)?;
            Ok(added)
        })?,
    };
    let release = |archive: &Archive<'_>| {
        let old = known.iter().find(|known| known.tag == archive.tag).map(|known| known.commit);
        let new = || added.iter().find(|(tag, _)| tag == archive.tag).map(|(_, commit)| *commit);
        let commit = old.or_else(new)?;
        Some(Release { tag: archive.tag.to_owned(), commit, added: old.is_none() })
    };
    Ok(archives.iter().filter_map(release).collect())
}

/// The archives in the order of their versions, each with its tag.
fn in_order(archives: &[PathBuf]) -> Result<Vec<Archive<'_>>> {
    let mut found = Vec::new();
    for path in archives {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let tag = archive_stem(name).unwrap_or_default();
        let named = tag.bytes().any(|byte| byte.is_ascii_digit())
            && git2::Reference::is_valid_name(&format!("refs/tags/{tag}"));
        if !named {
            return Err(Error::Invalid(format!(
                "{}: its name does not say which version it is; rename it as in app-1.0.tar.gz",
                path.display()
            )));
        }
        found.push(Archive { tag, path });
    }
    found.sort_by(|a, b| compare(a.tag, b.tag));
    for pair in found.windows(2) {
        if let [a, b] = pair
            && a.tag == b.tag
        {
            return Err(Error::Invalid(format!(
                "{} and {} are both {}; name one of them",
                a.path.display(),
                b.path.display(),
                a.tag
            )));
        }
    }
    Ok(found)
}

/// The commits of a series, oldest first.
fn known(repo: &Repository) -> std::result::Result<Vec<Known>, git2::Error> {
    let mut found = Vec::new();
    let mut next = Some(repo.find_reference(MAIN)?.peel_to_commit()?);
    while let Some(commit) = next {
        let subject = commit.summary_bytes().unwrap_or_default();
        let subject = String::from_utf8_lossy(subject).into_owned();
        let tag = subject.strip_prefix(SUBJECT).unwrap_or_default().to_owned();
        let sha256 = archive::checksum_of(&commit);
        found.push(Known { tag, commit: commit.id(), sha256 });
        next = commit.parents().next();
    }
    found.reverse();
    Ok(found)
}

/// The archives that the series lacks. Those that it has must be the same files, and others newer:
/// anything else would give the commits of later releases other ids.
fn new_ones<'a>(
    url: &str,
    archives: &'a [Archive<'a>],
    known: &[Known],
) -> Result<Vec<&'a Archive<'a>>> {
    let mut new = Vec::new();
    for archive in archives {
        let path = archive.path.display();
        if let Some(old) = known.iter().find(|known| known.tag == archive.tag) {
            if old.sha256 != Some(digest_of(archive.path)?) {
                return Err(Error::Invalid(format!(
                    "{path}: {url} has another archive as {}; import it under another name, or \
                     into another series",
                    archive.tag
                )));
            }
            continue;
        }
        if let Some(newest) = known.last()
            && compare(archive.tag, &newest.tag) == Ordering::Less
        {
            return Err(Error::Invalid(format!(
                "{path}: {url} has {} already, and only later releases can be added; import all \
                 into another series",
                newest.tag
            )));
        }
        new.push(archive);
    }
    Ok(new)
}

/// Adds to a series that others may be reading. Its branch moves when everything else is on disk.
fn append(
    session: &Session<'_>,
    url: &str,
    place: &Path,
    new: &[&Archive<'_>],
    parent: Oid,
) -> Result<Vec<(String, Oid)>> {
    let added = mirror::in_draft(session, url, |repo, _| {
        let objects = place.join("objects");
        repo.odb()
            .and_then(|odb| odb.add_disk_alternate(&objects.display().to_string()))
            .context("cannot read", &objects)?;
        let added = commit_all(session, repo, new, Some(parent))?;
        let packs = repo.path().join("objects/pack");
        pack(repo, &added, Some(parent), &packs, url)?;
        mirror::sync(&packs)?;
        move_packs(&packs, &objects.join("pack"))?;
        Ok(added)
    })?;
    mirror::sync(place)?;
    name_all(&mirror::open(place)?, &added, url)?;
    mirror::sync(place)?;
    Ok(added)
}

/// Whoever finds the index of a pack must find the pack, so indexes come last.
fn move_packs(from: &Path, to: &Path) -> Result<()> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(from).context("cannot read", from)? {
        files.push(item.context("cannot read", from)?);
    }
    files.sort_by_key(|file| file.path().extension().is_some_and(|ending| ending == "idx"));
    files.iter().try_for_each(|file| {
        std::fs::rename(file.path(), to.join(file.file_name())).context("cannot move to", to)
    })
}

/// A commit for each archive, each on top of the one before: tags and ids.
fn commit_all(
    session: &Session<'_>,
    repo: &Repository,
    archives: &[&Archive<'_>],
    mut parent: Option<Oid>,
) -> Result<Vec<(String, Oid)>> {
    let mut added = Vec::new();
    for Archive { tag, path } in archives {
        let content = archive::read(session, repo, path)?;
        let members = archive::strip(content.members);
        let description = Description {
            subject: &format!("{SUBJECT}{tag}"),
            seconds: content.newest,
            checksums: &[content.sha256],
            parent,
        };
        let commit = archive::commit(repo, &members, &description, &path.display().to_string())?;
        parent = Some(commit);
        added.push(((*tag).to_owned(), commit));
    }
    Ok(added)
}

fn pack(
    repo: &Repository,
    added: &[(String, Oid)],
    known: Option<Oid>,
    packs: &Path,
    url: &str,
) -> Result<()> {
    let Some((_, newest)) = added.last() else { return Ok(()) };
    mirror::pack(repo, *newest, known, packs).context("cannot pack the import of", url)
}

/// Names the commits, the newest last: what is not below it is not in the series.
fn name_all(repo: &Repository, added: &[(String, Oid)], url: &str) -> Result<()> {
    let tags = added.iter().map(|(tag, commit)| (format!("refs/tags/{tag}"), *commit));
    let main = added.last().map(|(_, newest)| (MAIN.to_owned(), *newest));
    for (name, commit) in tags.chain(main) {
        // A tag may be there from an import that was interrupted before it came to the branch.
        repo.reference(&name, commit, true, "import").context("cannot name the import of", url)?;
    }
    Ok(())
}

/// Words that a version has behind its number before it is released.
const BEFORE_RELEASE: [&str; 4] = ["alpha", "beta", "pre", "rc"];

/// Orders names by the versions in them: numbers by value, a release after its candidates.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (one, other) = (take_part(&mut left), take_part(&mut right));
        let order = match (one, other) {
            ("", "") => return a.cmp(b),
            ("", part) if before_release(part) => Ordering::Greater,
            ("", _) => Ordering::Less,
            (part, "") if before_release(part) => Ordering::Less,
            (_, "") => Ordering::Greater,
            (one, other) => compare_parts(one, other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn compare_parts(one: &str, other: &str) -> Ordering {
    let number = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
    if number(one) && number(other) {
        let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
        return (one.len(), one).cmp(&(other.len(), other));
    }
    match (before_release(one), before_release(other)) {
        (true, true) => word(one).cmp(&word(other)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.cmp(other),
    }
}

fn before_release(part: &str) -> bool {
    BEFORE_RELEASE.contains(&word(part).as_str())
}

fn word(part: &str) -> String {
    part.trim_matches(|c: char| !c.is_ascii_alphabetic()).to_ascii_lowercase()
}

/// Takes what a text begins with: digits, or everything up to the next one.
fn take_part<'a>(text: &mut &'a str) -> &'a str {
    let digits = text.starts_with(|first: char| first.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    part
}
