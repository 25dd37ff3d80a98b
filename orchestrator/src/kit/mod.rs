//! Kits: what a guest of one architecture needs below the definitions (docs/kits.md).
//!
//! A kit is a kernel, modules for an initramfs, a QEMU recipe and a base layer of Debian packages,
//! named by the SHA-256 of its lock file.

mod agent;
mod apt;
mod architecture;
mod base;
pub mod cpio;
mod create;
mod deb;
mod error;
mod kernel;
mod lock;
mod modinfo;
mod modules;
mod packages;
pub mod sources_list;
mod toolchain;
mod unused;

#[cfg(test)]
mod create_tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use agent::find as find_agent;
pub use apt::{PrivateApt, host_sources};
pub use architecture::{Architecture, ModuleRoots};
pub use base::{
    MASQUERADE_DIRECTORY, SyntheticKind, SyntheticNode, compiler_names, synthetic_nodes,
};
pub use create::{CreateOptions, Progress};
pub use error::{Error, Result};
pub use kernel::MODULE_LIST;
pub use lock::{Lock, LockedPackage};
pub use packages::DownloadProgress;
pub use toolchain::ToolchainLock;
pub use unused::{Unused, UnusedKit};

use packages::PackageStore;

use crate::guest::VIRTIOFS_MODULE;

/// Names of a kit's files.
pub(crate) const LOCK_FILE: &str = "kit.lock";
pub(crate) const TOOLCHAIN_LOCK: &str = "toolchain.lock";
pub(crate) const VMLINUZ: &str = "vmlinuz";
pub(crate) const VMLINUX: &str = "vmlinux";
pub(crate) const MODULES: &str = "modules.cpio";
pub(crate) const CONFIG: &str = "config";

/// The store's directory of kits.
#[derive(Debug, Clone)]
pub struct Kits {
    root: PathBuf,
}

/// A package of the base layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageLayer {
    /// `name_version_architecture`.
    pub label: String,
    pub path: PathBuf,
    /// SHA-256 of the package, verified when it was downloaded.
    pub sha256: Option<[u8; 32]>,
}

/// A complete kit in the store.
#[derive(Debug, Clone)]
pub struct Kit {
    directory: PathBuf,
    id: String,
    lock: Lock,
    architecture: Architecture,
    toolchain: Option<ToolchainLock>,
    packages: PackageStore,
}

impl Kits {
    /// `root` is the store's directory `kits`; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Kits { root: root.into() }
    }

    /// The kit that builds for an architecture use, a Baserock name.
    pub fn current(&self, architecture: &str) -> Result<Kit> {
        Architecture::by_name(architecture)?;
        let pointer = self.root.join(architecture);
        match fs::read_link(&pointer) {
            Ok(target) => self.open(&self.root.join(target)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NoKit { architecture: architecture.to_owned() })
            }
            Err(source) => Err(Error::Host { doing: "cannot read", path: pointer, source }),
        }
    }

    /// All kits, in bytewise order of their directories' names. Damaged ones are skipped with a
    /// warning.
    pub fn list(&self) -> Result<Vec<Kit>> {
        let warned = |kit: Result<Kit>| kit.inspect_err(|error| log::warn!("{error}")).ok();
        Ok(self.each()?.into_iter().filter_map(|(_, kit)| warned(kit)).collect())
    }

    /// The directories of all kits, in bytewise order of their names, and what is wrong with those
    /// that cannot be opened.
    pub fn each(&self) -> Result<Vec<(PathBuf, Result<Kit>)>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(Error::host("cannot read", &self.root))?,
        };
        let mut directories: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !path.is_symlink() && path.join(LOCK_FILE).is_file())
            .collect();
        directories.sort();
        let opened = directories.into_iter().map(|directory| {
            let kit = self.open(&directory);
            (directory, kit)
        });
        Ok(opened.collect())
    }

    fn open(&self, directory: &Path) -> Result<Kit> {
        let path = directory.join(LOCK_FILE);
        let text = fs::read_to_string(&path).map_err(Error::host("cannot read", &path))?;
        let lock = Lock::parse(&text).map_err(|problem| Error::Malformed { path, problem })?;
        let architecture = Architecture::by_name(&lock.architecture)?;
        Ok(Kit {
            directory: directory.to_owned(),
            id: lock.id(),
            lock,
            architecture,
            toolchain: toolchain::read(directory),
            packages: self.package_store(),
        })
    }

    fn package_store(&self) -> PackageStore {
        PackageStore::new(self.root.join("packages"))
    }
}

impl Kit {
    /// 64 hexadecimal digits: what keys of artifacts take in.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first 12 digits, for people.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The kernel for QEMU: decompressed once here where that can be, because an emulated processor
    /// takes seconds for it at every start; else as the package has it.
    pub fn kernel(&self) -> PathBuf {
        let decompressed = self.directory.join(VMLINUX);
        if decompressed.is_file() { decompressed } else { self.directory.join(VMLINUZ) }
    }

    /// The kernel's build configuration, as text.
    pub fn kernel_config(&self) -> PathBuf {
        self.directory.join(CONFIG)
    }

    /// The host's compilers for a kit of another architecture, where it has some.
    pub fn toolchain(&self) -> Option<&ToolchainLock> {
        self.toolchain.as_ref()
    }

    /// Whether there should be, and are not, all compilers of the host for it.
    pub fn lacks_toolchain(&self) -> bool {
        let packages = self.toolchain_packages();
        !self.architecture.is_native()
            && Architecture::of_toolchains().is_some()
            && (packages.is_empty() || packages.iter().any(|package| !package.path.is_file()))
    }

    /// The base layer's packages, lowest first.
    pub fn packages(&self) -> Vec<PackageLayer> {
        self.layers_of(&self.lock.packages)
    }

    /// Packages of the host's compilers, lowest first.
    pub fn toolchain_packages(&self) -> Vec<PackageLayer> {
        self.toolchain.as_ref().map(|lock| self.layers_of(&lock.packages)).unwrap_or_default()
    }

    /// All that the kit needs of the store of packages.
    fn all_packages(&self) -> impl Iterator<Item = &LockedPackage> {
        let toolchain = self.toolchain.iter().flat_map(|lock| &lock.packages);
        self.lock.packages.iter().chain([&self.lock.kernel]).chain(toolchain)
    }

    fn layers_of(&self, packages: &[LockedPackage]) -> Vec<PackageLayer> {
        packages
            .iter()
            .map(|package| PackageLayer {
                label: package.label(),
                path: self.packages.path_of(package),
                sha256: package.digest(),
            })
            .collect()
    }

    /// Whether everything of the kit is there in its right size; content shows when it is used.
    pub fn check(&self) -> Result<()> {
        let kernel = self.kernel();
        fs::metadata(&kernel).map_err(|error| self.damaged("its kernel", error))?;
        fs::metadata(self.directory.join(MODULES))
            .map_err(|error| self.damaged(&format!("its file {MODULES}"), error))?;
        for package in &self.lock.packages {
            let damaged = |problem: String| {
                Err(self.damaged(&format!("package {}", package.label()), problem))
            };
            match fs::metadata(self.packages.path_of(package)) {
                Ok(meta) if meta.len() == package.size => {}
                Ok(meta) => {
                    let (size, wanted) = (meta.len(), package.size);
                    return damaged(format!("it has {size} bytes instead of {wanted}"));
                }
                Err(error) => return damaged(error.to_string()),
            }
        }
        Ok(())
    }

    /// Reads the packages again, the kernel's among them, and compares their digests with the lock
    /// file: tells each one's label and place, and what is wrong with it.
    pub fn verify_packages(&self, mut tell: impl FnMut(&str, &Path, Option<String>)) {
        for package in self.all_packages() {
            let path = self.packages.path_of(package);
            let problem =
                match fs::File::open(&path).and_then(|mut file| packages::digest(&mut file)) {
                    Ok(actual) if actual == package.sha256 => None,
                    Ok(actual) => Some(format!("its SHA-256 is {actual}, not {}", package.sha256)),
                    Err(error) => Some(error.to_string()),
                };
            tell(&package.label(), &path, problem);
        }
    }

    /// The error of a part of the kit that cannot be used, with how to get the same kit again.
    pub fn damaged(&self, part: &str, problem: impl ToString) -> Error {
        Error::Damaged {
            architecture: self.architecture.name.clone(),
            part: part.to_owned(),
            problem: problem.to_string(),
            remedy: self.remedy(),
        }
    }

    /// What a person does about damage: the same kit again where this program can make it.
    pub fn remedy(&self) -> String {
        let arch = &self.architecture.name;
        if self.is_outdated() {
            return format!(
                "it was made by a program with another recipe, so make a new kit with: \
                 outcrop kit create --arch {arch}"
            );
        }
        let lock = self.directory.join(LOCK_FILE);
        format!(
            "make it whole again with: outcrop kit create --arch {arch} --lock {}",
            lock.display()
        )
    }

    /// Whether the kit was made by a program with another recipe. It can be used, not made again.
    pub fn is_outdated(&self) -> bool {
        base::recipe_digest(&self.architecture, &self.lock.packages) != self.lock.recipe
    }

    /// The base layer's topmost nodes.
    pub fn synthetic_nodes(&self) -> Vec<SyntheticNode> {
        synthetic_nodes(&self.architecture, &self.lock.packages)
    }

    /// The topmost nodes of the host's compilers.
    pub fn toolchain_nodes(&self) -> Vec<SyntheticNode> {
        let packages = self.toolchain.as_ref().map(|lock| lock.packages.as_slice());
        Architecture::of_toolchains()
            .map(|host| synthetic_nodes(&host, packages.unwrap_or_default()))
            .unwrap_or_default()
    }

    /// Whether guests can mount a virtiofs: the initramfs carries the module, or the kernel has it
    /// built in, as Debian's has from 6.12 on.
    pub fn has_virtiofs(&self) -> Result<bool> {
        let config = fs::read_to_string(self.kernel_config()).unwrap_or_default();
        Ok(config.lines().any(|line| line == "CONFIG_VIRTIO_FS=y")
            || self.has_module(VIRTIOFS_MODULE)?)
    }

    fn has_module(&self, name: &str) -> Result<bool> {
        let path = self.directory.join(MODULES);
        let file = fs::File::open(&path).map_err(Error::host("cannot open", &path))?;
        let module = format!("{}/{name}.ko", kernel::MODULE_DIRECTORY);
        cpio::contains(std::io::BufReader::new(file), module.as_bytes())
            .map_err(Error::host("cannot read", &path))
    }

    /// An initramfs with this agent as `/init`, made once for each agent and kept in the kit. One that
    /// is damaged, or of modules that the kit had before it was mended, is made anew.
    pub fn initramfs_for(&self, agent: &Path) -> Result<PathBuf> {
        let agent_bytes = fs::read(agent).map_err(Error::host("cannot read", agent))?;
        let digest =
            packages::digest(&mut &agent_bytes[..]).map_err(Error::host("cannot read", agent))?;
        let short = digest.get(..12).unwrap_or_default();
        let target = self.directory.join(format!("initramfs-{short}"));
        let modules = fs::read(self.directory.join(MODULES))
            .map_err(|error| self.damaged(&format!("its file {MODULES}"), error))?;
        let mut wanted = Vec::new();
        agent::write_archive(&agent_bytes, &mut wanted)
            .map_err(Error::host("cannot make", &target))?;
        wanted.extend_from_slice(&modules);
        if !fs::read(&target).is_ok_and(|present| present == wanted) {
            create::write_beside(&target, |output| output.write_all(&wanted))?;
        }
        Ok(target)
    }
}
