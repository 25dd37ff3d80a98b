//! The compilers' own tree, which no guest can change: the kit's packages as they are, or those of the
//! host's compilers for a kit of another architecture.
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
use outcrop_fs::view::{LoaderView, Relocation, Renamed};

use serde::{Deserialize, Serialize};

use super::confinement::TEMPORARY;
use super::{COMMAND, CallServer, Places, Settings};
use crate::compile::endpoint::Limits;
use crate::compile::equivalence::{Relation, relation};
use crate::compile::service::JOB_LOG;
use crate::kit::{Architecture, Kit, compiler_names};

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

/// An assembler that first has objects say that the kit's compiler made them.
const ASSEMBLER: &str = "usr/lib/outcrop/as";

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
    /// Of the compilers' own programs.
    triplet: String,
    /// Where they are cross compilers.
    pub cross: Option<Cross>,
}

/// What makes a cross compiler work as the kit's own one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cross {
    /// The kit's triplet.
    triplet: String,
    /// Of GCC, as directories have it: `12`.
    version: String,
    pub update: Option<Update>,
}

/// A stable update that the kit's compiler has and the host's lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The versions of the host's and the kit's package.
    from: String,
    to: String,
    /// Words of options for which the two differ.
    pub differs: Vec<String>,
}

impl Toolchain {
    /// What this host can run for a kit; if nothing, why, as one sentence.
    pub fn of(kit: &Kit) -> Result<Toolchain, String> {
        let architecture = kit.architecture();
        let host = Architecture::of_toolchains();
        let host = host.ok_or("it is for x86_64 hosts")?;
        let packages = &kit.lock().packages;
        let version = |compiler: &str| {
            let mut names =
                packages.iter().filter_map(|package| package.name.strip_prefix(compiler));
            names.find(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let c = version("gcc-").ok_or("the kit has no C compiler")?;
        let triplet = architecture.triplet.clone();
        let cross = match architecture.is_native() {
            true => None,
            false => Some(Cross::of(kit, c)?),
        };
        let mut programs = BTreeMap::new();
        for name in compiler_names(architecture, packages) {
            let kind = if name.contains("++") { "g++" } else { "gcc" };
            let Some(version) = version(&format!("{kind}-")) else { continue };
            programs.insert(name, PathBuf::from(format!("/usr/bin/{triplet}-{kind}-{version}")));
        }
        let mut parts = BTreeMap::new();
        let passes = if cross.is_some() { "gcc-cross" } else { "gcc" };
        // Debian's GCC has them there from 13 on.
        let programs_of = if c.parse::<u32>().is_ok_and(|c| c < 13) { "lib" } else { "libexec" };
        for name in PASSES {
            let path = format!("/usr/{programs_of}/{passes}/{triplet}/{c}/{name}");
            parts.insert(name.to_owned(), PathBuf::from(path));
        }
        for name in BINUTILS {
            parts.insert(name.to_owned(), PathBuf::from(format!("/usr/bin/{triplet}-{name}")));
        }
        if cross.as_ref().is_some_and(|cross| cross.update.is_some()) {
            parts.insert("as".to_owned(), Path::new("/").join(ASSEMBLER));
        }
        let libraries = PathBuf::from(format!("/usr/lib/{}", host.triplet));
        let loader = libraries.join("ld-linux-x86-64.so.2");
        Ok(Toolchain { programs, parts, loader, libraries, triplet: host.triplet, cross })
    }

    /// Nodes on top of the packages of a cross compiler.
    pub fn nodes(&self) -> Vec<Node> {
        let Some(Cross { triplet, update: Some(update), .. }) = &self.cross else {
            return Vec::new();
        };
        let script = update
            .assembler(&format!("{PLACE}/bin/busybox "), &format!("{PLACE}/usr/bin/{triplet}-as"));
        vec![
            Node::new("usr/lib/outcrop", Kind::Directory, 0o755),
            Node::new(ASSEMBLER, Kind::File(script.into_bytes()), 0o755),
        ]
    }

    /// Variables of every job's environment.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        let mut variables = vec![("PATH", "/nowhere"), ("COMPILER_PATH", PARTS)];
        if self.cross.is_some() {
            // Headers, start files and GCC's own library are where the guest has them.
            variables.push(("GCC_EXEC_PREFIX", "/usr/lib/gcc/"));
        }
        variables
    }

    /// Options of every job, before its own.
    pub fn options(&self) -> Vec<String> {
        // The guest's linker plugin lies beside its start files.
        self.cross.iter().map(|_| format!("-B{PARTS}")).collect()
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
        let mut others = Vec::new();
        if let (Some(cross), Some(cxx)) = (&self.cross, self.parts.get("cc1plus")) {
            // Not every kit has a compiler for C++.
            if let Ok(found) = tree.resolve(cxx.as_os_str().as_encoded_bytes()) {
                others.push(Renamed { file: found.ino, strings: cross.headers_of_cxx() });
            }
        }
        LoaderView::new(Arc::new(tree), Relocation { loader, interpreter, strings, others })
    }
}

/// What every guest has in its tree, whoever compiles: the agent's program, `caller`, under the names of
/// the kit's compilers.
pub fn callers(kit: &Kit, caller: Vec<u8>) -> outcrop_fs::Result<Arc<dyn Layer>> {
    let mut nodes = vec![
        Node::new("usr/lib/outcrop", Kind::Directory, 0o755),
        Node::new("usr/lib/outcrop/caller", Kind::File(caller), 0o755),
        Node::new(CALLER_DIRECTORY, Kind::Directory, 0o755),
    ];
    let names = compiler_names(kit.architecture(), &kit.lock().packages);
    nodes.extend(names.into_iter().map(|name| {
        let target = Kind::Symlink(b"../caller".to_vec());
        Node::new(format!("{CALLER_DIRECTORY}/{name}"), target, 0o777)
    }));
    Ok(Arc::new(synthetic::layer("callers", nodes)?))
}

impl Cross {
    fn of(kit: &Kit, version: &str) -> Result<Cross, String> {
        let architecture = kit.architecture();
        let arch = &architecture.name;
        let again = || {
            format!("its kit has none for this host; outcrop kit create --arch {arch} adds them")
        };
        let toolchain = kit.toolchain().ok_or_else(again)?;
        let name = architecture.cross_package(&format!("gcc-{version}"));
        let theirs = &toolchain.package(&name).ok_or_else(again)?.version;
        if kit.lacks_toolchain() {
            return Err(again());
        }
        let own = kit.lock().compiler_package().map(|package| package.version.as_str());
        let own = own.unwrap_or_default();
        let update = match relation(own, theirs, arch) {
            Relation::Same => None,
            Relation::Updated { versions: (from, to), differs } => {
                Some(Update { from, to, differs })
            }
            Relation::Different => {
                return Err(format!("{name} {theirs} is not the compiler of the kit, {own}"));
            }
        };
        let (triplet, version) = (architecture.triplet.clone(), version.to_owned());
        Ok(Cross { triplet, version, update })
    }

    /// Debian's cross compilers look for headers of C++ below the kit's triplet, native ones where the
    /// guest has them (gcc/cppdefault.cc).
    fn headers_of_cxx(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Cross { triplet, version, .. } = self;
        let cross = format!(
            "/usr/lib/gcc-cross/{triplet}/{version}/../../../../{triplet}/include/c++/{version}"
        );
        let native = format!("/usr/include/c++/{version}");
        // Debian's directories of 32-bit x86 do not have the compiler's name for it.
        let directory = triplet.replacen("i686-", "i386-", 1);
        [
            (cross.clone(), native.clone()),
            (format!("{cross}/{triplet}"), format!("/usr/include/{directory}/c++/{version}")),
            (format!("{cross}/backward"), format!("{native}/backward")),
        ]
        .map(|(from, to)| (from.into_bytes(), to.into_bytes()))
        .to_vec()
    }
}

impl Update {
    /// A script in the place of an assembler: GCC's own temporary files, and what it hands over by a
    /// pipe, get the other version; sources of the guest are left as they are.
    /// `tools`: what stands before the names of a shell and of sed.
    fn assembler(&self, tools: &str, assembler: &str) -> String {
        let from = self.from.replace('.', "\\.");
        let ident = format!(
            "s/^\\t\\.ident\\t\"GCC: (Debian {from})/\\t.ident\\t\"GCC: (Debian {})/",
            self.to
        );
        format!(
            "#!{tools}sh\n\
             before=\n\
             for last; do [ \"$last\" = \"${{last#-}}\" ] && [ \"$before\" = -o ] && piped=1 || piped=\n\
             before=$last; done\n\
             if [ \"$piped\" ]; then {tools}sed '{ident}' | {assembler} \"$@\"; exit; fi\n\
             case $last in\n\
             /{TEMPORARY}/*) {tools}sed -i '{ident}' \"$last\" || exit 1;;\n\
             esac\n\
             exec {assembler} \"$@\"\n"
        )
    }
}

#[cfg(test)]
impl Toolchain {
    /// Of `gcc` alone; a cross compiler that lacks an update where it differs for such words.
    pub fn for_tests(differs: Option<&[&str]>) -> Toolchain {
        let update = |words: &[&str]| Update {
            from: "1-2".to_owned(),
            to: "1-2+deb3u4".to_owned(),
            differs: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let cross = differs.map(|words| {
            let (triplet, version) = ("T".to_owned(), "12".to_owned());
            Cross { triplet, version, update: Some(update(words)) }
        });
        Toolchain {
            programs: BTreeMap::from([("gcc".to_owned(), PathBuf::from("/usr/bin/T-gcc-12"))]),
            parts: BTreeMap::new(),
            loader: PathBuf::new(),
            libraries: PathBuf::new(),
            triplet: "H".to_owned(),
            cross,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENT: &str = "\t.ident\t\"GCC: (Debian 1-2) 1\"\n";

    /// What an assembler reads in the place of this input, which is a file where it has a name.
    fn assembled(arguments: &[&str], file: Option<&Path>, directory: &Path) -> String {
        let toolchain = Toolchain::for_tests(Some(&[]));
        let update = toolchain.cross.unwrap().update.unwrap();
        let input = directory.join("input");
        std::fs::write(&input, IDENT).unwrap();
        let assembler = directory.join("assembler");
        let show = "for last; do :; done; case $last in *.s) cat $last;; *) cat;; esac";
        std::fs::write(&assembler, show).unwrap();
        let script = update
            .assembler("", &format!("/bin/sh {}", assembler.display()))
            .replace(&format!("/{TEMPORARY}/"), &format!("{}/tmp/", directory.display()));
        let path = directory.join("as");
        std::fs::write(&path, script).unwrap();
        let mut command = Command::new("sh");
        command.arg(&path).args(arguments).args(file);
        let output = command.stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn objects_say_the_kit_s_version_and_sources_of_the_guest_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let (own, theirs) = (directory.path().join("tmp/a.s"), directory.path().join("a.s"));
        std::fs::create_dir(directory.path().join("tmp")).unwrap();
        std::fs::write(&own, IDENT).unwrap();
        std::fs::write(&theirs, IDENT).unwrap();
        let updated = IDENT.replace("1-2", "1-2+deb3u4");
        let with = |arguments: &[&str], file| assembled(arguments, file, directory.path());
        assert_eq!(with(&["-o", "a.o"], Some(&own)), updated);
        assert_eq!(with(&["-EL", "-o", "a.o"], None), updated);
        assert_eq!(with(&["-o", "a.o"], Some(&theirs)), IDENT);
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), IDENT);
    }
}
