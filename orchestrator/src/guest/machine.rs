//! A running guest: start, commands, orderly end.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use outcrop_guest::protocol::{
    self, AgentHello, AgentMessage, HostMessage, INPUT_WINDOW, Network, Setup, Stream, Temporary,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::command::{Command, Exit};
use super::command_line::{CompileForward, GUEST_ADDRESS, ROOT_TAG, Root};
use super::error::GuestError;
use super::feed::Feed;
use super::launch::{introduce, launch};
use super::link::Link;
use super::recipe::{Accelerator, QemuRecipe};
use super::terminal::TerminalEvent;
use crate::process::usage::{self, Wait};

/// With a larger message size each 9p request moves more; below 512,000 it was measured slower.
/// The guest is the only writer of its sysroot while it runs, so it may cache everything.
const NINE_P_OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=524288,cache=loose";

/// How long things may take before the guest counts as dead. `start` and `unmount` stand still while
/// QEMU waits for a processor.
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
    /// The host's end of compilers' calls: a socket that QEMU inherits.
    pub calls: Option<std::sync::Arc<std::os::fd::OwnedFd>>,
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
            calls: None,
            host_name: "outcrop".into(),
            console_log: None,
            limits: Limits::default(),
        }
    }

    pub(super) fn setup(&self) -> Setup {
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

/// Waits until the work is done, or the limit is over: then `None`. While the process is ready to run and has
/// no processor the limit stands still, since a guest on a busy host is slow and not dead.
async fn with_patience<T>(
    limit: Duration,
    process: Option<u32>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut wait = process.map(Wait::of);
    let started = Instant::now();
    loop {
        let waited = wait.as_mut().map(Wait::look).unwrap_or_default();
        let left = limit.saturating_add(waited).saturating_sub(started.elapsed());
        if left.is_zero() {
            return None;
        }
        if let Ok(done) = timeout(left.min(LOOK_INTERVAL), &mut work).await {
            return Some(done);
        }
    }
}

/// How often a guest that has a time limit is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
        let process = link.qemu.id();
        let result = with_patience(limit, process, introduce(&mut link, &options)).await;
        let (hello, at) = match result {
            Some(result) => result?,
            None => {
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

    /// Seconds of a processor that QEMU has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.process_id().and_then(usage::used_by).unwrap_or_default()
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
        let (limit, process) = (self.limits.unmount, self.process_id());
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
        match with_patience(limit, process, done).await {
            Some(result) => result?,
            None => {
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
                AgentMessage::Exit { id: from, outcome, nanoseconds, programs } if from == id => {
                    self.abandoned = None;
                    let duration = Duration::from_nanos(nanoseconds);
                    return Ok(Exit { outcome, duration, programs });
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
