//! A sysroot served to one guest, over virtiofs or through a mount for QEMU's 9p server, and no longer
//! served before it is captured.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use outcrop_fs::filesystem::{Creation, Filesystem};
use outcrop_fs::layer::Layer;
use outcrop_fs::node::Ino;
use outcrop_fs::sysroot::{Options, Policy, Sysroot, Zone};
use outcrop_fs::transport::{Caching, Mount, MountOptions, VirtiofsServer};
use outcrop_fs::view::{GuestView, HostView, LoaderView, MappedView, SharedTree};

use super::error::{BuildError, Result};
use crate::compile::calls::{CallServer, Places, answer_changes};
use crate::guest::{Root, SecurityModel, Transport};
use crate::store::{Reserve, RunDirectory, Store};

/// Where things are mounted in a guest's directory.
pub const MOUNT_POINTS: [&str; 3] = [MAPPED_VIEW, HOST_VIEW, COMPILERS];
const MAPPED_VIEW: &str = "mnt";
const HOST_VIEW: &str = "view";
const COMPILERS: &str = "tools";

/// A writable sysroot and the way by which a guest reaches it.
pub struct GuestTree {
    pub sysroot: Arc<Sysroot>,
    // Dropped in this order: a directory with a mount in it cannot be removed.
    service: Option<Service>,
    host_view: Option<HostService>,
    /// For keeping the tree when the build has filled the disk; nothing where there was no room.
    reserve: Option<Reserve>,
    run: RunDirectory,
}

/// The mount of the host view, and who serves calls in it.
struct HostService {
    process: Child,
    mount: Mount,
    compilers: Mount,
    tree: Arc<SharedTree>,
}

enum Service {
    Mount(Mount),
    Virtiofs(VirtiofsServer),
}

impl GuestTree {
    /// Stacks layers with one capture zone; everything else is scratch. With `kept` it is the tree of
    /// an earlier build over the same layers, with what that had changed.
    pub fn new(
        store: &Store,
        layers: Vec<Arc<dyn Layer>>,
        capture: &str,
        kept: Option<&Path>,
    ) -> Result<Self> {
        let run = store.run_directory()?;
        let mut zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
        if capture == "/" {
            zones.clear();
        }
        zones.push(Zone { prefix: capture.as_bytes().to_vec(), policy: Policy::Capture });
        let spool_directory = Some(run.path().to_owned());
        let options = Options { zones, spool_directory };
        let sysroot = match kept {
            Some(directory) => Sysroot::restore(layers, directory, options)?,
            None => Sysroot::new(layers, options)?,
        };
        let reserve = Reserve::new(run.path()).ok();
        Ok(GuestTree { sysroot: Arc::new(sysroot), service: None, host_view: None, reserve, run })
    }

    /// Gives the room back that was set aside for what must be written at the end.
    pub fn release_reserve(&self) {
        if let Some(reserve) = &self.reserve {
            reserve.release();
        }
    }

    pub fn make_directory(&self, path: &str) -> Result<Ino> {
        let creation = Creation { mode: 0o755, uid: 0, gid: 0 };
        Ok(self.sysroot.make_directories(path.as_bytes(), creation)?)
    }

    /// Files of this tree's guest, gone with the tree.
    pub fn run_directory(&self) -> &Path {
        self.run.path()
    }

    /// Serves the tree to one guest; returns what becomes the guest's root. The guest is the only one
    /// who looks and writes meanwhile.
    pub fn serve(&mut self, transport: Transport) -> Result<Root> {
        match transport {
            Transport::Virtiofs => {
                let socket = self.run.path().join("virtiofs.socket");
                let (tree, caching): (Arc<dyn Filesystem>, _) = match &self.host_view {
                    Some(service) => {
                        (Arc::new(GuestView::new(service.tree.clone())), Caching::asked_anew())
                    }
                    None => (self.sysroot.clone(), Caching::of_tree(self.sysroot.is_live())),
                };
                let server = VirtiofsServer::start(tree, &socket, caching)?;
                self.service = Some(Service::Virtiofs(server));
                Ok(Root::Virtiofs { socket })
            }
            Transport::NineP => {
                let export = self.mount()?;
                Ok(Root::NineP { export, security_model: SecurityModel::MappedXattr })
            }
        }
    }

    /// Mounts the host view for compilers that `start` then serves there.
    pub fn serve_calls(
        &mut self,
        compilers: Arc<LoaderView>,
        start: impl FnOnce(&Places<'_>) -> io::Result<CallServer>,
    ) -> Result<OwnedFd> {
        let directory = self.run.path();
        let (mountpoint, tools) = (directory.join(HOST_VIEW), directory.join(COMPILERS));
        let fault =
            |source| outcrop_fs::Error::host("cannot serve compilers in", &mountpoint, source);
        std::fs::create_dir(&mountpoint).map_err(fault)?;
        std::fs::create_dir(&tools).map_err(fault)?;
        let options = MountOptions { caching: Caching::immutable(), ..MountOptions::default() };
        let compilers = Mount::start(compilers, &tools, &options)?;
        let tree = SharedTree::new(self.sysroot.clone());
        let view = HostView::new(tree.clone(), 0, 0);
        let options = MountOptions { caching: Caching::announced(), ..MountOptions::default() };
        let mount = Mount::start(Arc::new(view), &mountpoint, &options)?;
        tree.announce_to(mount.announcer());
        let CallServer { process, port, changes } =
            start(&Places { view: &mountpoint, tools: &tools, directory }).map_err(fault)?;
        let asked = tree.clone();
        std::thread::Builder::new()
            .name("changes".to_owned())
            .spawn(move || {
                if let Err(error) = answer_changes(changes, &asked) {
                    log::debug!("the server of compilers' calls asks no longer: {error}");
                }
            })
            .map_err(fault)?;
        self.host_view = Some(HostService { process, mount, compilers, tree });
        Ok(port)
    }

    /// Mounts the mapped view for QEMU; returns the mount point.
    fn mount(&mut self) -> Result<PathBuf> {
        let mountpoint = self.run.path().join(MAPPED_VIEW);
        std::fs::create_dir(&mountpoint).map_err(|source| {
            BuildError::FileSystem(outcrop_fs::Error::host(
                "cannot create",
                mountpoint.clone(),
                source,
            ))
        })?;
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let view = MappedView::new(self.sysroot.clone(), uid.as_raw(), gid.as_raw());
        let caching = Caching::of_tree(self.sysroot.is_live());
        let options = MountOptions { caching, ..MountOptions::default() };
        let mount = Mount::start(Arc::new(view), &mountpoint, &options)?;
        self.service = Some(Service::Mount(mount));
        Ok(mountpoint)
    }

    /// Ends the service. Afterwards nothing changes the tree any more, and a mount has written back
    /// what the host's kernel still held.
    pub fn end_service(&mut self) -> Result<()> {
        if let Some(HostService { mut process, mount, compilers, tree }) = self.host_view.take() {
            let _ = process.kill();
            let _ = process.wait();
            mount.unmount()?;
            compilers.unmount()?;
            tree.host_has_gone();
        }
        match self.service.take() {
            Some(Service::Mount(mount)) => drop(mount.unmount()?),
            Some(Service::Virtiofs(server)) => server.stop(),
            None => {}
        }
        Ok(())
    }
}
