//! A sysroot served to one guest: mounted in the mapped view, and unmounted before it is captured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outcrop_fs::filesystem::Creation;
use outcrop_fs::layer::Layer;
use outcrop_fs::node::Ino;
use outcrop_fs::sysroot::{Options, Policy, Sysroot, Zone};
use outcrop_fs::transport::{Caching, Mount, MountOptions};
use outcrop_fs::view::MappedView;

use super::error::{BuildError, Result};
use crate::store::{RunDirectory, Store};

/// A writable sysroot and the mount through which QEMU reaches it.
pub struct GuestTree {
    pub sysroot: Arc<Sysroot>,
    // Dropped in this order: a directory with a mount in it cannot be removed.
    mount: Option<Mount>,
    run: RunDirectory,
}

impl GuestTree {
    /// Stacks layers with one capture zone; everything else is scratch.
    pub fn new(store: &Store, layers: Vec<Arc<dyn Layer>>, capture: &str) -> Result<Self> {
        let run = store.run_directory()?;
        let mut zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
        if capture == "/" {
            zones.clear();
        }
        zones.push(Zone { prefix: capture.as_bytes().to_vec(), policy: Policy::Capture });
        let spool_directory = Some(run.path().to_owned());
        let sysroot = Arc::new(Sysroot::new(layers, Options { zones, spool_directory })?);
        Ok(GuestTree { sysroot, mount: None, run })
    }

    pub fn make_directory(&self, path: &str) -> Result<Ino> {
        let creation = Creation { mode: 0o755, uid: 0, gid: 0 };
        Ok(self.sysroot.make_directories(path.as_bytes(), creation)?)
    }

    /// Files of this tree's guest, gone with the tree.
    pub fn run_directory(&self) -> &Path {
        self.run.path()
    }

    /// Mounts the mapped view for QEMU; returns the mount point.
    pub fn mount(&mut self) -> Result<PathBuf> {
        let mountpoint = self.run.path().join("mnt");
        std::fs::create_dir(&mountpoint).map_err(|source| {
            BuildError::FileSystem(outcrop_fs::Error::host(
                "cannot create",
                mountpoint.clone(),
                source,
            ))
        })?;
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let view = MappedView::new(self.sysroot.clone(), uid.as_raw(), gid.as_raw());
        // QEMU is the only one who looks and writes, and it does so through this mount.
        let options = MountOptions { caching: Caching::immutable(), ..MountOptions::default() };
        self.mount = Some(Mount::start(Arc::new(view), &mountpoint, &options)?);
        Ok(mountpoint)
    }

    /// Takes the mount away, which writes back what the host's kernel still holds.
    pub fn unmount(&mut self) -> Result<()> {
        if let Some(mount) = self.mount.take() {
            mount.unmount()?;
        }
        Ok(())
    }
}
