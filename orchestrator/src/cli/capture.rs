//! `outcrop capture`: finish a capture that failed.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outcrop_fs::capture::Progress;

use super::context::Context;
use super::error::{CommandError, CommandResult};
use super::interrupt::run_interruptible;
use super::kept::Kept;

/// Write what `outcrop mount --capture` could not write when it ended
///
/// The layers of the mount must still be where they were. What was kept is removed when the
/// artifact is complete.
///
/// Example: outcrop capture mount-1700000000 /other/disk/out.tar
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The name under which the changes are kept, as the failed command said it
    kept: String,

    /// The tar file to write
    #[arg(value_name = "OUT.tar")]
    out: PathBuf,

    /// Which part of the tree to take, instead of the one that was asked for then
    #[arg(long, value_name = "PATH")]
    zone: Option<String>,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    let out = std::path::absolute(&arguments.out)
        .map_err(|error| CommandError::input(format!("{}: {error}", arguments.out.display())))?;
    let mut kept = Kept::open(&context, &arguments.kept)?;
    if let Some(zone) = &arguments.zone {
        kept.request.zone.clone_from(zone);
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = cancelled.clone();
    let kept = run_interruptible(async move {
        // Dropped when a signal ends the wait: the capture then stops at its next look.
        let guard = CancelOnDrop(cancelled);
        let work = tokio::task::spawn_blocking(move || {
            let progress = |_: Progress| match flag.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            kept.request.capture(&kept.sysroot, &out, Some(&progress)).map(|()| kept)
        });
        let result = work.await;
        drop(guard);
        result.map_err(|error| CommandError::build(format!("the capture ended: {error}")))?
    })?;
    kept.remove(&context)
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
