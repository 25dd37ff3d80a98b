//! One running command: its process, its streams, its limits.

use crate::failure::Failure;
use crate::port::Port;
use crate::system::{self, Confinement, Interest};
use crate::world::World;
use outcrop_guest::protocol::{AgentMessage, Input, Outcome, Program, ProgramUse, Run, Stream};
use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of output in one message.
const PIECE: usize = 32 * 1024;

/// End of transmission: what a terminal's line discipline takes for the end of the input.
const END_OF_TRANSMISSION: u8 = 4;

pub struct Job {
    pub process: i32,
    streams: Vec<(Stream, File)>,
    input: Option<File>,
    pending_input: VecDeque<u8>,
    input_ends: bool,
    terminal: bool,
    started: Instant,
    deadline: Option<Instant>,
    timed_out: bool,
    /// Raw wait status, once the process has ended.
    status: Option<i32>,
}

/// The host's end of the streams of a command about to start.
struct Ends {
    streams: Vec<(Stream, File)>,
    input: Option<File>,
    terminal: bool,
}

impl Job {
    pub fn start(run: &Run, world: &World) -> Result<Job, Failure> {
        let mut command = command_for(run)?;
        let mut terminal = None;
        match run.input {
            Input::Null => piped(&mut command, Stdio::null()),
            Input::Pipe => piped(&mut command, Stdio::piped()),
            Input::Terminal { rows, columns } => {
                terminal =
                    Some(attach_terminal(&mut command, world, rows, columns).map_err(|e| {
                        Failure::new(format!("cannot open a pseudo-terminal: {e}"))
                    })?);
            }
        };
        let nul = |_| Failure::new("a path of the command contains a NUL byte");
        let root = world.root().map(|root| CString::new(root.as_os_str().as_bytes()));
        let directory =
            if run.directory.is_empty() { b"/".to_vec() } else { run.directory.clone() };
        let confinement = Confinement {
            root: root.transpose().map_err(nul)?,
            directory: CString::new(directory).map_err(nul)?,
            uid: run.uid,
            gid: run.gid,
            terminal: terminal.is_some(),
        };
        system::confine(&mut command, confinement);
        let mut child = command.spawn().map_err(|e| explain(run, &e))?;
        let process = i32::try_from(child.id()).unwrap_or(0);
        let ends = match terminal {
            Some(ends) => ends,
            None => Ends {
                streams: [
                    child.stdout.take().map(|f| (Stream::Output, File::from(OwnedFd::from(f)))),
                    child.stderr.take().map(|f| (Stream::Error, File::from(OwnedFd::from(f)))),
                ]
                .into_iter()
                .flatten()
                .collect(),
                input: child.stdin.take().map(|f| File::from(OwnedFd::from(f))),
                terminal: false,
            },
        };
        for file in ends.streams.iter().map(|(_, file)| file).chain(&ends.input) {
            system::set_nonblocking(file)
                .map_err(|e| Failure::new(format!("cannot set up a stream: {e}")))?;
        }
        let started = Instant::now();
        let limit = run.time_limit_milliseconds;
        Ok(Job {
            process,
            streams: ends.streams,
            input: ends.input,
            pending_input: VecDeque::new(),
            input_ends: false,
            terminal: ends.terminal,
            started,
            deadline: if limit == 0 {
                None
            } else {
                started.checked_add(Duration::from_millis(limit))
            },
            timed_out: false,
            status: None,
        })
    }

    /// When the time limit strikes; `None` too once it has, or the command has ended.
    pub fn deadline(&self) -> Option<Instant> {
        if self.status.is_some() || self.timed_out { None } else { self.deadline }
    }

    pub fn enforce_limit(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.timed_out = true;
            system::kill_group(self.process, libc::SIGKILL);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.status.is_some()
    }

    pub fn end(&mut self, status: i32) {
        self.status = Some(status);
        system::kill_group(self.process, libc::SIGKILL);
    }

    pub fn is_drained(&self) -> bool {
        self.streams.is_empty()
    }

    pub fn signal(&self, signal: u32) {
        if let (None, Ok(signal)) = (self.status, i32::try_from(signal)) {
            system::kill_group(self.process, signal);
        }
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        if let (true, Some((_, master))) = (self.terminal, self.streams.first()) {
            // A terminal that is just closing needs no size.
            let _ = system::resize_terminal(master, rows, columns);
        }
    }

    pub fn give_input(&mut self, id: u32, data: &[u8], port: &mut Port) {
        if data.is_empty() {
            self.input_ends = true;
            if self.terminal {
                self.pending_input.push_back(END_OF_TRANSMISSION);
            }
        }
        self.pending_input.extend(data);
        self.write_input(id, port);
    }

    /// Hands the command what it takes now, and tells the host how much that was.
    pub fn write_input(&mut self, id: u32, port: &mut Port) {
        let mut taken = 0;
        loop {
            let (first, _) = self.pending_input.as_slices();
            if first.is_empty() {
                break;
            }
            let result = match &mut self.input {
                Some(input) => input.write(first),
                // Nobody will read it: as if taken, or the host would wait for ever.
                None => Ok(first.len()),
            };
            match result {
                Ok(count) => {
                    taken += count;
                    self.pending_input.drain(..count.min(self.pending_input.len()));
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.input = None,
            }
        }
        if self.input_ends && self.pending_input.is_empty() && !self.terminal {
            self.input = None;
        }
        if taken > 0 {
            let count = u32::try_from(taken).unwrap_or(u32::MAX);
            port.send(&AgentMessage::InputTaken { id, count });
        }
    }

    pub fn interests(&self, output_wanted: bool, interests: &mut Vec<Interest>) {
        let mut add = |file: &File, events| {
            interests.push(Interest { descriptor: file.as_raw_fd(), events, ready: 0 });
        };
        if output_wanted {
            for (_, file) in &self.streams {
                add(file, libc::POLLIN);
            }
        }
        if let (Some(input), false) = (&self.input, self.pending_input.is_empty()) {
            add(input, libc::POLLOUT);
        }
    }

    /// Moves output to the port while it has room. `last`: what is not there now never comes,
    /// because the command has ended and a stray process of it may hold the pipe for ever.
    pub fn read_output(&mut self, id: u32, port: &mut Port, last: bool) {
        let mut buffer = [0; PIECE];
        self.streams.retain_mut(|(stream, file)| {
            while port.has_room() {
                match file.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => {
                        let data = buffer.get(..count).unwrap_or_default().to_vec();
                        port.send(&AgentMessage::Output { id, stream: *stream, data });
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return !last,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // EIO of a terminal: its other side is closed.
                    Err(_) => return false,
                }
            }
            true
        });
    }

    /// Meaningful once the command has ended.
    pub fn exit_message(&self, id: u32, programs: Vec<ProgramUse>) -> AgentMessage {
        let status = self.status.unwrap_or(0);
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        let outcome = if self.timed_out {
            Outcome::TimedOut
        } else if libc::WIFSIGNALED(status) {
            Outcome::Signalled(number(libc::WTERMSIG(status)))
        } else {
            Outcome::Exited(number(libc::WEXITSTATUS(status)))
        };
        let nanoseconds = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        AgentMessage::Exit { id, outcome, nanoseconds, programs }
    }
}

fn command_for(run: &Run) -> Result<Command, Failure> {
    let mut command = match &run.program {
        Program::Script(script) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-e").arg("-c").arg(OsStr::from_bytes(script));
            shell
        }
        Program::Arguments(arguments) => {
            let (program, rest) = arguments
                .split_first()
                .ok_or_else(|| Failure::new("the command has no program to run"))?;
            let mut command = Command::new(OsStr::from_bytes(program));
            command.args(rest.iter().map(|argument| OsStr::from_bytes(argument)));
            command
        }
    };
    command.env_clear();
    for (name, value) in &run.environment {
        // std would panic on such names.
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return Err(Failure::new(format!(
                "the environment variable {:?} is not a valid one",
                String::from_utf8_lossy(name)
            )));
        }
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
    Ok(command)
}

fn piped(command: &mut Command, input: Stdio) {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
}

fn attach_terminal(
    command: &mut Command,
    world: &World,
    rows: u16,
    columns: u16,
) -> io::Result<Ends> {
    let (master, peer) = system::open_terminal(&world.terminal_multiplexer(), rows, columns)?;
    command.stdin(peer.try_clone()?).stdout(peer.try_clone()?).stderr(peer);
    let input = master.try_clone()?;
    Ok(Ends { streams: vec![(Stream::Output, master)], input: Some(input), terminal: true })
}

fn explain(run: &Run, error: &io::Error) -> Failure {
    let program = match &run.program {
        Program::Script(_) => "/bin/sh".into(),
        Program::Arguments(arguments) => {
            String::from_utf8_lossy(arguments.first().map_or(&b""[..], |name| name))
        }
    };
    let directory = String::from_utf8_lossy(&run.directory);
    Failure::new(format!("cannot run {program} in the directory {directory}: {error}"))
}
