//! Whether a compiler of the host makes the objects that a kit's own makes.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;

const STABLE_UPDATES: &str = include_str!("stable_updates.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Updates {
    update: Vec<Update>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    native: String,
    cross: String,
    differs: BTreeMap<String, Vec<String>>,
}

/// How a host's compiler package relates to a kit's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// The same sources: the same objects.
    Same,
    /// The kit's has a stable update that the host's lacks.
    Updated {
        /// What the host's program calls itself in objects, and what the kit's does.
        versions: (String, String),
        /// Words of options and sources for which the two differ.
        differs: Vec<String>,
    },
    Different,
}

/// Compares the version of a kit's native compiler package with that of a host's package.
/// `architecture`: the kit's, by its name in definitions.
pub fn relation(kit: &str, host: &str, architecture: &str) -> Relation {
    let cross = without_cross_revision(host);
    if kit == host || kit == cross {
        return Relation::Same;
    }
    let updates: Vec<Update> =
        toml::from_str::<Updates>(STABLE_UPDATES).map(|file| file.update).unwrap_or_default();
    let known = updates.into_iter().find(|update| update.native == kit && update.cross == cross);
    match known {
        Some(mut update) if cross != host => Relation::Updated {
            versions: (update.cross, update.native),
            differs: update.differs.remove(architecture).unwrap_or_default(),
        },
        _ => Relation::Different,
    }
}

/// `12.2.0-14cross1` is Debian's cross packaging of 12.2.0-14.
fn without_cross_revision(version: &str) -> &str {
    match version.rsplit_once("cross") {
        Some((rest, revision)) if revision.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => version,
    }
}

/// What a compiler calls itself in the objects that it makes, and what it is to call itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ident {
    pub from: String,
    pub to: String,
}

impl Ident {
    /// From assembly that the host's compiler wrote; `None` where it does not say its version.
    pub fn of(assembly: &str, from: &str, to: &str) -> Option<Ident> {
        let line = assembly.lines().rev().find(|line| line.starts_with(DIRECTIVE))?;
        let text = line.strip_prefix(DIRECTIVE)?.strip_suffix('"')?;
        // It goes into a pattern of sed.
        let plain = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" ():.+~-".contains(&byte))
        };
        let replaced = text.replacen(&format!("(Debian {from})"), &format!("(Debian {to})"), 1);
        (replaced != text && plain(text) && plain(&replaced))
            .then(|| Ident { from: text.to_owned(), to: replaced })
    }

    /// The assembly with the other name.
    pub fn replace(&self, assembly: &[u8]) -> Vec<u8> {
        let mut replaced = Vec::with_capacity(assembly.len() + 16);
        let wanted = format!("{DIRECTIVE}{}\"", self.from);
        for line in assembly.split_inclusive(|byte| *byte == b'\n') {
            if line.strip_suffix(b"\n").unwrap_or(line) == wanted.as_bytes() {
                replaced.extend_from_slice(format!("{DIRECTIVE}{}\"\n", self.to).as_bytes());
            } else {
                replaced.extend_from_slice(line);
            }
        }
        replaced
    }

    /// A program to stand in front of the assembler: it changes the name in what it is given last.
    pub fn assembler_script(&self, assembler: &str) -> String {
        let escape = |text: &str| text.replace('.', "\\.");
        format!(
            "#!/bin/sh\nfor source; do :; done\nsed -i 's/^\\t\\.ident\\t\"{}\"$/\\t.ident\\t\"{}\"/' \
             \"$source\" || exit 1\nexec {assembler} \"$@\"\n",
            escape(&self.from),
            self.to
        )
    }
}

const DIRECTIVE: &str = "\t.ident\t\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_versions_and_their_cross_packages_are_the_same() {
        assert_eq!(relation("14.2.0-19", "14.2.0-19", "x86_64"), Relation::Same);
        assert_eq!(relation("14.2.0-19", "14.2.0-19cross1", "armv8l64"), Relation::Same);
    }

    #[test]
    fn a_known_update_is_told_by_what_differs() {
        let of = |architecture| relation("12.2.0-14+deb12u1", "12.2.0-14cross1", architecture);
        let versions = ("12.2.0-14".to_owned(), "12.2.0-14+deb12u1".to_owned());
        let Relation::Updated { versions: found, differs } = of("armv8l64") else { panic!() };
        assert_eq!(found, versions);
        assert!("-fstack-protector-strong".contains(&differs[0]));
        assert_eq!(of("armv7lhf"), Relation::Updated { versions, differs: Vec::new() });
    }

    #[test]
    fn everything_else_differs() {
        for (kit, host) in [
            ("12.2.0-14+deb12u2", "12.2.0-14cross1"),
            ("12.2.0-14+deb12u1", "12.2.0-13cross1"),
            // A native package without the update: the user can install it.
            ("12.2.0-14+deb12u1", "12.2.0-14"),
            ("12.2.0-14", "12.2.0-14+deb12u1"),
            ("12.2.0-14", "12.2.0-14crossbow"),
        ] {
            assert_eq!(relation(kit, host, "armv8l64"), Relation::Different, "{kit} {host}");
        }
    }

    const ASSEMBLY: &str = "\t.text\n\t.string\t\"GCC: (Debian 1-2) 1\"\n\
        \t.ident\t\"GCC: (Debian 1-2) 1\"\n\t.section\t.note.GNU-stack,\"\",@progbits\n";

    #[test]
    fn only_the_directive_is_replaced() {
        let ident = Ident::of(ASSEMBLY, "1-2", "1-2+deb3u4").unwrap();
        let replaced = String::from_utf8(ident.replace(ASSEMBLY.as_bytes())).unwrap();
        let (first, last) = ASSEMBLY.split_at(ASSEMBLY.find("\t.ident").unwrap());
        assert_eq!(replaced, format!("{first}{}", last.replace("1-2", "1-2+deb3u4")));
    }

    #[test]
    fn the_script_does_the_same() {
        let ident = Ident::of(ASSEMBLY, "1-2", "1-2+deb3u4").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (script, source) = (directory.path().join("as"), directory.path().join("x.s"));
        std::fs::write(&script, ident.assembler_script("echo")).unwrap();
        std::fs::write(&source, ASSEMBLY).unwrap();
        let run = std::process::Command::new("sh")
            .arg(&script)
            .args(["-o", "x.o"])
            .arg(&source)
            .output()
            .unwrap();
        let said = String::from_utf8(run.stdout).unwrap();
        assert_eq!(said, format!("-o x.o {}\n", source.display()));
        assert_eq!(std::fs::read(&source).unwrap(), ident.replace(ASSEMBLY.as_bytes()));
    }

    #[test]
    fn what_is_no_debian_compiler_has_no_ident() {
        assert_eq!(Ident::of(ASSEMBLY, "9-9", "9-9+deb1u1"), None);
        assert_eq!(Ident::of("\t.text\n", "1-2", "1-3"), None);
        let strange = ASSEMBLY.replace("(Debian 1-2)", "(Debian 1-2)'; rm");
        assert_eq!(Ident::of(&strange, "1-2", "1-3"), None);
    }
}
