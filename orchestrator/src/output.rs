//! Text for stdout and stderr, which may be closed or full: `println!` would panic then.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// A result that could not be written, for example because the disk is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write: {0}")]
pub struct OutputError(io::Error);

/// Prints a line of a result to stdout.
pub fn print(line: impl Display) -> Result<(), OutputError> {
    write(format!("{line}\n").as_bytes()).map(drop)
}

/// Writes a part of a result to stdout.
pub fn write(bytes: &[u8]) -> Result<Reader, OutputError> {
    let mut out = io::stdout().lock();
    checked(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Whether anybody still reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Listens,
    /// As a pager or `head` does that has seen enough: no error.
    Gone,
}

/// What became of an attempt to write.
pub fn checked(written: io::Result<()>) -> Result<Reader, OutputError> {
    match written {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(OutputError(error)),
    }
}

/// Says a line on stderr. One that nobody can be told is dropped: the work goes on.
pub fn say(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        assert_eq!(checked(Ok(())).unwrap(), Reader::Listens);
        assert_eq!(checked(Err(ErrorKind::BrokenPipe.into())).unwrap(), Reader::Gone);
        let error = checked(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(error.to_string().starts_with("cannot write: "), "{error}");
    }
}
