//! What a command reads: piece by piece, as the agent has room.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::future;

use outcrop_guest::protocol::{self, HostMessage};
use tokio::sync::mpsc;

use super::error::GuestError;
use super::link::Link;
use super::terminal::TerminalEvent;

/// Bytes of input in one message.
const INPUT_PIECE: usize = 32 * 1024;

/// What a command reads.
pub(super) struct Feed {
    pub mode: protocol::Input,
    pub pending: VecDeque<u8>,
    /// No more will come; `false` once the agent has been told.
    pub ends: bool,
    pub events: Option<mpsc::Receiver<TerminalEvent>>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { mode: protocol::Input::Null, pending: VecDeque::new(), ends: false, events: None }
    }
}

impl Feed {
    pub fn send(&mut self, id: u32, window: &mut u32, link: &mut Link) -> Result<(), GuestError> {
        while !self.pending.is_empty() && *window > 0 {
            let allowed = usize::try_from(*window).unwrap_or(INPUT_PIECE).min(INPUT_PIECE);
            let count = allowed.min(self.pending.len());
            let data: Vec<u8> = self.pending.drain(..count).collect();
            link.send(&HostMessage::Input { id, data })?;
            *window = window.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if self.ends && self.pending.is_empty() {
            self.ends = false;
            link.send(&HostMessage::Input { id, data: Vec::new() })?;
        }
        Ok(())
    }

    /// Typing ahead is held back where it comes from, not collected here.
    pub fn wants_events(&self) -> bool {
        self.events.is_some() && self.pending.is_empty()
    }

    pub async fn next_event(&mut self) -> Option<TerminalEvent> {
        match &mut self.events {
            Some(events) => events.recv().await,
            None => future::pending().await,
        }
    }

    pub fn take(
        &mut self,
        id: u32,
        event: Option<TerminalEvent>,
        link: &mut Link,
    ) -> Result<(), GuestError> {
        match event {
            Some(TerminalEvent::Typed(bytes)) => self.pending.extend(bytes),
            Some(TerminalEvent::Resized { rows, columns }) => {
                link.send(&HostMessage::Resize { id, rows, columns })?;
            }
            None => {
                self.events = None;
                self.ends = true;
            }
        }
        Ok(())
    }
}
