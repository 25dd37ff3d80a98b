use std::collections::BTreeMap;
use std::process::Command;

use git2::{Signature, Time};
use proptest::prelude::*;

use super::*;

/// What a test puts into a repository: path → content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    File(Vec<u8>, bool),
    Link(Vec<u8>),
    Submodule(Oid),
}

type Files = BTreeMap<Vec<Vec<u8>>, Content>;

fn write_tree(repo: &Repository, files: &Files) -> Oid {
    let mut builder = repo.treebuilder(None).unwrap();
    let mut below: BTreeMap<Vec<u8>, Files> = BTreeMap::new();
    for (path, content) in files {
        let (name, rest) = path.split_first().unwrap();
        if rest.is_empty() {
            let (oid, mode) = match content {
                Content::File(data, executable) => {
                    (repo.blob(data).unwrap(), if *executable { 0o100755 } else { 0o100644 })
                }
                Content::Link(target) => (repo.blob(target).unwrap(), 0o120000),
                Content::Submodule(commit) => (*commit, 0o160000),
            };
            builder.insert(name, oid, mode).unwrap();
        } else {
            below.entry(name.clone()).or_default().insert(rest.to_vec(), content.clone());
        }
    }
    for (name, files) in below {
        builder.insert(&name, write_tree(repo, &files), 0o040000).unwrap();
    }
    builder.write().unwrap()
}

fn commit(repo: &Repository, files: &Files, seconds: i64) -> Oid {
    git2::opts::strict_object_creation(false);
    let who = Signature::new("T", "t@example.org", &Time::new(seconds, 0)).unwrap();
    let tree = repo.find_tree(write_tree(repo, files)).unwrap();
    repo.commit(Some("refs/heads/main"), &who, &who, "m", &tree, &[]).unwrap()
}

fn file(data: &[u8]) -> Content {
    Content::File(data.to_vec(), false)
}

fn path(text: &str) -> Vec<Vec<u8>> {
    text.split('/').map(|name| name.as_bytes().to_vec()).collect()
}

/// Everything below a directory: path → (metadata, content or target).
fn walk(layer: &dyn Layer) -> BTreeMap<Vec<u8>, (Metadata, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(Entry::ROOT, Vec::new())];
    while let Some((directory, prefix)) = todo.pop() {
        let mut names = Vec::new();
        layer
            .children(directory, 0, &mut |name, entry| {
                names.push((name.to_vec(), entry));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(names.is_sorted(), "children come in bytewise order");
        assert_eq!(names.len() as u64, layer.child_count(directory).unwrap());
        for (name, entry) in names {
            assert_eq!(layer.lookup(directory, &name).unwrap(), Some(entry));
            assert_eq!(layer.parent(entry).unwrap(), directory);
            let meta = layer.metadata(entry).unwrap();
            let mut path = prefix.clone();
            path.extend_from_slice(&name);
            let content = match meta.kind {
                Kind::File => read_all(layer, entry, 7),
                Kind::Symlink => layer.read_link(entry).unwrap(),
                _ => {
                    let mut prefix = path.clone();
                    prefix.push(b'/');
                    todo.push((entry, prefix));
                    Vec::new()
                }
            };
            if meta.kind != Kind::Directory {
                assert_eq!(content.len() as u64, meta.size);
            }
            found.insert(path, (meta, content));
        }
    }
    found
}

fn read_all(layer: &dyn Layer, entry: Entry, piece: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        let count = layer.read(entry, content.len() as u64, &mut buffer).unwrap();
        content.extend_from_slice(&buffer[..count]);
        if count < piece {
            return content;
        }
    }
}

/// The same map from `git archive`.
fn archive(repo: &Path, revision: &str) -> BTreeMap<Vec<u8>, (Metadata, Vec<u8>)> {
    let done = Command::new("git")
        .args(["-c", "tar.umask=0022", "-c", "safe.directory=*", "archive", "--format=tar"])
        .arg(revision)
        .current_dir(repo)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(done.stdout.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink,
            _ => Kind::File,
        };
        let mtime = Timestamp::new(header.mtime().unwrap() as i64, 0);
        let mode = (header.mode().unwrap() & 0o7777) as u16;
        let mut path = entry.path_bytes().into_owned();
        while path.last() == Some(&b'/') {
            path.pop();
        }
        let mut content = entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        let size = if kind == Kind::Directory { 0 } else { content.len() as u64 };
        found.insert(path, (Metadata { kind, mode, uid: 0, gid: 0, mtime, size }, content));
    }
    found.remove(b"pax_global_header".as_slice());
    found
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::sample::select(vec![
        b"a".to_vec(),
        b"a-".to_vec(),
        b"a.b".to_vec(),
        b"a0".to_vec(),
        b"caf\xe9".to_vec(),
        b"with space".to_vec(),
        vec![b'n'; 255],
    ]);
    prop_oneof![odd, "[a-c]{1,2}".prop_map(String::into_bytes)]
}

fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => (prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(data, executable)| Content::File(data, executable)),
        1 => "[a-z/.]{1,120}".prop_map(|target| Content::Link(target.into_bytes())),
    ]
}

fn trees() -> impl Strategy<Value = Files> {
    prop::collection::vec((prop::collection::vec(names(), 1..4), contents()), 1..12).prop_map(
        |list| {
            let mut files = Files::new();
            for (path, content) in list {
                let clash = files
                    .keys()
                    .any(|have| have.starts_with(&path) || path.starts_with(have.as_slice()));
                if !clash {
                    files.insert(path, content);
                }
            }
            files
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shows_what_git_archive_writes(files in trees(), seconds in 0i64..4_000_000_000) {
        let place = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(place.path()).unwrap();
        commit(&repo, &files, seconds);
        let layer = GitLayer::open(place.path(), "main", None).unwrap();
        prop_assert_eq!(walk(&layer), archive(place.path(), "main"));
    }
}

#[test]
fn opens_subdirectories_of_repositories_with_a_work_tree() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repository::init(place.path()).unwrap();
    let files = Files::from([
        (path("top"), file(b"t")),
        (path("sub/dir/inner"), file(b"inner")),
        (path("link"), Content::Link(b"sub".to_vec())),
    ]);
    commit(&repo, &files, 1_000);
    let layer = GitLayer::open(place.path(), "main", Some("sub/")).unwrap();
    let found = walk(&layer);
    assert_eq!(found.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b"dir"[..], b"dir/inner"]);
    for wrong in ["nowhere", "top", "link", "..", "sub/../sub"] {
        let error = GitLayer::open(place.path(), "main", Some(wrong)).err().unwrap();
        assert!(error.to_string().contains("no directory"), "{error}");
    }
}

#[test]
fn missing_revisions_are_named_with_near_matches() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(place.path()).unwrap();
    let id = commit(&repo, &Files::from([(path("f"), file(b""))]), 0);
    repo.reference("refs/tags/v1.2.13", id, false, "").unwrap();
    let error = GitLayer::open(place.path(), "1.2.13", None).err().unwrap().to_string();
    assert!(error.contains("no revision 1.2.13") && error.contains("v1.2.13"), "{error}");
    assert!(error.contains(&place.path().display().to_string()), "{error}");
    let error = GitLayer::open(&place.path().join("absent"), "main", None).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

#[test]
fn submodules_are_nested_trees_where_known() {
    let place = tempfile::tempdir().unwrap();
    let (outer_path, inner_path) = (place.path().join("outer"), place.path().join("inner"));
    let inner = Repository::init_bare(&inner_path).unwrap();
    let wanted = commit(&inner, &Files::from([(path("lib/x.c"), file(b"int x;"))]), 5);
    let unknown = Oid::from_str("1234567890123456789012345678901234567890").unwrap();
    let outer = Repository::init_bare(&outer_path).unwrap();
    let files = Files::from([
        (path("deps/inner"), Content::Submodule(wanted)),
        (path("deps/other"), Content::Submodule(unknown)),
        (path("main.c"), file(b"int main;")),
    ]);
    commit(&outer, &files, 77);
    let resolver = move |path: &[u8], commit: Oid| {
        (path == b"deps/inner" && commit == wanted).then(|| inner_path.clone())
    };
    let layer = GitLayer::open_with_submodules(&outer_path, "main", None, Some(Box::new(resolver)))
        .unwrap();
    let found = walk(&layer);
    assert_eq!(found[b"deps/inner/lib/x.c".as_slice()].1, b"int x;");
    assert_eq!(found[b"deps/inner/lib/x.c".as_slice()].0.mtime, Timestamp::new(77, 0));
    assert_eq!(found[b"deps/other".as_slice()].0.kind, Kind::Directory);
    assert_eq!(found.len(), 6);
    let deps = layer.lookup(Entry::ROOT, b"deps").unwrap().unwrap();
    assert_eq!(layer.subdirectories(deps).unwrap(), 2);
}

#[test]
fn forbidden_names_make_their_directory_unreadable_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(place.path()).unwrap();
    let blob = repo.blob(b"x").unwrap();
    let mut raw = Vec::new();
    raw.extend_from_slice(b"100644 ..\0");
    raw.extend_from_slice(blob.as_bytes());
    let hostile = repo.odb().unwrap().write(ObjectType::Tree, &raw).unwrap();
    let mut raw = b"100644 good\0".to_vec();
    raw.extend_from_slice(blob.as_bytes());
    raw.extend_from_slice(b"40000 hostile\0");
    raw.extend_from_slice(hostile.as_bytes());
    let root = repo.odb().unwrap().write(ObjectType::Tree, &raw).unwrap();
    let layer =
        GitLayer::from_tree(place.path(), root, Timestamp::EPOCH, "hostile.git", None).unwrap();
    let directory = layer.lookup(Entry::ROOT, b"hostile").unwrap().unwrap();
    let error = layer.child_count(directory).unwrap_err();
    assert_eq!(error.errno(), Errno::IO);
    assert!(error.to_string().contains("hostile.git") && error.to_string().contains("\"..\""));
    let good = layer.lookup(Entry::ROOT, b"good").unwrap().unwrap();
    assert_eq!(read_all(&layer, good, 10), b"x");
}

#[test]
fn foreign_entries_are_stale_and_wrong_kinds_refused() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(place.path()).unwrap();
    commit(&repo, &Files::from([(path("d/f"), file(b"data"))]), 0);
    let layer = GitLayer::open(place.path(), "main", None).unwrap();
    assert_eq!(layer.metadata(Entry(99)).unwrap_err().errno(), Errno::STALE);
    assert_eq!(layer.metadata(Entry(u64::MAX)).unwrap_err().errno(), Errno::STALE);
    let d = layer.lookup(Entry::ROOT, b"d").unwrap().unwrap();
    let f = layer.lookup(d, b"f").unwrap().unwrap();
    assert_eq!(layer.child_count(f).unwrap_err().errno(), Errno::NOTDIR);
    assert_eq!(layer.read(d, 0, &mut [0; 4]).unwrap_err().errno(), Errno::ISDIR);
    assert_eq!(layer.read_link(f).unwrap_err().errno(), Errno::INVAL);
    assert_eq!(layer.read(f, u64::MAX, &mut [0; 4]).unwrap(), 0);
    assert_eq!(layer.next_data(f, 1).unwrap(), Some(DataRun { offset: 1, length: 3 }));
    assert_eq!(layer.next_data(f, 4).unwrap(), None);
}

#[test]
fn ten_thousand_files_from_many_threads() {
    let place = tempfile::tempdir().unwrap();
    let repo = Repository::init_bare(place.path()).unwrap();
    let files: Files = (0..10_000)
        .map(|n| (path(&format!("d{}/f{n}", n % 100)), file(format!("{n}").as_bytes())))
        .collect();
    commit(&repo, &files, 0);
    let layer = GitLayer::open(place.path(), "main", None).unwrap();
    let walked: Vec<_> = std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..4).map(|_| scope.spawn(|| walk(&layer))).collect();
        walkers.into_iter().map(|walker| walker.join().unwrap()).collect()
    });
    assert_eq!(walked[0].len(), 10_100);
    assert!(walked.iter().all(|found| found == &walked[0]));
    assert_eq!(walked[0][b"d42/f4242".as_slice()].1, b"4242");
    // Four racing readers made each node once.
    assert_eq!(layer.nodes.read().len(), 10_101);
}
