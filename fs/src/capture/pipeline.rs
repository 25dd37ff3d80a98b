//! The second thread of a capture: digests and the index, while the first reads and writes.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::{Digest, Sha256};

use super::index_sink::{IndexNode, IndexSink};
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
    worker: ScopedJoinHandle<'scope, Result<Digested>>,
}

impl<'scope> Pipeline<'scope> {
    pub fn start(
        scope: &'scope Scope<'scope, '_>,
        index: Box<dyn IndexSink>,
    ) -> Result<Pipeline<'scope>> {
        let (full, chunks) = sync_channel(CHUNKS);
        let (give_back, empty) = sync_channel(CHUNKS);
        for _ in 0..CHUNKS {
            let chunk = Chunk { bytes: Vec::with_capacity(CHUNK), marks: Vec::new() };
            give_back.send(chunk).map_err(|_| Error::Os(Errno::PIPE))?;
        }
        let worker = std::thread::Builder::new()
            .name("capture-digest".into())
            .spawn_scoped(scope, move || digest(&chunks, &give_back, index))
            .map_err(|source| Error::host("cannot start a thread for", "capture", source))?;
        Ok(Pipeline { full, empty, worker })
    }

    /// Hands a chunk over and gets an empty one; `None` once the other thread has failed (then
    /// [`Pipeline::finish`] says why).
    pub fn exchange(&self, chunk: Chunk) -> Option<Chunk> {
        self.full.send(chunk).ok()?;
        self.empty.recv().ok()
    }

    /// The first chunk.
    pub fn first(&self) -> Option<Chunk> {
        self.empty.recv().ok()
    }

    pub fn finish(self) -> Result<Digested> {
        drop(self.full);
        self.worker.join().unwrap_or(Err(Error::Os(Errno::IO)))
    }
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

fn update_zeros(file: &mut Sha256, mut count: u64) {
    const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        file.update(ZEROS.get(..step as usize).unwrap_or(&ZEROS));
        count -= step;
    }
}
