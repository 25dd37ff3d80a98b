//! One call that the host runs.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outcrop_guest::protocol::compile::Call;
use outcrop_guest::protocol::{Outcome, Stream};
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, setrlimit, umask,
};

use seccompiler::BpfProgram;

use super::confinement::TEMPORARY;
use super::toolchain::Toolchain;
use crate::compile::endpoint::Limits;
use crate::compile::job_log::{HOST, JobRecord};
use crate::process::usage;

const PIECE: usize = 32 * 1024;

/// Bytes of input that a job may leave unread.
const MOST_PENDING: usize = 64 << 20;

/// Bytes of output and messages that are passed on of one job; what follows is cut off, and the job is
/// told so by a closed pipe.
const MOST_SAID: u64 = 1 << 30;

pub struct Job {
    child: Child,
    /// Readable when the child has ended.
    end: OwnedFd,
    streams: Vec<(Stream, File)>,
    /// Not blocking, as [`Job::feed`] says.
    input: Option<File>,
    /// What the job has not read yet.
    pending: VecDeque<u8>,
    input_ends: bool,
    started: Instant,
    deadline: Instant,
    timed_out: bool,
    /// Bytes that it has said.
    said: u64,
    /// Of a processor, once it has ended.
    cpu_seconds: f64,
}

impl Job {
    pub fn start(
        call: &Call,
        program: &Path,
        limits: &Limits,
        filter: &BpfProgram,
        toolchain: &Toolchain,
    ) -> io::Result<Job> {
        let mut command = Command::new(program);
        let (first, rest) = call.arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // As from where it was installed: it computes the places of its parts from its own name.
        let name = Path::new(OsStr::from_bytes(first)).file_name().unwrap_or_default();
        command
            .arg0(Path::new("/usr/bin").join(name))
            .args(toolchain.options())
            .args(rest.iter().map(|a| OsStr::from_bytes(a)));
        command.current_dir(OsStr::from_bytes(&call.directory)).env_clear();
        for (name, value) in &call.environment {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
        command.envs(toolchain.environment()).env("TMPDIR", Path::new("/").join(TEMPORARY));
        let input = if call.reads_input { Stdio::piped() } else { Stdio::null() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        limit(&mut command, call.umask, limits.clone(), filter.clone());
        let mut child = command.spawn()?;
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let file = |fd: OwnedFd| -> io::Result<File> {
            rustix::fs::fcntl_setfl(&fd, rustix::fs::OFlags::NONBLOCK)?;
            Ok(File::from(fd))
        };
        let mut streams = Vec::new();
        if let Some(output) = child.stdout.take() {
            streams.push((Stream::Output, file(output.into())?));
        }
        if let Some(errors) = child.stderr.take() {
            streams.push((Stream::Error, file(errors.into())?));
        }
        let input = child.stdin.take().map(|input| file(input.into())).transpose()?;
        let started = Instant::now();
        let deadline = started + Duration::from_secs(limits.wall_seconds);
        let (timed_out, said, cpu_seconds) = (false, 0, 0.0);
        let (pending, input_ends) = (VecDeque::new(), false);
        Ok(Job {
            child,
            end,
            streams,
            input,
            pending,
            input_ends,
            started,
            deadline,
            timed_out,
            said,
            cpu_seconds,
        })
    }

    /// Empty: the end.
    pub fn give_input(&mut self, data: &[u8]) {
        self.input_ends |= data.is_empty();
        self.pending.extend(data);
        if self.pending.len() > MOST_PENDING {
            self.kill();
        }
        self.feed();
    }

    /// Writes what the job takes without waiting: one that reads nothing must not stop the others.
    pub fn feed(&mut self) {
        let Some(input) = &mut self.input else {
            self.pending.clear();
            return;
        };
        while !self.pending.is_empty() {
            match input.write(self.pending.as_slices().0) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It reads no more.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if self.input_ends {
            self.input = None;
        }
    }

    /// What to wait for.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let outputs = self.streams.iter().map(|(_, file)| file.as_fd());
        let read = std::iter::once(self.end.as_fd()).chain(outputs);
        let waits = self.input.as_ref().filter(|_| !self.pending.is_empty());
        read.map(|fd| (fd, PollFlags::IN)).chain(waits.map(|input| (input.as_fd(), PollFlags::OUT)))
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Hands on what it has said by now.
    pub fn read_output(
        &mut self,
        mut say: impl FnMut(Stream, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = [0; PIECE];
        let mut failure = Ok(());
        let total = &mut self.said;
        self.streams.retain_mut(|(stream, file)| {
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => {
                        *total = total.saturating_add(count as u64);
                        // More is no message that anybody reads.
                        if *total > MOST_SAID {
                            return false;
                        }
                        let data = buffer.get(..count).unwrap_or_default().to_vec();
                        if let Err(error) = say(*stream, data) {
                            failure = Err(error);
                            return false;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        });
        failure
    }

    /// How it ended, once it has.
    pub fn outcome(&mut self) -> io::Result<Option<Outcome>> {
        let before = usage::used_by_us().unwrap_or_default();
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        // The child is among those that have ended now.
        self.cpu_seconds = usage::used_by_us().unwrap_or_default() - before;
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        Ok(Some(match (status.code(), status.signal()) {
            _ if self.timed_out => Outcome::TimedOut,
            (_, Some(signal)) => Outcome::Signalled(number(signal)),
            (code, None) => Outcome::Exited(number(code.unwrap_or(1))),
        }))
    }

    pub fn stop_if_late(&mut self, now: Instant) {
        if now >= self.deadline && !self.timed_out {
            self.timed_out = true;
            self.kill();
        }
    }

    /// For the log.
    pub fn record(&self) -> JobRecord {
        let seconds = self.started.elapsed().as_secs_f64();
        let (cpu_seconds, by) = (self.cpu_seconds, Some(HOST.to_owned()));
        JobRecord { seconds, cpu_seconds, by, refused: None }
    }

    /// With everything that it has started.
    pub fn kill(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn limit(command: &mut Command, mask: u32, limits: Limits, filter: BpfProgram) {
    let in_child = move || {
        umask(Mode::from_raw_mode(mask & 0o777));
        for (resource, limit) in [
            (Resource::Cpu, limits.cpu_seconds),
            (Resource::As, limits.memory_bytes),
            (Resource::Fsize, limits.output_bytes),
            (Resource::Core, 0),
        ] {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::PermissionDenied.into())
    };
    #[allow(unsafe_code)]
    // SAFETY: the closure makes system calls only, umask, prlimit, prctl and seccomp; it takes no lock
    // and allocates nothing.
    unsafe {
        command.pre_exec(in_child);
    }
}
