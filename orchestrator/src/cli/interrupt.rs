//! SIGINT, SIGTERM and SIGHUP as a value to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::output;

use super::error::{CommandError, CommandResult, Exit};

/// How long blocking work, such as a fetch from a silent server, may keep a signal from being seen.
const GRACE: Duration = Duration::from_secs(2);

/// How long the news of a signal may take from its handler to us.
const NEWS: Duration = Duration::from_millis(50);

/// Whether somebody has begun to wait for signals; from then on it is theirs to end the process.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Resolves when the process is asked to stop. Made before the work starts, so that no signal
/// falls between.
pub struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// `None` where the process was started to live on when its terminal is gone, as by `nohup`.
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Interrupt {
    pub fn new() -> CommandResult<Self> {
        let interrupt = Self::listening()?;
        AWAITED.store(true, Ordering::SeqCst);
        Ok(interrupt)
    }

    fn listening() -> CommandResult<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CommandError::host(format!("cannot listen for signals: {error}")))
        };
        Ok(Interrupt {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: match hangup_is_ignored() {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
        })
    }

    pub async fn wait(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hangup => {}
        }
    }
}

/// Whether whoever started us has asked for SIGHUP to be ignored.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SignalKind::hangup().as_raw_value() - 1)) != 0)
}

/// From now on a signal ends the process with exit code 130, until something waits for signals
/// itself because it has to tidy up. What lies in the store's `tmp/` is the next command's to remove.
pub fn exit_on_signals() {
    let watch = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Ok(mut interrupt) = Interrupt::listening() else { return };
            interrupt.wait().await;
            if !AWAITED.load(Ordering::SeqCst) {
                output::say(CommandError::interrupted());
                std::process::exit(Exit::Interrupted as i32);
            }
        });
        std::io::Result::Ok(())
    };
    // Without it a signal does what it does to any process.
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
    if let Err(error) = started {
        log::debug!("cannot watch for signals: {error}");
    }
}

/// For a command that has failed: a signal makes system calls and children fail, and then the thread
/// that watches is to end the process, as interrupted. The news of it may be on its way.
pub fn leave_time_for_signals(exit: Exit) {
    let may_be_a_signal = matches!(exit, Exit::BuildFailed | Exit::HostLacks);
    if may_be_a_signal && !AWAITED.load(Ordering::SeqCst) {
        std::thread::sleep(NEWS);
    }
}

/// Runs `work` until it ends or the process is asked to stop; then the work is dropped, which is
/// what kills guests and takes mounts away, and the command ends with exit code 130.
pub fn run_interruptible<T>(work: impl Future<Output = CommandResult<T>>) -> CommandResult<T> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let (mut interrupt, mut late) = (Interrupt::new()?, Interrupt::new()?);
        let seen = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn(end_if_unseen(Interrupt::new()?, seen.clone()));
        let stop = async {
            interrupt.wait().await;
            seen.store(true, Ordering::Relaxed);
        };
        let result = tokio::select! {
            result = work => result,
            () = stop => Err(CommandError::interrupted()),
        };
        watcher.abort();
        match result {
            // A system call that the signal interrupted is not what went wrong.
            Err(_) if interrupted_meanwhile(seen, &mut late).await => {
                Err(CommandError::interrupted())
            }
            result => result,
        }
    })
}

/// Runs work that blocks within [`run_interruptible`]. It can ask whether a signal has come, and
/// then has the grace of `end_if_unseen` to tidy up.
pub fn blocking<T>(
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> CommandResult<T>,
) -> CommandResult<T> {
    let mut interrupt = Interrupt::new()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    let watcher = tokio::spawn(async move {
        interrupt.wait().await;
        stop.store(true, Ordering::Relaxed);
    });
    let result = tokio::task::block_in_place(|| work(&|| stopped.load(Ordering::Relaxed)));
    watcher.abort();
    result
}

/// Whether there was a signal, too, when work has failed: the news of it may be on its way.
async fn interrupted_meanwhile(seen: Arc<AtomicBool>, interrupt: &mut Interrupt) -> bool {
    seen.load(Ordering::Relaxed) || tokio::time::timeout(NEWS, interrupt.wait()).await.is_ok()
}

/// Ends the process when a signal is not seen because the work does not return to its runtime.
/// Children die with us, and what lies in the store's `tmp/` and `run/` is the next command's to
/// remove.
async fn end_if_unseen(mut interrupt: Interrupt, seen: Arc<AtomicBool>) {
    interrupt.wait().await;
    tokio::time::sleep(GRACE).await;
    if !seen.load(Ordering::Relaxed) {
        output::say(CommandError::interrupted());
        std::process::exit(Exit::Interrupted as i32);
    }
}

pub fn runtime() -> CommandResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::host(format!("cannot start worker threads: {error}")))
}
