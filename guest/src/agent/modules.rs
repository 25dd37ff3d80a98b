//! Loading the kernel modules that the kit put into the initramfs.

use crate::failure::Failure;
use crate::system;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Paths of modules, one a line, in the order in which they must be loaded.
const LIST: &str = "/lib/modules/outcrop.list";

/// What to do about a kit in which something is missing.
const REMEDY: &str = "the kit is damaged, mend it with `outcrop kit create`";

/// Loads the listed modules: all of them, or the named ones and what they depend on. One whose
/// hardware is absent, or that is loaded already, is fine, and so is a name that is not listed:
/// it may be built in. Returns these names, for when it turns out that it was not.
pub fn load(names: Option<&str>) -> Result<Vec<String>, Failure> {
    let listed = listed()?;
    let wanted = names.and_then(|names| closure(&listed, names));
    for path in &listed {
        let skipped = wanted.as_ref().is_some_and(|wanted| !wanted.contains(&name(path)));
        if !skipped {
            load_one(path)?;
        }
    }
    Ok(absent(&listed, names))
}

/// The names that are not listed.
fn absent(listed: &[PathBuf], names: Option<&str>) -> Vec<String> {
    let names = names.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    names
        .map(|name| name.replace('-', "_"))
        .filter(|wanted| listed.iter().all(|path| name(path) != *wanted))
        .collect()
}

/// What is wrong with a guest in which something that the modules should bring does not appear.
pub fn explain(missing: Failure, absent: &[String]) -> Failure {
    if absent.is_empty() {
        return missing;
    }
    let (modules, are) = match absent {
        [_] => ("module", "is"),
        _ => ("modules", "are"),
    };
    let names = absent.join(", ");
    Failure::new(format!(
        "the kernel {modules} {names} {are} neither built in nor in the initramfs ({missing}); \
         {REMEDY}"
    ))
}

fn listed() -> Result<Vec<PathBuf>, Failure> {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        // A kernel with everything built in needs no list.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::at("cannot read", Path::new(LIST), e)),
    };
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    let paths: Vec<PathBuf> = lines.map(|line| Path::new("/").join(line)).collect();
    match paths.iter().find(|path| !path.exists()) {
        None => Ok(paths),
        Some(path) => Err(Failure::new(format!(
            "the kernel module {} ({}) is missing from the initramfs; {REMEDY}",
            name(path),
            path.display()
        ))),
    }
}

fn load_one(path: &Path) -> Result<(), Failure> {
    let result = File::open(path).and_then(|file| system::load_module(&file, is_compressed(path)));
    match result {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENODEV)) => Ok(()),
        Err(e) => Err(Failure::new(format!(
            "cannot load the kernel module {} ({}): {e}; {REMEDY}",
            name(path),
            path.display()
        ))),
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension != "ko")
}

/// A module's name is its file's, with `_` for `-`.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The names of all modules that `names` (separated by commas) need. `None` if that cannot be
/// found out, as with compressed modules; then everything is to be loaded.
fn closure(listed: &[PathBuf], names: &str) -> Option<BTreeSet<String>> {
    let mut pending: Vec<String> = names.split(',').map(|name| name.replace('-', "_")).collect();
    let mut wanted = BTreeSet::new();
    while let Some(next) = pending.pop() {
        let path = listed.iter().find(|path| name(path) == next);
        if let (true, Some(path)) = (wanted.insert(next), path) {
            if is_compressed(path) {
                return None;
            }
            pending.extend(dependencies(&fs::read(path).ok()?)?);
        }
    }
    Some(wanted)
}

/// The `depends=` entry of a module's `.modinfo` section: NUL-terminated `key=value` strings.
fn dependencies(module: &[u8]) -> Option<Vec<String>> {
    const KEY: &[u8] = b"depends=";
    let entry = module.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(KEY))?;
    let text = std::str::from_utf8(entry).ok()?;
    Some(text.split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_a_module() {
        let module = b"\x7fELF\x01depends=no\0license=GPL\0depends=9pnet,virtio-ring\0name=x\0";
        assert_eq!(dependencies(module).unwrap(), ["9pnet", "virtio_ring"]);
        assert_eq!(dependencies(b"\0depends=\0").unwrap(), [""; 0]);
        assert_eq!(dependencies(b"nothing"), None);
    }

    #[test]
    fn what_is_not_listed_is_named_when_it_is_missed() {
        let listed = [PathBuf::from("/lib/modules/virtio-pci.ko")];
        let absent = absent(&listed, Some("virtio_pci,virtio_console"));
        assert_eq!(absent, ["virtio_console"]);
        let told = explain(Failure::new("there is no port"), &absent).to_string();
        assert!(told.starts_with("the kernel module virtio_console is neither"), "{told}");
        assert!(told.contains("there is no port") && told.contains("outcrop kit create"), "{told}");
        let told = explain(Failure::new("there is no port"), &[]).to_string();
        assert_eq!(told, "there is no port");
    }

    #[test]
    fn a_closure_follows_dependencies_and_gives_up_on_compressed_modules() {
        let scratch = std::env::temp_dir().join(format!("outcrop-modules-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        let mut listed = Vec::new();
        for (file, depends) in [("a-b.ko", ""), ("c.ko", "a-b"), ("d.ko", "c"), ("e.ko", "a_b")] {
            let path = scratch.join(file);
            fs::write(&path, format!("\0depends={depends}\0")).unwrap();
            listed.push(path);
        }
        let wanted = closure(&listed, "d,built-in").unwrap();
        assert_eq!(wanted.iter().collect::<Vec<_>>(), ["a_b", "built_in", "c", "d"]);
        listed.push(scratch.join("f.ko.xz"));
        assert_eq!(closure(&listed, "f"), None);
        fs::remove_dir_all(scratch).unwrap();
    }
}
