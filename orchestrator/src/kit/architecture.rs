//! Descriptions of architectures: one TOML file each, so that adding one is adding a file.

#![forbid(unsafe_code)]

use serde::Deserialize;

use super::error::{Error, Result};
use crate::guest::QemuRecipe;

/// Name and text of each file in `architectures/`, by name; `build.rs` lists them.
const DESCRIPTIONS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/architectures.rs"));
const COMMON: &str = include_str!("common.toml");

/// Roots of the closure of kernel modules that an initramfs carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
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
    /// What the guest's agent is compiled for, as rustc calls it.
    pub rust_target: String,
    pub kernel_package: String,
    /// Debian's name of the architecture that the kernel is of, where it is another one.
    #[serde(default)]
    pub kernel_architecture: Option<String>,
    pub merged_directories: Vec<String>,
    /// Numbers in memory begin with their highest byte.
    #[serde(default)]
    pub big_endian: bool,
    pub qemu: QemuRecipe,
    /// What all have in common, and the machine's own bus.
    #[serde(skip)]
    pub modules: ModuleRoots,
}

/// What does not depend on the architecture.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    packages: Vec<String>,
    kernel_arguments: Vec<String>,
    modules: ModuleRoots,
}

impl Common {
    fn read() -> Result<Common> {
        parse(COMMON, "common.toml".to_owned())
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, path: String) -> Result<T> {
    toml::from_str(text)
        .map_err(|error| Error::Malformed { path: path.into(), problem: error.to_string() })
}

impl Architecture {
    /// The description by Baserock name.
    pub fn by_name(name: &str) -> Result<Architecture> {
        let known = || DESCRIPTIONS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
        let (_, text) = DESCRIPTIONS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| Error::UnknownArchitecture { name: name.into(), known: known() })?;
        let mut found: Architecture = parse(text, format!("architectures/{name}.toml"))?;
        let common = Common::read()?;
        let own = std::mem::replace(&mut found.qemu.kernel_arguments, common.kernel_arguments);
        found.qemu.kernel_arguments.extend(own);
        found.modules = common.modules;
        found.modules.required.splice(0..0, found.qemu.bus_module().map(str::to_owned));
        Ok(found)
    }

    /// The package of a native one's cross counterpart: `gcc-12-x86-64-linux-gnu`.
    pub fn cross_package(&self, native: &str) -> String {
        format!("{native}-{}", self.triplet.replace('_', "-"))
    }

    /// Whether this program's own processor is of the architecture.
    pub fn is_native(&self) -> bool {
        let processor = |target: &'_ str| target.split('-').next().map(str::to_owned);
        processor(&self.rust_target) == processor(env!("OUTCROP_TARGET"))
    }

    /// The architecture of this very program, where it can run compilers in guests' views.
    pub fn of_toolchains() -> Option<Architecture> {
        // The loader's name and place are this one's (`compile::calls::toolchain`).
        Architecture::by_name("x86_64").ok().filter(Architecture::is_native)
    }

    /// Ours for what Debian, the kernel or rustc call an architecture: `arm64`, `aarch64`.
    pub fn named_by_others(name: &str) -> Option<&'static str> {
        Architecture::names().find(|own| {
            Architecture::by_name(own).is_ok_and(|found| {
                found.debian == name || found.rust_target.split('-').next() == Some(name)
            })
        })
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        DESCRIPTIONS.iter().map(|(name, _)| *name)
    }

    /// Names of the base layer's packages, before their dependencies.
    pub fn base_packages() -> Result<Vec<String>> {
        Ok(Common::read()?.packages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_parses_and_names_itself() {
        for name in Architecture::names() {
            let architecture = Architecture::by_name(name).unwrap();
            assert_eq!(architecture.name, name);
            assert_eq!(architecture.is_native(), name == std::env::consts::ARCH, "{name}");
            assert!(architecture.qemu.kernel_arguments.contains(&"quiet".to_owned()));
            let has_pci = architecture.modules.required.contains(&"virtio_pci".to_owned());
            assert_eq!(has_pci, name != "s390x");
        }
        assert!(!Architecture::base_packages().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_architecture_lists_the_known_ones() {
        let message = Architecture::by_name("vax").unwrap_err().to_string();
        assert!(message.contains("vax") && message.contains("x86_64"), "{message}");
    }

    #[test]
    fn names_that_others_have_are_understood() {
        for (theirs, ours) in [("arm64", "armv8l64"), ("aarch64", "armv8l64"), ("i686", "x86_32")] {
            assert_eq!(Architecture::named_by_others(theirs), Some(ours));
        }
        assert_eq!(Architecture::named_by_others("vax"), None);
    }
}
