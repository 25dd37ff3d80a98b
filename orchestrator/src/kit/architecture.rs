//! Descriptions of architectures: one TOML file each, so that adding one is adding a file.

#![forbid(unsafe_code)]

use serde::Deserialize;

use super::error::{Error, Result};
use crate::guest::QemuRecipe;

/// Name and text of each file in `architectures/`, by name; `build.rs` lists them.
const DESCRIPTIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/architectures.rs"));
const PACKAGES: &str = include_str!("packages.toml");

/// Roots of the closure of kernel modules that an initramfs carries.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRoots {
    pub required: Vec<String>,
    pub optional: Vec<String>,
}

/// Everything that Outcrop knows of an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The name in definitions: `x86_64`.
    pub name: String,
    /// Debian's name: `amd64`.
    pub debian: String,
    /// The GNU triplet of Debian's toolchain.
    pub triplet: String,
    /// What the guest's agent is compiled for, as rustc calls it; only `scripts/build-agent` reads it.
    pub rust_target: String,
    pub kernel_package: String,
    /// Debian's name of the architecture that the kernel is of, where it is another one.
    #[serde(default)]
    pub kernel_architecture: Option<String>,
    pub merged_directories: Vec<String>,
    pub qemu: QemuRecipe,
    pub modules: ModuleRoots,
}

#[derive(Deserialize)]
struct Packages {
    packages: Vec<String>,
}

impl Architecture {
    /// The description by Baserock name.
    pub fn by_name(name: &str) -> Result<Architecture> {
        let known = || DESCRIPTIONS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
        let (_, text) = DESCRIPTIONS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| Error::UnknownArchitecture { name: name.into(), known: known() })?;
        toml::from_str(text).map_err(|error| Error::Malformed {
            path: format!("architectures/{name}.toml").into(),
            problem: error.to_string(),
        })
    }

    /// The triplet as it is spelt in names of packages: `x86-64-linux-gnu`.
    pub fn package_suffix(&self) -> String {
        self.triplet.replace('_', "-")
    }

    /// Whether this program's own processor is of the architecture.
    pub fn is_native(&self) -> bool {
        match self.name.as_str() {
            "armv8l64" => cfg!(all(target_arch = "aarch64", target_endian = "little")),
            "armv7lhf" => cfg!(target_arch = "arm"),
            "ppc64l" => cfg!(all(target_arch = "powerpc64", target_endian = "little")),
            "x86_32" => cfg!(target_arch = "x86"),
            name => name == std::env::consts::ARCH,
        }
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        DESCRIPTIONS.iter().map(|(name, _)| *name)
    }

    /// Names of the base layer's packages, before their dependencies.
    pub fn base_packages() -> Result<Vec<String>> {
        let parsed: Packages = toml::from_str(PACKAGES).map_err(|error| Error::Malformed {
            path: "packages.toml".into(),
            problem: error.to_string(),
        })?;
        Ok(parsed.packages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_parses_and_names_itself() {
        for name in Architecture::names() {
            assert_eq!(Architecture::by_name(name).unwrap().name, name);
        }
        assert!(!Architecture::base_packages().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_architecture_lists_the_known_ones() {
        let message = Architecture::by_name("vax").unwrap_err().to_string();
        assert!(message.contains("vax") && message.contains("x86_64"), "{message}");
    }
}
