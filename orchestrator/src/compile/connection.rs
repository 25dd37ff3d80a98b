//! A peer that may stall.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Reading and writing fail when the deadline has passed, and when the client, for whom it is done,
/// has gone.
pub(super) struct Connection<'a> {
    pub peer: BorrowedFd<'a>,
    pub deadline: Instant,
    /// Where it is somebody else than the peer.
    pub client: Option<BorrowedFd<'a>>,
}

impl Connection<'_> {
    fn wait(&self, what: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = vec![PollFd::from_borrowed_fd(self.peer, what)];
        let client = self.client.map(|client| PollFd::from_borrowed_fd(client, PollFlags::RDHUP));
        watched.extend(client);
        if poll(&mut watched, Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match watched.get(1) {
            Some(client) if !client.revents().is_empty() => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(()),
        }
    }
}

impl Read for Connection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        Ok(rustix::io::read(self.peer, buffer)?)
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        Ok(rustix::io::write(self.peer, buffer)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
