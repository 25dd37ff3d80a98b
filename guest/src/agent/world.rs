//! The world that commands see: the sysroot and what the kernel provides on top of it.

use crate::failure::Failure;
use crate::{modules, mounts, network, system};
use outcrop_guest::protocol::{Root, Setup};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chroot, symlink};
use std::path::{Path, PathBuf};

pub const SYSROOT: &str = "/sysroot";

#[derive(Default)]
pub struct World {
    root: Option<PathBuf>,
    /// Mount points that the sysroot lacked, as seen inside it; removed again at the end.
    created: Vec<PathBuf>,
}

impl World {
    pub fn set_up(&mut self, setup: &Setup) -> Result<(), Failure> {
        if self.root.is_some() {
            return Err(Failure::new("the guest is set up already"));
        }
        if !setup.host_name.is_empty() {
            system::set_host_name(&setup.host_name)
                .map_err(|e| Failure::new(format!("cannot set the host name: {e}")))?;
        }
        network::bring_up_loopback()?;
        if let Some(network) = &setup.network {
            network::bring_up(network)?;
        }
        if let Some(root) = &setup.root {
            mount_root(root)?;
            self.root = Some(PathBuf::from(SYSROOT));
            let created = &mut self.created;
            inside(Path::new(SYSROOT), || populate(setup, created))?;
        }
        Ok(())
    }

    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The pseudo-terminal multiplexer of the sysroot, or of the initramfs.
    pub fn terminal_multiplexer(&self) -> PathBuf {
        let devices = self.root().map_or(PathBuf::from("/dev"), |root| root.join("dev"));
        devices.join(if self.root.is_some() { "pts/ptmx" } else { "ptmx" })
    }

    /// Writes everything back and unmounts it. No process may be left.
    pub fn take_down(&mut self) -> Result<(), Failure> {
        let root = match self.root.take() {
            Some(root) => root,
            None => return Ok(()),
        };
        for mounted in mounts::below(&root)? {
            if mounted != root {
                system::unmount(&mounted)
                    .map_err(|e| Failure::at("cannot unmount", &mounted, e))?;
            }
        }
        let created = std::mem::take(&mut self.created);
        inside(&root, || {
            for path in created.iter().rev() {
                // Something was put there behind the mount: then it is not ours to remove.
                let _ = fs::remove_dir(path);
            }
            Ok(())
        })?;
        system::sync();
        system::unmount(&root).map_err(|e| Failure::at("cannot unmount", &root, e))
    }
}

fn mount_root(root: &Root) -> Result<(), Failure> {
    let target = Path::new(SYSROOT);
    fs::create_dir_all(target).map_err(|e| Failure::at("cannot create", target, e))?;
    let flags = if root.read_only { libc::MS_RDONLY } else { 0 };
    system::mount(&root.source, target, &root.file_system, flags, &root.options).map_err(|e| {
        let source = String::from_utf8_lossy(&root.source);
        let file_system = String::from_utf8_lossy(&root.file_system);
        let failure = Failure::new(format!("cannot mount {source} as {file_system}: {e}"));
        // That is how the kernel says that it does not know the file system.
        match e.raw_os_error() {
            Some(libc::ENODEV) => modules::explain(failure, &[file_system.into_owned()]),
            _ => failure,
        }
    })
}

/// Carries `work` out with `root` as the root directory, so that absolute symbolic links of the
/// sysroot lead where its programs would go, and not into the initramfs.
fn inside<T>(root: &Path, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let fail = |e| Failure::at("cannot change the root directory to", root, e);
    let outside = File::open("/").map_err(fail)?;
    chroot(root).map_err(fail)?;
    std::env::set_current_dir("/").map_err(fail)?;
    let result = work();
    let back = || -> io::Result<()> {
        system::change_directory(&outside)?;
        chroot(".")
    };
    back().map_err(|e| Failure::at("cannot return from", root, e))?;
    result
}

fn populate(setup: &Setup, created: &mut Vec<PathBuf>) -> Result<(), Failure> {
    attach("/dev", "tmpfs", b"mode=0755", created)?;
    devices().map_err(|e| Failure::at("cannot populate", Path::new("/dev"), e))?;
    attach("/dev/pts", "devpts", b"newinstance,ptmxmode=0666,mode=0620,gid=5", &mut Vec::new())?;
    attach("/dev/shm", "tmpfs", b"mode=1777", &mut Vec::new())?;
    attach("/proc", "proc", b"", created)?;
    attach("/sys", "sysfs", b"", created)?;
    for temporary in &setup.temporary {
        attach(OsStr::from_bytes(&temporary.path), "tmpfs", &temporary.options, created)?;
    }
    Ok(())
}

fn attach(
    path: impl AsRef<Path>,
    file_system: &str,
    options: &[u8],
    created: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let path = path.as_ref();
    if !path.is_absolute() {
        return Err(Failure::new(format!("{} is not an absolute path", path.display())));
    }
    match fs::create_dir(path) {
        Ok(()) => created.push(path.to_owned()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(e) => return Err(Failure::at("cannot create the mount point", path, e)),
    }
    system::mount(file_system.as_bytes(), path, file_system.as_bytes(), 0, options)
        .map_err(|e| Failure::at("cannot mount", path, e))
}

/// What every program may expect in /dev. Numbers: Documentation/admin-guide/devices.txt of Linux.
fn devices() -> io::Result<()> {
    let characters = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    for (path, major, minor) in characters {
        system::make_node(Path::new(path), libc::S_IFCHR | 0o666, major, minor)?;
    }
    system::make_node(Path::new("/dev/console"), libc::S_IFCHR | 0o600, 5, 1)?;
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    for (target, link) in links {
        symlink(target, link)?;
    }
    for directory in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
