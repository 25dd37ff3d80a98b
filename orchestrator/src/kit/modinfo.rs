//! Reads what a kernel module says of itself: the `.modinfo` section, `key=value` strings that end
//! with NUL (Documentation/kbuild/modules.rst).

#![forbid(unsafe_code)]

use object::{Object, ObjectSection};

/// What loading a module takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleInfo {
    /// Modules that must be loaded before, by normal name.
    pub depends: Vec<String>,
    /// Modules or aliases that should be loaded before, where they exist.
    pub soft_dependencies: Vec<String>,
    /// Other names of the module, without patterns.
    pub aliases: Vec<String>,
}

/// The name that the kernel uses: `-` and `_` are the same in module names.
pub fn normal_name(name: &str) -> String {
    name.replace('-', "_")
}

/// A module's normal name from its path: `…/virtio-rng.ko.xz` is `virtio_rng`.
pub fn name_of_path(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (stem, suffix) = file.split_once(".ko")?;
    (matches!(suffix, "" | ".xz" | ".gz" | ".zst") && !stem.is_empty()).then(|| normal_name(stem))
}

/// Parses an uncompressed module (an ELF object).
pub fn parse(module: &[u8]) -> Result<ModuleInfo, String> {
    let file = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("the module has no .modinfo section")?;
    let content = section.data().map_err(|error| error.to_string())?;
    Ok(parse_section(content))
}

fn parse_section(content: &[u8]) -> ModuleInfo {
    let mut info = ModuleInfo::default();
    for string in content.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(string).ok().and_then(|s| s.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info
                .depends
                .extend(value.split(',').filter(|name| !name.is_empty()).map(normal_name)),
            "softdep" => info.soft_dependencies.extend(soft_dependencies(value)),
            "alias" if !value.contains(['*', '?', '[', ':']) => {
                info.aliases.push(normal_name(value));
            }
            _ => {}
        }
    }
    info
}

/// `pre: a b post: c`: only what comes before matters to a loader that loads roots itself.
fn soft_dependencies(value: &str) -> Vec<String> {
    let mut before = false;
    let mut names = Vec::new();
    for word in value.split_whitespace() {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => names.push(normal_name(name)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn section_of_a_module() {
        let info = parse_section(
            b"license=GPL\0depends=jbd2,crc16,mb-cache\0softdep=pre: crc32c other post: late\0\
              alias=fs-ext4\0alias=pci:v0000*\0depends=\0no-equals\0\xff=\xff\0",
        );
        assert_eq!(info.depends, ["jbd2", "crc16", "mb_cache"]);
        assert_eq!(info.soft_dependencies, ["crc32c", "other"]);
        assert_eq!(info.aliases, ["fs_ext4"]);
    }

    #[test]
    fn names_of_paths() {
        assert_eq!(name_of_path("a/virtio-rng.ko").as_deref(), Some("virtio_rng"));
        assert_eq!(name_of_path("x_y.ko.xz").as_deref(), Some("x_y"));
        assert_eq!(name_of_path("modules.builtin"), None);
        assert_eq!(name_of_path("a.kobject"), None);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(b"\x7fELF and then nothing").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let mut elf = b"\x7fELF\x02\x01\x01\0".to_vec();
            elf.extend(&bytes);
            let _ = parse(&elf);
            parse_section(&bytes);
        }
    }
}
