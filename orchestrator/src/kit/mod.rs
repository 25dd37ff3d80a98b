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

#[cfg(test)]
mod create_tests;

use std::fs;
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

use packages::PackageStore;

/// Names of a kit's files.
pub(crate) const LOCK_FILE: &str = "kit.lock";
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
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(Error::host("cannot read", &self.root))?,
        };
        let mut directories: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| !path.is_symlink() && path.join(LOCK_FILE).is_file())
            .collect();
        directories.sort();
        Ok(directories
            .iter()
            .filter_map(|directory| {
                self.open(directory).inspect_err(|error| log::warn!("{error}")).ok()
            })
            .collect())
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

    /// The base layer's packages, lowest first.
    pub fn packages(&self) -> Vec<PackageLayer> {
        self.lock
            .packages
            .iter()
            .map(|package| PackageLayer {
                label: package.label(),
                path: self.packages.path_of(package),
                sha256: package.digest(),
            })
            .collect()
    }

    /// The base layer's topmost nodes.
    pub fn synthetic_nodes(&self) -> Vec<SyntheticNode> {
        synthetic_nodes(&self.architecture, &self.lock.packages)
    }

    /// Whether the initramfs carries a kernel module, by the module's name.
    pub fn has_module(&self, name: &str) -> Result<bool> {
        let path = self.directory.join(MODULES);
        let file = fs::File::open(&path).map_err(Error::host("cannot open", &path))?;
        let module = format!("{}/{name}.ko", kernel::MODULE_DIRECTORY);
        cpio::contains(std::io::BufReader::new(file), module.as_bytes())
            .map_err(Error::host("cannot read", &path))
    }

    /// An initramfs with this agent as `/init`, made once for each agent and kept in the kit.
    pub fn initramfs_for(&self, agent: &Path) -> Result<PathBuf> {
        let agent_bytes = fs::read(agent).map_err(Error::host("cannot read", agent))?;
        let digest =
            packages::digest(&mut &agent_bytes[..]).map_err(Error::host("cannot read", agent))?;
        let short = digest.get(..12).unwrap_or_default();
        let target = self.directory.join(format!("initramfs-{short}"));
        if target.is_file() {
            return Ok(target);
        }
        let modules = self.directory.join(MODULES);
        let mut modules_file =
            fs::File::open(&modules).map_err(Error::host("cannot open", &modules))?;
        create::write_beside(&target, |output| {
            agent::write_archive(&agent_bytes, &mut *output)?;
            std::io::copy(&mut modules_file, output).map(drop)
        })?;
        Ok(target)
    }
}
