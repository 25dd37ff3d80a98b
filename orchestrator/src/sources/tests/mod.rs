//! Tests of the sources. Those that need apt's network say so when they skip.

mod archives;
mod debian;
mod mirrors;
mod parsing;
mod series;

use super::*;

fn quiet(_: Progress<'_>) -> bool {
    true
}

fn sources(place: &tempfile::TempDir) -> Sources {
    Sources::new(Store::open(place.path().join("store")).unwrap())
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Path → (mode, content) of everything in a source's tree.
fn tree(source: &ResolvedSource) -> BTreeMap<String, (i32, Vec<u8>)> {
    let repo = git2::Repository::open_bare(&source.repo).unwrap();
    let mut found = BTreeMap::new();
    let mut todo = vec![(String::new(), source.tree)];
    while let Some((prefix, tree)) = todo.pop() {
        for entry in repo.find_tree(tree).unwrap().iter() {
            let path = format!("{prefix}{}", String::from_utf8_lossy(entry.name_bytes()));
            match entry.kind() {
                Some(git2::ObjectType::Tree) => todo.push((path + "/", entry.id())),
                Some(git2::ObjectType::Blob) => {
                    let content = repo.find_blob(entry.id()).unwrap().content().to_vec();
                    found.insert(path, (entry.filemode(), content));
                }
                _ => {}
            }
        }
    }
    found
}
