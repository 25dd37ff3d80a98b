//! What a tree says of its submodules.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Oid, Repository};

use super::ResolvedSource;
use super::error::{Context, Result};

/// A submodule of a source: its path in the tree, its URL and the commit wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmoduleEntry {
    pub path: String,
    pub url: String,
    pub commit: Oid,
}

/// What `.gitmodules` and the tree say of submodules; sections without a commit in the tree are
/// skipped. `overrides` maps a path to another URL.
pub(super) fn entries(
    source: &ResolvedSource,
    base: &str,
    overrides: &BTreeMap<String, String>,
) -> Result<Vec<SubmoduleEntry>> {
    if !source.names_submodules {
        return Ok(Vec::new());
    }
    let read = || -> std::result::Result<Option<Vec<SubmoduleEntry>>, git2::Error> {
        let repo = Repository::open_bare(&source.repo)?;
        let tree = repo.find_tree(source.tree)?;
        let Some(file) = tree.get_name(".gitmodules") else { return Ok(None) };
        let Ok(file) = repo.find_blob(file.id()) else { return Ok(None) };
        let text = String::from_utf8_lossy(file.content()).into_owned();
        let found = parse_gitmodules(&text).into_iter().filter_map(|(path, url)| {
            let entry = tree.get_path(Path::new(&path)).ok()?;
            let url = match overrides.get(&path) {
                Some(url) => url.clone(),
                None => join_url(base, &url?),
            };
            let is_commit = entry.kind() == Some(ObjectType::Commit);
            is_commit.then(|| SubmoduleEntry { commit: entry.id(), path, url })
        });
        Ok(Some(found.collect()))
    };
    Ok(read().context("cannot read the submodules of", &source.repo)?.unwrap_or_default())
}

/// (path, URL) of each section of a `.gitmodules` file.
pub(super) fn parse_gitmodules(text: &str) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(Option<String>, Option<String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            found.push((None, None));
        } else if let Some((key, value)) = line.split_once('=')
            && let Some(section) = found.last_mut()
        {
            let value = value.trim().trim_matches('"').to_owned();
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => section.0 = Some(value),
                "url" => section.1 = Some(value),
                _ => {}
            }
        }
    }
    found.into_iter().filter_map(|(path, url)| Some((path?, url))).collect()
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
