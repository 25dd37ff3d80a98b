//! The host's own compilers for a kit of another architecture: packages of the host's architecture,
//! which are never unpacked or installed either (docs/host-toolchain.md).
//!
//! They are no part of the kit's id: where they make other objects than the kit's compilers they are
//! not used.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::apt::uris_by_digest;
use super::architecture::Architecture;
use super::create::{CreateOptions, Progress, write_beside};
use super::error::{Error, Result};
use super::lock::{FORMAT, Lock, LockedPackage, check_packages};
use super::{Kits, TOOLCHAIN_LOCK};

/// A shell that needs nothing but itself.
const SHELL: &str = "busybox-static";

/// The file `toolchain.lock` of a kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolchainLock {
    pub format: u32,
    /// Whose programs these are, by its Baserock name.
    pub host: String,
    /// In bytewise order of their names: also the layers' order.
    #[serde(rename = "package")]
    pub packages: Vec<LockedPackage>,
}

impl ToolchainLock {
    /// The error is a phrase that names what is wrong.
    pub fn parse(text: &str) -> std::result::Result<ToolchainLock, String> {
        let lock: ToolchainLock = toml::from_str(text).map_err(|error| error.to_string())?;
        if lock.format != FORMAT {
            return Err(format!("format {} is not known", lock.format));
        }
        check_packages(lock.packages.iter())?;
        Ok(lock)
    }

    pub fn render(&self) -> String {
        // Serialising plain strings and numbers to TOML cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }
}

/// A kit's compilers for this host; `None` where it has none that this program can use.
pub fn read(directory: &Path) -> Option<ToolchainLock> {
    let path = directory.join(TOOLCHAIN_LOCK);
    let text = fs::read_to_string(&path).ok()?;
    let warn = |problem: &String| log::warn!("{}: {problem}", path.display());
    ToolchainLock::parse(&text).inspect_err(warn).ok()
}

impl Kits {
    /// Adds the host's compilers to a kit of another architecture, or what is missing of them.
    pub(super) fn add_toolchain(
        &self,
        architecture: &Architecture,
        lock: &Lock,
        directory: &Path,
        options: &CreateOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let Some(host) = Architecture::of_toolchains().filter(|_| !architecture.is_native()) else {
            return Ok(());
        };
        let (toolchain, uris) = match read(directory) {
            Some(present) => (present, HashMap::new()),
            None => self.resolve_toolchain(architecture, lock, &host, options, progress)?,
        };
        self.package_store().obtain(
            &toolchain.packages.iter().collect::<Vec<_>>(),
            &mut || self.private_apt(&host.debian, options),
            &|package| uris.get(&package.sha256).cloned(),
            &mut |download| progress(Progress::Downloading(download)),
        )?;
        let text = toolchain.render();
        write_beside(&directory.join(TOOLCHAIN_LOCK), |output| output.write_all(text.as_bytes()))
    }

    fn resolve_toolchain(
        &self,
        architecture: &Architecture,
        lock: &Lock,
        host: &Architecture,
        options: &CreateOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(ToolchainLock, HashMap<String, String>)> {
        let compiler = lock.compiler_package().map(|package| package.name.as_str());
        let compiler = compiler.ok_or_else(|| Error::package("gcc", "the kit has no compiler"))?;
        let version = compiler.trim_start_matches("gcc-");
        let package = |kind| architecture.cross_package(&format!("{kind}-{version}"));
        let mut wanted = ["gcc", "g++"].map(package).to_vec();
        wanted.push(SHELL.to_owned());
        let apt = self.private_apt(&host.debian, options)?;
        progress(Progress::FetchingIndexes);
        apt.update()?;
        progress(Progress::Resolving);
        let mut found = apt.resolve(&wanted)?;
        // Headers and libraries of the other architecture are the guest's own.
        let foreign = format!("-{}-cross", architecture.debian);
        found.retain(|found| !found.package.name.ends_with(&foreign));
        found.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        let uris = uris_by_digest(&found);
        let packages = found.into_iter().map(|found| found.package).collect();
        Ok((ToolchainLock { format: FORMAT, host: host.name.clone(), packages }, uris))
    }
}
