use std::os::unix::ffi::OsStrExt;

use git2::{Repository, Signature, Time};
use outcrop_fs::layer::git::GitLayer;
use outcrop_fs::layer::{Entry, Layer};

use super::super::submodules::read_gitmodules;
use super::*;

/// Commits files (path → content) on top of a branch; a content may be a submodule's commit.
fn commit(repo: &Repository, branch: &str, files: &[(&str, &str)]) -> Oid {
    let mut index = git2::Index::new().unwrap();
    for (path, content) in files {
        let submodule = content.strip_prefix("commit:").map(|id| Oid::from_str(id).unwrap());
        index
            .add(&git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: if submodule.is_some() { 0o160000 } else { 0o100644 },
                uid: 0,
                gid: 0,
                file_size: 0,
                id: submodule.unwrap_or_else(|| repo.blob(content.as_bytes()).unwrap()),
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            })
            .unwrap();
    }
    let tree = repo.find_tree(index.write_tree_to(repo).unwrap()).unwrap();
    let who = Signature::new("T", "t@example.org", &Time::new(1_234_567, 60)).unwrap();
    let name = format!("refs/heads/{branch}");
    let parent = repo.find_reference(&name).ok().map(|found| found.peel_to_commit().unwrap());
    let parents: Vec<_> = parent.iter().collect();
    repo.commit(Some(&name), &who, &who, "m", &tree, &parents).unwrap()
}

fn spec(path: &Path, reference: &str) -> SourceSpec {
    SourceSpec::Git { url: Url::new(path.display().to_string()), reference: reference.to_owned() }
}

fn track(sources: &Sources, upstream: &Path, branch: &str) -> Result<ResolvedSource> {
    sources.track(&Url::new(upstream.display().to_string()), branch, &quiet)
}

#[test]
fn mirrors_once_and_fetches_only_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let upstream = place.path().join("up.git");
    let repo = Repository::init_bare(&upstream).unwrap();
    let first = commit(&repo, "main", &[("a", "1")]);
    let found = sources.resolve(&spec(&upstream, "main"), &quiet).unwrap();
    assert_eq!((found.commit, found.time), (first, Timestamp::new(1_234_567, 0)));
    assert_eq!(tree(&found)["a"].1, b"1");
    let second = commit(&repo, "main", &[("a", "2")]);
    // The branch is there: no fetch. The commit is not: fetch. Tracking moves the branch.
    assert_eq!(sources.resolve(&spec(&upstream, "main"), &quiet).unwrap().commit, first);
    let by_id = spec(&upstream, &second.to_string());
    assert_eq!(sources.resolve(&by_id, &quiet).unwrap().commit, second);
    let third = commit(&repo, "main", &[("a", "3")]);
    assert_eq!(track(&sources, &upstream, "main").unwrap().commit, third);
    // A commit that only an unusual ref keeps.
    let hidden = commit(&repo, "hidden", &[("a", "4")]);
    repo.reference("refs/pull/1/head", hidden, true, "").unwrap();
    repo.find_reference("refs/heads/hidden").unwrap().delete().unwrap();
    let by_id = spec(&upstream, &hidden.to_string());
    assert_eq!(sources.resolve(&by_id, &quiet).unwrap().commit, hidden);
    // The upstream goes; what was fetched stays.
    std::fs::remove_dir_all(&upstream).unwrap();
    assert_eq!(sources.resolve(&by_id, &quiet).unwrap().commit, hidden);
    assert!(sources.resolve(&spec(&upstream, "nowhere"), &quiet).is_err());
    let mirrors = sources.list().unwrap();
    assert_eq!(mirrors.into_iter().next().unwrap().1, upstream.display().to_string());
}

#[test]
fn a_branch_may_become_a_directory_of_branches_and_back() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let upstream = place.path().join("up.git");
    let repo = Repository::init_bare(&upstream).unwrap();
    let kept = commit(&repo, "gone", &[("f", "kept")]);
    let first = commit(&repo, "a", &[("f", "first")]);
    let by_id = |id: Oid| sources.resolve(&spec(&upstream, &id.to_string()), &quiet);
    assert_eq!(by_id(first).unwrap().commit, first);
    repo.find_reference("refs/heads/gone").unwrap().delete().unwrap();
    // Names need not be UTF-8.
    let odd = std::ffi::OsStr::from_bytes(b"refs/heads/\xff");
    std::fs::write(upstream.join(odd), format!("{kept}\n")).unwrap();
    let mut old = "a";
    for (content, new) in ["a/b", "a", "a/b/c", "a/b", "a"].into_iter().enumerate() {
        repo.find_reference(&format!("refs/heads/{old}")).unwrap().delete().unwrap();
        let next = commit(&repo, new, &[("f", &content.to_string())]);
        assert_eq!(by_id(next).unwrap().commit, next, "{old} became {new}");
        // One that has not asked yet where the branch is.
        let later = Sources::new(sources.store.clone());
        assert_eq!(track(&later, &upstream, new).unwrap().commit, next);
        old = new;
    }
    let mirror = sources.resolve(&spec(&upstream, "gone"), &quiet).unwrap().repo;
    let names = Repository::open_bare(mirror).unwrap();
    let names = names.references().unwrap().map(|name| name.unwrap().name_bytes().to_vec());
    let names: Vec<_> = names.collect();
    assert!(names.iter().any(|name| name.ends_with(b"\xff")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with(b"refs/outcrop")), "{names:?}");
    // Nothing else is lost: neither a branch that is gone at the server nor the commits.
    assert_eq!(sources.resolve(&spec(&upstream, "gone"), &quiet).unwrap().commit, kept);
    assert_eq!(by_id(first).unwrap().commit, first);
}

#[test]
fn urls_that_meet_in_one_name_are_kept_apart() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let mut commits = Vec::new();
    for name in ["a-b", "a.b", "a-b.git"] {
        let path = place.path().join(name);
        if name != "a-b.git" {
            commits.push(commit(&Repository::init_bare(&path).unwrap(), "main", &[("f", name)]));
        }
        let found = sources.resolve(&spec(&path, "main"), &quiet).unwrap();
        assert_eq!(found.commit, commits[usize::from(name == "a.b")]);
    }
    assert_eq!(sources.list().unwrap().len(), 2);
}

#[test]
fn what_is_missing_is_named_and_leaves_no_mirror() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let error = sources.resolve(&spec(&place.path().join("no"), "main"), &quiet).unwrap_err();
    assert!(error.to_string().contains("no"), "{error}");
    assert!(names(&sources.store.mirrors()).is_empty());
    std::fs::create_dir(place.path().join("plain")).unwrap();
    for name in ["no", "plain"] {
        let path = place.path().join(name);
        for url in [path.clone(), format!("file://{}", path.display()).into()] {
            let error = sources.resolve(&spec(&url, "main"), &quiet).unwrap_err();
            assert_eq!(error.cause(), Cause::Input, "{error}");
        }
    }
    let upstream = place.path().join("up");
    let repo = Repository::init_bare(&upstream).unwrap();
    let id = commit(&repo, "main", &[("f", "x")]);
    repo.reference("refs/tags/release-1.2", id, false, "").unwrap();
    let error = sources.resolve(&spec(&upstream, "1.2"), &quiet).unwrap_err().to_string();
    assert!(error.contains("no revision 1.2") && error.contains("release-1.2"), "{error}");
}

#[test]
fn a_cancelled_clone_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let upstream = place.path().join("up");
    let files: Vec<(String, String)> =
        (0..200).map(|n| (format!("f{n}"), format!("{n}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    commit(&Repository::init_bare(&upstream).unwrap(), "main", &files);
    let stop = |_: Progress<'_>| false;
    let error = sources.resolve(&spec(&upstream, "main"), &stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(names(&sources.store.mirrors()).is_empty());
    sources.resolve(&spec(&upstream, "main"), &quiet).unwrap();
}

#[test]
fn many_at_once_make_one_mirror() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let upstream = place.path().join("up");
    let repo = Repository::init_bare(&upstream).unwrap();
    let first = commit(&repo, "main", &[("f", "1")]);
    let ask = |reference: String| {
        let (sources, upstream) = (&sources, &upstream);
        move || sources.resolve(&spec(upstream, &reference), &quiet).unwrap().commit
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(ask("main".to_owned()))).collect();
        assert!(asked.into_iter().all(|thread| thread.join().unwrap() == first));
    });
    let commits: Vec<Oid> =
        (0..4).map(|n| commit(&repo, "main", &[("f", &format!("x{n}"))])).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            commits.iter().map(|commit| scope.spawn(ask(commit.to_string()))).collect();
        let found: Vec<Oid> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(found, commits);
    });
    assert_eq!(names(&sources.store.mirrors()).len(), 1);
}

#[test]
fn large_file_pointers_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let upstream = place.path().join("up");
    let repo = Repository::init_bare(&upstream).unwrap();
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    commit(&repo, "main", &[(".gitattributes", attributes), ("d/real.bin", "data")]);
    sources.resolve(&spec(&upstream, "main"), &quiet).unwrap();
    commit(&repo, "bad", &[(".gitattributes", attributes), ("d/x.bin", pointer)]);
    let error = track(&sources, &upstream, "bad").unwrap_err().to_string();
    assert!(error.contains("d/x.bin") && error.contains("LFS"), "{error}");
    // Attributes hold below the directory that they lie in, and may be macros.
    for (branch, attributes) in
        [("below", "*.bin filter=lfs\n"), ("macro", "[attr]big filter=lfs -text\n*.bin big\n")]
    {
        commit(&repo, branch, &[("a/.gitattributes", attributes), ("b/x.bin", pointer)]);
        track(&sources, &upstream, branch).unwrap();
        let bad =
            commit(&repo, branch, &[("a/.gitattributes", attributes), ("a/b/x.bin", pointer)]);
        for _ in 0..2 {
            let error = sources.resolve(&spec(&upstream, &bad.to_string()), &quiet).unwrap_err();
            assert!(error.to_string().contains("a/b/x.bin"), "{error}");
        }
    }
}

#[test]
fn submodules_are_found_recursively() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let path = |name: &str| place.path().join(name);
    let make = |name: &str| Repository::init_bare(path(name)).unwrap();
    let leaf = commit(&make("leaf.git"), "main", &[("leaf.c", "l")]);
    let root = commit(&make("root.git"), "main", &[("root.c", "r")]);
    let modules = "[submodule \"leaf\"]\n\tpath = deep/leaf\n\turl = ../leaf.git\n\
                   [submodule \"root\"]\n\tpath = deep/root\n\turl = https://gone.invalid/r.git\n";
    let [deep, deeper] = [leaf, root].map(|id| format!("commit:{id}"));
    let files = [(".gitmodules", modules), ("deep/leaf", &deep), ("deep/root", &deeper)];
    let inner = commit(&make("inner.git"), "main", &files);
    let modules = "[submodule \"inner\"]\npath=lib/inner\nurl=https://gone.invalid/inner.git\n\
                   [submodule \"ghost\"]\npath=ghost\nurl=../ghost\n";
    let wanted = format!("commit:{inner}");
    commit(&make("outer.git"), "main", &[(".gitmodules", modules), ("lib/inner", &wanted)]);
    let url = Url::new(path("outer.git").display().to_string());
    let outer = sources.resolve(&spec(&path("outer.git"), "main"), &quiet).unwrap();
    let url_of = |name: &str| path(name).display().to_string();
    let below = UrlOverride { url: url_of("root.git"), submodules: UrlOverrides::new() };
    let submodules = UrlOverrides::from([("deep/root".to_owned(), below)]);
    let above = UrlOverride { url: url_of("inner.git"), submodules };
    let overrides = UrlOverrides::from([("lib/inner".to_owned(), above)]);
    let found = sources.submodules(&outer, &url, &overrides, &Aliases::default(), &quiet).unwrap();
    let seen: Vec<_> = found.iter().map(|one| (one.path.as_str(), one.source.commit)).collect();
    let expected =
        [("lib/inner", inner), ("lib/inner/deep/leaf", leaf), ("lib/inner/deep/root", root)];
    assert_eq!(seen, expected);
    // The layer shows them nested.
    let resolver = submodule_resolver(&found);
    let layer = GitLayer::from_tree(&outer.repo, outer.tree, outer.time, "outer", Some(resolver));
    let layer = layer.unwrap();
    let place = ["lib", "inner", "deep", "leaf", "leaf.c"].iter().fold(Entry::ROOT, |at, name| {
        layer.lookup(at, name.as_bytes()).unwrap().unwrap_or_else(|| panic!("no {name}"))
    });
    let mut content = [0; 8];
    assert_eq!(layer.read(place, 0, &mut content).unwrap(), 1);
    assert_eq!(content[0], b'l');
}

#[test]
fn gitmodules_are_read_by_the_rules_of_git() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let drafts =
        || std::fs::read_dir(sources.store.temporary_path().parent().unwrap()).unwrap().count();
    let before = drafts();
    let read = |text: &str| read_gitmodules(&sources.store, text.as_bytes());
    let found = |text: &str| read(text).unwrap();
    let entry = |path: &str, url: Option<&str>| (path.to_owned(), url.map(str::to_owned));
    let text = "[submodule \"b\"]\n\tpath = lib/a\n\turl = ../a.git\n[submodule \"x\"]\n url=x\n\
                [submodule \"c\"]\npath=c\n[core]\npath=/etc\n";
    assert_eq!(found(text), [entry("c", None), entry("lib/a", Some("../a.git"))]);
    // Comments, quotes, sections in one line, continued lines, and names with dots.
    let text =
        "[submodule \"a.b.url\"] path = \"lib/a b\" # why\n\tURL = https://h/\\\nx.git ; said\n";
    assert_eq!(found(text), [entry("lib/a b", Some("https://h/x.git"))]);
    // A later value wins, as in git.
    let text = "[submodule \"a\"]\npath=a\nurl=1\n[submodule \"a\"]\nurl=2\n";
    assert_eq!(found(text), [entry("a", Some("2"))]);
    assert!(read("[submodule \"a\"\npath=a\n").is_err());
    let other = place.path().join("other");
    std::fs::write(&other, "[submodule \"o\"]\npath=o\n").unwrap();
    for section in ["[include]", "[INCLUDE]", "[includeIf \"gitdir:/**\"]"] {
        let said = read(&format!("{section}\npath = {}\n", other.display())).unwrap_err();
        assert!(said.message().contains("includes other files"), "{said}");
    }
    assert_eq!(drafts(), before);
}

#[test]
fn fetches_over_a_socket() {
    use std::os::fd::OwnedFd;
    use std::process::Command;
    if !Command::new("git").args(["daemon", "--help"]).output().is_ok_and(|o| o.status.success())
        && !Path::new("/usr/lib/git-core/git-daemon").exists()
    {
        eprintln!("skipped: git daemon is not installed");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let repo = Repository::init_bare(place.path().join("up.git")).unwrap();
    let first = commit(&repo, "main", &[("a", "1"), ("d/b", "2")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/up.git", listener.local_addr().unwrap());
    let base = place.path().display().to_string();
    // The thread ends with the test's process; it waits for connections and nothing else.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let output: OwnedFd = connection.unwrap().into();
            let input = output.try_clone().unwrap();
            let _ = Command::new("git")
                .args(["-c", "safe.directory=*", "daemon", "--inetd", "--export-all"])
                .arg(format!("--base-path={base}"))
                .stdin(input)
                .stdout(output)
                .status();
        }
    });
    let spec = |reference: String| SourceSpec::Git { url: Url::new(url.as_str()), reference };
    let told = std::cell::Cell::new(0);
    let found = sources
        .resolve(&spec("main".to_owned()), &|progress| {
            if let Progress::Fetching { received, .. } = progress {
                told.set(received);
            }
            true
        })
        .unwrap();
    assert_eq!(found.commit, first);
    assert_eq!(tree(&found).len(), 2);
    assert!(told.get() > 0, "progress was told");
    let second = commit(&repo, "main", &[("a", "3")]);
    assert_eq!(sources.resolve(&spec(second.to_string()), &quiet).unwrap().commit, second);
    let error = sources.resolve(&spec("v9".to_owned()), &quiet).unwrap_err().to_string();
    assert!(error.contains("no revision v9"), "{error}");
    // Who asks makes no other mirror of it, and is told and kept nowhere.
    let personal = Url::new(url.replace("//", "//someone:secret@"));
    let asked = |reference: &str| {
        let spec = SourceSpec::Git { url: personal.clone(), reference: reference.to_owned() };
        sources.resolve(&spec, &|progress| !format!("{progress:?}").contains("secret"))
    };
    assert_eq!(asked("main").unwrap().repo, found.repo);
    let third = commit(&repo, "other", &[("a", "5")]);
    assert_eq!(asked("other").unwrap().commit, third);
    let error = asked("v9").unwrap_err().to_string();
    assert!(error.contains(&format!("{url} has no revision v9")), "{error}");
    assert_eq!(sources.list().unwrap().len(), 1);
    // A commit that no ref leads to any more, where the server gives such ones.
    let lost = commit(&repo, "lost", &[("a", "4")]);
    repo.find_reference("refs/heads/lost").unwrap().delete().unwrap();
    let error = sources.resolve(&spec(lost.to_string()), &quiet).unwrap_err().to_string();
    assert!(error.contains(&format!("no revision {lost}")), "{error}");
    repo.config().unwrap().set_bool("uploadpack.allowAnySHA1InWant", true).unwrap();
    assert_eq!(sources.resolve(&spec(lost.to_string()), &quiet).unwrap().commit, lost);
}
