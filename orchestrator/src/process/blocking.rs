//! Children of code that blocks: the same promises without a runtime.

use std::io::{self, PipeReader};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Launch, give_to_spawner, spawner_is_gone};

/// How often a running child is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A running child of code that blocks. Its streams are the caller's to take. Dropping it kills its
/// whole process group and waits for the child.
#[derive(Debug)]
pub struct Blocking {
    child: Child,
    /// `None` once the child has been waited for.
    group: Option<Pid>,
}

impl Launch {
    /// Standard input is a pipe for the caller to take.
    pub fn pipe_input(&mut self) {
        self.command().stdin(Stdio::piped());
    }

    /// Both output streams go into one pipe, in the order in which they are written.
    ///
    /// # Errors
    /// Those of making a pipe.
    pub fn merge_output(&mut self) -> io::Result<PipeReader> {
        let (reader, writer) = io::pipe()?;
        self.command().stdout(writer.try_clone()?).stderr(writer);
        Ok(reader)
    }

    /// Starts the child for a caller that blocks; a log is not kept.
    ///
    /// # Errors
    /// Those of fork and exec; the program's path is the caller's to add.
    pub fn start(mut self) -> io::Result<Blocking> {
        self.guard_child();
        let (sender, receiver) = mpsc::channel();
        give_to_spawner(move || {
            let started = self.command.spawn().map(Blocking::new);
            // Closes our copies of what only the child may hold.
            drop(self);
            drop(sender.send(started));
        })?;
        receiver.recv().map_err(|_| spawner_is_gone())?
    }
}

impl Blocking {
    fn new(child: Child) -> Self {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Blocking { child, group }
    }

    /// Only after [`Launch::pipe_input`], and once.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Not after [`Launch::merge_output`], and once.
    pub fn take_outputs(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Waits for the end of the child and ends what is left of its group. `go_on` is asked now and
    /// then; when it says no the group is killed, and the answer is `None`.
    ///
    /// # Errors
    /// Those of waiting.
    pub fn wait(&mut self, go_on: &mut dyn FnMut() -> bool) -> io::Result<Option<ExitStatus>> {
        let mut stopped = false;
        while !stopped && !self.has_ended()? {
            stopped = !go_on();
            if !stopped {
                std::thread::sleep(TICK);
            }
        }
        let status = self.finish()?;
        Ok((!stopped).then_some(status))
    }

    /// Whether the child has ended; it is not waited for yet, so that its group keeps its number.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(group) = self.group else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match waitid(WaitId::Pid(group), options) {
                Ok(status) => return Ok(status.is_some()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn finish(&mut self) -> io::Result<ExitStatus> {
        if let Some(group) = self.group.take() {
            // Nobody may be left in it, which is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if self.group.is_some()
            && let Err(error) = self.finish()
        {
            log::warn!("cannot wait for process {}: {error}", self.child.id());
        }
    }
}
