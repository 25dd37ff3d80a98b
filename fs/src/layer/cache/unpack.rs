//! Uncompresses a tar into a file and indexes it in the same pass.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::archive::{Compression, Interpretation, Stream, TarReader, import};
use crate::error::{Error, Result};
use crate::index::{Builder, SourceIdentity};

pub(super) const CANNOT_WRITE: &str = "cannot write";

const CHUNK: usize = 256 * 1024;
/// Chunks under way between the two threads.
const QUEUE: usize = 8;

/// Uncompresses `input` into `output` and gives the bytes of its index, with the SHA-256 of every
/// file. One thread uncompresses, the other hashes and writes.
pub(super) fn unpack<R: BufRead + Send>(
    label: &str,
    input: R,
    compression: Compression,
    output: &File,
    source: &SourceIdentity,
    interpretation: Interpretation,
) -> Result<Vec<u8>> {
    std::thread::scope(|scope| {
        let (sender, chunks) = sync_channel(QUEUE);
        scope.spawn(move || send_uncompressed(input, compression, &sender));
        let copy = BufWriter::with_capacity(1 << 20, output);
        let tee = Tee { input: Chunks::new(chunks), copy, failure: None };
        let mut reader = TarReader::new(label, Stream(tee));
        let mut builder = Builder::new(*source).labelled(label);
        let imported = import(&mut reader, &mut builder, interpretation, true);
        let size = reader.position();
        let Stream(tee) = reader.into_input();
        let Tee { mut input, mut copy, failure } = tee;
        if let Some(error) = failure {
            return Err(Error::host(CANNOT_WRITE, label, error));
        }
        imported?;
        // What follows the end-of-archive marker is padding, but the stream's own checksum comes
        // after it.
        io::copy(&mut input, &mut io::sink()).map_err(|e| Error::Malformed {
            layer: label.to_owned(),
            path: None,
            offset: Some(size),
            problem: format!("the {compression} data is damaged or truncated: {e}"),
        })?;
        copy.flush().map_err(|e| Error::host(CANNOT_WRITE, label, e))?;
        builder.set_data_size(size);
        builder.finish()
    })
}

fn send_uncompressed<R: BufRead + Send>(
    input: R,
    compression: Compression,
    sender: &SyncSender<io::Result<Vec<u8>>>,
) {
    let mut decoder = match compression.decode(input) {
        Ok(decoder) => decoder,
        Err(error) => {
            let _ = sender.send(Err(error));
            return;
        }
    };
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        let is_last = !matches!(result, Ok(read) if read > 0);
        // What came before an error still counts: the parser may find a better one in it.
        if !chunk.is_empty() && sender.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = result {
            let _ = sender.send(Err(error));
        }
        if is_last {
            return;
        }
    }
}

/// The receiving end, as a stream.
struct Chunks {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl Chunks {
    fn new(receiver: Receiver<io::Result<Vec<u8>>>) -> Self {
        Chunks { receiver, chunk: io::Cursor::default() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.chunk.read(buffer)? {
                0 if !buffer.is_empty() => match self.receiver.recv() {
                    Ok(chunk) => self.chunk = io::Cursor::new(chunk?),
                    // The sender is done.
                    Err(_) => return Ok(0),
                },
                read => return Ok(read),
            }
        }
    }
}

/// Writes what is read to a copy, and remembers why that failed.
struct Tee<R, W> {
    input: R,
    copy: W,
    failure: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        if let Err(error) = self.copy.write_all(buffer.get(..read).unwrap_or_default()) {
            self.failure = Some(error);
            return Err(io::Error::other("the copy failed"));
        }
        Ok(read)
    }
}

/// Reports how many bytes have passed.
pub(super) struct Counted<'a, R> {
    input: R,
    done: u64,
    report: &'a (dyn Fn(u64) + Sync),
}

impl<'a, R> Counted<'a, R> {
    pub fn new(input: R, report: &'a (dyn Fn(u64) + Sync)) -> Self {
        Counted { input, done: 0, report }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.done = self.done.saturating_add(read as u64);
        (self.report)(self.done);
        Ok(read)
    }
}
