//! Turns the entries of an archive into an index.

#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

use super::input::Input;
use super::reader::{TarEntry, TarReader};
use crate::error::{Error, Result};
use crate::index::{Builder, Content};
use crate::node::Kind;

mod usr_merge;

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
/// With `digests`, every byte of every file is read and its SHA-256 kept (but for sparse files,
/// whose holes may be larger than any disk); without, data is passed over.
pub fn import<I: Input>(
    reader: &mut TarReader<I>,
    builder: &mut Builder,
    interpretation: Interpretation,
    digests: bool,
) -> Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    while let Some(mut entry) = reader.next_entry()? {
        let is_plain_file = entry.node.metadata.kind == Kind::File
            && matches!(entry.node.content, Content::Data { .. });
        if digests && is_plain_file {
            entry.node.digest = Some(digest(reader, &mut buffer)?);
        }
        let offset = entry.offset;
        add(builder, entry, interpretation).map_err(|error| reader.locate(error, offset))?;
    }
    Ok(())
}

fn digest<I: Input>(reader: &mut TarReader<I>, buffer: &mut [u8]) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    loop {
        match reader.read_data(buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
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
