//! The FUSE wire protocol, as far as a Linux guest speaks it over virtiofs: bytes in, a typed
//! request or an error out; a typed reply in, bytes out (docs/virtiofs.md).
//!
//! Pure: nothing here knows a tree, a queue or a system call, and nothing panics whatever the
//! bytes are. Layouts and numbers are those of Linux's `include/uapi/linux/fuse.h`, protocol 7.34
//! (Linux 5.14) and newer; all fields are little-endian on every machine that guests run on.

#![forbid(unsafe_code)]

mod directory;
mod fields;
mod initialise;
mod opcode;
mod parse;
mod reply;
mod request;

#[cfg(test)]
pub(super) mod request_bytes;
#[cfg(test)]
mod tests;

pub(super) use directory::DirectoryListing;
pub(super) use initialise::{Features, InitialReply, InitialRequest, OLDEST_MINOR};
pub(super) use parse::forgotten;
pub(super) use reply::{Entry, Lifetime, OpenFlags, REPLY_HEADER, Reply, reply_header};
pub(super) use request::{Create, Header, Operation, REQUEST_HEADER, RenameRequest};

/// A message that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MalformedMessage {
    #[error("the message ends before its {0}")]
    Short(&'static str),
    #[error("the message says that it has {said} bytes, and has {has}")]
    Length { said: u32, has: usize },
    #[error("{0} more bytes than the operation has")]
    Surplus(usize),
    #[error("a name without its end mark")]
    Unterminated,
    #[error("the field {0} has a value that the protocol does not know")]
    Value(&'static str),
    /// Not malformed as such: newer than this program, or never sent to it.
    #[error("the operation {0} is not known")]
    UnknownOperation(u32),
}
