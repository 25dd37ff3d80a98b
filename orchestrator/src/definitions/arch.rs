//! Architectures and the names that a build sees for them.

#![forbid(unsafe_code)]

/// An architecture by its name in definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arch {
    /// As in a system's `arch`: `MORPH_ARCH`.
    pub name: &'static str,
    /// First part of a GNU triplet.
    pub cpu: &'static str,
    /// What follows `gnu` in a GNU triplet.
    pub abi: &'static str,
}

const fn arch(name: &'static str, cpu: &'static str, abi: &'static str) -> Arch {
    Arch { name, cpu, abi }
}

impl Arch {
    /// What definitions may name: everything that Baserock's published definitions use, the MIPS
    /// names of YBD's table, and the architectures that Debian has for guests today.
    pub const ALL: [Arch; 16] = [
        arch("armv5l", "armv5l", "eabi"),
        arch("armv7b", "armv7b", "eabi"),
        arch("armv7l", "armv7l", "eabi"),
        arch("armv7lhf", "armv7lhf", "eabi"),
        arch("armv8b64", "aarch64_be", ""),
        arch("armv8l64", "aarch64", ""),
        arch("mips32b", "mips", ""),
        arch("mips32l", "mipsel", ""),
        arch("mips64b", "mips64", "abi64"),
        arch("mips64l", "mips64el", "abi64"),
        arch("ppc64", "ppc64", ""),
        arch("ppc64l", "ppc64le", ""),
        arch("riscv64", "riscv64", ""),
        arch("s390x", "s390x", ""),
        arch("x86_32", "i686", ""),
        arch("x86_64", "x86_64", ""),
    ];

    pub fn find(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.name == name)
    }

    /// `TARGET`: the triplet of what is built.
    pub fn target(&self) -> String {
        format!("{}-baserock-linux-gnu{}", self.cpu, self.abi)
    }

    /// `TARGET_STAGE1`: the triplet of the bootstrap tools, different so that they are "cross".
    pub fn target_stage1(&self) -> String {
        format!("{}-bootstrap-linux-gnu{}", self.cpu, self.abi)
    }
}
