//! The distcc protocol, version 1: no compression, the client preprocesses.
//!
//! A packet is four ASCII bytes of token, eight hexadecimal digits of parameter, and for some
//! tokens as many bytes of body as the parameter says (distcc's `doc/protocol-1.txt`).

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

pub const VERSION: u32 = 1;

/// Limits of what a request may hold.
const MAX_ARGUMENTS: u32 = 4096;
const MAX_ARGUMENT_BYTES: u32 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("expected {expected}, got {}", got.escape_ascii())]
    Token { expected: &'static str, got: [u8; 4] },
    #[error("{token} is not followed by eight hexadecimal digits")]
    Number { token: &'static str },
    #[error("the other side speaks version {0} of the protocol, not {VERSION}")]
    Version(u32),
    #[error("{0}")]
    TooLarge(&'static str),
    #[error("the connection ended or failed: {0}")]
    Connection(#[from] io::Error),
}

impl ProtocolError {
    /// Nobody wanted the answer any more; the other side is not to blame.
    pub fn is_abandoned(&self) -> bool {
        matches!(self, ProtocolError::Connection(error)
            if error.kind() == io::ErrorKind::ConnectionAborted)
    }
}

/// A request up to the preprocessed source, which follows in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The compiler's name and its arguments; at least one.
    pub arguments: Vec<Vec<u8>>,
    /// Bytes of preprocessed source.
    pub source_size: u32,
}

/// Reads `DIST`, `ARGC`, every `ARGV` and the head of `DOTI`.
pub fn read_request_head(input: &mut impl Read) -> Result<RequestHead, ProtocolError> {
    let version = read_number(input, "DIST")?;
    if version != VERSION {
        return Err(ProtocolError::Version(version));
    }
    let count = read_number(input, "ARGC")?;
    if count == 0 || count > MAX_ARGUMENTS {
        return Err(ProtocolError::TooLarge("the number of arguments is zero or absurd"));
    }
    let mut arguments = Vec::new();
    let mut left = MAX_ARGUMENT_BYTES;
    for _ in 0..count {
        let length = read_number(input, "ARGV")?;
        left = left
            .checked_sub(length)
            .ok_or(ProtocolError::TooLarge("the arguments are longer than 1 MiB"))?;
        let mut argument = Vec::new();
        read_body(input, length, &mut argument)?;
        arguments.push(argument);
    }
    Ok(RequestHead { arguments, source_size: read_number(input, "DOTI")? })
}

/// Copies a body of exactly `length` bytes.
pub fn read_body(
    input: &mut impl Read,
    length: u32,
    output: &mut impl Write,
) -> Result<(), ProtocolError> {
    let copied = io::copy(&mut input.take(u64::from(length)), output)?;
    if copied != u64::from(length) {
        return Err(ProtocolError::Connection(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Reads a token and the number that follows it.
pub fn read_number(input: &mut impl Read, token: &'static str) -> Result<u32, ProtocolError> {
    let mut got = [0; 4];
    input.read_exact(&mut got)?;
    if got != token.as_bytes() {
        return Err(ProtocolError::Token { expected: token, got });
    }
    let mut digits = [0; 8];
    input.read_exact(&mut digits)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(ProtocolError::Number { token });
    }
    std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or(ProtocolError::Number { token })
}

/// Writes everything up to the source, which is to follow as `DOTI`.
pub fn write_request_head(output: &mut impl Write, arguments: &[&[u8]]) -> io::Result<()> {
    write!(output, "DIST{VERSION:08x}ARGC{:08x}", arguments.len())?;
    for argument in arguments {
        write!(output, "ARGV{:08x}", argument.len())?;
        output.write_all(argument)?;
    }
    Ok(())
}

/// Reads `DONE` and `STAT`; gives the compiler's wait status.
pub fn read_response_head(input: &mut impl Read) -> Result<u32, ProtocolError> {
    let version = read_number(input, "DONE")?;
    if version != VERSION {
        return Err(ProtocolError::Version(version));
    }
    read_number(input, "STAT")
}

/// Writes `DONE` and `STAT`. `status` is a wait status as wait(2) gives it.
pub fn write_response_head(output: &mut impl Write, status: u32) -> io::Result<()> {
    write!(output, "DONE{VERSION:08x}STAT{status:08x}")
}

/// Writes one packet whose body is exactly `length` bytes of `body`.
pub fn write_packet(
    output: &mut impl Write,
    token: &'static str,
    length: u32,
    body: &mut impl Read,
) -> io::Result<()> {
    write!(output, "{token}{length:08x}")?;
    let copied = io::copy(&mut body.take(u64::from(length)), output)?;
    if copied == u64::from(length) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(arguments: &[&[u8]], source: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_request_head(&mut bytes, arguments).unwrap();
        write_packet(&mut bytes, "DOTI", source.len() as u32, &mut &source[..]).unwrap();
        bytes
    }

    #[test]
    fn a_request_is_read_up_to_its_source() {
        let bytes = request(&[b"gcc", b"-c", b"\xff.c"], b"int x;");
        assert!(bytes.starts_with(b"DIST00000001ARGC00000003ARGV00000003gcc"));
        let mut input = &bytes[..];
        let head = read_request_head(&mut input).unwrap();
        assert_eq!(head.arguments, [&b"gcc"[..], b"-c", b"\xff.c"]);
        assert_eq!((head.source_size, input), (6, &b"int x;"[..]));
    }

    #[test]
    fn a_response_has_the_documented_layout() {
        let mut bytes = Vec::new();
        write_response_head(&mut bytes, 0x100).unwrap();
        write_packet(&mut bytes, "SERR", 2, &mut &b"no"[..]).unwrap();
        assert_eq!(bytes, b"DONE00000001STAT00000100SERR00000002no");
        assert_eq!(read_response_head(&mut &bytes[..]).unwrap(), 0x100);
        assert!(read_response_head(&mut &b"DONE00000002STAT00000000"[..]).is_err());
    }

    #[test]
    fn wrong_versions_counts_and_numbers_are_refused() {
        let refuse = |text: &str| read_request_head(&mut text.as_bytes()).unwrap_err();
        assert!(matches!(refuse("DIST00000002"), ProtocolError::Version(2)));
        assert!(matches!(refuse("GET / HTTP/1"), ProtocolError::Token { expected: "DIST", .. }));
        assert!(matches!(refuse("DIST+0000001"), ProtocolError::Number { token: "DIST" }));
        assert!(matches!(refuse("DIST00000001ARGC00000000"), ProtocolError::TooLarge(_)));
        assert!(matches!(refuse("DIST00000001ARGCffffffff"), ProtocolError::TooLarge(_)));
        let long = "DIST00000001ARGC00000001ARGVffffffff";
        assert!(matches!(refuse(long), ProtocolError::TooLarge(_)));
    }

    proptest! {
        #[test]
        fn every_truncation_is_an_error(cut in 0usize..1000) {
            let bytes = request(&[b"gcc", b"-c", b"a.c"], b"int x;");
            let end = bytes.len() - b"int x;".len();
            let mut input = &bytes[..cut % end];
            prop_assert!(read_request_head(&mut input).is_err());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_request_head(&mut &bytes[..]);
        }
    }
}
