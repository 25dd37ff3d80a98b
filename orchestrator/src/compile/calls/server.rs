//! The loop that takes calls, runs them and answers.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use outcrop_guest::protocol::compile::{Answer, Call, Request};
use outcrop_guest::protocol::{Deframer, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use seccompiler::BpfProgram;

use super::confinement;
use super::job::Job;
use super::refusal;
use super::syscalls;
use super::{ASK, Settings};
use crate::compile::job_log::JobRecord;

const PIECE: usize = 64 * 1024;

/// Calls that may wait for a slot; a guest starts no more processes that do.
const MOST_WAITING: usize = 1024;

/// Serves until the guest is gone.
pub fn run(settings: Settings) -> Result<(), String> {
    let log = OpenOptions::new().create(true).append(true).open(&settings.log);
    let log = log.map_err(|e| format!("cannot open {}: {e}", settings.log.display()))?;
    let descriptor = |of: BorrowedFd<'_>| of.try_clone_to_owned().map_err(|e| e.to_string());
    let port = descriptor(io::stdin().as_fd())?;
    let changes = UnixStream::from(descriptor(io::stdout().as_fd())?);
    confinement::enter(&settings).map_err(|e| format!("cannot confine compilers: {e}"))?;
    let filter = syscalls::filter()?;
    let mut server = Server::new(port, changes, log, filter, settings);
    server.serve().map_err(|e| e.to_string())
}

struct Server {
    port: File,
    /// Whoever serves the view, and knows what jobs have changed in it.
    changes: UnixStream,
    log: File,
    /// The system calls of jobs.
    filter: BpfProgram,
    settings: Settings,
    deframer: Deframer,
    jobs: BTreeMap<u32, Job>,
    waiting: VecDeque<(u32, Call)>,
}

impl Server {
    fn new(
        port: OwnedFd,
        changes: UnixStream,
        log: File,
        filter: BpfProgram,
        settings: Settings,
    ) -> Server {
        let (jobs, waiting) = (BTreeMap::new(), VecDeque::new());
        let (port, deframer) = (port.into(), Deframer::default());
        Server { port, changes, log, filter, settings, deframer, jobs, waiting }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready && !self.take()? {
                return Ok(());
            }
            self.look_after_jobs()?;
            self.start_waiting()?;
        }
    }

    /// Sleeps until something happens; whether the guest has sent something.
    fn wait(&self) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(&self.port, PollFlags::IN)];
        let interests: Vec<_> = self.jobs.values().flat_map(Job::interests).collect();
        polled.extend(interests.iter().map(|(fd, events)| PollFd::new(fd, *events)));
        let nearest = self.jobs.values().map(Job::deadline).min();
        let limit = nearest.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(polled.first().is_some_and(|port| !port.revents().is_empty()))
    }

    /// Reads from the guest. `false`: it is gone.
    fn take(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE];
        let count = self.port.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        self.deframer.push(buffer.get(..count).unwrap_or_default());
        while let Some(frame) = self.deframer.next_frame().map_err(io::Error::other)? {
            match Request::decode(&frame).map_err(io::Error::other)? {
                Request::Start { id, .. } if self.waiting.len() >= MOST_WAITING => {
                    self.refuse(id, format!("{MOST_WAITING} calls wait already"))?;
                }
                Request::Start { id, call } => self.waiting.push_back((id, call)),
                Request::Input { id, data } => {
                    self.start_waiting()?;
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.give_input(&data);
                    }
                }
                Request::Cancel { id } => self.cancel(id),
            }
        }
        Ok(true)
    }

    fn cancel(&mut self, id: u32) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if let Some(job) = self.jobs.get(&id) {
            job.kill();
        }
    }

    fn start_waiting(&mut self) -> io::Result<()> {
        while self.jobs.len() < self.settings.slots {
            let Some((id, call)) = self.waiting.pop_front() else { break };
            let Settings { toolchain, limits, .. } = &self.settings;
            let started = refusal::program(&call, toolchain).and_then(|program| {
                Job::start(&call, &program, limits, &self.filter, toolchain)
                    .map_err(|e| e.to_string())
            });
            match started {
                Ok(job) => drop(self.jobs.insert(id, job)),
                Err(reason) => self.refuse(id, reason)?,
            }
        }
        Ok(())
    }

    fn look_after_jobs(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut over = Vec::new();
        for (id, job) in &mut self.jobs {
            let id = *id;
            job.stop_if_late(now);
            job.feed();
            // Looked at first: then what the job has said is there in full.
            let outcome = job.outcome()?;
            let port = &mut self.port;
            job.read_output(|stream, data| send(port, &Answer::Output { id, stream, data }))?;
            if let Some(outcome) = outcome {
                over.push((id, outcome));
            }
        }
        if !over.is_empty() {
            for (id, _) in &over {
                // What the job has started ends with it, and changes nothing afterwards.
                let Some(job) = self.jobs.remove(id) else { continue };
                self.note(job.record());
            }
            self.tell_changes()?;
        }
        for (id, outcome) in over {
            send(&mut self.port, &Answer::End { id, outcome })?;
        }
        Ok(())
    }

    /// The guest is to run it itself.
    fn refuse(&mut self, id: u32, reason: String) -> io::Result<()> {
        let refused = Some(reason.clone());
        self.note(JobRecord { seconds: 0.0, cpu_seconds: 0.0, by: None, refused });
        let outcome = Outcome::NotStarted(reason.into_bytes());
        send(&mut self.port, &Answer::End { id, outcome })
    }

    fn note(&mut self, record: JobRecord) {
        // A build is worth more than its statistics.
        if let Err(error) = record.append_to(&mut self.log) {
            log::debug!("a job is in no log: {error}");
        }
    }

    /// Passes on what has changed since the last time.
    fn tell_changes(&mut self) -> io::Result<()> {
        self.changes.write_all(&[ASK])?;
        let mut deframer = Deframer::default();
        let mut buffer = vec![0; PIECE];
        loop {
            while let Some(frame) = deframer.next_frame().map_err(io::Error::other)? {
                match Answer::decode(&frame).map_err(io::Error::other)? {
                    Answer::Changed { changes, .. } if changes.is_empty() => return Ok(()),
                    answer => send(&mut self.port, &answer)?,
                }
            }
            match self.changes.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => deframer.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}

fn send(port: &mut File, answer: &Answer) -> io::Result<()> {
    let mut bytes = Vec::new();
    answer.encode(&mut bytes).map_err(io::Error::other)?;
    port.write_all(&bytes)
}
