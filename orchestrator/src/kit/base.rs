//! What packages' maintainer scripts would have made: links, accounts, directories. They do not run
//! when packages are layers, so these nodes go on top.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

use super::architecture::Architecture;
use super::lock::{LockedPackage, hex};

/// Where the distcc client is found under compilers' names, for a guest whose compile service runs.
pub const MASQUERADE_DIRECTORY: &str = "usr/lib/distcc";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntheticKind {
    Directory,
    /// The content.
    File(String),
    /// The target.
    Symlink(String),
}

/// One node of the base layer that no package ships. Owned by `uid` and `gid`; `mode` is the 12
/// permission bits; the mtime is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticNode {
    /// Relative to the root, without a leading slash.
    pub path: String,
    pub kind: SyntheticKind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

/// The nodes for an architecture and a set of packages, parents before children, each path once.
pub fn synthetic_nodes(
    architecture: &Architecture,
    packages: &[LockedPackage],
) -> Vec<SyntheticNode> {
    let mut nodes = Nodes::default();
    for directory in &architecture.merged_directories {
        nodes.directory(&format!("usr/{directory}"), 0o755, 0);
        nodes.link(directory, &format!("usr/{directory}"));
    }
    for (path, mode, gid) in DIRECTORIES {
        nodes.directory(path, *mode, *gid);
    }
    for (path, content) in FILES {
        nodes.file(path, content);
    }
    for (path, target) in LINKS {
        nodes.link(path, target);
    }
    for (name, target) in versioned_links(packages) {
        nodes.link(&format!("usr/bin/{name}"), &target);
    }
    nodes.directory(MASQUERADE_DIRECTORY, 0o755, 0);
    for name in compiler_names(architecture, packages) {
        nodes.link(&format!("{MASQUERADE_DIRECTORY}/{name}"), "../../bin/distcc");
    }
    nodes.0
}

/// Names under which packages have a C or C++ compiler in `/usr/bin`, the alternatives included.
pub fn compiler_names(architecture: &Architecture, packages: &[LockedPackage]) -> Vec<String> {
    let triplet = &architecture.triplet;
    let mut names: Vec<String> = ["cc", "c++", "gcc", "g++"].map(str::to_owned).into();
    names.extend(["gcc", "g++"].map(|name| format!("{triplet}-{name}")));
    for package in packages {
        let Some((compiler @ ("gcc" | "g++"), version)) = package.name.split_once('-') else {
            continue;
        };
        if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) {
            names.push(format!("{compiler}-{version}"));
            names.push(format!("{triplet}-{compiler}-{version}"));
        }
    }
    names
}

/// A digest of an architecture's description and the nodes: what this program adds to a kit.
pub fn recipe_digest(architecture: &Architecture, packages: &[LockedPackage]) -> String {
    let mut hash = Sha256::new();
    // Debug output of plain owned data: stable for one definition of the types, and a changed
    // definition is a changed recipe.
    hash.update(format!("{architecture:?}").as_bytes());
    for node in synthetic_nodes(architecture, packages) {
        hash.update(format!("{node:?}").as_bytes());
    }
    hex(&hash.finalize())
}

/// Links whose target has the package's version in its name.
fn versioned_links(packages: &[LockedPackage]) -> Vec<(String, String)> {
    let Some(automake) = packages.iter().find(|package| package.name == "automake") else {
        return Vec::new();
    };
    // `1:1.16.5-1.3` installs automake-1.16.
    let version = automake.version.rsplit(':').next().unwrap_or_default();
    let series = version.split('.').take(2).collect::<Vec<_>>().join(".");
    let series = series.split('-').next().unwrap_or_default();
    ["automake", "aclocal"].map(|name| (name.to_owned(), format!("{name}-{series}"))).into()
}

#[derive(Default)]
struct Nodes(Vec<SyntheticNode>);

impl Nodes {
    fn add(&mut self, path: &str, kind: SyntheticKind, mode: u16, gid: u32) {
        self.0.push(SyntheticNode { path: path.to_owned(), kind, mode, uid: 0, gid });
    }

    fn directory(&mut self, path: &str, mode: u16, gid: u32) {
        self.add(path, SyntheticKind::Directory, mode, gid);
    }

    fn file(&mut self, path: &str, content: &str) {
        self.add(path, SyntheticKind::File(content.to_owned()), 0o644, 0);
    }

    fn link(&mut self, path: &str, target: &str) {
        self.add(path, SyntheticKind::Symlink(target.to_owned()), 0o777, 0);
    }
}

const MAIL: u32 = 8;

const DIRECTORIES: &[(&str, u16, u32)] = &[
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 0),
    ("mnt", 0o755, 0),
    ("opt", 0o755, 0),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("run/lock", 0o1777, 0),
    ("srv", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("usr/local", 0o755, 0),
    ("usr/local/bin", 0o755, 0),
    ("usr/local/etc", 0o755, 0),
    ("usr/local/include", 0o755, 0),
    ("usr/local/lib", 0o755, 0),
    ("usr/local/sbin", 0o755, 0),
    ("usr/local/share", 0o755, 0),
    ("var", 0o755, 0),
    ("var/cache", 0o755, 0),
    ("var/lib", 0o755, 0),
    ("var/log", 0o755, 0),
    ("var/mail", 0o2775, MAIL),
    ("var/spool", 0o755, 0),
    ("var/tmp", 0o1777, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("etc/mtab", "../proc/self/mounts"),
    ("usr/bin/awk", "gawk"),
    ("usr/bin/nawk", "gawk"),
    ("usr/bin/c++", "g++"),
    ("usr/bin/c89", "c89-gcc"),
    ("usr/bin/c99", "c99-gcc"),
    ("usr/bin/cc", "gcc"),
    ("usr/bin/lzcat", "xzcat"),
    ("usr/bin/lzma", "xz"),
    ("usr/bin/unlzma", "unxz"),
    ("usr/bin/which", "which.debianutils"),
    ("usr/bin/yacc", "bison.yacc"),
    ("usr/lib/cpp", "../bin/cpp"),
    ("usr/sbin/rmt", "rmt-tar"),
    ("var/lock", "../run/lock"),
    ("var/run", "../run"),
    ("var/spool/mail", "../mail"),
];

const FILES: &[(&str, &str)] = &[
    ("etc/fstab", ""),
    ("etc/group", GROUP),
    ("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
    ("etc/hostname", "outcrop\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\n",
    ),
    ("etc/passwd", PASSWD),
    ("etc/profile", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\nexport PATH\n"),
    ("etc/resolv.conf", ""),
    ("etc/shells", "/bin/sh\n/bin/bash\n/bin/dash\n"),
];

/// The accounts that Debian gives fixed numbers and that sources' install steps refer to.
const PASSWD: &str = "\
root:*:0:0:root:/root:/bin/bash
daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:*:2:2:bin:/bin:/usr/sbin/nologin
sys:*:3:3:sys:/dev:/usr/sbin/nologin
sync:*:4:65534:sync:/bin:/bin/sync
games:*:5:60:games:/usr/games:/usr/sbin/nologin
man:*:6:12:man:/var/cache/man:/usr/sbin/nologin
lp:*:7:7:lp:/var/spool/lpd:/usr/sbin/nologin
mail:*:8:8:mail:/var/mail:/usr/sbin/nologin
news:*:9:9:news:/var/spool/news:/usr/sbin/nologin
uucp:*:10:10:uucp:/var/spool/uucp:/usr/sbin/nologin
www-data:*:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:*:0:
daemon:*:1:
bin:*:2:
sys:*:3:
adm:*:4:
tty:*:5:
disk:*:6:
lp:*:7:
mail:*:8:
news:*:9:
uucp:*:10:
man:*:12:
kmem:*:15:
dialout:*:20:
cdrom:*:24:
floppy:*:25:
tape:*:26:
sudo:*:27:
audio:*:29:
www-data:*:33:
operator:*:37:
src:*:40:
shadow:*:42:
utmp:*:43:
video:*:44:
staff:*:50:
games:*:60:
users:*:100:
nogroup:*:65534:
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn package(name: &str, version: &str) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            sha256: String::new(),
            size: 0,
            file: String::new(),
        }
    }

    fn nodes() -> Vec<SyntheticNode> {
        let packages = [package("automake", "1:1.17-4"), package("gcc-14", "14.2.0-19")];
        synthetic_nodes(&Architecture::by_name("x86_64").unwrap(), &packages)
    }

    #[test]
    fn paths_are_unique_relative_and_after_their_parents() {
        let mut seen = BTreeSet::from(["".to_owned(), "usr".into(), "usr/bin".into()]);
        seen.extend(["usr/lib", "usr/sbin"].map(String::from));
        for node in nodes() {
            let parent = node.path.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(seen.contains(parent), "{} comes before its parent", node.path);
            assert!(!node.path.starts_with('/'));
            let known = ["usr/lib", "usr/sbin", "usr/bin"].contains(&node.path.as_str());
            assert!(seen.insert(node.path.clone()) || known, "{} twice", node.path);
        }
    }

    #[test]
    fn versions_come_from_the_packages() {
        let nodes = nodes();
        let target =
            |path: &str| nodes.iter().find(|node| node.path == path).map(|node| node.kind.clone());
        assert_eq!(
            target("usr/bin/automake"),
            Some(SyntheticKind::Symlink("automake-1.17".into()))
        );
        assert!(target("usr/lib/distcc/x86_64-linux-gnu-gcc-14").is_some());
        assert!(target("usr/lib/distcc/gcc-12").is_none());
    }

    #[test]
    fn the_recipe_covers_description_and_nodes() {
        let mut architecture = Architecture::by_name("x86_64").unwrap();
        let before = recipe_digest(&architecture, &[]);
        assert_ne!(before, recipe_digest(&architecture, &[package("gcc-12", "12")]));
        architecture.modules.required.push("another".into());
        assert_ne!(before, recipe_digest(&architecture, &[]));
    }
}
