//! The small inputs that the examples in the documentation use.

use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{Said, Scratch, as_user, outcrop, run};

/// All times in the samples: 2024-01-01 00:00:00 UTC.
const TIME: u64 = 1_704_067_200;

/// What `nodes.list` says (docs/layers.md).
const NODES: &str = "\
# TYPE   PATH          MODE UID GID  MORE
dir      /tmp          1777 0 0
file     /etc/hostname 0644 0 0  sample\\n
char     /dev/null     0666 0 0  1:3
symlink  /bin          0777 0 0  usr/bin
";

enum Content<'a> {
    Directory,
    File(&'a str),
    Symlink(&'a str),
    CharDevice(u32, u32),
}

struct Entry<'a> {
    path: &'a str,
    mode: u32,
    owner: (u64, u64),
    content: Content<'a>,
}

fn entry<'a>(path: &'a str, mode: u32, owner: (u64, u64), content: Content<'a>) -> Entry<'a> {
    Entry { path, mode, owner, content }
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(TIME);
        header.set_size(0);
        let path = entry.path;
        match entry.content {
            Content::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            Content::File(text) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
            Content::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Content::CharDevice(major, minor) => {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(major).unwrap();
                header.set_device_minor(minor).unwrap();
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// The samples, and a store of their own beside them.
pub struct Sampled {
    pub scratch: Scratch,
}

impl Sampled {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        create(&scratch);
        Sampled { scratch }
    }

    /// `outcrop` among the samples; their place is told as SCRATCH.
    pub fn outcrop(&self, arguments: &[&str]) -> Said {
        let mut said = run(&mut self.command(arguments));
        let place = self.scratch.path().display().to_string();
        said.stdout = said.stdout.replace(&place, "SCRATCH");
        said.stderr = said.stderr.replace(&place, "SCRATCH");
        said
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = outcrop();
        command
            .args(arguments)
            .env("OUTCROP_HOME", self.scratch.join(".store"))
            .env("HOME", self.scratch.path())
            .current_dir(self.scratch.path());
        command
    }

    /// A kit of one package and a kernel, as far as a verification or a key looks at it.
    pub fn kit(&self, name: &str, package: &str, kernel: &str) {
        let locked = |name: &str, content: &str| {
            let sha256 = sha256(content.as_bytes());
            self.scratch.file(&format!(".store/kits/packages/{sha256}.deb"), content);
            format!(
                "name = {name:?}\nversion = \"1\"\narchitecture = \"amd64\"\nsha256 = {sha256:?}\n\
                 size = {}\nfile = \"pool/{name}.deb\"\n",
                content.len()
            )
        };
        let lock = format!(
            "format = 1\narchitecture = \"x86_64\"\nrecipe = {:?}\n[kernel]\n{}[[package]]\n{}",
            "11".repeat(32),
            locked("linux-image-1", kernel),
            locked("sample", package)
        );
        self.scratch.file(&format!(".store/kits/{name}/kit.lock"), lock);
    }

    /// A shell script among the samples, as the ordinary user.
    #[track_caller]
    pub fn shell(&self, script: &str) {
        shell(&self.scratch, script);
    }
}

impl Default for Sampled {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the samples into a directory: `base.tar`, `app.tar.xz`, `app.deb`, the git repository
/// `src` with the tag `v1.0`, `nodes.list`, the OCI image layout `image` with the tag `v1`, the
/// directory `work` and the empty directory `root`.
pub fn create(scratch: &Scratch) {
    let root = (0, 0);
    let base = archive(&[
        entry("bin/", 0o755, root, Content::Directory),
        entry("bin/sh", 0o755, root, Content::File("#!shell\n")),
        entry("bin/su", 0o4755, root, Content::File("#!setuid\n")),
        entry("dev/", 0o755, root, Content::Directory),
        entry("dev/console", 0o600, (0, 5), Content::CharDevice(5, 1)),
        entry("etc/", 0o755, root, Content::Directory),
        entry("etc/motd", 0o644, root, Content::File("the base\n")),
        entry("etc/shadow", 0o640, (0, 42), Content::File("root:*:\n")),
        entry("etc/localtime", 0o777, root, Content::Symlink("/usr/share/zoneinfo/UTC")),
    ]);
    scratch.file("base.tar", base);
    let app = archive(&[
        entry("etc/motd", 0o644, root, Content::File("the app\n")),
        entry("usr/bin/app", 0o755, root, Content::File("#!/bin/sh\necho app\n")),
        entry("srv/data", 0o600, (1000, 1000), Content::File("of user 1000\n")),
    ]);
    scratch.file("app.tar", app);
    package(scratch);
    image(scratch);
    scratch.file("nodes.list", NODES);
    scratch.file("work/notes", "from the host\n");
    scratch.directory("root");
    scratch.directory("src");
    scratch.file("src/main.c", "int main(void) { return 0; }\n");
    shell(
        scratch,
        "rm -rf package
         xz app.tar
         git init -q -b main src
         cd src
         git add .
         export GIT_AUTHOR_DATE='1704067200 +0000' GIT_COMMITTER_DATE='1704067200 +0000'
         git -c user.name=Sample -c user.email=sample@localhost commit -q -m First
         git -c user.name=Sample -c user.email=sample@localhost tag v1.0",
    );
}

/// `app.deb`, as dpkg-deb lays it out (deb(5)).
fn package(scratch: &Scratch) {
    let control = "Package: app\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\n";
    let control = archive(&[entry("control", 0o644, (0, 0), Content::File(control))]);
    let data = archive(&[
        entry("bin/", 0o755, (0, 0), Content::Directory),
        entry("bin/hello", 0o755, (0, 0), Content::File("#!/bin/sh\necho hello\n")),
        entry("etc/motd", 0o644, (0, 0), Content::File("the package\n")),
    ]);
    scratch.file("package/debian-binary", "2.0\n");
    scratch.file("package/control.tar", control);
    scratch.file("package/data.tar", data);
    shell(
        scratch,
        "cd package
         gzip control.tar
         xz data.tar
         ar qcS ../app.deb debian-binary control.tar.gz data.tar.xz 2>/dev/null",
    );
}

/// 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `image`, of two layers: the second replaces `/etc/motd` and takes `/etc/issue` away.
fn image(scratch: &Scratch) {
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        scratch.file(&format!("image/blobs/sha256/{digest}"), bytes);
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer =
        |entries: &[Entry<'_>]| blob("application/vnd.oci.image.layer.v1.tar", &archive(entries));
    let file = |path, text| entry(path, 0o644, (0, 0), Content::File(text));
    let directory = || entry("etc/", 0o755, (0, 0), Content::Directory);
    let layers = [
        layer(&[
            directory(),
            file("etc/motd", "the first layer\n"),
            file("etc/issue", "the first layer\n"),
        ]),
        layer(&[directory(), file("etc/motd", "the second layer\n"), file("etc/.wh.issue", "")]),
    ];
    let config = blob("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let mut image = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    image["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [image]}).to_string();
    scratch.file("image/index.json", index);
    scratch.file("image/oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#);
}

fn shell(scratch: &Scratch, script: &str) {
    let mut command: Command = as_user("sh");
    command.args(["-ec", script]).current_dir(scratch.path());
    run(&mut command).ok();
}
