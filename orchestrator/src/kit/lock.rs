//! The lock file of a kit (docs/kits.md): which packages it is made of, exactly.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// One Debian package of a kit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    pub name: String,
    pub version: String,
    /// Debian's architecture of the package; `all` for independent ones.
    pub architecture: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// Path of the `.deb` below an archive's base URI (`pool/…`).
    pub file: String,
}

impl LockedPackage {
    /// `name_version_architecture`, how messages and layers name it.
    pub fn label(&self) -> String {
        format!("{}_{}_{}", self.name, self.version, self.architecture)
    }

    /// The SHA-256 as bytes; `None` if the field is not 64 hexadecimal digits.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            let digits = self.sha256.get(at.checked_mul(2)?..)?.get(..2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(digest)
    }

    fn problem(&self) -> Option<&'static str> {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:~_".contains(&b))
                && !text.starts_with('-')
        };
        if !word(&self.name) || !word(&self.version) || !word(&self.architecture) {
            return Some("a name, version or architecture has characters that Debian forbids");
        }
        if !is_sha256(&self.sha256) {
            return Some("the SHA-256 is not 64 lower-case hexadecimal digits");
        }
        let clean = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !self.file.split('/').all(clean) || self.file.contains(char::is_whitespace) {
            return Some("the file is not a plain relative path");
        }
        None
    }
}

/// Everything that decides what a kit contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub format: u32,
    /// Baserock name.
    pub architecture: String,
    /// SHA-256 of what the program itself adds: the architecture's description and synthetic nodes.
    pub recipe: String,
    pub kernel: LockedPackage,
    /// The base layer's packages in bytewise order of their names: also the layers' order.
    #[serde(rename = "package")]
    pub packages: Vec<LockedPackage>,
}

impl Lock {
    /// Parses and checks a lock file. The error is a phrase that names what is wrong.
    pub fn parse(text: &str) -> Result<Lock, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = toml::from_str(text).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!(
                "format {format} is not known, this program reads format {FORMAT}"
            ));
        }
        let lock: Lock = toml::from_str(text).map_err(|e| e.to_string())?;
        if !is_sha256(&lock.recipe) {
            return Err("the recipe is not 64 lower-case hexadecimal digits".into());
        }
        check_packages([&lock.kernel])?;
        check_packages(&lock.packages)?;
        Ok(lock)
    }

    /// The canonical text, whose SHA-256 is the kit's id.
    pub fn render(&self) -> String {
        // Serialising plain strings and numbers to TOML cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// The kit's id: 64 hexadecimal digits.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.render().as_bytes()))
    }

    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The versioned compiler package: `gcc-12`.
    pub fn compiler_package(&self) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| {
            package.name.strip_prefix("gcc-").is_some_and(|version| {
                !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit())
            })
        })
    }
}

/// The error is a phrase that names what is wrong.
pub(super) fn check_packages<'a>(
    packages: impl IntoIterator<Item = &'a LockedPackage>,
) -> Result<(), String> {
    let mut before: Option<&LockedPackage> = None;
    for package in packages {
        if let Some(problem) = package.problem() {
            return Err(format!("package {:?}: {problem}", package.name));
        }
        if before.is_some_and(|before| before.name >= package.name) {
            return Err("the packages are not sorted by name, each once".into());
        }
        before = Some(package);
    }
    Ok(())
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str) -> LockedPackage {
        LockedPackage {
            name: name.into(),
            version: "2:1.0~rc1+b1-2".into(),
            architecture: "amd64".into(),
            sha256: "0a".repeat(32),
            size: 7,
            file: format!("pool/main/x/{name}_1.0_amd64.deb"),
        }
    }

    fn lock(names: &[&str]) -> Lock {
        Lock {
            format: FORMAT,
            architecture: "x86_64".into(),
            recipe: "11".repeat(32),
            kernel: package("linux-image-1"),
            packages: names.iter().map(|name| package(name)).collect(),
        }
    }

    #[test]
    fn rendering_round_trips_and_layout_does_not_change_the_id() {
        let lock = lock(&["gcc", "gcc-12", "gcc-12-base"]);
        let text = lock.render();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        let spaced = text.replace('\n', "\n\n").replace(" = ", "  =  ");
        assert_eq!(Lock::parse(&spaced).unwrap().id(), lock.id());
        assert_eq!(lock.compiler_package().unwrap().name, "gcc-12");
    }

    #[test]
    fn any_difference_changes_the_id() {
        let one = lock(&["a"]);
        let mut other = one.clone();
        other.packages[0].sha256 = "0b".repeat(32);
        assert_ne!(one.id(), other.id());
        let mut other = one.clone();
        other.recipe = "12".repeat(32);
        assert_ne!(one.id(), other.id());
    }

    #[test]
    fn bad_locks_are_refused_with_the_reason() {
        let good = lock(&["a", "b"]).render();
        for (from, to, reason) in [
            ("format = 1", "format = 9", "format 9"),
            ("0a0a", "0A0A", "SHA-256"),
            ("pool/main", "../main", "relative path"),
            ("name = \"b\"", "name = \"a\"", "sorted"),
            ("name = \"a\"", "name = \"-o\"", "forbids"),
            ("size = 7", "size = -7", "size"),
            ("recipe", "receipt", "recipe"),
        ] {
            let problem = Lock::parse(&good.replacen(from, to, 30)).unwrap_err();
            assert!(problem.contains(reason), "{from} → {to}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn parse_accepts_any_text(text in "(?s).{0,300}") {
            let _ = Lock::parse(&text);
        }
    }
}
