//! Messages about compilers' calls that the host runs in the guest's view. They go the same way twice:
//! between a caller and the agent over a socket of the guest, and between the agent and the host over a
//! port of their own.

use super::frame::{self, Frame};
use super::wire::{Reader, put_bytes, put_list};
use super::{Outcome, ProtocolError, Stream};

/// A compiler's call, as the program that stands in its place was called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The compiler's name first.
    pub arguments: Vec<Vec<u8>>,
    pub directory: Vec<u8>,
    /// What compilers read.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    pub umask: u32,
    /// Whose call it is; the agent asks the kernel, not the caller.
    pub uid: u32,
    pub gid: u32,
    /// Whether [`Request::Input`] follows; otherwise the job reads nothing.
    pub reads_input: bool,
}

/// From a caller, through the agent, to the host. `id`: the agent's number of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Start {
        id: u32,
        call: Call,
    },
    /// Empty: the end.
    Input {
        id: u32,
        data: Vec<u8>,
    },
    /// The caller has gone. An answer is still owed.
    Cancel {
        id: u32,
    },
}

/// What has changed at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the tree's root, which is empty itself; begins with `/`.
    pub path: Vec<u8>,
    /// Of [`Change::NAME`] and the others, added up.
    pub what: u8,
}

impl Change {
    /// The name came, went, or leads to something else.
    pub const NAME: u8 = 1;
    /// Content or attributes of what has the name.
    pub const CONTENT: u8 = 2;
    /// The list of names in it.
    pub const LISTING: u8 = 4;
    /// There was more than can be told; the path is empty.
    pub const ANYTHING: u8 = 8;
}

/// From the host, through the agent, to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Output {
        id: u32,
        stream: Stream,
        data: Vec<u8>,
    },
    /// About no job (`id` is 0): the host has changed this of the tree. What was said before the next
    /// answer but this holds as soon as the guest's kernel has forgotten what it knew of it.
    Changed {
        id: u32,
        changes: Vec<Change>,
    },
    /// The last about a job. [`Outcome::NotStarted`]: the caller is to run the compiler itself.
    End {
        id: u32,
        outcome: Outcome,
    },
}

impl Request {
    pub fn id(&self) -> u32 {
        match self {
            Request::Start { id, .. } | Request::Input { id, .. } | Request::Cancel { id } => *id,
        }
    }

    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let code = match self {
            Request::Start { .. } => 0x41,
            Request::Input { .. } => 0x42,
            Request::Cancel { .. } => 0x43,
        };
        frame::append(out, code, |out| {
            out.extend_from_slice(&self.id().to_le_bytes());
            match self {
                Request::Start { call, .. } => put_call(out, call),
                Request::Input { data, .. } => put_bytes(out, data),
                Request::Cancel { .. } => {}
            }
        })
    }

    /// # Errors
    /// Any [`ProtocolError`]: the frame is not one that a caller may send.
    pub fn decode(frame: &Frame) -> Result<Self, ProtocolError> {
        let payload = &frame.payload;
        let (message, reader) = match frame.code {
            0x41 => {
                let mut r = Reader::new("Start", payload);
                (Request::Start { id: r.u32()?, call: take_call(&mut r)? }, r)
            }
            0x42 => {
                let mut r = Reader::new("Input", payload);
                (Request::Input { id: r.u32()?, data: r.bytes()? }, r)
            }
            0x43 => {
                let mut r = Reader::new("Cancel", payload);
                (Request::Cancel { id: r.u32()? }, r)
            }
            code => return Err(ProtocolError::UnknownType(code)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn put_call(out: &mut Vec<u8>, call: &Call) {
    put_list(out, &call.arguments, |out, argument| put_bytes(out, argument));
    put_bytes(out, &call.directory);
    put_list(out, &call.environment, |out, (name, value)| {
        put_bytes(out, name);
        put_bytes(out, value);
    });
    for number in [call.umask, call.uid, call.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.push(call.reads_input.into());
}

fn take_call(r: &mut Reader<'_>) -> Result<Call, ProtocolError> {
    Ok(Call {
        arguments: r.list(Reader::bytes)?,
        directory: r.bytes()?,
        environment: r.list(|r| Ok((r.bytes()?, r.bytes()?)))?,
        umask: r.u32()?,
        uid: r.u32()?,
        gid: r.u32()?,
        reads_input: r.bool("input flag")?,
    })
}

impl Answer {
    pub fn id(&self) -> u32 {
        match self {
            Answer::Output { id, .. } | Answer::Changed { id, .. } | Answer::End { id, .. } => *id,
        }
    }

    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let code = match self {
            Answer::Output { .. } => 0xc1,
            Answer::End { .. } => 0xc2,
            Answer::Changed { .. } => 0xc3,
        };
        frame::append(out, code, |out| {
            out.extend_from_slice(&self.id().to_le_bytes());
            match self {
                Answer::Output { stream, data, .. } => {
                    out.push(stream.code());
                    put_bytes(out, data);
                }
                Answer::Changed { changes, .. } => put_list(out, changes, |out, change| {
                    put_bytes(out, &change.path);
                    out.push(change.what);
                }),
                Answer::End { outcome, .. } => outcome.put(out),
            }
        })
    }

    /// # Errors
    /// Any [`ProtocolError`]: the frame is not one that a host may send.
    pub fn decode(frame: &Frame) -> Result<Self, ProtocolError> {
        let payload = &frame.payload;
        let (message, reader) = match frame.code {
            0xc1 => {
                let mut r = Reader::new("Output", payload);
                let (id, stream) = (r.u32()?, Stream::take(&mut r)?);
                (Answer::Output { id, stream, data: r.bytes()? }, r)
            }
            0xc2 => {
                let mut r = Reader::new("End", payload);
                (Answer::End { id: r.u32()?, outcome: Outcome::take(&mut r)? }, r)
            }
            0xc3 => {
                let mut r = Reader::new("Changed", payload);
                let id = r.u32()?;
                let change = |r: &mut Reader<'_>| Ok(Change { path: r.bytes()?, what: r.u8()? });
                (Answer::Changed { id, changes: r.list(change)? }, r)
            }
            code => return Err(ProtocolError::UnknownType(code)),
        };
        reader.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Deframer;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..40)
    }

    fn request() -> impl Strategy<Value = Request> {
        let lists = (
            prop::collection::vec(bytes(), 0..5),
            prop::collection::vec((bytes(), bytes()), 0..4),
            bytes(),
        );
        let call =
            (lists, any::<[u32; 3]>(), any::<bool>()).prop_map(|(lists, ids, reads_input)| {
                let (arguments, environment, directory) = lists;
                let [umask, uid, gid] = ids;
                Call { arguments, directory, environment, umask, uid, gid, reads_input }
            });
        prop_oneof![
            (any::<u32>(), call).prop_map(|(id, call)| Request::Start { id, call }),
            (any::<u32>(), bytes()).prop_map(|(id, data)| Request::Input { id, data }),
            any::<u32>().prop_map(|id| Request::Cancel { id }),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let change = (bytes(), any::<u8>()).prop_map(|(path, what)| Change { path, what });
        let changes = prop::collection::vec(change, 0..5);
        let stream = prop_oneof![Just(Stream::Output), Just(Stream::Error)];
        let outcome = prop_oneof![
            any::<u32>().prop_map(Outcome::Exited),
            any::<u32>().prop_map(Outcome::Signalled),
            Just(Outcome::TimedOut),
            bytes().prop_map(Outcome::NotStarted),
        ];
        prop_oneof![
            (any::<u32>(), stream, bytes()).prop_map(|(id, stream, data)| Answer::Output {
                id,
                stream,
                data
            }),
            (any::<u32>(), changes).prop_map(|(id, changes)| Answer::Changed { id, changes }),
            (any::<u32>(), outcome).prop_map(|(id, outcome)| Answer::End { id, outcome }),
        ]
    }

    fn framed(encode: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let mut deframer = Deframer::default();
        deframer.push(&bytes);
        deframer.next_frame().unwrap().unwrap()
    }

    /// Any payload that is cut short, or longer, is an error.
    fn is_exact<T>(frame: &Frame, decode: impl Fn(&Frame) -> Result<T, ProtocolError>) {
        let changed = |payload: &[u8]| Frame { code: frame.code, payload: payload.to_vec() };
        for end in 0..frame.payload.len() {
            assert!(decode(&changed(&frame.payload[..end])).is_err(), "{end} bytes");
        }
        assert!(decode(&changed(&[&frame.payload[..], b"x"].concat())).is_err());
    }

    proptest! {
        #[test]
        fn calls_survive(request in request()) {
            let frame = framed(|out| request.encode(out).unwrap());
            prop_assert_eq!(Request::decode(&frame).unwrap(), request);
            is_exact(&frame, Request::decode);
        }

        #[test]
        fn answers_survive(answer in answer()) {
            let frame = framed(|out| answer.encode(out).unwrap());
            prop_assert_eq!(Answer::decode(&frame).unwrap(), answer);
            is_exact(&frame, Answer::decode);
        }

        #[test]
        fn garbage_is_no_message(code in any::<u8>(), payload in bytes()) {
            let frame = Frame { code, payload };
            let _ = (Request::decode(&frame), Answer::decode(&frame));
        }
    }
}
