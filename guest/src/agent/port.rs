//! The agent's end of the control channel.

use crate::failure::{self, Failure};
use crate::system;
use outcrop_guest::protocol::{AgentMessage, Deframer, Frame, PORT_NAME, ProtocolError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::io::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How much may wait for the host before the commands' output is no longer read, in bytes.
const HIGH_WATER: usize = 256 * 1024;

/// The port is announced by an interrupt some time after its driver is loaded.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);

pub struct Port {
    file: File,
    deframer: Deframer,
    outgoing: Vec<u8>,
}

impl Port {
    pub fn open() -> Result<Self, Failure> {
        let limit = Instant::now() + APPEARANCE_LIMIT;
        let path = loop {
            if let Some(path) = find(PORT_NAME) {
                break path;
            }
            if Instant::now() >= limit {
                return Err(Failure::new(format!(
                    "there is no virtio port named {PORT_NAME} in this guest"
                )));
            }
            thread::sleep(Duration::from_millis(2));
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Failure::at("cannot open the control port", &path, e))?;
        system::set_nonblocking(&file)
            .map_err(|e| Failure::at("cannot set up the control port", &path, e))?;
        Ok(Port { file, deframer: Deframer::default(), outgoing: Vec::new() })
    }

    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.outgoing.len() < HIGH_WATER
    }

    /// Queues a message; [`Port::write`] sends it.
    pub fn send(&mut self, message: &AgentMessage) {
        if let Err(error) = message.encode(&mut self.outgoing) {
            failure::tell(&format_args!("a message was dropped: {error}"));
        }
    }

    /// Writes as much as the port takes now.
    pub fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let rest = self.outgoing.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(count) => written += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.outgoing.drain(..written.min(self.outgoing.len()));
        result
    }

    /// Reads what has arrived. `false`: the host's end is not there (yet).
    pub fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 32 * 1024];
        match self.file.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.deframer.push(buffer.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        self.deframer.next_frame()
    }

    /// The last words: sends `failure`, waiting a moment for a host that is slow to read.
    pub fn report(&mut self, failure: &Failure) {
        self.send(&AgentMessage::Error(failure.to_string().into_bytes()));
        let limit = Instant::now() + Duration::from_secs(2);
        while self.wants_to_write() && Instant::now() < limit {
            if self.write().is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The device of a port.
pub fn find(wanted: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?;
    for entry in entries.flatten() {
        let name = fs::read(entry.path().join("name")).unwrap_or_default();
        if name.strip_suffix(b"\n").unwrap_or(&name) == wanted.as_bytes() {
            let device = Path::new("/dev").join(entry.file_name());
            return if device.exists() { Some(device) } else { None };
        }
    }
    None
}
