//! Booting a finished system: kernel and image in QEMU, a person or a script at its console.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Instant, timeout, timeout_at};

use super::command_line::{Disk, MachineOptions, Root, command_line};
use super::error::{GuestError, LastWords, explain_end};
use super::launch::readable;
use super::recipe::{Accelerator, QemuRecipe};
use super::serial::{self, Step};
use super::terminal::{RawTerminal, TerminalEvent};
use crate::process::{Launch, Supervised};

/// How long a system may say nothing before it is spoken to.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// How often a shell is looked for while the system starts: often at first, then less, because
/// what a slow system does not read piles up.
const FIRST_GREETING_PERIOD: Duration = Duration::from_secs(1);
const LAST_GREETING_PERIOD: Duration = Duration::from_secs(8);

/// Longer than the line that ends a command's output, in bytes.
const OVERLAP: usize = 100;

/// Control-], as telnet has it: ends the machine at an interactive console.
const ESCAPE: u8 = 0x1d;

/// A system to boot.
#[derive(Debug, Clone)]
pub struct BootOptions {
    pub recipe: QemuRecipe,
    pub kernel: PathBuf,
    /// With a disk: the kit's initramfs, whose agent mounts the disk and starts its init. Without:
    /// the system itself.
    pub initramfs: PathBuf,
    /// squashfs, ext4 or erofs. What the system writes there is thrown away.
    pub disk: Option<Disk>,
    /// The program that an initramfs starts first: `/init` unless something else is said.
    pub init: Option<String>,
    /// The disk is mounted for writing.
    pub writable: bool,
    pub memory_mib: u32,
    pub accelerator: Accelerator,
    /// Gets everything that the console shows; not used when it is interactive.
    pub console_log: Option<PathBuf>,
    /// From the start of QEMU to a shell that answers.
    pub start_limit: Duration,
}

impl BootOptions {
    fn machine(&self) -> MachineOptions {
        let mut words = Vec::new();
        if self.disk.is_some() {
            words.push("outcrop.boot=/dev/vda".into());
            words.push(if self.writable { "rw" } else { "ro" }.into());
        }
        if let Some(init) = &self.init {
            let name = if self.disk.is_some() { "init" } else { "rdinit" };
            words.push(format!("{name}={init}"));
        }
        MachineOptions {
            kernel: self.kernel.clone(),
            initramfs: Some(self.initramfs.clone()),
            memory_mib: self.memory_mib,
            accelerator: self.accelerator,
            root: Root::None,
            compile: None,
            control: None,
            calls: None,
            disk: self.disk.clone(),
            kernel_arguments: words,
        }
    }

    async fn launch(&self) -> Result<(Supervised, ChildStdin, ChildStdout), GuestError> {
        readable("cannot open the kernel", &self.kernel)?;
        readable("cannot open the initramfs", &self.initramfs)?;
        if let Some(disk) = &self.disk {
            readable("cannot open the image", &disk.image)?;
        }
        let missing =
            |source| GuestError::QemuMissing { program: self.recipe.binary.clone(), source };
        let mut launch = Launch::new(&self.recipe.binary);
        launch.command().args(command_line(&self.recipe, &self.machine()));
        launch.pipe();
        let mut qemu = launch.spawn().await.map_err(missing)?;
        match qemu.take_streams() {
            Some((input, output)) => Ok((qemu, input, output)),
            None => Err(GuestError::Unexpected("QEMU has no console")),
        }
    }
}

/// What a command on the booted system printed, both streams in one, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOutput {
    pub output: Vec<u8>,
    pub status: u32,
    /// From the start of QEMU to a shell that answered.
    pub boot_time: Duration,
}

/// Boots the system, runs `command` in the shell on its console, and ends the machine.
///
/// The system must give a root shell on its console (at once, or after Enter). `console` sees
/// everything that the console shows, as it comes.
///
/// # Errors
/// The system did not reach a shell, or QEMU ended; QEMU is gone then.
pub async fn boot_command(
    options: &BootOptions,
    command: &[u8],
    time_limit: Duration,
    console: impl FnMut(&[u8]),
) -> Result<BootOutput, GuestError> {
    let started = Instant::now();
    let (qemu, input, output) = options.launch().await?;
    let mut line = SerialLine {
        qemu,
        input,
        output,
        shown: Vec::new(),
        observer: console,
        log: options.console_log.clone(),
    };
    let result = line.converse(options.start_limit, command, time_limit, started).await;
    line.save_log();
    if result.is_ok() {
        // The disk is a throw-away copy: nothing of it needs to be written back.
        let _ = line.qemu.stop(Duration::from_secs(5)).await;
    }
    result
}

struct SerialLine<F> {
    qemu: Supervised,
    input: ChildStdin,
    output: ChildStdout,
    /// Everything since the machine started.
    shown: Vec<u8>,
    observer: F,
    log: Option<PathBuf>,
}

impl<F: FnMut(&[u8])> SerialLine<F> {
    async fn converse(
        &mut self,
        start_limit: Duration,
        command: &[u8],
        time_limit: Duration,
        started: Instant,
    ) -> Result<BootOutput, GuestError> {
        match timeout(start_limit, self.wake()).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(GuestError::StartTimeout {
                    limit: start_limit,
                    last_words: self.last_words(),
                });
            }
        }
        let boot_time = started.elapsed();
        match timeout(time_limit, self.execute(command)).await {
            Ok(result) => {
                let (output, status) = result?;
                Ok(BootOutput { output, status, boot_time })
            }
            Err(_) => {
                Err(GuestError::CommandTimeout { limit: time_limit, last_words: self.last_words() })
            }
        }
    }

    /// Greets until a shell answers.
    async fn wake(&mut self) -> Result<(), GuestError> {
        // Before that nobody listens, and what is typed at the serial line of an Arm machine (PL011) while
        // its driver starts can stop that line for ever.
        if let Ok(result) = timeout(LONGEST_SILENCE, self.read()).await {
            result?;
        }
        let mut period = FIRST_GREETING_PERIOD;
        for number in 1.. {
            let step = serial::greeting(number);
            self.type_in(&step.typed).await?;
            let next = Instant::now() + period;
            period = period.mul_f32(1.25).min(LAST_GREETING_PERIOD);
            while let Ok(result) = timeout_at(next, self.read()).await {
                result?;
                // Any greeting will do, not just the latest: a slow shell answers late.
                for earlier in 1..=number {
                    if serial::find(&self.shown, &serial::greeting(earlier).answer).is_some() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn execute(&mut self, command: &[u8]) -> Result<(Vec<u8>, u32), GuestError> {
        // Apart from the numbers of the greetings, of which late answers may still come.
        const FIRST: u32 = 100_000;
        for Step { typed, answer } in serial::deposit(command, FIRST) {
            self.type_in(&typed).await?;
            while serial::find(&self.shown, &answer).is_none() {
                self.read().await?;
            }
        }
        let execution = serial::execution(FIRST.saturating_sub(1));
        let before = self.shown.len();
        self.type_in(&execution.typed).await?;
        loop {
            let count = self.read().await?;
            // The end may have come in two pieces; all the rest has been searched before.
            let recent = self.shown.len().saturating_sub(count.saturating_add(OVERLAP)).max(before);
            if !execution.may_be_over(self.shown.get(recent..).unwrap_or_default()) {
                continue;
            }
            let since = serial::plain(self.shown.get(before..).unwrap_or_default());
            if let Some(result) = execution.result(&since) {
                return Ok(result);
            }
        }
    }

    async fn type_in(&mut self, bytes: &[u8]) -> Result<(), GuestError> {
        match self.input.write_all(bytes).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.post_mortem().await),
        }
    }

    /// Gives the number of bytes that came.
    async fn read(&mut self) -> Result<usize, GuestError> {
        let mut buffer = [0; 4096];
        match self.output.read(&mut buffer).await {
            Ok(count @ 1..) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                (self.observer)(bytes);
                self.shown.extend_from_slice(bytes);
                Ok(count)
            }
            _ => Err(self.post_mortem().await),
        }
    }

    async fn post_mortem(&mut self) -> GuestError {
        let status = match self.qemu.stop(Duration::from_secs(5)).await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        explain_end(status, self.last_words())
    }

    fn last_words(&self) -> LastWords {
        self.save_log();
        let mut text = String::from_utf8_lossy(&self.shown).into_owned();
        text.push_str(&self.qemu.tail().text());
        LastWords { text, log: self.log.clone() }
    }

    fn save_log(&self) {
        if let Some(path) = &self.log
            && let Err(error) = std::fs::write(path, &self.shown)
        {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }
}

/// Boots the system with its console at the user's terminal, until it powers off or Control-] is
/// typed.
///
/// # Errors
/// There is no terminal, or QEMU did not start.
pub async fn boot_interactive(options: &BootOptions) -> Result<(), GuestError> {
    let (mut qemu, mut input, mut output) = options.launch().await?;
    let mut terminal = RawTerminal::open().map_err(GuestError::Terminal)?;
    let mut events = terminal.events().map_err(GuestError::Terminal)?;
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            read = output.read(&mut buffer) => match read {
                Ok(count @ 1..) => terminal.print(buffer.get(..count).unwrap_or_default()),
                _ => break,
            },
            event = events.recv() => match event {
                Some(TerminalEvent::Typed(bytes)) if bytes.contains(&ESCAPE) => break,
                Some(TerminalEvent::Typed(bytes)) => {
                    if input.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                // A serial line knows no window size.
                Some(TerminalEvent::Resized { .. }) => {}
                None => break,
            },
        }
    }
    drop(terminal);
    let status = qemu.stop(Duration::from_secs(5)).await;
    match status {
        Ok(status) if status.code().is_some_and(|code| code != 0) => {
            let last_words = LastWords { text: qemu.tail().text(), log: None };
            Err(GuestError::QemuEnded { status: status.to_string(), last_words })
        }
        _ => Ok(()),
    }
}
