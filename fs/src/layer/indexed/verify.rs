//! Compares the content of a layer's files with what its index says of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::IndexedLayer;
use crate::content::update_zeros;
use crate::error::{Errno, Error, Result};
use crate::filesystem::DataSink;
use crate::index::{Fault, Index, Node, printable};
use crate::layer::{Entry, Layer};

const PIECE: usize = 128 * 1024;

impl IndexedLayer {
    /// Reads every file whose SHA-256 the index has, each once however many names it has. The first
    /// one that differs is the error.
    pub(in crate::layer) fn verify_content(&self) -> Result<()> {
        let mut sink = HashSink { hasher: Sha256::new(), buffer: vec![0; PIECE] };
        for number in 0..self.entry_count() {
            match self.node(Entry(number)) {
                Ok(node) => self.verify_file(&node, &mut sink)?,
                // A further name of a node that has a number of its own.
                Err(Error::Os(Errno::STALE)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn verify_file(&self, node: &Node, sink: &mut HashSink) -> Result<()> {
        let Some(recorded) = self.ask(|index| index.digest(node))? else { return Ok(()) };
        let entry = Entry(u64::from(node.number));
        let located = |error| match error {
            Error::Malformed { layer, path: None, offset, problem } => {
                let path = self.ask(|index| path_of(index, entry)).ok();
                Error::Malformed { layer, path, offset, problem }
            }
            error => error,
        };
        self.read_to(entry, 0, node.metadata.size, sink).map_err(located)?;
        let found: [u8; 32] = sink.hasher.finalize_reset().into();
        if found == recorded {
            return Ok(());
        }
        Err(located(Error::malformed(&self.label, "a file's content is not what was unpacked")))
    }
}

/// The path of a node's first name, for messages.
fn path_of(index: &Index, entry: Entry) -> Result<String, Fault> {
    let mut names = Vec::new();
    let mut number = entry.0;
    while number > 0 {
        let node = index.node(number)?;
        let Some((parent, name)) = index.names(&node)?.into_iter().next() else { break };
        names.push(name);
        // In a sound index a parent comes before its children; so no walk is endless.
        number = u64::from(parent).min(number.saturating_sub(1));
    }
    names.reverse();
    Ok(printable(&names.join(&b'/')))
}

struct HashSink {
    hasher: Sha256,
    buffer: Vec<u8>,
}

impl DataSink for HashSink {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        update_zeros(&mut self.hasher, count);
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut done = 0_u64;
        while done < length {
            let left = length.saturating_sub(done);
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = self.buffer.get_mut(..wanted).unwrap_or_default();
            let read = match file.read_at(piece, offset.saturating_add(done)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            self.hasher.update(piece.get(..read).unwrap_or_default());
            done = done.saturating_add(read as u64);
        }
        Ok(done)
    }
}
