//! The user's terminal: raw mode, window size, and joining it to a program elsewhere.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::command::{Command, Exit};
use super::error::GuestError;
use super::machine::Guest;

/// What a user does at a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    Typed(Vec<u8>),
    Resized { rows: u16, columns: u16 },
}

const TERMINAL: &str = "/dev/tty";

/// Whether this process has a controlling terminal.
pub fn has_terminal() -> bool {
    File::open(TERMINAL).is_ok()
}

/// The controlling terminal in raw mode; dropping it restores the mode that was.
pub(super) struct RawTerminal {
    device: File,
    before: Termios,
    resizes: Option<JoinHandle<()>>,
    /// Closing it ends the thread that reads.
    stop: Option<OwnedFd>,
}

impl RawTerminal {
    /// # Errors
    /// There is no controlling terminal.
    pub fn open() -> io::Result<Self> {
        // A descriptor of our own: non-blocking mode must not leak into the shell that started us.
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(TERMINAL)?;
        let before = tcgetattr(&device)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&device, OptionalActions::Now, &raw)?;
        Ok(RawTerminal { device, before, resizes: None, stop: None })
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        tcgetwinsize(&self.device).map_or((24, 80), |size| (size.ws_row, size.ws_col))
    }

    /// Starts to read what is typed, until the terminal is dropped or hangs up.
    pub fn events(&mut self) -> io::Result<mpsc::Receiver<TerminalEvent>> {
        let (sender, receiver) = mpsc::channel(16);
        let mut resized = signal(SignalKind::window_change())?;
        let device = self.device.try_clone()?;
        let resizes = sender.clone();
        self.resizes = Some(tokio::spawn(async move {
            while resized.recv().await.is_some() {
                let Ok(size) = tcgetwinsize(&device) else { continue };
                let event = TerminalEvent::Resized { rows: size.ws_row, columns: size.ws_col };
                if resizes.send(event).await.is_err() {
                    return;
                }
            }
        }));
        let (stop, stopped) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map(|(reader, writer)| (writer, reader))?;
        self.stop = Some(stop);
        let device = self.device.try_clone()?;
        thread::Builder::new()
            .name("terminal".into())
            .spawn(move || read_until_stopped(&device, &stopped, &sender))?;
        Ok(receiver)
    }

    /// Writes all of `bytes`; a terminal that is gone is not an error.
    pub fn print(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match (&self.device).write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(&self.device, PollFlags::OUT)];
                    let _ = rustix::event::poll(&mut wanted, None);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(resizes) = &self.resizes {
            resizes.abort();
        }
        let _ = tcsetattr(&self.device, OptionalActions::Drain, &self.before);
    }
}

/// `stopped` becomes readable (end of file) when the terminal is given back.
fn read_until_stopped(device: &File, stopped: &OwnedFd, sender: &mpsc::Sender<TerminalEvent>) {
    let mut buffer = [0; 4096];
    loop {
        let mut wanted = [PollFd::new(device, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match rustix::event::poll(&mut wanted, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if wanted.iter().skip(1).any(|stop| !stop.revents().is_empty()) {
            return;
        }
        match (&mut &*device).read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.blocking_send(TerminalEvent::Typed(bytes)).is_err() {
                    return;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

impl Guest {
    /// Joins a command in the guest to the user's terminal until it ends.
    ///
    /// # Errors
    /// There is no terminal, or the guest is lost.
    pub async fn shell_interactive(&mut self, command: &Command) -> Result<Exit, GuestError> {
        let mut terminal = RawTerminal::open().map_err(GuestError::Terminal)?;
        let events = terminal.events().map_err(GuestError::Terminal)?;
        let size = terminal.size();
        self.run_on_terminal(command, size, events, |bytes| terminal.print(bytes)).await
    }
}
