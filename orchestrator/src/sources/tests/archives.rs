use std::io::Write;

use tar::{Builder, EntryType, Header};

use super::*;

pub(super) struct Item<'a>(&'a str, EntryType, &'a str, u32, u64);

pub(super) fn file<'a>(path: &'a str, content: &'a str) -> Item<'a> {
    Item(path, EntryType::Regular, content, 0o644, 100)
}

fn link<'a>(path: &'a str, kind: EntryType, target: &'a str) -> Item<'a> {
    Item(path, kind, target, 0o777, 100)
}

pub(super) fn tarball(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for Item(path, kind, content, mode, mtime) in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(*mtime);
        // Names as hostile archives have them: the tar crate would refuse to write these.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let mut data = content.as_bytes();
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            data = b"";
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn good() -> Vec<u8> {
    tarball(&[
        Item("x-1.0/", EntryType::Directory, "", 0o755, 50),
        Item("x-1.0/configure", EntryType::Regular, "#!/bin/sh", 0o755, 1_000),
        file("x-1.0/src/main.c", "int main;"),
        link("x-1.0/COPYING", EntryType::Symlink, "src/main.c"),
        link("x-1.0/again.c", EntryType::Link, "x-1.0/src/main.c"),
        Item("x-1.0/empty/", EntryType::Directory, "", 0o755, 50),
        file("x-1.0/twice", "first"),
        file("x-1.0/twice", "second"),
        file("x-1.0/.git/config", "[core]"),
        file("x-1.0/.gitignore", "*.o"),
    ])
}

fn archive(place: &Path, name: &str, content: &[u8]) -> (PathBuf, SourceSpec) {
    let path = place.join(name);
    std::fs::write(&path, content).unwrap();
    let sha256 = Sha256Digest::parse(&digest_of(&path).unwrap()).unwrap();
    let spec = SourceSpec::Archive { location: Location::Path(path.clone()), sha256 };
    (path, spec)
}

#[test]
fn imports_what_git_can_hold() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let (path, spec) = archive(place.path(), "x.tar", &good());
    let found = sources.resolve(&spec, &quiet).unwrap();
    assert_eq!(found.time, Timestamp::new(1_000, 0), "the newest member's time");
    // One pack, so that reading it is cheap.
    let objects = found.repo.join("objects");
    assert_eq!(names(&objects), ["info", "pack"]);
    assert_eq!(names(&objects.join("pack")).len(), 2);
    let tree = tree(&found);
    let expected = [
        (".gitignore", 0o100644, "*.o"),
        ("COPYING", 0o120000, "src/main.c"),
        ("again.c", 0o100644, "int main;"),
        ("configure", 0o100755, "#!/bin/sh"),
        ("src/main.c", 0o100644, "int main;"),
        ("twice", 0o100644, "second"),
    ];
    let seen: Vec<_> = tree
        .iter()
        .map(|(path, (mode, data))| (path.as_str(), *mode, std::str::from_utf8(data).unwrap()))
        .collect();
    assert_eq!(seen, expected);
    // The archive may go now; and another store comes to the same commit.
    let other = tempfile::tempdir().unwrap();
    let again = super::sources(&other).resolve(&spec, &quiet).unwrap();
    assert_eq!(again.commit, found.commit);
    std::fs::remove_file(path).unwrap();
    assert_eq!(sources.resolve(&spec, &quiet).unwrap(), found);
}

#[test]
fn every_compression_gives_the_same_tree() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let plain = good();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&plain).unwrap();
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bz2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    lzma.write_all(&plain).unwrap();
    let packed = [
        ("gz", gz.finish().unwrap()),
        ("bz2", bz2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("lzma", lzma.finish().unwrap()),
        ("zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ];
    let wanted = sources.resolve(&archive(place.path(), "plain", &plain).1, &quiet).unwrap().tree;
    for (name, content) in packed {
        let found = sources.resolve(&archive(place.path(), name, &content).1, &quiet).unwrap();
        assert_eq!(found.tree, wanted, "{name}");
    }
}

#[test]
fn a_wrong_checksum_imports_nothing() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let (path, _) = archive(place.path(), "x.tar", &good());
    let sha256 = Sha256Digest::parse(&"0".repeat(64)).unwrap();
    let spec = SourceSpec::Archive { location: Location::Path(path.clone()), sha256 };
    let error = sources.resolve(&spec, &quiet).unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    assert!(error.to_string().contains(&digest_of(&path).unwrap()));
    assert!(names(&sources.store.mirrors()).is_empty());
    // A corrupt file is a wrong file in the first place.
    std::fs::write(&path, &good()[..700]).unwrap();
    assert!(matches!(sources.resolve(&spec, &quiet).unwrap_err(), Error::Checksum { .. }));
}

#[test]
fn hostile_and_broken_archives_are_refused_and_leave_nothing() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let gz = {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&good()).unwrap();
        gz.finish().unwrap()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("up", tarball(&[file("../x", "")]), "leads out"),
        ("inside", tarball(&[file("a/../../x", "")]), "leads out"),
        ("absolute", tarball(&[file("/etc/passwd", "")]), "absolute"),
        (
            "below",
            tarball(&[link("a", EntryType::Symlink, "/etc"), file("a/passwd", "x")]),
            "not a directory",
        ),
        ("nowhere", tarball(&[link("a", EntryType::Link, "b")]), "not there"),
        ("device", tarball(&[link("tty", EntryType::Char, "")]), "neither file"),
        ("over", tarball(&[file("d/f", ""), file("d", "")]), "not empty"),
        ("nothing", tarball(&[]), "empty"),
        ("only-directories", tarball(&[link("d/", EntryType::Directory, "")]), "no file"),
        ("text", b"this is no archive, but it is long enough".repeat(40), "corrupt"),
        ("cut", good()[..1600].to_vec(), "truncated"),
        ("cut.gz", gz[..gz.len() / 2].to_vec(), "truncated"),
    ];
    for (name, content, part) in cases {
        let (_, spec) = archive(place.path(), name, &content);
        let error = sources.resolve(&spec, &quiet).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(name), "{name}: {error}");
    }
    assert!(names(&sources.store.mirrors()).is_empty());
}

#[test]
fn large_files_and_cancelling() {
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let large = "0123456789abcdef".repeat(600_000);
    let (_, spec) = archive(place.path(), "large.tar", &tarball(&[file("x/large", &large)]));
    let error = sources.resolve(&spec, &|_| false).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let found = sources.resolve(&spec, &quiet).unwrap();
    assert_eq!(tree(&found)["large"].1, large.as_bytes());
}

/// A server for one file: answers ranges, and stops after `cut` bytes of the first answer.
fn serve(content: Vec<u8>, cut: Option<usize>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{BufRead, BufReader};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.tar", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut ranges = Vec::new();
        let mut cut = cut;
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut range = String::new();
            for line in BufReader::new(connection.try_clone().unwrap()).lines() {
                let line = line.unwrap();
                if line.is_empty() {
                    break;
                }
                if line.starts_with("GET /quit") {
                    return ranges;
                }
                range = line.strip_prefix("Range: bytes=").map(str::to_owned).unwrap_or(range);
            }
            let from: usize = range.trim_end_matches('-').parse().unwrap_or(0);
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let (length, last) = (content.len() - from, content.len() - 1);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\
                 Content-Range: bytes {from}-{last}/{}\r\n\r\n",
                content.len()
            );
            connection.write_all(head.as_bytes()).unwrap();
            let end = cut.take().map_or(content.len(), |cut| from + cut);
            let _ = connection.write_all(&content[from..end]);
            ranges.push(range);
        }
        ranges
    });
    (url, thread)
}

#[test]
fn downloads_are_resumed_and_verified() {
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let sources = sources(&place);
    let content = good();
    let (path, _) = archive(place.path(), "x.tar", &content);
    let sha256 = Sha256Digest::parse(&digest_of(&path).unwrap()).unwrap();
    let (url, server) = serve(content, Some(1000));
    let spec = SourceSpec::Archive {
        location: Location::Url(Url::new(url.as_str())),
        sha256: sha256.clone(),
    };
    let error = sources.resolve(&spec, &quiet).unwrap_err();
    assert!(matches!(error, Error::Program { program: "curl", .. }), "{error}");
    let found = sources.resolve(&spec, &quiet).unwrap();
    assert_eq!(tree(&found).len(), 6);
    assert_eq!(names(&sources.store.sources()), [sha256.as_str()]);
    // A file of the same URL with another content.
    let wrong = Sha256Digest::parse(&"1".repeat(64)).unwrap();
    let spec =
        SourceSpec::Archive { location: Location::Url(Url::new(url.as_str())), sha256: wrong };
    assert!(matches!(sources.resolve(&spec, &quiet).unwrap_err(), Error::Checksum { .. }));
    assert_eq!(names(&sources.store.sources()), [sha256.as_str()]);
    let address = url.trim_start_matches("http://").trim_end_matches("/x.tar").to_owned();
    let mut quit = std::net::TcpStream::connect(address).unwrap();
    quit.write_all(b"GET /quit HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(server.join().unwrap(), ["", "1000-", ""]);
}

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "started by killed_anywhere_mirrors_are_whole_or_absent"]
fn crash_child() {
    let Some(place) = std::env::var_os("OUTCROP_TEST_CRASH_SOURCES") else { return };
    let place = PathBuf::from(place);
    let sources = Sources::new(Store::open(place.join("store")).unwrap());
    for round in 0..10_000 {
        let names: Vec<String> = (0..50).map(|n| format!("x/{n}")).collect();
        let content = round.to_string();
        let items: Vec<Item<'_>> = names.iter().map(|name| file(name, &content)).collect();
        let (path, spec) = archive(&place, "in.tar", &tarball(&items));
        let found = sources.resolve(&spec, &quiet).unwrap();
        let release = place.join(format!("app-{round}.tar"));
        std::fs::copy(&path, &release).unwrap();
        sources.import_series(&SeriesName::parse("app").unwrap(), &[release], &quiet).unwrap();
        // A mirror of the mirror: cloning is interrupted as well.
        let url = Url::new(found.repo.display().to_string());
        let spec = SourceSpec::Git { url, reference: "main".to_owned() };
        sources.resolve(&spec, &quiet).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn killed_anywhere_mirrors_are_whole_or_absent() {
    let place = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for round in 0..6u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sources::tests::archives::crash_child", "--ignored"])
            .env("OUTCROP_TEST_CRASH_SOURCES", place.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Different moments, none of them decides whether the test passes.
        std::thread::sleep(std::time::Duration::from_millis(150 + round * 173));
        child.kill().unwrap();
        child.wait().unwrap();
        let sources = sources(&place);
        for (name, url) in sources.list().unwrap() {
            let path = sources.store.mirrors().join(&name);
            let found = git2::Repository::open_bare(&path).unwrap();
            let mut commits = found.revwalk().unwrap();
            commits.push_ref("refs/heads/main").unwrap();
            for commit in commits {
                let commit = found.find_commit(commit.unwrap()).unwrap();
                let (repo, time) = (path.clone(), Timestamp::EPOCH);
                let (commit, tree_id) = (commit.id(), commit.tree_id());
                let source =
                    ResolvedSource { repo, commit, tree: tree_id, names_submodules: false, time };
                assert_eq!(tree(&source).len(), 50, "{name} of {url}");
                seen += 1;
            }
        }
        assert_eq!(names(&sources.store.mirrors()).len(), sources.list().unwrap().len());
    }
    assert!(seen > 0, "the children never got to import");
}

#[test]
fn a_full_disk_is_reported_and_leaves_no_mirror() {
    let place = tempfile::tempdir().unwrap();
    let (_, spec) = {
        let names: Vec<String> = (0..400).map(|n| format!("x/{n}")).collect();
        let items: Vec<Item<'_>> = names.iter().map(|name| file(name, name)).collect();
        archive(place.path(), "x.tar", &tarball(&items))
    };
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&disk)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: this user may not mount a small tmpfs");
        return;
    }
    let left = {
        let sources = Sources::new(Store::open(disk.join("store")).unwrap());
        let error = sources.resolve(&spec, &quiet).unwrap_err().to_string();
        (error, names(&sources.store.mirrors()), names(&sources.store.root().join("tmp")).len())
    };
    // A process that another test is just starting may have files of it open.
    let unmounted = std::process::Command::new("umount").arg("-l").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    let (error, mirrors, temporary) = left;
    assert!(error.contains("No space left"), "{error}");
    assert!(mirrors.is_empty());
    assert_eq!(temporary, 2, "only the lease");
}
