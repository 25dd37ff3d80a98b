//! The control channel to a running QEMU: messages in and out, heartbeats, and what the end of
//! either means.

#![forbid(unsafe_code)]

use std::future;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use outcrop_guest::protocol::{AgentMessage, Deframer, HostMessage, ProtocolError};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::error::{GuestError, LastWords, explain_end};
use crate::process::Supervised;

/// After this much silence the agent is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);

/// Between the end of the channel and the end of QEMU.
const END_GRACE: Duration = Duration::from_secs(5);

pub(super) struct Link {
    pub qemu: Supervised,
    pub log: Option<PathBuf>,
    stream: UnixStream,
    deframer: Deframer,
    outgoing: Vec<u8>,
    heard: Instant,
    ping: Option<Instant>,
    ping_number: u64,
    /// How long a ping may stay without answer; `None`: the agent is not asked now.
    pub answer_limit: Option<Duration>,
}

impl Link {
    pub fn new(qemu: Supervised, stream: UnixStream, log: Option<PathBuf>) -> Self {
        Link {
            qemu,
            log,
            stream,
            deframer: Deframer::default(),
            outgoing: Vec::new(),
            heard: Instant::now(),
            ping: None,
            ping_number: 0,
            answer_limit: None,
        }
    }

    /// Queues a message; it is sent while [`Link::receive`] waits.
    pub fn send(&mut self, message: &HostMessage) -> Result<(), ProtocolError> {
        message.encode(&mut self.outgoing)
    }

    /// The agent's next message, other than `Pong` and `Error`. May be cancelled at any point.
    pub async fn receive(&mut self) -> Result<AgentMessage, GuestError> {
        loop {
            while let Some(frame) = self.deframer.next_frame()? {
                self.heard = Instant::now();
                self.ping = None;
                match AgentMessage::decode(&frame)? {
                    AgentMessage::Pong(_) => {}
                    AgentMessage::Error(text) => {
                        return Err(GuestError::Agent(String::from_utf8_lossy(&text).into_owned()));
                    }
                    message => return Ok(message),
                }
            }
            self.exchange().await?;
        }
    }

    /// Waits until bytes could be moved, in either direction, or something is overdue.
    async fn exchange(&mut self) -> Result<(), GuestError> {
        let wake = self.next_check();
        let timer = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let writable = async {
            if self.outgoing.is_empty() {
                future::pending().await
            } else {
                self.stream.writable().await
            }
        };
        // What the agent said last must be read before the end of QEMU is looked at.
        let end = tokio::select! {
            biased;
            ready = self.stream.readable() => return self.read(ready).await,
            ready = writable => return self.write(ready).await,
            () = timer => return self.check(),
            end = self.qemu.wait() => end,
        };
        let status = end.map_or_else(|e| e.to_string(), |status| status.to_string());
        Err(explain_end(status, self.last_words()))
    }

    async fn read(&mut self, ready: io::Result<()>) -> Result<(), GuestError> {
        let mut buffer = vec![0; 64 * 1024];
        match ready.and_then(|()| self.stream.try_read(&mut buffer)) {
            Ok(0) => Err(self.post_mortem().await),
            Ok(count) => {
                self.deframer.push(buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(self.post_mortem().await),
        }
    }

    async fn write(&mut self, ready: io::Result<()>) -> Result<(), GuestError> {
        match ready.and_then(|()| self.stream.try_write(&self.outgoing)) {
            Ok(count) => {
                self.outgoing.drain(..count.min(self.outgoing.len()));
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(self.post_mortem().await),
        }
    }

    fn next_check(&self) -> Option<Instant> {
        let limit = self.answer_limit?;
        match self.ping {
            Some(sent) => sent.checked_add(limit),
            None => self.heard.checked_add(SILENCE),
        }
    }

    fn check(&mut self) -> Result<(), GuestError> {
        let Some(limit) = self.answer_limit else { return Ok(()) };
        match self.ping {
            Some(sent) if sent.elapsed() >= limit => {
                Err(GuestError::Unresponsive { limit, last_words: self.last_words() })
            }
            Some(_) => Ok(()),
            None => {
                self.ping = Some(Instant::now());
                self.ping_number = self.ping_number.wrapping_add(1);
                Ok(self.send(&HostMessage::Ping(self.ping_number))?)
            }
        }
    }

    /// The channel has ended: QEMU is gone, or will be in a moment.
    async fn post_mortem(&mut self) -> GuestError {
        let status = match self.qemu.stop(END_GRACE).await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        explain_end(status, self.last_words())
    }

    pub fn last_words(&self) -> LastWords {
        LastWords { text: self.qemu.tail().text(), log: self.log.clone() }
    }
}
