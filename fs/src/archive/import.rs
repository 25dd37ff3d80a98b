//! Turns the entries of an archive into an index.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

use super::input::Input;
use super::reader::{TarEntry, TarReader};
use crate::content::update_zeros;
use crate::error::{Error, Result};
use crate::index::{Builder, Content, NewNode};

mod usr_merge;

/// Zeros of holes that are hashed in one archive at most: holes may be larger than any disk.
const MOST_ZEROS_DIGESTED: u64 = 1 << 30;

/// How the entries of an archive become nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Interpretation {
    /// As they are.
    #[default]
    Plain,
    /// As dpkg would unpack them on a merged system: `bin`, `sbin`, `lib*` go into `usr`.
    Package,
    /// An OCI image layer, whose `.wh.` names hide what lower layers have.
    OciLayer,
}

impl Interpretation {
    pub const fn name(self) -> &'static str {
        match self {
            Interpretation::Plain => "plain",
            Interpretation::Package => "package",
            Interpretation::OciLayer => "oci",
        }
    }
}

/// Reads an archive to its end and adds its nodes to an index.
///
/// With `digests`, every byte of every file is read and its SHA-256 kept, but for sparse files that
/// come after [`MOST_ZEROS_DIGESTED`]; without, data is passed over.
pub fn import<I: Input>(
    reader: &mut TarReader<I>,
    builder: &mut Builder,
    interpretation: Interpretation,
    digests: bool,
) -> Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut zeros_left = MOST_ZEROS_DIGESTED;
    while let Some(mut entry) = reader.next_entry()? {
        if digests {
            entry.node.digest = digest(reader, &entry.node, &mut buffer, &mut zeros_left)?;
        }
        let offset = entry.offset;
        add(builder, entry, interpretation).map_err(|error| reader.locate(error, offset))?;
    }
    Ok(())
}

fn digest<I: Input>(
    reader: &mut TarReader<I>,
    node: &NewNode,
    buffer: &mut [u8],
    zeros_left: &mut u64,
) -> Result<Option<[u8; 32]>> {
    let mut hasher = Sha256::new();
    match &node.content {
        Content::Data { .. } => {
            hash_data(reader, &mut hasher, u64::MAX, buffer)?;
        }
        Content::Sparse { runs } => {
            let size = node.metadata.size;
            let stored = runs.iter().fold(0, |sum: u64, run| sum.saturating_add(run.length));
            let Some(left) = zeros_left.checked_sub(size.saturating_sub(stored)) else {
                return Ok(None);
            };
            *zeros_left = left;
            let mut end = 0;
            for run in runs {
                update_zeros(&mut hasher, run.file_offset.saturating_sub(end));
                hash_data(reader, &mut hasher, run.length, buffer)?;
                end = run.file_offset.saturating_add(run.length);
            }
            update_zeros(&mut hasher, size.saturating_sub(end));
        }
        _ => return Ok(None),
    }
    Ok(Some(hasher.finalize().into()))
}

/// Hashes what is stored of the current entry next, `length` bytes at most.
fn hash_data<I: Input>(
    reader: &mut TarReader<I>,
    hasher: &mut Sha256,
    length: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let mut left = length;
    loop {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        let read = reader.read_data(piece)?;
        if read == 0 {
            return Ok(());
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        left = left.saturating_sub(read as u64);
    }
}

fn add(builder: &mut Builder, entry: TarEntry, interpretation: Interpretation) -> Result<()> {
    match interpretation {
        Interpretation::Plain => builder.add(&entry.path, entry.node),
        Interpretation::Package => usr_merge::add(builder, entry),
        Interpretation::OciLayer => add_oci(builder, entry),
    }
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Whiteouts of the OCI image specification, "Layer Filesystem Changeset".
fn add_oci(builder: &mut Builder, entry: TarEntry) -> Result<()> {
    let (directory, name) = split(&entry.path);
    if name == OPAQUE {
        return builder.set_opaque(directory);
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else {
        return builder.add(&entry.path, entry.node);
    };
    match hidden {
        b"" | b"." | b".." => Err(Error::Malformed {
            layer: String::new(),
            path: Some(crate::index::printable(&entry.path)),
            offset: None,
            problem: "a whiteout that hides no possible name".to_owned(),
        }),
        // Records that aufs keeps for itself.
        _ if hidden.starts_with(WHITEOUT) => Ok(()),
        _ => {
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            builder.add_whiteout(&[directory, separator, hidden].concat())
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}
