//! Framed messages over the control channel: bytes in, values out, no I/O.
//!
//! ```text
//! HostMessage ── encode ─► frame bytes ─► Deframer ─► Frame ── decode ─► HostMessage
//! ```

#![forbid(unsafe_code)]

pub mod compile;
mod frame;
mod message;
mod wire;

#[cfg(test)]
mod tests;

pub use frame::{Deframer, Frame};
pub use message::{
    AgentHello, AgentMessage, HostHello, HostMessage, Input, Network, Outcome, Program, ProgramUse,
    Root, Run, Setup, Stream, Temporary,
};

use std::fmt;

/// The version of the protocol; both sides must have the same.
pub const VERSION: u32 = 3;

/// In an agent's executable, so that a host can tell its version without running it: many are for
/// processors that the host has not. The version follows, in decimal digits, and a semicolon.
pub const AGENT_MARK: &str = "outcrop-agent speaks control protocol 3;";

/// The version of the protocol that an agent's executable speaks; `None` where it says nothing.
pub fn version_of_agent(executable: &[u8]) -> Option<u32> {
    let mark = AGENT_MARK.as_bytes();
    let prefix = mark.get(..mark.iter().position(u8::is_ascii_digit)?)?;
    let at = executable.windows(prefix.len()).position(|bytes| bytes == prefix)?;
    let rest = executable.get(at.checked_add(prefix.len())?..)?;
    let digits = rest.get(..rest.iter().take(10).position(|byte| *byte == b';')?)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The name of the virtio-serial port.
pub const PORT_NAME: &str = "outcrop.control";

/// The name of the virtio-serial port of compilers' calls, and of the socket (in the abstract
/// namespace of addresses) at which the agent takes them.
pub const COMPILE_PORT_NAME: &str = "outcrop.compile";

/// First field of both hellos.
pub const MAGIC: [u8; 8] = *b"OUTCROP\0";

/// Largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// How many bytes of [`HostMessage::Input`] may be outstanding for one command.
pub const INPUT_WINDOW: u32 = 64 * 1024;

/// Why bytes were not understood, or a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// A frame announces, or a message needs, a payload larger than [`MAX_PAYLOAD`].
    TooLarge { length: u64 },
    /// The frame type is not one that the other side may send.
    UnknownType(u8),
    /// The payload ends inside a field.
    Truncated { message: &'static str },
    /// Bytes follow the last field.
    TrailingBytes { message: &'static str },
    /// A field holds a value that it cannot have.
    BadValue { message: &'static str, field: &'static str },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::TooLarge { length } => {
                write!(f, "a frame of {length} bytes is larger than the {MAX_PAYLOAD} allowed")
            }
            ProtocolError::UnknownType(code) => write!(f, "unknown frame type {code:#04x}"),
            ProtocolError::Truncated { message } => write!(f, "the {message} message is cut short"),
            ProtocolError::TrailingBytes { message } => {
                write!(f, "the {message} message has bytes after its last field")
            }
            ProtocolError::BadValue { message, field } => {
                write!(f, "the {message} message has an impossible {field}")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}
