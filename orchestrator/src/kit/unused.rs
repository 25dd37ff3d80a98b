//! What of the kits nothing uses any more.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Kit, Kits, LOCK_FILE, Result};

/// A kit that is not the current one of its architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedKit {
    /// The name of its directory.
    pub name: String,
    pub directory: PathBuf,
    /// Its packages that no other kit has.
    pub packages: Vec<PathBuf>,
}

/// What may be removed of the kits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    pub kits: Vec<UnusedKit>,
    /// Packages that no kit has.
    pub packages: Vec<PathBuf>,
    /// The lock under which kits are made.
    pub maker: PathBuf,
}

impl Kits {
    /// Kits that are not current, and packages that no kit has. Nothing, where a kit cannot be
    /// read: its packages are not known.
    pub fn unused(&self) -> Result<Unused> {
        let mut found = Unused { maker: self.maker_lock(), ..Unused::default() };
        let (mut kits, mut current) = (Vec::new(), HashSet::new());
        for path in entries(&self.root)? {
            if let Ok(target) = fs::read_link(&path) {
                current.insert(self.root.join(target));
            } else if path.join(LOCK_FILE).is_file() {
                match self.open(&path) {
                    Ok(kit) => kits.push(kit),
                    Err(error) => {
                        log::warn!("{error}; no kit is removed");
                        return Ok(found);
                    }
                }
            }
        }
        let mut users: HashMap<PathBuf, usize> = HashMap::new();
        for path in kits.iter().flat_map(Kit::package_paths) {
            let count = users.entry(path).or_default();
            *count = count.saturating_add(1);
        }
        found.kits = kits
            .iter()
            .filter(|kit| !current.contains(kit.directory()))
            .map(|kit| UnusedKit {
                name: kit.directory().file_name().unwrap_or_default().to_string_lossy().into(),
                directory: kit.directory().to_owned(),
                packages: kit.package_paths().filter(|path| users.get(path) == Some(&1)).collect(),
            })
            .collect();
        let mut packages = entries(&self.root.join("packages"))?;
        packages.retain(|path| {
            path.extension().is_some_and(|ending| ending == "deb") && !users.contains_key(path)
        });
        found.packages = packages;
        Ok(found)
    }
}

impl Kit {
    /// Every package of the kit, its kernel's among them.
    fn package_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let all = self.all_packages();
        all.map(|package| self.packages.path_of(package))
    }
}

/// What a directory holds, sorted; nothing where it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(Error::host("cannot read", directory))?,
    };
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
