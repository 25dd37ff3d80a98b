//! A running guest: start, commands, orderly end.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::future;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outcrop_guest::protocol::{
    self, AgentHello, AgentMessage, HostHello, HostMessage, INPUT_WINDOW, Network, Setup, Stream,
    Temporary, VERSION,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::command::{Command, Exit};
use super::command_line::{
    CompileForward, GUEST_ADDRESS, MachineOptions, ROOT_TAG, Root, command_line,
};
use super::error::GuestError;
use super::link::Link;
use super::recipe::{Accelerator, QemuRecipe};
use super::terminal::TerminalEvent;
use crate::process::Launch;

/// With a larger message size each 9p request moves more; below 512,000 it was measured slower.
/// The guest is the only writer of its sysroot while it runs, so it may cache everything.
const NINE_P_OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=524288,cache=loose";

/// Bytes of input in one message.
const INPUT_PIECE: usize = 32 * 1024;

/// How long things may take before the guest counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of QEMU to a guest that is ready for commands.
    pub start: Duration,
    /// An answer to a ping.
    pub answer: Duration,
    /// Writing everything back and unmounting it.
    pub unmount: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Emulated guests on a busy host are slow, not dead.
        Limits {
            start: Duration::from_secs(120),
            answer: Duration::from_secs(60),
            unmount: Duration::from_secs(900),
        }
    }
}

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct GuestOptions {
    pub recipe: QemuRecipe,
    pub kernel: PathBuf,
    /// With the agent as `/init`.
    pub initramfs: PathBuf,
    pub memory_mib: u32,
    pub accelerator: Accelerator,
    pub root: Root,
    pub read_only_root: bool,
    /// Paths of the sysroot that are a fresh tmpfs, and its options.
    pub temporary: Vec<(String, String)>,
    pub compile: Option<CompileForward>,
    pub host_name: String,
    /// Gets everything that the guest's console and QEMU print.
    pub console_log: Option<PathBuf>,
    pub limits: Limits,
}

impl GuestOptions {
    /// No root, no network, `/tmp` and `/run` in memory.
    pub fn new(
        recipe: QemuRecipe,
        kernel: impl Into<PathBuf>,
        initramfs: impl Into<PathBuf>,
    ) -> Self {
        GuestOptions {
            recipe,
            kernel: kernel.into(),
            initramfs: initramfs.into(),
            memory_mib: 512,
            accelerator: Accelerator::Tcg,
            root: Root::None,
            read_only_root: false,
            temporary: vec![
                ("/tmp".into(), "mode=1777".into()),
                ("/run".into(), "mode=0755".into()),
            ],
            compile: None,
            host_name: "outcrop".into(),
            console_log: None,
            limits: Limits::default(),
        }
    }

    fn setup(&self) -> Setup {
        let root = match &self.root {
            Root::NineP { .. } => Some(protocol::Root {
                source: ROOT_TAG.into(),
                file_system: "9p".into(),
                options: NINE_P_OPTIONS.into(),
                read_only: self.read_only_root,
            }),
            // Everything there is to agree on, both sides agree on in INIT.
            Root::Virtiofs { .. } => Some(protocol::Root {
                source: ROOT_TAG.into(),
                file_system: "virtiofs".into(),
                options: Vec::new(),
                read_only: self.read_only_root,
            }),
            Root::None => None,
        };
        let temporary = |(path, options): &(String, String)| Temporary {
            path: path.clone().into_bytes(),
            options: options.clone().into_bytes(),
        };
        Setup {
            root,
            temporary: self.temporary.iter().map(temporary).collect(),
            network: self.compile.as_ref().map(|_| Network {
                address: GUEST_ADDRESS,
                prefix_length: 24,
                gateway: None,
            }),
            host_name: self.host_name.clone().into_bytes(),
        }
    }
}

/// Where the time of a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the start of QEMU to the agent's hello.
    pub hello: Duration,
    /// The guest kernel's uptime in that hello.
    pub uptime_at_hello: Duration,
    /// From the hello to a mounted sysroot.
    pub setup: Duration,
}

/// A guest that is ready for commands. Dropping it kills QEMU at once: what the guest has not
/// written back is lost, so only [`Guest::shut_down`] gives a sysroot that may be captured.
pub struct Guest {
    link: Link,
    limits: Limits,
    next_id: u32,
    /// A command whose `run` was cancelled.
    abandoned: Option<u32>,
    timings: Timings,
    hello: AgentHello,
}

impl Guest {
    /// Starts QEMU and waits until the agent has mounted the sysroot.
    ///
    /// # Errors
    /// Any [`GuestError`]; QEMU is gone then.
    pub async fn start(options: GuestOptions) -> Result<Guest, GuestError> {
        let mut link = launch(&options).await?;
        let limit = options.limits.start;
        let started = Instant::now();
        let result = timeout(limit, introduce(&mut link, &options)).await;
        let (hello, at) = match result {
            Ok(result) => result?,
            Err(_) => {
                return Err(GuestError::StartTimeout { limit, last_words: link.last_words() });
            }
        };
        let timings = Timings {
            hello: at.duration_since(started),
            uptime_at_hello: Duration::from_millis(hello.uptime_milliseconds),
            setup: at.elapsed(),
        };
        link.answer_limit = Some(options.limits.answer);
        Ok(Guest { link, limits: options.limits, next_id: 1, abandoned: None, timings, hello })
    }

    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The agent's build.
    pub fn agent_build_id(&self) -> String {
        String::from_utf8_lossy(&self.hello.build_id).into_owned()
    }

    /// The release of the guest's kernel.
    pub fn kernel_release(&self) -> String {
        String::from_utf8_lossy(&self.hello.kernel).into_owned()
    }

    /// QEMU's process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.link.qemu.id()
    }

    /// Runs a command and hands its output on as it comes. While `output` does not return, the
    /// command waits.
    ///
    /// If this future is dropped, the command is killed before the next one starts.
    ///
    /// # Errors
    /// Only if the guest is lost; what the command does is in [`Exit`].
    pub async fn run(
        &mut self,
        command: &Command,
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<Exit, GuestError> {
        let input = match &command.input {
            None => Feed { mode: protocol::Input::Null, ..Feed::default() },
            Some(bytes) => Feed {
                mode: protocol::Input::Pipe,
                pending: bytes.iter().copied().collect(),
                ends: true,
                events: None,
            },
        };
        self.conduct(command, input, output).await
    }

    /// Runs a command on a pseudo-terminal of `rows` and `columns`; what is typed and changes of
    /// size come through `events`. Output is one stream.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub async fn run_on_terminal(
        &mut self,
        command: &Command,
        (rows, columns): (u16, u16),
        events: mpsc::Receiver<TerminalEvent>,
        mut output: impl FnMut(&[u8]),
    ) -> Result<Exit, GuestError> {
        let mode = protocol::Input::Terminal { rows, columns };
        let input = Feed { mode, events: Some(events), ..Feed::default() };
        self.conduct(command, input, |_, bytes| output(bytes)).await
    }

    /// Kills what runs, writes everything back, unmounts the sysroot and ends QEMU. After this the
    /// host sees all that the guest wrote.
    ///
    /// # Errors
    /// The sysroot must then not be captured.
    pub async fn shut_down(mut self) -> Result<(), GuestError> {
        // The agent is busy with one thing and answers nothing else.
        self.link.answer_limit = None;
        self.link.send(&HostMessage::Unmount)?;
        let limit = self.limits.unmount;
        let done = async {
            loop {
                match self.link.receive().await? {
                    AgentMessage::Done => return Ok(()),
                    // The ends of commands that were still running.
                    AgentMessage::Exit { .. }
                    | AgentMessage::Output { .. }
                    | AgentMessage::InputTaken { .. } => {}
                    _ => return Err(GuestError::Unexpected("no answer to Unmount")),
                }
            }
        };
        match timeout(limit, done).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(GuestError::Unresponsive { limit, last_words: self.link.last_words() });
            }
        }
        // Nothing is mounted any more, so an emulated power-off would only take time.
        let stopped = self.link.qemu.stop(Duration::from_secs(5)).await;
        stopped.map(drop).map_err(|source| GuestError::Host {
            doing: "cannot wait for the end of",
            path: PathBuf::from("QEMU"),
            source,
        })
    }

    async fn conduct(
        &mut self,
        command: &Command,
        mut feed: Feed,
        mut output: impl FnMut(Stream, &[u8]),
    ) -> Result<Exit, GuestError> {
        self.end_abandoned().await?;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let run = HostMessage::Run(command.message(id, feed.mode));
        self.link.send(&run).map_err(GuestError::CommandTooLarge)?;
        self.abandoned = Some(id);
        let mut window = INPUT_WINDOW;
        loop {
            feed.send(id, &mut window, &mut self.link)?;
            let message = tokio::select! {
                message = self.link.receive() => message?,
                event = feed.next_event(), if feed.wants_events() => {
                    feed.take(id, event, &mut self.link)?;
                    continue;
                }
            };
            match message {
                AgentMessage::Output { id: from, stream, data } if from == id => {
                    output(stream, &data);
                }
                AgentMessage::Exit { id: from, outcome, nanoseconds } if from == id => {
                    self.abandoned = None;
                    return Ok(Exit { outcome, duration: Duration::from_nanos(nanoseconds) });
                }
                AgentMessage::InputTaken { id: from, count } if from == id => {
                    window = window.saturating_add(count).min(INPUT_WINDOW);
                }
                AgentMessage::InputTaken { .. } => {}
                _ => return Err(GuestError::Unexpected("a message that no command asked for")),
            }
        }
    }

    async fn end_abandoned(&mut self) -> Result<(), GuestError> {
        let Some(id) = self.abandoned else { return Ok(()) };
        let signal = rustix::process::Signal::KILL.as_raw().unsigned_abs();
        self.link.send(&HostMessage::Signal { id, signal })?;
        loop {
            if let AgentMessage::Exit { id: ended, .. } = self.link.receive().await?
                && ended == id
            {
                self.abandoned = None;
                return Ok(());
            }
        }
    }
}

/// What a command reads.
struct Feed {
    mode: protocol::Input,
    pending: VecDeque<u8>,
    /// No more will come; `false` once the agent has been told.
    ends: bool,
    events: Option<mpsc::Receiver<TerminalEvent>>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { mode: protocol::Input::Null, pending: VecDeque::new(), ends: false, events: None }
    }
}

impl Feed {
    fn send(&mut self, id: u32, window: &mut u32, link: &mut Link) -> Result<(), GuestError> {
        while !self.pending.is_empty() && *window > 0 {
            let allowed = usize::try_from(*window).unwrap_or(INPUT_PIECE).min(INPUT_PIECE);
            let count = allowed.min(self.pending.len());
            let data: Vec<u8> = self.pending.drain(..count).collect();
            link.send(&HostMessage::Input { id, data })?;
            *window = window.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if self.ends && self.pending.is_empty() {
            self.ends = false;
            link.send(&HostMessage::Input { id, data: Vec::new() })?;
        }
        Ok(())
    }

    /// Typing ahead is held back where it comes from, not collected here.
    fn wants_events(&self) -> bool {
        self.events.is_some() && self.pending.is_empty()
    }

    async fn next_event(&mut self) -> Option<TerminalEvent> {
        match &mut self.events {
            Some(events) => events.recv().await,
            None => future::pending().await,
        }
    }

    fn take(
        &mut self,
        id: u32,
        event: Option<TerminalEvent>,
        link: &mut Link,
    ) -> Result<(), GuestError> {
        match event {
            Some(TerminalEvent::Typed(bytes)) => self.pending.extend(bytes),
            Some(TerminalEvent::Resized { rows, columns }) => {
                link.send(&HostMessage::Resize { id, rows, columns })?;
            }
            None => {
                self.events = None;
                self.ends = true;
            }
        }
        Ok(())
    }
}

/// Starts QEMU with one end of the control channel.
async fn launch(options: &GuestOptions) -> Result<Link, GuestError> {
    readable("cannot open the kernel", &options.kernel)?;
    readable("cannot open the initramfs", &options.initramfs)?;
    let (root, directory) = reachable(&options.root)?;
    let no_channel = |source| GuestError::Host {
        doing: "cannot create",
        path: PathBuf::from("the control channel"),
        source,
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(no_channel)?;
    ours.set_nonblocking(true).map_err(no_channel)?;
    let stream = UnixStream::from_std(ours).map_err(no_channel)?;
    let machine = MachineOptions {
        kernel: absolute(&options.kernel)?,
        initramfs: Some(absolute(&options.initramfs)?),
        memory_mib: options.memory_mib,
        accelerator: options.accelerator,
        root,
        compile: options.compile.clone(),
        control: Some(std::os::fd::AsRawFd::as_raw_fd(&theirs)),
        disk: None,
        kernel_arguments: Vec::new(),
    };
    let mut qemu = Launch::new(&options.recipe.binary);
    qemu.command().args(command_line(&options.recipe, &machine));
    if let Some(directory) = directory {
        qemu.command().current_dir(directory);
    }
    qemu.inherit(theirs.into());
    if let Some(log) = &options.console_log {
        qemu.log_to(log);
    }
    let qemu = qemu.spawn().await.map_err(|source| GuestError::QemuMissing {
        program: options.recipe.binary.clone(),
        source,
    })?;
    Ok(Link::new(qemu, stream, options.console_log.clone()))
}

/// The root as QEMU is to be told it, and the directory to run it in. A socket is told by its name
/// alone: its address has no room for long paths.
fn reachable(root: &Root) -> Result<(Root, Option<PathBuf>), GuestError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        |source| GuestError::Host { doing: "cannot open the sysroot", path, source }
    };
    match root {
        Root::NineP { export, .. } => {
            std::fs::read_dir(export).map_err(fault(export))?;
            Ok((root.clone(), None))
        }
        Root::Virtiofs { socket } => {
            std::fs::metadata(socket).map_err(fault(socket))?;
            let place = std::path::absolute(socket).map_err(fault(socket))?;
            let name = place.file_name().unwrap_or_default();
            let root = Root::Virtiofs { socket: PathBuf::from(name) };
            Ok((root, place.parent().map(Path::to_owned)))
        }
        Root::None => Ok((Root::None, None)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, GuestError> {
    std::path::absolute(path).map_err(|source| GuestError::Host {
        doing: "cannot find",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn readable(doing: &'static str, path: &Path) -> Result<(), GuestError> {
    File::open(path).map(drop).map_err(|source| GuestError::Host {
        doing,
        path: path.to_owned(),
        source,
    })
}

/// Hellos and `Setup`; also says when the agent's hello came.
async fn introduce(
    link: &mut Link,
    options: &GuestOptions,
) -> Result<(AgentHello, Instant), GuestError> {
    let AgentMessage::Hello(hello) = link.receive().await? else {
        return Err(GuestError::Unexpected("something came before the hello"));
    };
    let at = Instant::now();
    if hello.version != VERSION {
        return Err(GuestError::Version {
            build_id: String::from_utf8_lossy(&hello.build_id).into_owned(),
            theirs: hello.version,
            ours: VERSION,
        });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    link.send(&HostMessage::Hello(HostHello {
        version: VERSION,
        build_id: env!("CARGO_PKG_VERSION").into(),
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    }))?;
    link.send(&HostMessage::Setup(options.setup()))?;
    match link.receive().await? {
        AgentMessage::Done => Ok((hello, at)),
        _ => Err(GuestError::Unexpected("no answer to Setup")),
    }
}
