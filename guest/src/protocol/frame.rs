//! Cutting a byte stream into frames.

use super::{MAX_PAYLOAD, ProtocolError};

/// Length (4 bytes) and type (1 byte).
const HEADER: usize = 5;

/// One frame: its type byte and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub code: u8,
    pub payload: Vec<u8>,
}

/// Collects bytes as they arrive and gives them back frame by frame.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that earlier frames have used.
    used: usize,
}

impl Deframer {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` until more bytes come.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`]; the stream is then useless.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let unread = self.buffer.get(self.used..).unwrap_or_default();
        let (header, rest) = match unread.split_first_chunk::<HEADER>() {
            Some(parts) => parts,
            None => return Ok(None),
        };
        let [a, b, c, d, code] = *header;
        let announced = u32::from_le_bytes([a, b, c, d]);
        let length = announced as usize;
        if length > MAX_PAYLOAD {
            return Err(ProtocolError::TooLarge { length: announced.into() });
        }
        match rest.get(..length) {
            Some(payload) => {
                let payload = payload.to_vec();
                self.used += HEADER + length;
                Ok(Some(Frame { code, payload }))
            }
            None => Ok(None),
        }
    }
}

/// Appends a frame to `out`; `fill` writes the payload.
pub(super) fn append(
    out: &mut Vec<u8>,
    code: u8,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<(), ProtocolError> {
    let mut payload = Vec::new();
    fill(&mut payload);
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD => length,
        _ => return Err(ProtocolError::TooLarge { length: payload.len() as u64 }),
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.push(code);
    out.extend_from_slice(&payload);
    Ok(())
}
