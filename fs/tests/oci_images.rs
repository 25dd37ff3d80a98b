//! Images of OCI image layouts: which layers they have, and how the layers merge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::layer::cache::Archive;
use outcrop_fs::layer::oci::{self, Choice, Digest, Place, Platform};
use outcrop_fs::layer::open::{Opener, Spec, open};
use outcrop_fs::sysroot::{Options, Sysroot};
use outcrop_fs::{Error, Kind};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::entry;
use support::room::{Room, gzip, header, tar, zstd};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const TAG: &str = "org.opencontainers.image.ref.name";

/// A layout in a directory of its own.
struct Layout {
    room: Room,
    directory: PathBuf,
}

impl Layout {
    fn new() -> Layout {
        let room = Room::new();
        let directory = room.directory.path().join("image");
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Layout { room, directory }
    }

    /// Writes a blob and gives its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest(Sha256::digest(bytes).into()).hexadecimal();
        fs::write(self.directory.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    fn document(&self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// An image of the given layers; other members are there, and mean nothing here.
    fn image(&self, layers: &[Value]) -> Value {
        let config = self.document("application/vnd.oci.image.config.v1+json", &json!({}));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.document(MANIFEST, &manifest)
    }

    /// An image with one layer that holds one file of that name.
    fn image_of(&self, name: &str) -> Value {
        self.image(&[self.blob(LAYER, &tar(&[(name, b"x")]))])
    }

    fn list(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.directory.join("index.json"), index.to_string()).unwrap();
    }

    fn find(&self, reference: Option<&str>) -> Result<Vec<Archive>, Error> {
        let reference = reference.map(str::to_owned);
        let platform = Platform { architecture: "amd64".into(), os: "linux".into() };
        let choice = Choice { reference, platform, platform_is_asked: false };
        oci::layers(&Place::open(&self.directory, &self.room.cache, &|_| {})?, &choice)
    }

    /// The same layout as a tar, as `tar -C image -cf … .` writes it.
    fn pack(&self) -> PathBuf {
        let mut builder = ::tar::Builder::new(Vec::new());
        builder.append_dir_all(".", &self.directory).unwrap();
        self.room.write("image.tar", &builder.into_inner().unwrap())
    }

    /// The tree of an image.
    fn open(&self, reference: &str) -> Result<Sysroot, Error> {
        self.open_spec(&format!("oci:{}{reference}", self.directory.display()))
    }

    fn open_spec(&self, spec: &str) -> Result<Sysroot, Error> {
        let opener = Opener {
            cache: &self.room.cache,
            progress: &|_| {},
            threads: 2,
            artifact: &|_| panic!("there is no artifact in it"),
        };
        let layers = open(&Spec::parse(spec).unwrap(), &opener)?;
        Sysroot::new(layers, Options::default())
    }

    /// The name of the only file of the image that is chosen.
    fn chosen(&self, reference: Option<&str>) -> String {
        let suffix = reference.map(|reference| format!(":{reference}")).unwrap_or_default();
        Self::only_name(&self.open(&suffix).unwrap())
    }

    fn only_name(tree: &Sysroot) -> String {
        let mut names = Vec::new();
        tree.read_directory(1, 2, &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }

    #[track_caller]
    fn refuses(&self, reference: Option<&str>, words: &[&str]) {
        let error = self.find(reference).map(drop).unwrap_err();
        assert!(matches!(error, Error::Invalid(_) | Error::Malformed { .. }), "{error:?}");
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
}

fn tagged(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"] = json!({TAG: tag});
    descriptor
}

fn for_platform(mut descriptor: Value, architecture: &str, os: &str) -> Value {
    descriptor["platform"] = json!({"architecture": architecture, "os": os});
    descriptor
}

/// Two layers: the second hides, empties, replaces and links what the first has.
fn layers_with_everything() -> (Vec<u8>, Vec<u8>) {
    let mut lower = tar(&[
        ("etc/", b""),
        ("etc/passwd", b"old"),
        ("etc/gone", b"x"),
        ("var/", b""),
        ("var/old", b"x"),
        ("tmp/", b""),
        ("tmp/file", b"x"),
    ]);
    lower.truncate(lower.len() - 1024);
    let mut su = header(b'0', "su", 2);
    su.set_mode(0o4755);
    su.set_uid(0);
    su.set_gid(7);
    lower.extend(entry(su, b"su"));
    let mut link = header(b'1', "su-link", 0);
    link.as_old_mut().linkname[..2].copy_from_slice(b"su");
    lower.extend(entry(link, b""));
    lower.extend_from_slice(&[0; 1024]);
    let upper = tar(&[
        ("etc/", b""),
        ("etc/.wh.gone", b""),
        ("etc/passwd", b"new"),
        ("var/", b""),
        ("var/.wh..wh..opq", b""),
        ("var/new", b"x"),
        (".wh.tmp", b""),
    ]);
    (lower, upper)
}

#[test]
fn the_layers_of_an_image_merge_with_whiteouts() {
    let (lower, upper) = layers_with_everything();
    type Compress = fn(&[u8]) -> Vec<u8>;
    let forms: [(&str, Compress); 3] =
        [("", |bytes| bytes.to_vec()), ("+gzip", gzip), ("+zstd", zstd)];
    for (suffix, compress) in forms {
        let layout = Layout::new();
        let media_type = format!("{LAYER}{suffix}");
        let layers = [
            layout.blob(&media_type, &compress(&lower)),
            layout.blob(&media_type, &compress(&upper)),
        ];
        layout.list(&[tagged(layout.image(&layers), "v1")]);
        let tree = layout.open(":v1").unwrap();
        let there = |path: &str| tree.resolve(path.as_bytes()).map(|found| found.meta);
        for gone in ["/etc/gone", "/etc/.wh.gone", "/var/old", "/tmp", "/tmp/file", "/.wh.tmp"] {
            assert_eq!(there(gone).unwrap_err().errno(), outcrop_fs::Errno::NOENT, "{gone}");
        }
        assert!(there("/var/new").is_ok());
        let mut passwd = [0; 8];
        let found = tree.resolve(b"/etc/passwd").unwrap();
        assert_eq!(tree.read(found.ino, 0, &mut passwd).unwrap(), 3);
        assert_eq!(&passwd[..3], b"new");
        let su = there("/su").unwrap();
        assert_eq!((su.kind, su.mode, su.uid, su.gid), (Kind::File, 0o4755, 0, 7));
        let (su, link) = (tree.resolve(b"/su").unwrap(), tree.resolve(b"/su-link").unwrap());
        assert_eq!((su.ino, su.nlink), (link.ino, 2));
    }
}

#[test]
fn a_directory_that_a_layer_does_not_describe_stays_as_it_was() {
    let layout = Layout::new();
    let mut tmp = header(b'5', "tmp/", 0);
    tmp.set_mode(0o1777);
    let lower = [entry(tmp, b""), vec![0; 1024]].concat();
    // As umoci and others write it: only what is new.
    let upper = tar(&[("tmp/new", b"x"), ("other/new", b"x")]);
    layout.list(&[layout.image(&[layout.blob(LAYER, &lower), layout.blob(LAYER, &upper)])]);
    let tree = layout.open("").unwrap();
    assert_eq!(tree.resolve(b"/tmp").unwrap().meta.mode, 0o1777);
    assert_eq!(tree.resolve(b"/tmp").unwrap().meta.mtime.seconds, 1);
    assert_eq!(tree.resolve(b"/other").unwrap().meta.mode, 0o755);
    let opaque = tar(&[("tmp/.wh..wh..opq", b""), ("tmp/newest", b"x")]);
    let layers = [lower, upper, opaque].map(|layer| layout.blob(LAYER, &layer));
    layout.list(&[layout.image(&layers)]);
    let tree = layout.open("").unwrap();
    assert_eq!(tree.resolve(b"/tmp").unwrap().meta.mode, 0o1777);
    assert!(tree.resolve(b"/tmp/newest").is_ok() && tree.resolve(b"/tmp/new").is_err());
    let placed = layout.open("@/tmp").unwrap();
    assert_eq!(placed.resolve(b"/tmp/tmp").unwrap().meta.mode, 0o1777);
}

#[test]
fn an_image_may_be_placed() {
    let layout = Layout::new();
    layout.list(&[layout.image_of("file")]);
    let tree = layout.open("@/opt/image").unwrap();
    assert!(tree.resolve(b"/opt/image/file").is_ok());
}

#[test]
fn a_tag_chooses_and_the_only_image_needs_none() {
    let layout = Layout::new();
    layout.list(&[tagged(layout.image_of("one"), "host:5000/one:1")]);
    assert_eq!(layout.chosen(None), "one");
    assert_eq!(layout.chosen(Some("host:5000/one:1")), "one");
    let two = layout.image_of("two");
    layout.list(&[tagged(layout.image_of("one"), "one"), tagged(two.clone(), "two")]);
    assert_eq!(layout.chosen(Some("two")), "two");
    assert_eq!(layout.chosen(two["digest"].as_str()), "two");
    layout.refuses(None, &["several", "one, two"]);
    layout.refuses(Some("three"), &["three", "one, two"]);
    layout.list(&[two]);
    layout.refuses(Some("three"), &["three", "none has a tag"]);
    layout.list(&[]);
    layout.refuses(None, &["no image"]);
}

#[test]
fn an_index_is_searched_for_the_architecture() {
    let layout = Layout::new();
    let arm = for_platform(layout.image_of("arm"), "arm64", "linux");
    let amd = for_platform(layout.image_of("amd"), "amd64", "linux");
    let windows = for_platform(layout.image_of("windows"), "amd64", "windows");
    let attestation = for_platform(layout.image_of("attestation"), "unknown", "unknown");
    let index = |manifests: &[&Value]| {
        let value = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        layout.document(INDEX, &value)
    };
    layout.list(&[tagged(index(&[&arm, &windows, &attestation, &amd]), "all")]);
    assert_eq!(layout.chosen(Some("all")), "amd");
    assert_eq!(layout.chosen(None), "amd");
    assert_eq!(layout.chosen(arm["digest"].as_str()), "arm");
    // What `docker buildx` writes: the only image, whatever it is for, and what attests it.
    layout.list(&[index(&[&arm, &attestation])]);
    assert_eq!(layout.chosen(None), "arm");
    layout.list(&[index(&[&arm, &windows])]);
    layout.refuses(None, &["linux/amd64", "linux/arm64", "windows/amd64"]);
    // Platforms may also stand in index.json itself, several under one tag.
    layout.list(&[tagged(arm, "v"), tagged(amd, "v")]);
    assert_eq!(layout.chosen(Some("v")), "amd");
    let mut nested = index(&[]);
    for _ in 0..5 {
        nested = index(&[&nested]);
    }
    layout.list(&[nested]);
    layout.refuses(None, &["nested"]);
}

#[test]
fn an_architecture_is_asked_for_by_name() {
    let layout = Layout::new();
    let arm = for_platform(layout.image_of("arm"), "arm64", "linux");
    let amd = for_platform(layout.image_of("amd"), "amd64", "linux");
    layout.list(&[tagged(arm.clone(), "v"), tagged(amd, "v")]);
    let name = |suffix: &str| layout.open(suffix).map(|tree| Layout::only_name(&tree));
    for (suffix, file) in [
        (",arch=arm64", "arm"),
        (":v,arch=arm64", "arm"),
        (":v,arch=aarch64", "arm"),
        (":v,arch=amd64", "amd"),
        (",arch=x86_64@/", "amd"),
    ] {
        assert_eq!(name(suffix).unwrap(), file, "{suffix}");
    }
    let error = name(",arch=riscv64").unwrap_err().to_string();
    assert!(error.contains("linux/riscv64") && error.contains("v (linux/arm64)"), "{error}");
    // What was asked for is not overridden by there being only one.
    layout.list(std::slice::from_ref(&arm));
    assert_eq!(name("").unwrap(), "arm");
    assert!(name(",arch=amd64").unwrap_err().to_string().contains("no image is for linux/amd64"));
    let by_digest = format!(":{},arch=amd64", arm["digest"].as_str().unwrap());
    assert!(name(&by_digest).is_err());
    // An image that does not say what it is for is taken at its tag's word.
    layout.list(&[layout.image_of("silent")]);
    assert_eq!(name(",arch=amd64").unwrap(), "silent");
}

#[test]
fn a_packed_layout_is_read_in_place() {
    let (lower, upper) = layers_with_everything();
    let layout = Layout::new();
    let layers = [layout.blob(LAYER, &lower), layout.blob(&format!("{LAYER}+gzip"), &gzip(&upper))];
    layout.list(&[tagged(layout.image(&layers), "v1")]);
    let packed = layout.pack();
    let spec = format!("oci:{}:v1", packed.display());
    let from_directory = layout.open(":v1").unwrap();
    // The second time from the cache, and after the directory's own use of it.
    for _ in 0..2 {
        let tree = layout.open_spec(&spec).unwrap();
        for path in ["/etc/passwd", "/su", "/var/new"] {
            let mut content = [[0; 8]; 2];
            let read = |tree: &Sysroot, buffer: &mut [u8]| {
                let found = tree.resolve(path.as_bytes()).unwrap();
                assert!(tree.read(found.ino, 0, buffer).unwrap() > 0, "{path}");
                found.meta
            };
            let [one, other] = &mut content;
            assert_eq!(read(&tree, one), read(&from_directory, other), "{path}");
            assert_eq!(one, other, "{path}");
        }
        assert!(tree.resolve(b"/etc/gone").is_err());
    }
    // A damaged blob is noticed there too, by a cache that has not seen it.
    let mut bytes = fs::read(&packed).unwrap();
    let at = bytes.windows(3).position(|window| window == b"old").unwrap();
    bytes[at] ^= 1;
    let other = Layout::new();
    let place = other.room.write("image.tar", &bytes);
    let error = other.open_spec(&format!("oci:{}", place.display())).map(drop).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    let place = other.room.write("image.tar.gz", &gzip(&bytes));
    let error = other.open_spec(&format!("oci:{}", place.display())).map(drop).unwrap_err();
    assert!(error.to_string().contains("uncompress it"), "{error}");
    let place = other.room.write("other.tar", &lower);
    let error = other.open_spec(&format!("oci:{}", place.display())).map(drop).unwrap_err();
    assert!(error.to_string().contains("no OCI image layout"), "{error}");
}

#[test]
fn a_colon_in_the_path_is_told_from_the_tags() {
    let layout = Layout::new();
    layout.list(&[tagged(layout.image_of("file"), "host:5000/one:1")]);
    let odd = layout.directory.with_file_name("a:b,arch=c");
    fs::rename(&layout.directory, &odd).unwrap();
    for (suffix, is_there) in
        [("/:", true), ("/:host:5000/one:1", true), ("/:,arch=amd64", true), ("", false)]
    {
        let spec = format!("oci:{}{suffix}", odd.display());
        assert_eq!(layout.open_spec(&spec).is_ok(), is_there, "{spec}");
        let parsed = Spec::parse(&spec).unwrap();
        assert_eq!(Spec::parse(parsed.to_string()).unwrap(), parsed, "{spec}");
    }
}

#[test]
fn what_is_no_layout_is_refused() {
    let layout = Layout::new();
    fs::remove_file(layout.directory.join("oci-layout")).unwrap();
    layout.refuses(None, &["image", "no OCI image layout"]);
    fs::write(layout.directory.join("oci-layout"), r#"{"imageLayoutVersion": "2.0"}"#).unwrap();
    layout.refuses(None, &["oci-layout", "2.0"]);
    fs::write(layout.directory.join("oci-layout"), "rubbish").unwrap();
    layout.refuses(None, &["oci-layout", "JSON"]);
    let missing = Layout { directory: layout.directory.join("missing"), room: Room::new() };
    assert!(matches!(missing.find(None), Err(Error::Host { .. })));
}

#[test]
fn blobs_are_compared_with_their_digests() {
    let layout = Layout::new();
    let layer = layout.blob(LAYER, &tar(&[("f", b"good")]));
    let image = layout.image(std::slice::from_ref(&layer));
    layout.list(std::slice::from_ref(&image));
    let place = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace("sha256:", "");
        layout.directory.join("blobs/sha256").join(digest)
    };
    // The layer: another content of the same size, another size, no file.
    let good = fs::read(place(&layer)).unwrap();
    fs::write(place(&layer), tar(&[("f", b"evil")])).unwrap();
    let error = layout.open("").map(drop).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("layer 1 of 1"), "{error}");
    fs::write(place(&layer), &good[..512]).unwrap();
    layout.refuses(None, &["512 bytes instead of 2048"]);
    fs::remove_file(place(&layer)).unwrap();
    layout.refuses(None, &["blobs/sha256/", "missing"]);
    fs::write(place(&layer), &good).unwrap();
    layout.open("").unwrap();
    // The manifest.
    let manifest = fs::read_to_string(place(&image)).unwrap();
    fs::write(place(&image), manifest.replace("\"schemaVersion\":2", "\"schemaVersion\":3"))
        .unwrap();
    layout.refuses(None, &["damaged"]);
    fs::remove_file(place(&image)).unwrap();
    layout.refuses(None, &["blobs/sha256/", "missing"]);
    layout.refuses(Some(&format!("sha256:{}", "0".repeat(64))), &["missing"]);
}

#[test]
fn a_layer_is_read_for_its_digest_only_once() {
    let layout = Layout::new();
    let layer = layout.blob(LAYER, &gzip(&tar(&[("f", b"x")])));
    layout.list(&[layout.image(&[layer])]);
    let archives = layout.find(None).unwrap();
    let prepare = |expected: bool| {
        let worked = std::sync::atomic::AtomicBool::new(false);
        for archive in &archives {
            let note = |_: outcrop_fs::layer::cache::Progress<'_>| {
                worked.store(true, std::sync::atomic::Ordering::Relaxed);
            };
            layout.room.cache.open(archive, &note).unwrap();
        }
        assert_eq!(worked.into_inner(), expected);
    };
    prepare(true);
    prepare(false);
}

#[test]
fn unknown_media_types_and_hostile_documents_are_refused() {
    let layout = Layout::new();
    let encrypted = layout.blob("application/vnd.oci.image.layer.v1.tar+encrypted", b"?");
    layout.list(&[layout.image(&[encrypted])]);
    layout.refuses(None, &["tar+encrypted"]);
    layout.list(&[layout.blob("application/vnd.cncf.helm.chart", b"{}")]);
    layout.refuses(None, &["vnd.cncf.helm.chart"]);
    let mut escaping = layout.image_of("f");
    let long = format!("sha256:{}", "é".repeat(32));
    for digest in ["sha256:../../../etc/passwd", "sha512:00", "sha256:", long.as_str()] {
        escaping["digest"] = json!(digest);
        layout.list(std::slice::from_ref(&escaping));
        layout.refuses(None, &["digest"]);
    }
    for index in ["", "[]", "{}", r#"{"manifests": [{"size": -1}]}"#, r#"{"manifests": 7}"#] {
        fs::write(layout.directory.join("index.json"), index).unwrap();
        layout.refuses(None, &["index.json"]);
    }
    fs::write(layout.directory.join("index.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    layout.refuses(None, &["larger than 4 MiB"]);
}

#[test]
fn dockers_media_types_are_known() {
    let layout = Layout::new();
    let layer = layout
        .blob("application/vnd.docker.image.rootfs.diff.tar.gzip", &gzip(&tar(&[("f", b"x")])));
    let manifest = json!({"schemaVersion": 2, "layers": [layer]});
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    layout.list(&[layout.document(docker, &manifest)]);
    assert_eq!(layout.chosen(None), "f");
    let layers: Vec<Arc<str>> =
        layout.find(None).unwrap().into_iter().map(|archive| archive.label.into()).collect();
    assert!(layers[0].starts_with("oci:") && layers[0].ends_with("(layer 1 of 1)"), "{layers:?}");
}
