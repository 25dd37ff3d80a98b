use super::*;
use crate::filesystem::Filesystem;
use crate::layer::synthetic::{self, SyntheticKind, SyntheticNode};
use crate::sysroot::{Options, Sysroot};

fn sample() -> Arc<dyn Layer> {
    let file = || SyntheticKind::File(b"content".to_vec());
    let nodes = [
        ("/", SyntheticKind::Directory),
        ("/bin/tool", file()),
        ("/empty", SyntheticKind::Directory),
        ("/include/deep/header.h", file()),
        ("/include/other.h", file()),
        ("/share/copy.h", SyntheticKind::HardLink(b"/include/other.h".to_vec())),
        ("/share/doc/page", file()),
        ("/share/none/at/all", SyntheticKind::Directory),
    ];
    let nodes = nodes.map(|(path, kind)| SyntheticNode::new(path, kind, 0o755));
    Arc::new(synthetic::layer("sample", nodes).unwrap())
}

/// Every path, with the number of names of what is no directory.
fn paths(layer: &dyn Layer) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut waiting = vec![(Entry::ROOT, String::new())];
    while let Some((directory, path)) = waiting.pop() {
        let children = children_of(layer, directory).unwrap();
        assert_eq!(layer.child_count(directory).unwrap(), children.len() as u64, "{path}");
        let mut subdirectories = 0;
        for (position, (name, entry)) in children.iter().enumerate() {
            assert_eq!(layer.lookup(directory, name).unwrap(), Some(*entry));
            let mut next = None;
            layer
                .children(directory, position as u64, &mut |name, _| {
                    next = Some(name.to_vec());
                    ControlFlow::Break(())
                })
                .unwrap();
            assert_eq!(next.as_ref(), Some(name), "a visit begins where it is told to");
            let below = format!("{path}/{}", String::from_utf8_lossy(name));
            if layer.metadata(*entry).unwrap().kind.is_directory() {
                subdirectories += 1;
                found.push((below.clone(), 0));
                waiting.push((*entry, below));
            } else {
                assert!(layer.names(*entry).unwrap().contains(&(directory, name.clone())));
                found.push((below, layer.link_count(*entry).unwrap()));
            }
        }
        assert_eq!(layer.subdirectories(directory).unwrap(), subdirectories, "{path}");
    }
    found.sort();
    found
}

fn expected(paths: &[(&str, u32)]) -> Vec<(String, u32)> {
    paths.iter().map(|(path, links)| ((*path).to_owned(), *links)).collect()
}

#[test]
fn a_selection_takes_directories_along_only_with_something_in_them() {
    let wanted = |path: &[u8]| !path.starts_with(b"include") && !path.starts_with(b"share/doc");
    let layer = WithoutLayer::selecting(sample(), &wanted).unwrap();
    let seen = [
        ("/bin", 0),
        ("/bin/tool", 1),
        ("/empty", 0),
        ("/share", 0),
        ("/share/copy.h", 1),
        ("/share/none", 0),
        ("/share/none/at", 0),
        ("/share/none/at/all", 0),
    ];
    assert_eq!(paths(&layer), expected(&seen));
}

#[test]
fn a_node_with_a_hidden_first_name_is_found_under_the_other() {
    let wanted = |path: &[u8]| path == b"share/copy.h";
    let layer: Arc<dyn Layer> = Arc::new(WithoutLayer::selecting(sample(), &wanted).unwrap());
    let share = layer.lookup(Entry::ROOT, b"share").unwrap().unwrap();
    let copy = layer.lookup(share, b"copy.h").unwrap().unwrap();
    assert_eq!(layer.parent(copy).unwrap(), share);
    assert_eq!(layer.names(copy).unwrap(), [(share, b"copy.h".to_vec())]);
    let sysroot = Sysroot::new(vec![layer], Options::default()).unwrap();
    let found = sysroot.resolve(b"/share/copy.h").unwrap();
    assert_eq!(found.nlink, 1);
    let mut buffer = [0; 16];
    assert_eq!(sysroot.read(found.ino, 0, &mut buffer).unwrap(), 7);
}

#[test]
fn nothing_selected_leaves_the_root_alone() {
    let layer = WithoutLayer::selecting(sample(), &|_| false).unwrap();
    assert_eq!(paths(&layer), []);
    assert!(layer.metadata(Entry::ROOT).unwrap().kind.is_directory());
}

#[test]
fn everything_selected_changes_nothing() {
    let layer = WithoutLayer::selecting(sample(), &|_| true).unwrap();
    assert_eq!(paths(&layer), paths(sample().as_ref()));
}

#[test]
fn names_below_a_hidden_directory_do_not_count() {
    let hidden = [b"include".to_vec(), b"absent".to_vec()];
    let layer = WithoutLayer::new(sample(), &hidden).unwrap();
    let seen = paths(&layer);
    assert!(seen.contains(&("/share/copy.h".to_owned(), 1)), "{seen:?}");
    assert!(!seen.iter().any(|(path, _)| path.starts_with("/include")), "{seen:?}");
}
