//! How requests are answered, and the way of an answer into its space.

#![forbid(unsafe_code)]

use super::ReplySpace;
use crate::error::{Errno, Error, Result};
use crate::transport::fuse_message::{REPLY_HEADER, Reply, reply_header};

/// How a request was answered.
pub(super) enum Answer {
    Reply(Reply),
    /// Bytes after the header: those of the buffer, which leaves room for the header.
    Buffered,
    /// So many bytes, which are in the reply space already.
    Placed(usize),
    /// Nobody waits for one.
    None,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer::Reply(reply)
    }
}

pub(super) fn done(result: Result<()>) -> Result<Answer> {
    result.map(|()| Reply::Done.into())
}

pub(super) fn failed(errno: Errno) -> Answer {
    Reply::Failed(errno).into()
}

pub(super) fn put_data(buffer: &mut Vec<u8>, data: &[u8]) {
    buffer.resize(REPLY_HEADER, 0);
    buffer.extend_from_slice(data);
}

/// Puts an answer into its space; returns the bytes of the reply.
pub(super) fn send(
    answer: &Answer,
    unique: u64,
    buffer: &mut Vec<u8>,
    space: &mut dyn ReplySpace,
) -> Result<usize> {
    match answer {
        Answer::None => return Ok(0),
        Answer::Placed(count) => {
            space.go_to(0);
            space.bytes(&reply_header(unique, *count, None))?;
            return Ok(count.saturating_add(REPLY_HEADER));
        }
        Answer::Buffered => {
            let body = buffer.len().saturating_sub(REPLY_HEADER);
            if let Some(place) = buffer.first_chunk_mut() {
                *place = reply_header(unique, body, None);
            }
        }
        Answer::Reply(reply) => {
            buffer.clear();
            reply.put(unique, buffer);
        }
    }
    if buffer.len() > space.room() {
        // The kernel offers room for every reply that it expects; an errno always fits.
        buffer.clear();
        Reply::Failed(Errno::IO).put(unique, buffer);
        if buffer.len() > space.room() {
            return Err(Error::Os(Errno::IO));
        }
    }
    space.go_to(0);
    space.bytes(buffer)?;
    Ok(buffer.len())
}
