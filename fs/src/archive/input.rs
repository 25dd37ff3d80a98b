//! Where an archive's bytes come from.

#![forbid(unsafe_code)]

use std::io::{self, BufReader, Read, Seek};

/// Bytes in order, some of which are not wanted.
pub trait Input {
    /// Reads at most `buffer.len()` bytes; 0 only at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Passes over bytes; tells how many there were, fewer only at the end.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A stream that can only be read on.
pub struct Stream<R>(pub R);

impl<R: Read> Input for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| self.0.read(buffer))
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())
    }
}

/// A file, where passing over bytes costs nothing.
pub struct Seekable<R> {
    inner: BufReader<R>,
    left: u64,
}

impl<R: Read + Seek> Seekable<R> {
    /// `inner` stands at the archive's first byte; `length` bytes belong to it.
    pub fn new(inner: R, length: u64) -> Self {
        // Most files of an operating system are small: reading over them beats seeking.
        Seekable { inner: BufReader::with_capacity(64 * 1024, inner), left: length }
    }
}

impl<R: Read + Seek> Input for Seekable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        let read = retry(|| self.inner.read(buffer))?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let bytes = bytes.min(self.left);
        let mut rest = bytes;
        while rest > 0 {
            let step = i64::try_from(rest).unwrap_or(i64::MAX);
            self.inner.seek_relative(step)?;
            rest = rest.saturating_sub(step.unsigned_abs());
        }
        self.left = self.left.saturating_sub(bytes);
        Ok(bytes)
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
