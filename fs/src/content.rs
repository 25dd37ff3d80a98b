//! Whether two files hold the same bytes, found out with as little reading as possible.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::layer::{DataRun, Entry, Layer};

/// Bytes compared at once.
const COMPARED: usize = 64 << 10;

/// What a file's bytes are, told without reading them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// SHA-256 of the content.
    Sha256([u8; 32]),
    /// The id of a git blob.
    Blob(Vec<u8>),
    /// A range of a host's file.
    Stored { device: u64, inode: u64, offset: u64 },
}

impl Identity {
    /// Whether two files of one size hold the same bytes; `None` where reading must tell.
    pub fn is_same(&self, other: &Identity) -> Option<bool> {
        match (self, other) {
            (Identity::Sha256(a), Identity::Sha256(b)) => Some(a == b),
            (Identity::Blob(a), Identity::Blob(b)) if a.len() == b.len() => Some(a == b),
            (Identity::Stored { .. }, Identity::Stored { .. }) if self == other => Some(true),
            _ => None,
        }
    }
}

/// A file's content, wherever it is.
pub trait Content {
    fn size(&self) -> Result<u64>;

    /// What is known without reading; may be several things.
    fn identities(&self) -> Result<Vec<Identity>>;

    /// As `Layer::next_data`.
    fn next_data(&self, offset: u64) -> Result<Option<DataRun>>;

    /// As `Layer::read`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// Whether two files hold the same bytes; holes are zeros. Reads only where sizes are equal and
/// nothing else decides, and not what is a hole in both.
pub fn is_same(a: &dyn Content, b: &dyn Content) -> Result<bool> {
    let size = a.size()?;
    if size != b.size()? {
        return Ok(false);
    }
    let known = b.identities()?;
    for identity in a.identities()? {
        if let Some(verdict) = known.iter().find_map(|other| identity.is_same(other)) {
            return Ok(verdict);
        }
    }
    has_same_bytes(a, b, size)
}

fn has_same_bytes(a: &dyn Content, b: &dyn Content, size: u64) -> Result<bool> {
    let (mut buffer_a, mut buffer_b) = (vec![0; COMPARED], vec![0; COMPARED]);
    let mut at = 0;
    while at < size {
        let runs = (a.next_data(at)?, b.next_data(at)?);
        let Some(start) = [runs.0, runs.1].iter().flatten().map(|run| run.offset).min() else {
            return Ok(true);
        };
        at = start.max(at);
        let wanted = usize::try_from(size.saturating_sub(at)).unwrap_or(COMPARED).min(COMPARED);
        fill(a, at, buffer_a.get_mut(..wanted).unwrap_or_default())?;
        fill(b, at, buffer_b.get_mut(..wanted).unwrap_or_default())?;
        if buffer_a.get(..wanted) != buffer_b.get(..wanted) {
            return Ok(false);
        }
        at = at.saturating_add(wanted as u64);
    }
    Ok(true)
}

/// Fills the buffer; zeros where the file ends before its size.
fn fill(content: &dyn Content, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match content.read(offset.saturating_add(done as u64), rest)? {
            0 => {
                rest.fill(0);
                break;
            }
            read => done = done.saturating_add(read),
        }
    }
    Ok(())
}

/// Takes the zeros of a hole into the digest of a file.
pub(crate) fn update_zeros(file: &mut Sha256, mut count: u64) {
    const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        file.update(ZEROS.get(..step as usize).unwrap_or(&ZEROS));
        count -= step;
    }
}

/// A file of a layer.
pub struct LayerFile<'a> {
    pub layer: &'a dyn Layer,
    pub entry: Entry,
}

impl Content for LayerFile<'_> {
    fn size(&self) -> Result<u64> {
        Ok(self.layer.metadata(self.entry)?.size)
    }

    fn identities(&self) -> Result<Vec<Identity>> {
        let digest = self.layer.digest(self.entry)?.map(Identity::Sha256);
        Ok(digest.into_iter().chain(self.layer.identity(self.entry)?).collect())
    }

    fn next_data(&self, offset: u64) -> Result<Option<DataRun>> {
        self.layer.next_data(self.entry, offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.layer.read(self.entry, offset, buffer)
    }
}
