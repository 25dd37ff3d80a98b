//! Any bytes as an archive: read in both ways, and what was read asked everything.

use std::io::Cursor;

use outcrop_fs::archive::{Interpretation, Seekable, Stream, TarReader, ar, import};
use outcrop_fs::index::{Builder, SourceIdentity};
use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::{Error, Timestamp};

use super::layer::ask_everything;

pub fn run(bytes: &[u8]) {
    // The first byte says what kind of archive the rest is.
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kind = match kind % 4 {
        0 => Interpretation::Plain,
        1 => Interpretation::OciLayer,
        2 => Interpretation::Package,
        _ => {
            let _ = ar::find_data("fuzz.deb", &mut Cursor::new(bytes));
            return;
        }
    };
    match (index(bytes, kind, true), index(bytes, kind, false)) {
        (Ok(streamed), Ok(seeked)) => {
            assert_eq!(streamed, seeked);
            ask_everything(&IndexedLayer::in_memory("fuzz", seeked, bytes.to_vec()).unwrap());
        }
        (Err(streamed), Err(seeked)) => assert_eq!(streamed.to_string(), seeked.to_string()),
        (streamed, seeked) => panic!("{:?} but {:?}", streamed.map(drop), seeked.map(drop)),
    }
}

fn index(bytes: &[u8], kind: Interpretation, as_stream: bool) -> Result<Vec<u8>, Error> {
    let source = SourceIdentity { size: bytes.len() as u64, mtime: Timestamp::EPOCH, digest: None };
    let mut builder = Builder::new(source).labelled("fuzz.tar");
    if as_stream {
        let mut reader = TarReader::new("fuzz.tar", Stream(bytes));
        import(&mut reader, &mut builder, kind, false)?;
    } else {
        let input = Seekable::new(Cursor::new(bytes), bytes.len() as u64);
        let mut reader = TarReader::new("fuzz.tar", input);
        import(&mut reader, &mut builder, kind, false)?;
    }
    builder.finish()
}
