//! The compilers' own tree: the kit's packages as they are, which no guest can change.
//!
//! Nothing of the guest's tree may run on the host, neither a program nor a library: it is mounted
//! without the right to. So the compilers' loader and libraries come from their own tree as well, which
//! lies at [`PLACE`] beside the devices.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use outcrop_fs::layer::Layer;
use outcrop_fs::layer::synthetic::{self, SyntheticKind as Kind, SyntheticNode as Node};
use outcrop_fs::sysroot::{Options, Sysroot};
use outcrop_fs::view::{LoaderView, Relocation};

use serde::{Deserialize, Serialize};

use super::{COMMAND, CallServer, Places, Settings};
use crate::compile::endpoint::Limits;
use crate::compile::service::JOB_LOG;
use crate::kit::{Kit, compiler_names};

/// Jobs of one guest at once; others wait.
const SLOTS: usize = 16;

/// Where compilers' names are the program that hands calls to the host, in a guest's tree.
pub const CALLER_DIRECTORY: &str = "usr/lib/outcrop/compilers";

/// Where a job sees the compilers' own tree, in which no path of the guest's can be.
pub const PLACE: &str = "/dev/kit";
/// Names of the parts, for compilers to find them (`COMPILER_PATH`).
pub const PARTS: &str = "/dev/parts";
/// What programs of the tree name as their loader.
pub const LOADER: &str = "/dev/ld.so";

/// What GCC starts by itself; not all packages have all of them.
const PASSES: [&str; 6] = ["cc1", "cc1plus", "collect2", "lto1", "lto-wrapper", "liblto_plugin.so"];
const BINUTILS: [&str; 4] = ["as", "ld", "ld.bfd", "ld.gold"];

/// What can be run of a kit's compilers on this host, and how.
///
/// Paths are absolute, in the compilers' own tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// By the names that a guest may call.
    pub programs: BTreeMap<String, PathBuf>,
    /// What compilers start, by the names that they call it.
    pub parts: BTreeMap<String, PathBuf>,
    pub loader: PathBuf,
    /// The directory where the loader looks.
    pub libraries: PathBuf,
    triplet: String,
}

impl Toolchain {
    /// Of a kit whose programs this host's processor runs; `None` for others.
    pub fn of(kit: &Kit) -> Option<Toolchain> {
        let architecture = kit.architecture();
        // The loader's name and place are this one's.
        if architecture.name != "x86_64" || !architecture.is_native() {
            return None;
        }
        let packages = &kit.lock().packages;
        let version = |compiler: &str| {
            let mut names =
                packages.iter().filter_map(|package| package.name.strip_prefix(compiler));
            names.find(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let c = version("gcc-")?;
        let triplet = architecture.triplet.clone();
        let mut programs = BTreeMap::new();
        for name in compiler_names(architecture, packages) {
            let kind = if name.contains("++") { "g++" } else { "gcc" };
            let Some(version) = version(&format!("{kind}-")) else { continue };
            programs.insert(name, PathBuf::from(format!("/usr/bin/{triplet}-{kind}-{version}")));
        }
        let mut parts = BTreeMap::new();
        for name in PASSES {
            let path = format!("/usr/lib/gcc/{triplet}/{c}/{name}");
            parts.insert(name.to_owned(), PathBuf::from(path));
        }
        for name in BINUTILS {
            parts.insert(name.to_owned(), PathBuf::from(format!("/usr/bin/{triplet}-{name}")));
        }
        let libraries = PathBuf::from(format!("/usr/lib/{triplet}"));
        let loader = libraries.join("ld-linux-x86-64.so.2");
        Some(Toolchain { programs, parts, loader, libraries, triplet })
    }

    /// What a guest has in its tree: the agent's program, `caller`, under the compilers' names.
    pub fn callers(&self, caller: Vec<u8>) -> outcrop_fs::Result<Arc<dyn Layer>> {
        let mut nodes = vec![
            Node::new("usr/lib/outcrop", Kind::Directory, 0o755),
            Node::new("usr/lib/outcrop/caller", Kind::File(caller), 0o755),
            Node::new(CALLER_DIRECTORY, Kind::Directory, 0o755),
        ];
        nodes.extend(self.programs.keys().map(|name| {
            let target = Kind::Symlink(b"../caller".to_vec());
            Node::new(format!("{CALLER_DIRECTORY}/{name}"), target, 0o777)
        }));
        Ok(Arc::new(synthetic::layer("callers", nodes)?))
    }

    /// Starts the server of one guest's calls; `program` is this executable.
    pub fn serve(&self, program: &Path, places: &Places<'_>) -> io::Result<CallServer> {
        let settings = Settings {
            view: places.view.to_owned(),
            tools: places.tools.to_owned(),
            toolchain: self.clone(),
            limits: Limits::default(),
            slots: SLOTS,
            log: places.directory.join(JOB_LOG),
        };
        let path = places.directory.join("calls.json");
        std::fs::write(&path, serde_json::to_vec(&settings)?)?;
        let (port, end_of_server) = UnixStream::pair()?;
        let (changes, questions) = UnixStream::pair()?;
        let process = Command::new(program)
            .arg(COMMAND)
            .arg(&path)
            .stdin(OwnedFd::from(end_of_server))
            .stdout(OwnedFd::from(questions))
            .spawn()?;
        Ok(CallServer { process, port: port.into(), changes })
    }

    /// The compilers' own tree, of the kit's layers.
    pub fn view(&self, layers: Vec<Arc<dyn Layer>>) -> outcrop_fs::Result<LoaderView> {
        let tree = Sysroot::new(layers, Options::default())?;
        let loader = tree.resolve(self.loader.as_os_str().as_encoded_bytes())?.ino;
        // glibc's loader (elf/rtld.c, elf/dl-cache.c, elf/dl-load.c) names these; each keeps its length.
        let pair = |from: &str, to: &str| (from.as_bytes().to_vec(), to.as_bytes().to_vec());
        let strings = vec![
            pair("/etc/ld.so.", "/dev/ld.so."),
            pair(&format!("/lib/{}/", self.triplet), &format!("/dev/{}/", self.triplet)),
        ];
        let interpreter = LOADER.as_bytes().to_vec();
        LoaderView::new(Arc::new(tree), Relocation { loader, interpreter, strings })
    }
}
