//! What archives of each kind become; placed layers; specifications.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;

use outcrop_fs::Error;
use outcrop_fs::archive::Interpretation;
use outcrop_fs::layer::cache::Archive;
use outcrop_fs::layer::open::{Opener, Source, Spec, open};
use outcrop_fs::layer::placed::Placed;
use outcrop_fs::layer::synthetic::{self, SyntheticKind, SyntheticNode};
use outcrop_fs::layer::{Entry, Layer, Whiteout};
use support::room::{
    COMPRESSIONS, Compress, Room, contents, deb, find, gzip, header, sample, tar, xz,
};
use support::{entry, flatten};

#[test]
fn packages_fold_into_usr() {
    let room = Room::new();
    let mut data = Vec::new();
    let mut usr_bin = header(b'5', "./usr/bin/", 0);
    usr_bin.set_mode(0o751);
    data.extend(entry(header(b'5', "./", 0), b""));
    data.extend(entry(usr_bin, b""));
    data.extend(entry(header(b'5', "./bin/", 0), b""));
    let mut sbin = header(b'5', "./sbin/", 0);
    sbin.set_mode(0o750);
    data.extend(entry(sbin, b""));
    data.extend(entry(header(b'0', "./bin/sh", 2), b"sh"));
    data.extend(entry(header(b'0', "./lib64/ld.so", 2), b"ld"));
    data.extend(entry(header(b'0', "./library/x", 1), b"x"));
    let mut link = header(b'1', "./bin/dash", 0);
    link.as_old_mut().linkname[..8].copy_from_slice(b"./bin/sh");
    data.extend(entry(link, b""));
    let mut merged = header(b'2', "./lib32", 0);
    merged.as_old_mut().linkname[..9].copy_from_slice(b"usr/lib32");
    data.extend(entry(merged, b""));
    data.extend_from_slice(&[0; 1024]);

    let plain: (&str, Compress) = ("", |bytes| bytes.to_vec());
    for (name, compress) in COMPRESSIONS.into_iter().chain([plain]) {
        let member = if name.is_empty() { "data.tar".into() } else { format!("data.tar.{name}") };
        let path = room.write(&format!("p-{name}.deb"), &deb(&member, &compress(&data)));
        let layer = room.open(&path).unwrap();
        let tree = flatten(&layer);
        assert_eq!(
            contents(&tree),
            [
                ("lib32".to_owned(), b"usr/lib32".to_vec()),
                ("library/x".into(), b"x".into()),
                ("usr/bin/dash".into(), b"sh".into()),
                ("usr/bin/sh".into(), b"sh".into()),
                ("usr/lib64/ld.so".into(), b"ld".into()),
            ]
        );
        assert_eq!(tree[&b"usr/bin/sh"[..]].names.len(), 2);
        assert_eq!(tree[&b"usr/bin"[..]].metadata.mode, 0o751);
        assert_eq!(tree[&b"usr/sbin"[..]].metadata.mode, 0o750);
    }
}

#[test]
fn a_truncated_package_is_an_error() {
    let room = Room::new();
    let whole = deb("data.tar.xz", &xz(&sample()));
    for length in [0, 8, 60, 100, 300, whole.len() - 100] {
        let path = room.write("p.deb", &whole[..length]);
        let error = room.open(&path).map(drop).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error:?}");
    }
}

#[test]
fn whiteouts_count_in_oci_layers_only() {
    let room = Room::new();
    let path = room.write(
        "layer.tar",
        &tar(&[
            ("etc/.wh.passwd", b""),
            ("etc/kept", b"x"),
            ("var/.wh..wh..opq", b""),
            (".wh.tmp", b""),
            (".wh..wh.plnk/1.2", b""),
            ("opt/.wh..wh.aufs", b""),
        ]),
    );
    let archive = Archive { interpretation: Some(Interpretation::OciLayer), ..Archive::new(&path) };
    let layer = room.cache.open(&archive, &|_| {}).unwrap();
    let names: Vec<String> = contents(&flatten(&layer)).into_iter().map(|(p, _)| p).collect();
    assert_eq!(names, [".wh..wh.plnk/1.2", "etc/kept"]);
    let (etc, var) = (find(&layer, "etc"), find(&layer, "var"));
    assert_eq!(layer.whiteout(etc, b"passwd").unwrap(), Some(Whiteout::Name));
    assert_eq!(layer.whiteout(etc, b"kept").unwrap(), None);
    assert_eq!(layer.whiteout(Entry::ROOT, b"tmp").unwrap(), Some(Whiteout::Name));
    assert_eq!(layer.whiteout(var, b"passwd").unwrap(), None);
    assert!(layer.is_opaque(var).unwrap());
    assert!(!layer.is_opaque(etc).unwrap());

    let plain = room.open(&path).unwrap();
    assert!(plain.lookup(find(&plain, "etc"), b".wh.passwd").unwrap().is_some());
    assert_eq!(plain.whiteout(find(&plain, "etc"), b"passwd").unwrap(), None);
}

#[test]
fn a_placed_layer_is_the_same_tree_further_down() {
    let inner = synthetic::layer(
        "inner",
        [
            SyntheticNode::new("/", SyntheticKind::Directory, 0o700),
            SyntheticNode::new("/f", SyntheticKind::File(b"x".to_vec()), 0o644),
            SyntheticNode::new("/g", SyntheticKind::HardLink(b"/f".to_vec()), 0),
            SyntheticNode::new("/s", SyntheticKind::Socket, 0o600),
        ],
    )
    .unwrap();
    let below = flatten(&inner);
    let inner: Arc<dyn Layer> = Arc::new(inner);
    assert_eq!(flatten(&Placed::new(inner.clone(), b"/").unwrap()), below);
    let placed = Placed::new(inner.clone(), b"/a/b").unwrap();
    let tree = flatten(&placed);
    assert_eq!(tree.len(), below.len() + 2);
    assert_eq!(tree[&b"a/b"[..]].metadata.mode, 0o700);
    assert_eq!(tree[&b"a"[..]].metadata.mode, 0o755);
    assert_eq!(tree[&b"a/b/f"[..]].names.len(), 2);
    for (path, seen) in &below {
        let outer = [&b"a/b"[..], if path.is_empty() { b"" } else { b"/" }, path].concat();
        assert_eq!(tree[&outer].content, seen.content);
        assert_eq!(tree[&outer].metadata, seen.metadata);
    }
    assert!(Placed::new(inner, b"/a/../b").is_err());
}

#[test]
fn specifications() {
    let parse = |text: &str| Spec::parse(text).unwrap();
    let git = |revision: Option<&str>, subdirectory: Option<&str>| Source::Git {
        repository: "r".into(),
        revision: revision.map(Into::into),
        subdirectory: subdirectory.map(Into::into),
    };
    assert_eq!(parse("a.tar").source, Source::Path("a.tar".into()));
    assert_eq!(parse("tar:git:odd").source, Source::Archive("git:odd".into()));
    assert_eq!(parse("dir:/x").source, Source::Directory("/x".into()));
    assert_eq!(parse("list:n").source, Source::List("n".into()));
    assert_eq!(parse("artifact:k.1").source, Source::Artifact("k.1".into()));
    let image_in =
        |path: &str, reference: Option<&str>, architecture: Option<&str>| Source::Image {
            path: path.into(),
            reference: reference.map(Into::into),
            architecture: architecture.map(Into::into),
        };
    let image = |reference: Option<&str>| image_in("d", reference, None);
    assert_eq!(parse("oci:d").source, image(None));
    assert_eq!(parse("oci:d:").source, image(None));
    assert_eq!(parse("oci:d:v1").source, image(Some("v1")));
    assert_eq!(parse("oci:d:host:5000/a:v1").source, image(Some("host:5000/a:v1")));
    assert_eq!(parse("oci:d,arch=arm64").source, image_in("d", None, Some("arm64")));
    assert_eq!(parse("oci:d:v1,arch=arm64").source, image_in("d", Some("v1"), Some("arm64")));
    assert_eq!(parse("oci:d,arch=arm64:v").source, image_in("d,arch=arm64", Some("v"), None));
    assert_eq!(parse("oci:a:b/:").source, image_in("a:b", None, None));
    assert_eq!(parse("oci:a:b/:c:d,arch=x").source, image_in("a:b", Some("c:d"), Some("x")));
    assert_eq!(parse("git:r").source, git(None, None));
    assert_eq!(parse("git:r#v1").source, git(Some("v1"), None));
    assert_eq!(parse("git:r#v1:sub/dir").source, git(Some("v1"), Some("sub/dir")));
    assert_eq!(parse("git:r#:sub").source, git(None, Some("sub")));
    let placed = parse("a@b.tar@/c/d");
    assert_eq!(placed.source, Source::Path("a@b.tar".into()));
    assert_eq!(placed.at.as_deref(), Some(&b"/c/d"[..]));
    assert_eq!(parse("a@/b@/").source, Source::Path("a@/b".into()));
    assert_eq!(parse("a@/b@/").at, None);
    for text in [
        "a.tar",
        "tar:a",
        "git:r",
        "git:r#v",
        "git:r#v:s",
        "git:r#:s",
        "list:l@/x",
        "oci:d",
        "oci:d:v",
        "oci:d:v,arch=arm64",
        "oci:a:b/:",
        "oci:a:b/:v,arch=arm64",
    ] {
        assert_eq!(parse(text).to_string(), text);
        assert_eq!(parse(&parse(text).to_string()), parse(text));
    }
    for bad in [
        "",
        "https://example.org/a.tar",
        "dir:",
        "git:",
        "git:#x",
        "artifact:",
        "oci:",
        "oci::v",
        "oci:/:v",
        "oci:,arch=arm64",
        "a@/../b",
        "@/x",
    ] {
        let error = Spec::parse(bad).expect_err(bad);
        assert!(matches!(error, Error::Invalid(_)), "{bad}: {error}");
    }
}

#[test]
fn specifications_open() {
    let room = Room::new();
    let path = room.write("a.weird", &gzip(&tar(&[("f", b"x")])));
    let list = room.write("nodes", b"char /dev/null 0666 0 0 1:3\nfile /a 0644 0 0 hi\\n\n");
    let artifact = |key: &str| -> Result<Arc<dyn Layer>, Error> {
        Err(Error::Invalid(format!("There is no artifact {key}.")))
    };
    let opener = Opener { cache: &room.cache, progress: &|_| {}, threads: 1, artifact: &artifact };
    let open = |text: String| {
        open(&Spec::parse(text).unwrap(), &opener).map(|mut layers| layers.pop().unwrap())
    };

    let layer = open(format!("{}@/x", path.display())).unwrap();
    assert_eq!(contents(&flatten(&*layer)), [("x/f".into(), b"x".into())]);
    let layer = open(format!("list:{}", list.display())).unwrap();
    assert!(layer.read_link(find(&*layer, "a")).is_err());
    assert_eq!(flatten(&*layer)[&b"a"[..]].content, b"hi\n");
    let missing = open("artifact:k".into()).map(drop).unwrap_err();
    assert_eq!(missing.to_string(), "There is no artifact k.");
    let bad = room.write("bad", b"dir /ok 0755 0 0\nnonsense\n");
    let error = open(format!("list:{}", bad.display())).map(drop).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    let text = room.write("notes.txt", b"just some text\n");
    let error = open(text.display().to_string()).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("not a tar archive") || error.to_string().contains("truncated"),
        "{error}"
    );
}
