//! SIGINT and SIGTERM as a value to wait for.

use tokio::signal::unix::{SignalKind, signal};

use super::error::{CommandError, CommandResult};

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
pub fn run_interruptible<T>(
    work: impl Future<Output = CommandResult<T>>,
) -> CommandResult<T> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        tokio::select! {
            result = work => result,
            () = interrupt.wait() => Err(CommandError::interrupted()),
        }
    })
}

pub fn runtime() -> CommandResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::host(format!("cannot start worker threads: {error}")))
}
