//! What the kit gives: a kernel, modules, and packages that are layers.

use std::path::PathBuf;

use outcrop_tests::{guests_can_run, shared_store};

use crate::measure::Result;

pub struct Kit {
    pub kernel: PathBuf,
    /// The modules and the order in which they load, as a cpio archive.
    pub modules: PathBuf,
    pub packages: Vec<PathBuf>,
}

impl Kit {
    pub fn find() -> Result<Kit> {
        if !guests_can_run() {
            return Err("guests are not to be started".into());
        }
        let kit = shared_store().join("kits/x86_64");
        Ok(Kit {
            kernel: kit.join("vmlinux"),
            modules: kit.join("modules.cpio"),
            packages: packages("x86_64")?,
        })
    }
}

/// The packages of a kit's sysroot, lowest first.
pub fn packages(arch: &str) -> Result<Vec<PathBuf>> {
    let kits = shared_store().join("kits");
    let kit = kits.join(arch);
    let lock = std::fs::read_to_string(kit.join("kit.lock"))
        .map_err(|error| format!("{} has no lock file: {error}", kit.display()))?;
    // The kernel's package comes first and is no layer.
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let digest = package.lines().find_map(|line| line.strip_prefix("sha256 = \""))?;
        Some(kits.join("packages").join(format!("{}.deb", digest.trim_end_matches('"'))))
    });
    Ok(packages.collect())
}
