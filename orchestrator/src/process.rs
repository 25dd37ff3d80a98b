//! Child processes: own process group, parent-death signal, captured output, supervised exit.
//!
//! Nothing that is started here outlives the orchestrator: dropping a [`Supervised`] or a [`Blocking`]
//! kills its process group, and if the orchestrator itself is killed, the kernel kills the child.

mod blocking;
pub mod usage;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use blocking::Blocking;

/// How much of the end of a child's output is kept for error messages, in bytes.
const TAIL: usize = 64 * 1024;

/// Where a log stops growing, in bytes: a child that prints for ever must not fill the disk.
const LOG_LIMIT: u64 = 64 << 20;

/// A child process to be started.
///
/// Its standard input is `/dev/null`, its output goes to the [`Tail`] and, if asked for, to a log.
#[derive(Debug)]
pub struct Launch {
    command: std::process::Command,
    inherited: Vec<OwnedFd>,
    log: Option<PathBuf>,
    piped: bool,
}

impl Launch {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Launch::from(std::process::Command::new(program))
    }

    /// For arguments, environment and working directory; the streams are not to be changed.
    pub fn command(&mut self) -> &mut std::process::Command {
        &mut self.command
    }

    /// The child gets this descriptor under the same number.
    pub fn inherit(&mut self, descriptor: OwnedFd) {
        self.inherited.push(descriptor);
    }

    /// What the child prints is also written to this file, which is made anew.
    pub fn log_to(&mut self, path: impl Into<PathBuf>) {
        self.log = Some(path.into());
    }

    /// Standard input and output are pipes for the caller to take; only errors are captured.
    pub fn pipe(&mut self) {
        self.piped = true;
        self.command.stdin(Stdio::piped());
    }

    /// Starts the child.
    ///
    /// # Errors
    /// Those of opening the log and of fork and exec; the program's path is the caller's to add.
    pub async fn spawn(mut self) -> io::Result<Supervised> {
        let log = self.log.as_deref().map(Log::create).transpose()?;
        let output = Captured { tail: Tail::default(), log: Arc::new(Mutex::new(log)) };
        self.guard_child();
        let runtime = Handle::current();
        let piped = self.piped;
        let (sender, receiver) = oneshot::channel();
        give_to_spawner(move || {
            let _entered = runtime.enter();
            let result = tokio::process::Command::from(self.command).spawn();
            // Only now, when the child has its copies, may ours be closed.
            drop(self.inherited);
            let result = result.map(|child| Supervised::new(child, output, piped));
            // If nobody waits any more, the child comes back and is killed by its destructor.
            drop(sender.send(result));
        })?;
        receiver.await.map_err(|_| spawner_is_gone())?
    }

    #[allow(unsafe_code)]
    fn guard_child(&mut self) {
        self.command.process_group(0);
        let parent = rustix::process::getpid();
        let inherited: Vec<_> = self.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let guard = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above, and then no signal comes.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::other("the parent process has ended"));
            }
            keep_descriptors_here();
            for descriptor in &inherited {
                // SAFETY: the descriptor is owned by the `Launch` until the child exists.
                let descriptor = unsafe { BorrowedFd::borrow_raw(*descriptor) };
                rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes plain system calls and allocates
        // nothing on success.
        unsafe { self.command.pre_exec(guard) };
    }
}

impl From<std::process::Command> for Launch {
    /// Takes program, arguments, environment and working directory; the streams are set anew.
    fn from(mut command: std::process::Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Launch { command, inherited: Vec::new(), log: None, piped: false }
    }
}

/// Nothing but the streams and what is handed over goes on to the new program: not every descriptor
/// of this process is marked so when it comes into being.
#[allow(unsafe_code)]
fn keep_descriptors_here() {
    const FIRST: libc::c_uint = 3;
    let how = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: no memory is involved, and nothing is closed before the program starts. Kernels before
    // 5.11 refuse; then the marks that there are must do.
    unsafe { libc::close_range(FIRST, libc::c_uint::MAX, how) };
}

type Work = Box<dyn FnOnce() + Send>;

fn give_to_spawner(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    spawner().lock().send(Box::new(work)).map_err(|_| spawner_is_gone())
}

fn spawner_is_gone() -> io::Error {
    io::Error::other("the thread that starts processes has ended")
}

/// The thread that forks. A parent-death signal fires when the *thread* that forked ends, and the
/// threads of a runtime come and go; this one lives as long as the process.
fn spawner() -> &'static Mutex<mpsc::Sender<Work>> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Work>>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Work>();
        let serve = move || receiver.into_iter().for_each(|work| work());
        let thread = thread::Builder::new().name("process-spawner".into()).spawn(serve);
        if let Err(error) = thread {
            log::error!("cannot start the thread that starts processes: {error}");
        }
        Mutex::new(sender)
    })
}

/// The end of what a child has printed, both streams in order of arrival.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn append(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL);
        kept.drain(..excess);
    }

    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.lock().iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[derive(Debug)]
struct Log {
    file: File,
    left: u64,
}

impl Log {
    fn create(path: &Path) -> io::Result<Log> {
        Ok(Log { file: File::create(path)?, left: LOG_LIMIT })
    }

    /// A log that cannot be written (a full disk) must not end what it describes.
    fn append(&mut self, bytes: &[u8]) {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(left) = self.left.checked_sub(size) {
            if self.file.write_all(bytes).is_ok() {
                self.left = left;
            }
        } else if self.left > 0 {
            self.left = 0;
            let _ = self.file.write_all(b"\n[the log is full; the rest is not kept]\n");
        }
    }
}

#[derive(Debug, Clone)]
struct Captured {
    tail: Tail,
    log: Arc<Mutex<Option<Log>>>,
}

impl Captured {
    fn read(&self, mut stream: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let captured = self.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let bytes = buffer.get(..count).unwrap_or_default();
                captured.tail.append(bytes);
                if let Some(log) = captured.log.lock().as_mut() {
                    log.append(bytes);
                }
            }
        })
    }
}

/// A running child. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    /// `None` once the child has been waited for.
    group: Option<Pid>,
    tail: Tail,
    readers: Vec<JoinHandle<()>>,
}

impl Supervised {
    fn new(mut child: Child, output: Captured, piped: bool) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut readers = Vec::new();
        if let Some(stream) = child.stderr.take() {
            readers.push(output.read(stream));
        }
        if !piped && let Some(stream) = child.stdout.take() {
            readers.push(output.read(stream));
        }
        Supervised { child, group, tail: output.tail, readers }
    }

    /// The process id; `None` once it has ended and been waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Only after [`Launch::pipe`], and once.
    pub fn take_streams(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// Waits for the end of the child, ends what is left of its group, and lets the last output
    /// arrive. May be cancelled and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.signal(Signal::KILL);
        self.group = None;
        // A grandchild that left the group may hold the pipes open: do not wait for it.
        // One that is done must be forgotten at once, as this may be cancelled in between.
        while let Some(reader) = self.readers.last_mut() {
            if tokio::time::timeout(Duration::from_millis(500), &mut *reader).await.is_err() {
                reader.abort();
            }
            self.readers.pop();
        }
        Ok(status)
    }

    /// Asks the group to end, and kills it when `grace` has passed.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(result) => result,
            Err(_) => {
                self.signal(Signal::KILL);
                self.wait().await
            }
        }
    }

    /// Sends a signal to the whole group, if it still exists.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended by itself, which is what every caller wants.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        for reader in &self.readers {
            reader.abort();
        }
    }
}

#[cfg(test)]
mod tests;
