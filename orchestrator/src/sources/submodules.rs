//! What a tree says of its submodules.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Oid, Repository};

use super::error::{Context, Result};
use super::{ResolvedSource, UrlOverrides};
use crate::store::Store;

/// A submodule of a source: its path in the tree, its URL and the commit wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmoduleEntry {
    pub path: String,
    pub url: String,
    pub commit: Oid,
}

/// What `.gitmodules` and the tree say of submodules; sections without a commit in the tree are
/// skipped.
pub(super) fn entries(
    store: &Store,
    source: &ResolvedSource,
    base: &str,
    overrides: &UrlOverrides,
) -> Result<Vec<SubmoduleEntry>> {
    if !source.names_submodules {
        return Ok(Vec::new());
    }
    let doing = "cannot read the submodules of";
    let repo = Repository::open_bare(&source.repo).context(doing, &source.repo)?;
    let tree = repo.find_tree(source.tree).context(doing, &source.repo)?;
    let file = tree.get_name(".gitmodules").map(|file| repo.find_blob(file.id()));
    let Some(Ok(file)) = file else { return Ok(Vec::new()) };
    let found = read_gitmodules(store, file.content()).context(doing, &source.repo)?;
    let found = found.into_iter().filter_map(|(path, url)| {
        let entry = tree.get_path(Path::new(&path)).ok()?;
        let url = match overrides.get(&path) {
            Some(replaced) => replaced.url.clone(),
            None => join_url(base, &url?),
        };
        let is_commit = entry.kind() == Some(ObjectType::Commit);
        is_commit.then(|| SubmoduleEntry { commit: entry.id(), path, url })
    });
    Ok(found.collect())
}

/// (path, URL) of each section of a `.gitmodules` file, sorted by path. Git's own rules of quoting,
/// comments and continued lines hold.
pub(super) fn read_gitmodules(
    store: &Store,
    content: &[u8],
) -> std::result::Result<Vec<(String, Option<String>)>, git2::Error> {
    // Git does not follow these here either: they would read other files of this machine.
    if content.to_ascii_lowercase().windows(8).any(|window| window == b"[include") {
        return Err(git2::Error::from_str(
            ".gitmodules includes other files, which git does not allow",
        ));
    }
    let text = store.temporary_path();
    let io = |error: std::io::Error| git2::Error::from_str(&format!("{}: {error}", text.display()));
    std::fs::write(&text, content).map_err(io)?;
    let read = sections(&text);
    std::fs::remove_file(&text).map_err(io)?;
    read
}

fn sections(file: &Path) -> std::result::Result<Vec<(String, Option<String>)>, git2::Error> {
    let config = git2::Config::open(file)?;
    let mut entries = config.entries(Some("^submodule\\..*\\.(path|url)$"))?;
    let mut found: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        // A name that is not UTF-8 is no path that a definition could name.
        let (Ok(name), Ok(value)) = (entry.name(), entry.value()) else { continue };
        let Some((section, key)) = name.rsplit_once('.') else { continue };
        let known = found.entry(section.to_owned()).or_default();
        match key {
            "path" => known.0 = Some(value.to_owned()),
            _ => known.1 = Some(value.to_owned()),
        }
    }
    let mut found: Vec<_> =
        found.into_values().filter_map(|(path, url)| Some((path?, url))).collect();
    found.sort();
    Ok(found)
}

/// Resolves a submodule's URL: relative ones (`./`, `../`) against the URL of the repository.
pub(super) fn join_url(base: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = base.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(next) = rest.strip_prefix("./") {
            rest = next;
        } else if let Some(next) = rest.strip_prefix("../") {
            rest = next;
            if let Some((parent, _)) = base.rsplit_once('/') {
                base = parent.to_owned();
            }
        } else {
            return format!("{base}/{rest}");
        }
    }
}
