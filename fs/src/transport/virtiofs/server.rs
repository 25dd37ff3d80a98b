//! The life of a server: a socket, one guest after the other, an end.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::device::{Device, Memory};
use super::error::VirtiofsError;
use super::session::Session;
use crate::filesystem::Filesystem;
use crate::transport::caching::Caching;

/// How long the threads of a connection may take to end.
const LONGEST_ENDING: Duration = Duration::from_secs(5);

/// Serves a tree to guests, one at a time, until it is stopped. Dropping it stops it.
pub struct VirtiofsServer {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the server's owner and its thread have in common.
struct Shared {
    session: Arc<Session>,
    stop: OwnedFd,
    /// Cuts the connection to QEMU, while there is one.
    connection: Mutex<Option<ShutdownHandle>>,
}

impl VirtiofsServer {
    /// Listens on a new unix socket, for QEMU's `vhost-user-fs-pci` to connect to; only this user
    /// may. The socket exists when this returns.
    ///
    /// The length of the path does not matter here, although QEMU has to reach it: run it in the
    /// socket's directory where the path has more than 107 bytes.
    pub fn start(
        tree: Arc<dyn Filesystem>,
        socket: &Path,
        caching: Caching,
    ) -> Result<VirtiofsServer, VirtiofsError> {
        let fault = |doing| {
            move |source: io::Error| VirtiofsError::Host { doing, path: socket.to_owned(), source }
        };
        let listener = bind(socket).map_err(fault("cannot listen on"))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| fault("cannot make an event for")(errno.into()))?;
        let session = Arc::new(Session::new(tree, caching));
        let shared = Arc::new(Shared { session, stop, connection: Mutex::default() });
        let serve = {
            let (shared, socket) = (shared.clone(), socket.to_owned());
            move || serve(&listener, &shared, &socket)
        };
        let thread = std::thread::Builder::new()
            .name("virtiofs".to_owned())
            .spawn(serve)
            .map_err(fault("cannot start a thread for"))?;
        Ok(VirtiofsServer { socket: socket.to_owned(), shared, thread: Some(thread) })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the service. When this returns, nothing that a guest asks for reaches the tree any
    /// more, even if QEMU should still run.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.session.close();
        let _ = std::fs::remove_file(&self.socket);
        if let Err(errno) = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes()) {
            log::error!("virtiofs: the server cannot be told to end: {errno}");
            return;
        }
        if let Some(connection) = &*self.shared.connection.lock() {
            connection.shutdown();
        }
        let until = Instant::now() + LONGEST_ENDING;
        while !thread.is_finished() {
            if Instant::now() >= until {
                log::warn!("virtiofs: the threads of {} do not end", self.socket.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.join().is_err() {
            log::error!("virtiofs: the thread that served {} panicked", self.socket.display());
        }
    }
}

impl Drop for VirtiofsServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Binds by way of the directory's descriptor: a socket's address has room for 107 bytes only.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let directory = socket.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(socket.file_name().ok_or_else(invalid)?);
    let listener = UnixListener::bind(&short)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&short, private)?;
    Ok(listener)
}

/// Serves guest after guest until told to stop.
fn serve(listener: &UnixListener, shared: &Shared, socket: &Path) {
    while wait(listener, &shared.stop) {
        if let Err(error) = serve_one(listener, shared) {
            let reason = error.to_string();
            let error = VirtiofsError::Connection { path: socket.to_owned(), reason };
            log::warn!("{error}");
        }
        shared.session.guest_has_gone();
    }
}

/// Waits for a connection; false if there shall be no more.
fn wait(listener: &UnixListener, stop: &OwnedFd) -> bool {
    loop {
        let mut events = [PollFd::new(stop, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        match poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                log::error!("virtiofs: cannot wait for a guest: {errno}");
                return false;
            }
            Ok(_) => {
                let [stop, connection] = events;
                if !stop.revents().is_empty() {
                    return false;
                }
                if !connection.revents().is_empty() {
                    return true;
                }
            }
        }
    }
}

/// Serves one connection to its end. Each gets a device of its own: nothing of a guest that died is
/// left for the next.
fn serve_one(listener: &UnixListener, shared: &Shared) -> Result<(), DaemonError> {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let device = Arc::new(Device::new(shared.session.clone(), memory.clone()));
    let result = converse(listener, shared, device.clone(), memory);
    for descriptor in device.take_exit_events() {
        close(descriptor);
    }
    match result {
        // How a connection ends when QEMU ends, however that happens.
        Err(DaemonError::HandleRequest(
            VhostUserError::Disconnected | VhostUserError::PartialMessage,
        )) => Ok(()),
        result => result,
    }
}

/// When this returns, the threads of the device have ended.
fn converse(
    listener: &UnixListener,
    shared: &Shared,
    device: Arc<Device>,
    memory: Memory,
) -> Result<(), DaemonError> {
    let mut daemon = VhostUserDaemon::new("virtiofs-device".to_owned(), device, memory)?;
    let listener = listener.try_clone().map_err(DaemonError::StartDaemon)?;
    daemon.start(&mut Listener::from(listener))?;
    *shared.connection.lock() = daemon.shutdown_handle();
    if shared.session.is_closed() {
        daemon.request_shutdown();
    }
    let result = daemon.wait();
    *shared.connection.lock() = None;
    result
}

/// The device's event that the library leaves open with every connection.
#[allow(unsafe_code)]
fn close(descriptor: RawFd) {
    // SAFETY: the device made this descriptor and gave it away to a daemon that only ever polled it
    // and is gone, with its threads. Nobody else has its number.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
