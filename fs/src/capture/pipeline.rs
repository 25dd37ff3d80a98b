//! The other threads of a capture: while the capturing one reads, one writes the stream, and one
//! makes digests and the index where they are wanted.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::{Digest, Sha256};

use super::index_sink::{IndexNode, IndexSink};
use super::write::Output;
use crate::content::update_zeros;
use crate::error::{Errno, Error, Result};

/// Bytes of the stream that travel together: large enough that neither system calls nor the
/// channel show, small enough to stay in the cache.
pub(super) const CHUNK: usize = 512 * 1024;

/// Chunks under way at once.
const CHUNKS: usize = 4;

/// What the digesting thread is to do, in the stream's order.
pub(super) enum Mark {
    /// These bytes of the chunk belong to the current file.
    Data(Range<usize>),
    /// The current file has that many zeros that the stream does not.
    Zeros(u64),
    /// An entry is complete. Takes the digest of the current file if `digest` is set.
    Entry { path: Vec<u8>, node: Box<IndexNode>, digest: bool },
}

/// A piece of the stream and what it means.
#[derive(Default)]
pub(super) struct Chunk {
    pub bytes: Vec<u8>,
    pub marks: Vec<Mark>,
}

/// What the digesting thread has in the end.
pub(super) struct Digested {
    pub sha256: [u8; 32],
    pub index: Box<dyn IndexSink>,
}

/// The capturing thread's end.
pub(super) struct Pipeline<'scope> {
    full: SyncSender<Chunk>,
    empty: Receiver<Chunk>,
    writer: ScopedJoinHandle<'scope, Result<()>>,
    digester: Option<ScopedJoinHandle<'scope, Result<Digested>>>,
}

impl<'scope> Pipeline<'scope> {
    /// With an index there are digests, too.
    pub fn start<'env: 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        output: Output<'env>,
        index: Option<Box<dyn IndexSink>>,
    ) -> Result<Pipeline<'scope>> {
        let (full, chunks) = sync_channel(CHUNKS);
        let (give_back, empty) = sync_channel(CHUNKS);
        for _ in 0..CHUNKS {
            let chunk = Chunk { bytes: Vec::with_capacity(CHUNK), marks: Vec::new() };
            give_back.send(chunk).map_err(|_| Error::Os(Errno::PIPE))?;
        }
        let mut digester = None;
        let mut after = give_back.clone();
        if let Some(index) = index {
            let (written, chunks) = sync_channel(CHUNKS);
            let work = move || digest(&chunks, &give_back, index);
            digester = Some(spawn(scope, "capture-digest", work)?);
            after = written;
        }
        let has_digester = digester.is_some();
        let work = move || write(&chunks, &after, has_digester, output);
        let writer = spawn(scope, "capture-write", work)?;
        Ok(Pipeline { full, empty, writer, digester })
    }

    /// Hands a chunk over and gets an empty one; `None` once another thread has failed (then
    /// [`Pipeline::finish`] says why).
    pub fn exchange(&self, chunk: Chunk) -> Option<Chunk> {
        self.full.send(chunk).ok()?;
        self.empty.recv().ok()
    }

    /// The first chunk.
    pub fn first(&self) -> Option<Chunk> {
        self.empty.recv().ok()
    }

    /// Waits until everything is written; what was digested, if anything was to be.
    pub fn finish(self) -> Result<Option<Digested>> {
        drop(self.full);
        let panicked = || Error::Os(Errno::IO);
        let written = self.writer.join().unwrap_or_else(|_| Err(panicked()));
        // A writer that found nobody behind it stops without an error of its own.
        let digester = self.digester.map(ScopedJoinHandle::join);
        let digested = digester.map(|outcome| outcome.unwrap_or_else(|_| Err(panicked())));
        written.and(digested.transpose())
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
        .map_err(|source| Error::host("cannot start a thread for", "capture", source))
}

fn write(
    chunks: &Receiver<Chunk>,
    after: &SyncSender<Chunk>,
    has_digester: bool,
    output: Output<'_>,
) -> Result<()> {
    let fault = |name: &Path, source| Error::host("cannot write", name, source);
    for mut chunk in chunks {
        let written = output.writer.write_all(&chunk.bytes);
        written.map_err(|source| fault(output.name, source))?;
        if has_digester {
            if after.send(chunk).is_err() {
                return Ok(());
            }
        } else {
            chunk.bytes.clear();
            chunk.marks.clear();
            // At the very end nobody wants it back.
            let _ = after.try_send(chunk);
        }
    }
    output.writer.flush().map_err(|source| fault(output.name, source))
}

fn digest(
    chunks: &Receiver<Chunk>,
    give_back: &SyncSender<Chunk>,
    mut index: Box<dyn IndexSink>,
) -> Result<Digested> {
    let mut stream = Sha256::new();
    let mut file = Sha256::new();
    for mut chunk in chunks {
        stream.update(&chunk.bytes);
        for mark in chunk.marks.drain(..) {
            match mark {
                Mark::Data(range) => file.update(chunk.bytes.get(range).unwrap_or_default()),
                Mark::Zeros(count) => update_zeros(&mut file, count),
                Mark::Entry { path, mut node, digest } => {
                    if digest {
                        node.digest = Some(file.finalize_reset().into());
                    }
                    index.add(&path, *node)?;
                }
            }
        }
        chunk.bytes.clear();
        // At the very end nobody wants it back.
        let _ = give_back.try_send(chunk);
    }
    Ok(Digested { sha256: stream.finalize().into(), index })
}
