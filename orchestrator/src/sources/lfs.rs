//! Files that a repository keeps elsewhere, by Git LFS: they are refused, since a build would take the
//! pointer for the file.

#![forbid(unsafe_code)]

use std::path::Path;

use git2::{ObjectType, Repository, Tree};

/// First bytes of a Git LFS pointer file (the LFS specification, version 1).
const MAGIC: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// Pointer files are smaller than this (the same specification).
const LARGEST: usize = 1024;

/// Where a mirror notes which commits have been looked through.
const LOOKED_THROUGH: &str = "without-lfs";

/// The first file of a commit that is only a pointer, where attributes ask for LFS. What has been looked
/// through once is noted in the mirror.
pub(super) fn pointer(
    repo: &Repository,
    mirror: &Path,
    commit: &git2::Commit<'_>,
) -> Result<Option<String>, git2::Error> {
    let notes = mirror.join(LOOKED_THROUGH);
    let note = notes.join(commit.id().to_string());
    if note.exists() {
        return Ok(None);
    }
    let found = first_pointer(repo, commit.tree()?)?;
    if found.is_none()
        && let Err(error) = std::fs::create_dir_all(&notes).and_then(|()| std::fs::write(note, b""))
    {
        // It is only looked through again.
        log::debug!("{}: {error}", notes.display());
    }
    Ok(found)
}

fn first_pointer(repo: &Repository, top: Tree<'_>) -> Result<Option<String>, git2::Error> {
    let odb = repo.odb()?;
    let mut todo = vec![(String::new(), top, false)];
    while let Some((prefix, tree, asked_above)) = todo.pop() {
        let asks = asked_above || asks_for_lfs(repo, &tree);
        for entry in tree.iter() {
            let path = || format!("{prefix}{}", String::from_utf8_lossy(entry.name_bytes()));
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    todo.push((path() + "/", repo.find_tree(entry.id())?, asks));
                }
                Some(ObjectType::Blob)
                    if asks
                        && odb.read_header(entry.id())?.0 < LARGEST
                        && odb.read(entry.id())?.data().starts_with(MAGIC) =>
                {
                    return Ok(Some(path()));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Whether a directory's own attributes name the filter, for some files or in a macro.
fn asks_for_lfs(repo: &Repository, tree: &Tree<'_>) -> bool {
    let attributes = tree.get_name(".gitattributes").map(|entry| repo.find_blob(entry.id()));
    let Some(Ok(attributes)) = attributes else { return false };
    let mut lines = attributes.content().split(|byte| *byte == b'\n');
    lines.any(|line| {
        let is_comment = line.trim_ascii_start().starts_with(b"#");
        !is_comment && line.windows(10).any(|window| window == b"filter=lfs")
    })
}
