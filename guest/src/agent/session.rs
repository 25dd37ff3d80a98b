//! The conversation with the host: one loop over the port, the children and their streams.

use crate::BUILD_ID;
use crate::accounting::Accounting;
use crate::failure::Failure;
use crate::job::Job;
use crate::port::Port;
use crate::system::{self, Interest, Reaped};
use crate::world::World;
use outcrop_guest::protocol::{AgentHello, AgentMessage, HostMessage, Outcome, Run, VERSION};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::io::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// QEMU announces that the host's end is connected some time after the port exists.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

pub struct Session {
    port: Port,
    signals: File,
    world: World,
    jobs: BTreeMap<u32, Job>,
    accounting: Accounting,
    /// Whether any process but this one exists.
    children: bool,
    finished: bool,
    /// Since when reading from the port has given nothing at all.
    disconnected: Option<Instant>,
}

impl Session {
    /// Says hello.
    pub fn start(mut port: Port) -> Result<Self, Failure> {
        let signals = system::child_signals()
            .map_err(|e| Failure::new(format!("cannot watch child processes: {e}")))?;
        port.send(&AgentMessage::Hello(AgentHello {
            version: VERSION,
            build_id: BUILD_ID.as_bytes().to_vec(),
            kernel: fs::read("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim_ascii()
                .to_vec(),
            uptime_milliseconds: uptime(),
        }));
        Ok(Session {
            port,
            signals,
            world: World::default(),
            jobs: BTreeMap::new(),
            accounting: Accounting::default(),
            children: false,
            finished: false,
            disconnected: None,
        })
    }

    pub fn report(&mut self, failure: &Failure) {
        self.port.report(failure);
    }

    /// Returns when the host wants the guest to end.
    pub fn serve(&mut self) -> Result<(), Failure> {
        while !self.finished {
            self.handle_messages()?;
            self.reap()?;
            self.move_output();
            self.enforce_limits();
            self.port.write().map_err(port_failure)?;
            if !self.finished {
                self.wait()?;
            }
        }
        Ok(())
    }

    /// Sleeps until something happens, then reads the port.
    fn wait(&mut self) -> Result<(), Failure> {
        let output_wanted = self.port.has_room();
        let mut port_events = libc::POLLIN;
        if self.port.wants_to_write() {
            port_events |= libc::POLLOUT;
        }
        let mut interests = vec![
            Interest { descriptor: self.port.descriptor(), events: port_events, ready: 0 },
            Interest { descriptor: self.signals.as_raw_fd(), events: libc::POLLIN, ready: 0 },
        ];
        for job in self.jobs.values() {
            job.interests(output_wanted, &mut interests);
        }
        let fail = |e| Failure::new(format!("cannot wait for events: {e}"));
        system::poll(&mut interests, self.timeout()).map_err(fail)?;
        if let Some(port) = interests.first() {
            if port.ready != 0 {
                self.read_port()?;
            }
        }
        for (id, job) in &mut self.jobs {
            job.write_input(*id, &mut self.port);
        }
        Ok(())
    }

    fn read_port(&mut self) -> Result<(), Failure> {
        if self.port.read().map_err(port_failure)? {
            self.disconnected = None;
            return Ok(());
        }
        let since = *self.disconnected.get_or_insert_with(Instant::now);
        if since.elapsed() > CONNECTION_LIMIT {
            return Err(Failure::new("nobody is at the other end of the control port"));
        }
        thread::sleep(Duration::from_millis(2));
        Ok(())
    }

    /// Milliseconds until the nearest time limit.
    fn timeout(&self) -> libc::c_int {
        let now = Instant::now();
        match self.jobs.values().filter_map(Job::deadline).min() {
            None => -1,
            // One more, because rounding down would spin through the last millisecond.
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now).as_millis() + 1;
                libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX)
            }
        }
    }

    fn enforce_limits(&mut self) {
        let now = Instant::now();
        for job in self.jobs.values_mut() {
            job.enforce_limit(now);
        }
    }

    fn reap(&mut self) -> Result<(), Failure> {
        let mut drain = [0; 1024];
        // Only says that something ended; waitpid says what.
        while self.signals.read(&mut drain).is_ok() {}
        loop {
            match system::reap().map_err(|e| Failure::new(format!("cannot wait: {e}")))? {
                Reaped::NothingYet => {
                    self.children = true;
                    break;
                }
                Reaped::NoneLeft => {
                    self.children = false;
                    break;
                }
                Reaped::Process(process, status) => {
                    if let Some(job) = self.jobs.values_mut().find(|job| job.process == process) {
                        if !job.has_ended() {
                            job.end(status);
                        }
                    }
                }
            }
        }
        // Nothing of an ended command may go on, least of all write behind a capture's back.
        if self.children && self.nothing_runs() && !self.jobs.is_empty() {
            system::kill_everything();
        }
        Ok(())
    }

    fn nothing_runs(&self) -> bool {
        self.jobs.values().all(Job::has_ended)
    }

    fn move_output(&mut self) {
        let alone = self.nothing_runs();
        let mut over = Vec::new();
        for (id, job) in &mut self.jobs {
            let last = job.has_ended() && !(alone && self.children);
            job.read_output(*id, &mut self.port, last);
            if last && job.is_drained() {
                over.push(*id);
            }
        }
        for id in over {
            if let Some(job) = self.jobs.remove(&id) {
                let programs = self.accounting.take();
                self.port.send(&job.exit_message(id, programs));
            }
        }
    }

    fn handle_messages(&mut self) -> Result<(), Failure> {
        let wrong = |e| Failure::new(format!("the host's message was not understood: {e}"));
        while let Some(frame) = self.port.next_frame().map_err(wrong)? {
            self.handle(HostMessage::decode(&frame).map_err(wrong)?)?;
        }
        Ok(())
    }

    fn handle(&mut self, message: HostMessage) -> Result<(), Failure> {
        match message {
            HostMessage::Hello(hello) => {
                if hello.version != VERSION {
                    return Err(Failure::new(format!(
                        "the agent {BUILD_ID} speaks version {VERSION} of the control protocol, \
                         the host version {}; build the agent anew",
                        hello.version
                    )));
                }
                system::set_clock(hello.seconds, hello.nanoseconds)
                    .map_err(|e| Failure::new(format!("cannot set the clock: {e}")))?;
            }
            HostMessage::Setup(setup) => {
                let result = self.world.set_up(&setup);
                self.answer(result);
            }
            HostMessage::Run(run) => self.begin(&run),
            HostMessage::Input { id, data } => match self.jobs.get_mut(&id) {
                Some(job) => job.give_input(id, &data, &mut self.port),
                // The command has ended: the window opens again, or the host would wait for ever.
                None => {
                    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
                    self.port.send(&AgentMessage::InputTaken { id, count });
                }
            },
            HostMessage::Resize { id, rows, columns } => {
                if let Some(job) = self.jobs.get(&id) {
                    job.resize(rows, columns);
                }
            }
            HostMessage::Signal { id, signal } => {
                if let Some(job) = self.jobs.get(&id) {
                    job.signal(signal);
                }
            }
            HostMessage::Unmount => {
                self.end_all_jobs()?;
                let result = self.world.take_down();
                self.answer(result);
            }
            HostMessage::PowerOff => self.finished = true,
            HostMessage::Ping(number) => self.port.send(&AgentMessage::Pong(number)),
        }
        Ok(())
    }

    fn answer(&mut self, result: Result<(), Failure>) {
        let message = match result {
            Ok(()) => AgentMessage::Done,
            Err(failure) => AgentMessage::Error(failure.to_string().into_bytes()),
        };
        self.port.send(&message);
    }

    fn begin(&mut self, run: &Run) {
        self.accounting.begin();
        let started = if self.jobs.contains_key(&run.id) {
            Err(Failure::new(format!("the command number {} is in use", run.id)))
        } else {
            Job::start(run, &self.world)
        };
        match started {
            Ok(job) => {
                self.jobs.insert(run.id, job);
            }
            Err(failure) => {
                let outcome = Outcome::NotStarted(failure.to_string().into_bytes());
                let (id, programs) = (run.id, Vec::new());
                self.port.send(&AgentMessage::Exit { id, outcome, nanoseconds: 0, programs });
            }
        }
    }

    /// Kills every process and waits until none is left; the commands' exits are still reported.
    fn end_all_jobs(&mut self) -> Result<(), Failure> {
        system::kill_everything();
        self.reap()?;
        while self.children {
            system::kill_everything();
            thread::sleep(Duration::from_millis(1));
            self.reap()?;
        }
        Ok(())
    }
}

fn port_failure(error: std::io::Error) -> Failure {
    Failure::new(format!("the control port failed: {error}"))
}

/// Milliseconds since the kernel started.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    (seconds.unwrap_or(0.0) * 1000.0) as u64
}
