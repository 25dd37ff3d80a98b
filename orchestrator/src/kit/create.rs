//! Makes kits: resolve, download, check, take the kernel apart, publish.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::apt::{PrivateApt, host_sources, uris_by_digest};
use super::architecture::Architecture;
use super::base::recipe_digest;
use super::error::{Error, Result};
use super::kernel;
use super::lock::{FORMAT, Lock, LockedPackage};
use super::packages::DownloadProgress;
use super::{CONFIG, Kit, Kits, LOCK_FILE, MODULES, VMLINUX, VMLINUZ};
use crate::guest::{KernelError, extract_kernel};

/// What to make a kit from.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Make exactly this kit again instead of resolving the newest packages.
    pub lock: Option<Lock>,
    /// Take Debian archives from this file, not from the host's apt configuration.
    pub sources: Option<PathBuf>,
}

/// Steps of making a kit, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    FetchingIndexes,
    Resolving,
    Downloading(DownloadProgress),
    ReadingKernel,
}

impl Kits {
    /// Makes a kit and makes it the current one of its architecture. Of an equal kit that is there
    /// already, what is missing or damaged is mended. Interrupted at any moment, nothing incomplete is visible.
    pub fn create(
        &self,
        architecture: &str,
        options: &CreateOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Kit> {
        let architecture = Architecture::by_name(architecture)?;
        fs::create_dir_all(&self.root).map_err(Error::host("cannot create", &self.root))?;
        let _guard = self.lock_exclusively()?;
        self.remove_leftovers();
        let (lock, uris) = match &options.lock {
            Some(lock) => (check_lock(&architecture, lock)?, HashMap::new()),
            None => self.resolve(&architecture, options, progress)?,
        };
        let mut wanted: Vec<&LockedPackage> = lock.packages.iter().collect();
        wanted.push(&lock.kernel);
        self.package_store().obtain(
            &wanted,
            &mut || self.private_apt(&architecture.debian, options),
            &|package| uris.get(&package.sha256).cloned(),
            &mut |download| progress(Progress::Downloading(download)),
        )?;
        let id = lock.id();
        let name = format!("{}-{}", architecture.name, id.get(..12).unwrap_or(&id));
        let directory = self.root.join(&name);
        progress(Progress::ReadingKernel);
        if directory.join(LOCK_FILE).is_file() {
            self.mend(&architecture, &lock, &directory)?;
        } else {
            self.publish(&architecture, &lock, &directory)?;
        }
        // Without it builds are only slower.
        self.add_toolchain(&architecture, &lock, &directory, options, progress).unwrap_or_else(
            |error| log::warn!("{}: no compilers of this host: {error}", architecture.name),
        );
        self.point(&architecture.name, &name)?;
        self.open(&directory)
    }

    /// `architecture`: Debian's name.
    pub(super) fn private_apt(
        &self,
        architecture: &str,
        options: &CreateOptions,
    ) -> Result<PrivateApt> {
        let sources = host_sources(options.sources.as_deref())?;
        PrivateApt::new(&self.root.join("apt").join(architecture), architecture, sources)
    }

    /// The newest packages, and where each can be had by its SHA-256.
    fn resolve(
        &self,
        architecture: &Architecture,
        options: &CreateOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Lock, HashMap<String, String>)> {
        let apt = self.private_apt(&architecture.debian, options)?;
        let kernels = architecture.kernel_architecture.as_deref();
        let kernels = kernels.map(|name| self.private_apt(name, options)).transpose()?;
        progress(Progress::FetchingIndexes);
        apt.update()?;
        kernels.as_ref().map(PrivateApt::update).transpose()?;
        progress(Progress::Resolving);
        let mut base = apt.resolve(&Architecture::base_packages()?)?;
        base.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        let kernels = kernels.as_ref().unwrap_or(&apt);
        let kernel = kernels.versioned_dependency(&architecture.kernel_package, "linux-image-")?;
        let uris = uris_by_digest(base.iter().chain([&kernel]));
        let packages: Vec<LockedPackage> = base.into_iter().map(|found| found.package).collect();
        let lock = Lock {
            format: FORMAT,
            architecture: architecture.name.clone(),
            recipe: recipe_digest(architecture, &packages),
            kernel: kernel.package,
            packages,
        };
        Ok((lock, uris))
    }

    fn publish(&self, architecture: &Architecture, lock: &Lock, directory: &Path) -> Result<()> {
        let building = self.assemble(architecture, lock)?;
        set_readable(building.path())?;
        let building = building.keep();
        // A directory of the same name without a lock file is a leftover that nobody uses.
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(Error::host("cannot remove", directory))?;
        }
        fs::rename(&building, directory).map_err(Error::host("cannot create", directory))?;
        sync_directory(&self.root)
    }

    /// Makes `root/ARCHITECTURE` a link to the kit's directory, in one step.
    fn point(&self, architecture: &str, name: &str) -> Result<()> {
        let pointer = self.root.join(architecture);
        let beside = self.root.join(format!(".pointer-{architecture}"));
        let _ = fs::remove_file(&beside);
        symlink(name, &beside).map_err(Error::host("cannot create", &beside))?;
        fs::rename(&beside, &pointer).map_err(Error::host("cannot create", &pointer))?;
        sync_directory(&self.root)
    }

    /// Replaces those files of a kit that are not what its packages say.
    fn mend(&self, architecture: &Architecture, lock: &Lock, directory: &Path) -> Result<()> {
        let right = self.assemble(architecture, lock)?;
        for name in [VMLINUZ, VMLINUX, CONFIG, MODULES, LOCK_FILE] {
            // Without the decompressed kernel guests only start slower.
            let Ok(wanted) = fs::read(right.path().join(name)) else { continue };
            let path = directory.join(name);
            if fs::read(&path).ok().as_ref() == Some(&wanted) {
                continue;
            }
            log::warn!("{} is missing or damaged; making it again", path.display());
            write_beside(&path, |output| output.write_all(&wanted))?;
        }
        set_readable(directory)
    }

    /// The files of a kit in a directory of their own.
    fn assemble(&self, architecture: &Architecture, lock: &Lock) -> Result<tempfile::TempDir> {
        let kernel_deb = self.package_store().path_of(&lock.kernel);
        let kernel = kernel::extract(&lock.kernel.label(), &kernel_deb, &architecture.modules)?;
        let building = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.root)
            .map_err(Error::host("cannot create a directory in", &self.root))?;
        let file = |name: &str| building.path().join(name);
        write_beside(&file(VMLINUZ), |output| output.write_all(&kernel.vmlinuz))?;
        match extract_kernel(&kernel.vmlinuz) {
            Ok(elf) => write_beside(&file(VMLINUX), |output| output.write_all(&elf))?,
            // Only x86 kernels unpack themselves slowly.
            Err(KernelError::NotAnImage) => {}
            Err(error) => log::warn!("{}: guests start slower: {error}", lock.kernel.label()),
        }
        write_beside(&file(CONFIG), |output| output.write_all(&kernel.config))?;
        write_beside(&file(MODULES), |output| kernel.write_modules(output))?;
        write_beside(&file(LOCK_FILE), |output| output.write_all(lock.render().as_bytes()))?;
        Ok(building)
    }

    /// Removes what a killed predecessor left half made. Nobody else makes a kit now, and what
    /// cannot be removed does no harm.
    fn remove_leftovers(&self) {
        for (directory, prefix) in
            [(self.root.clone(), ".new-"), (self.root.join("packages"), ".download-")]
        {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }

    /// Where whoever makes a kit holds a lock.
    pub fn maker_lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// One kit is made at a time; the lock dies with the process.
    fn lock_exclusively(&self) -> Result<File> {
        let path = self.maker_lock();
        let file = File::create(&path).map_err(Error::host("cannot create", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::host("cannot lock", &path)(errno.into()))?;
        Ok(file)
    }
}

fn check_lock(architecture: &Architecture, lock: &Lock) -> Result<Lock> {
    if lock.architecture != architecture.name {
        return Err(Error::Malformed {
            path: LOCK_FILE.into(),
            problem: format!(
                "the lock file is for {}, not for {}",
                lock.architecture, architecture.name
            ),
        });
    }
    let ours = recipe_digest(architecture, &lock.packages);
    if ours != lock.recipe {
        return Err(Error::OtherRecipe {
            architecture: architecture.name.clone(),
            theirs: lock.recipe.clone(),
            ours,
        });
    }
    Ok(lock.clone())
}

/// Writes a file beside its place and moves it there when it is whole and on disk.
pub(super) fn write_beside(
    target: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    let directory = target.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(Error::host("cannot create a file in", directory))?;
    let mut output = BufWriter::new(file.as_file_mut());
    write(&mut output)
        .and_then(|()| output.flush())
        .map_err(Error::host("cannot write", target))?;
    drop(output);
    file.as_file().sync_all().map_err(Error::host("cannot write", target))?;
    file.persist(target).map_err(|error| Error::host("cannot create", target)(error.error))?;
    Ok(())
}

/// Temporary directories are private; a kit may be read by everybody.
fn set_readable(directory: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory, mode).map_err(Error::host("cannot change", directory))
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(Error::host("cannot write", directory))
}
