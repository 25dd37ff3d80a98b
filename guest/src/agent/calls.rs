//! Passes compilers' calls of the guest's programs on to the host, and its answers back.
//!
//! ```text
//! caller ─ socket ─► a thread each ─┐             ┌─► host
//!                                   ├─ the port ──┤
//! caller ◄─ socket ── one thread ◄──┘             └── host
//! ```

use crate::failure::{self, Failure};
use crate::{forgetting, port, system};
use outcrop_guest::protocol::compile::{Answer, Request};
use outcrop_guest::protocol::{COMPILE_PORT_NAME, Deframer, Outcome};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const PIECE: usize = 32 * 1024;

/// How long a write waits before it looks whether the host is still there; milliseconds.
const LOOK_AGAIN: libc::c_int = 500;

/// QEMU announces that the host's end is connected some time after the port exists.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Takes calls from now on, where the host has a port for them.
pub fn start() -> Result<(), Failure> {
    let Some(path) = port::find(COMPILE_PORT_NAME) else { return Ok(()) };
    let fail = |e| Failure::at("cannot open the port for compilers' calls", &path, e);
    let port = OpenOptions::new().read(true).write(true).open(&path).map_err(fail)?;
    // A port whose other end has gone would block whoever writes for ever.
    system::set_nonblocking(&port).map_err(fail)?;
    let address = SocketAddr::from_abstract_name(COMPILE_PORT_NAME).map_err(fail)?;
    let listener = UnixListener::bind_addr(&address).map_err(fail)?;
    let answers = port.try_clone().map_err(fail)?;
    let (callers, over) = (Mutex::default(), AtomicBool::new(false));
    let calls = Arc::new(Calls { port: Mutex::new(port), callers, over });
    let (taking, giving) = (calls.clone(), calls);
    thread::Builder::new().spawn(move || taking.take_all(&listener)).map_err(fail)?;
    thread::Builder::new()
        .spawn(move || {
            if let Err(error) = giving.answer_all(answers) {
                failure::tell(&format_args!("compilers' calls end: {error}"));
            }
            // Each connection closes, and its caller runs the compiler itself.
            giving.over.store(true, Ordering::Release);
            giving.lock_callers().clear();
        })
        .map_err(fail)?;
    Ok(())
}

struct Calls {
    /// Written to, a whole message at a time.
    port: Mutex<File>,
    callers: Mutex<HashMap<u32, Caller>>,
    /// The host answers no longer.
    over: AtomicBool,
}

/// Where a caller's answers go.
enum Caller {
    /// It takes them at once, as nearly all do.
    Prompt(UnixStream),
    /// A thread waits for it with what it has not taken yet.
    Slow(Sender<Vec<u8>>),
}

impl Caller {
    /// Never waits: other callers' answers come after this one's.
    fn give(&mut self, bytes: Vec<u8>) {
        match self {
            Caller::Prompt(stream) => {
                let taken = system::send_now(stream, &bytes).unwrap_or(bytes.len());
                let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { return };
                let Ok(mut stream) = stream.try_clone() else { return };
                let (sender, receiver) = channel::<Vec<u8>>();
                let _ = sender.send(rest.to_vec());
                // A caller that has gone needs no answer.
                let waiting = move || {
                    for bytes in receiver {
                        if stream.write_all(&bytes).is_err() {
                            return;
                        }
                    }
                };
                if thread::Builder::new().spawn(waiting).is_ok() {
                    *self = Caller::Slow(sender);
                }
            }
            Caller::Slow(sender) => drop(sender.send(bytes)),
        }
    }
}

impl Calls {
    fn lock_callers(&self) -> MutexGuard<'_, HashMap<u32, Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_all(self: &Arc<Self>, listener: &UnixListener) {
        let mut id = 0u32;
        for stream in listener.incoming().flatten() {
            id = id.wrapping_add(1);
            let calls = self.clone();
            let (number, kept) = (id, stream.try_clone());
            let taken = kept.and_then(|kept| {
                self.lock_callers().insert(number, Caller::Prompt(kept));
                thread::Builder::new().spawn(move || calls.take(number, stream))
            });
            if taken.is_err() {
                // Its connection closes, and the caller runs the compiler itself.
                self.lock_callers().remove(&number);
            }
        }
    }

    /// Passes on what one caller asks for, until it goes.
    fn take(&self, id: u32, mut stream: UnixStream) {
        let started = self.pass_on(id, &mut stream).unwrap_or(true);
        let owed = self.lock_callers().remove(&id).is_some();
        if started && owed {
            // The port is gone where this fails, and with it every job.
            let _ = self.send(&Request::Cancel { id });
        }
    }

    /// Whether the host knows of the call.
    fn pass_on(&self, id: u32, stream: &mut UnixStream) -> io::Result<bool> {
        let (uid, gid) = system::peer(stream)?;
        let mut deframer = Deframer::default();
        let mut buffer = [0; PIECE];
        let mut started = false;
        loop {
            while let Some(frame) = deframer.next_frame().map_err(io::Error::other)? {
                let request = match Request::decode(&frame).map_err(io::Error::other)? {
                    Request::Start { call, .. } if !started => {
                        started = true;
                        // What programs have mapped and changed reaches the host only so.
                        forgetting::write_back();
                        let mut call = call;
                        (call.uid, call.gid) = (uid, gid);
                        Request::Start { id, call }
                    }
                    Request::Input { data, .. } if started => Request::Input { id, data },
                    _ => return Ok(started),
                };
                self.send(&request)?;
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(started),
                Ok(count) => deframer.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes).map_err(io::Error::other)?;
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if self.over.load(Ordering::Acquire) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match port.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The host's end may go meanwhile, which wakes nobody who wants to write.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = system::wait_for(&*port, libc::POLLOUT, LOOK_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer_all(&self, mut port: File) -> io::Result<()> {
        let mut deframer = Deframer::default();
        let mut buffer = [0; PIECE];
        let (mut connected, since) = (false, Instant::now());
        loop {
            while let Some(frame) = deframer.next_frame().map_err(io::Error::other)? {
                self.answer(&Answer::decode(&frame).map_err(io::Error::other)?)?;
            }
            let read = match port.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connected = true;
                    system::wait_for(&port, libc::POLLIN, -1)?;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            match read {
                // The kernel does not know yet that the host is there.
                0 if !connected && since.elapsed() < CONNECTION_LIMIT => {
                    thread::sleep(Duration::from_millis(2));
                }
                0 => return Ok(()),
                count => {
                    connected = true;
                    deframer.push(buffer.get(..count).unwrap_or_default());
                }
            }
        }
    }

    fn answer(&self, answer: &Answer) -> io::Result<()> {
        if let Answer::Changed { changes, .. } = answer {
            forgetting::forget(changes);
            return Ok(());
        }
        let id = answer.id();
        let ends = matches!(answer, Answer::End { .. });
        let mut bytes = Vec::new();
        answer.encode(&mut bytes).map_err(io::Error::other)?;
        let mut callers = self.lock_callers();
        if let Some(caller) = callers.get_mut(&id) {
            caller.give(bytes);
        }
        if ends {
            callers.remove(&id);
        }
        Ok(())
    }
}

/// What a caller is told that the host cannot be asked for.
pub fn no_answer(reason: &str) -> Outcome {
    Outcome::NotStarted(reason.as_bytes().to_vec())
}
