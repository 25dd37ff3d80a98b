//! The store's Debian packages, by SHA-256: downloaded once, checked before they count.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::apt::PrivateApt;
use super::error::{Error, Result};
use super::lock::{LockedPackage, hex};

/// Files a downloader is given at once: enough to keep a connection busy, few enough for progress.
const BATCH: usize = 16;

/// How far the downloads are; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress {
    pub done: u64,
    pub total: u64,
}

/// The directory `packages/` with files named `SHA256.deb`.
#[derive(Debug, Clone)]
pub struct PackageStore {
    directory: PathBuf,
}

impl PackageStore {
    pub fn new(directory: PathBuf) -> Self {
        PackageStore { directory }
    }

    pub fn path_of(&self, package: &LockedPackage) -> PathBuf {
        self.directory.join(format!("{}.deb", package.sha256))
    }

    /// Makes sure that every package is there and intact. `known_uri` tells where one can be had
    /// when that is known; otherwise all archives are tried. `apt` is made only if something must
    /// be downloaded.
    pub fn obtain(
        &self,
        packages: &[&LockedPackage],
        apt: &mut dyn FnMut() -> Result<PrivateApt>,
        known_uri: &dyn Fn(&LockedPackage) -> Option<String>,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .map_err(Error::host("cannot create", &self.directory))?;
        let missing: Vec<&LockedPackage> =
            packages.iter().copied().filter(|package| !self.has_intact(package)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let apt = apt()?;
        let total = missing.iter().fold(0u64, |sum, package| sum.saturating_add(package.size));
        let mut done = 0u64;
        progress(DownloadProgress { done, total });
        for batch in missing.chunks(BATCH) {
            self.download(&apt, batch, known_uri)?;
            done = batch.iter().fold(done, |sum, package| sum.saturating_add(package.size));
            progress(DownloadProgress { done, total });
        }
        Ok(())
    }

    fn download(
        &self,
        apt: &PrivateApt,
        batch: &[&LockedPackage],
        known_uri: &dyn Fn(&LockedPackage) -> Option<String>,
    ) -> Result<()> {
        let partial = tempfile::Builder::new()
            .prefix(".download-")
            .tempdir_in(&self.directory)
            .map_err(Error::host("cannot create a directory in", &self.directory))?;
        let mut remaining = batch.to_vec();
        let mut places: Vec<Vec<String>> = batch
            .iter()
            .map(|package| match known_uri(package) {
                Some(uri) => vec![uri],
                None => apt.uris_of(package),
            })
            .collect();
        while !remaining.is_empty() {
            let mut files = Vec::new();
            for (package, uris) in remaining.iter().zip(&mut places) {
                if !uris.is_empty() {
                    files.push((uris.remove(0), partial.path().join(&package.sha256)));
                }
            }
            if files.is_empty() {
                break;
            }
            let said = apt.download(&files)?;
            let mut absent = (Vec::new(), Vec::new());
            for (package, uris) in remaining.iter().zip(&places) {
                if !self.accept(&partial.path().join(&package.sha256), package)? {
                    absent.0.push(*package);
                    absent.1.push(uris.clone());
                }
            }
            if !absent.0.is_empty() {
                log::debug!("apt could not download some packages: {said}");
            }
            (remaining, places) = absent;
        }
        match remaining.first() {
            None => Ok(()),
            Some(package) => Err(Error::Unobtainable {
                package: package.name.clone(),
                version: package.version.clone(),
                sha256: package.sha256.clone(),
            }),
        }
    }

    /// Checks a downloaded file and moves it to its place; false if there is none.
    fn accept(&self, downloaded: &Path, package: &LockedPackage) -> Result<bool> {
        let mut file = match File::open(downloaded) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(Error::host("cannot open", downloaded))?,
        };
        let actual = digest(&mut file).map_err(Error::host("cannot read", downloaded))?;
        if actual != package.sha256 {
            fs::remove_file(downloaded).map_err(Error::host("cannot remove", downloaded))?;
            return Err(Error::Checksum {
                package: package.label(),
                expected: package.sha256.clone(),
                actual,
            });
        }
        file.sync_all().map_err(Error::host("cannot write", downloaded))?;
        let target = self.path_of(package);
        fs::rename(downloaded, &target).map_err(Error::host("cannot create", target))?;
        Ok(true)
    }

    /// Whether the package is there with the right content; a damaged file is removed.
    fn has_intact(&self, package: &LockedPackage) -> bool {
        let path = self.path_of(package);
        let Ok(mut file) = File::open(&path) else { return false };
        let intact = digest(&mut file).is_ok_and(|actual| actual == package.sha256);
        if !intact {
            log::warn!("{} is damaged and will be downloaded again", path.display());
            let _ = fs::remove_file(&path);
        }
        intact
    }
}

/// SHA-256 of what remains to be read, as lower-case hexadecimal.
pub(crate) fn digest(input: &mut impl Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = input.read(&mut buffer)?;
        match buffer.get(..count) {
            None | Some([]) => return Ok(hex(&hash.finalize())),
            Some(bytes) => hash.update(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(content: &[u8]) -> LockedPackage {
        LockedPackage {
            name: "sample".into(),
            version: "1".into(),
            architecture: "all".into(),
            sha256: digest(&mut &content[..]).unwrap(),
            size: content.len() as u64,
            file: "pool/sample.deb".into(),
        }
    }

    #[test]
    fn a_wrong_checksum_is_an_error_and_the_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = PackageStore::new(directory.path().join("packages"));
        fs::create_dir_all(&store.directory).unwrap();
        let downloaded = directory.path().join("file");
        fs::write(&downloaded, "tampered").unwrap();
        let wanted = package(b"genuine");
        let message = store.accept(&downloaded, &wanted).unwrap_err().to_string();
        assert!(message.contains("sample_1_all") && message.contains(&wanted.sha256), "{message}");
        assert!(!downloaded.exists() && !store.path_of(&wanted).exists());
    }

    #[test]
    fn a_damaged_package_does_not_count_and_an_intact_one_needs_no_apt() {
        let directory = tempfile::tempdir().unwrap();
        let store = PackageStore::new(directory.path().to_owned());
        let wanted = package(b"genuine");
        fs::write(store.path_of(&wanted), "damaged").unwrap();
        assert!(!store.has_intact(&wanted));
        assert!(!store.path_of(&wanted).exists());
        fs::write(store.path_of(&wanted), "genuine").unwrap();
        let mut no_apt = || panic!("nothing is missing");
        store.obtain(&[&wanted], &mut no_apt, &|_| None, &mut |_| ()).unwrap();
    }
}
