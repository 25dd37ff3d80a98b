//! SIGINT and SIGTERM as a value to wait for.

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

/// Resolves when the process is asked to stop. Made before the work starts, so that no signal
/// falls between.
pub struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Interrupt {
    pub fn new() -> CommandResult<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CommandError::host(format!("cannot listen for signals: {error}")))
        };
        Ok(Interrupt {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
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
