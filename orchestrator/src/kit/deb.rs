//! Streams the files of a `.deb` (deb(5)): an ar archive with a compressed `data.tar` inside.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::error::{Error, Result};

/// The contents of one package, read in a single pass.
pub type Contents = tar::Archive<Box<dyn Read>>;

/// Opens the `data.tar` of a package for streaming; nothing is unpacked.
pub fn open(path: &Path) -> Result<Contents> {
    let file = File::open(path).map_err(Error::host("cannot open", path))?;
    let malformed = |problem: String| Error::Malformed { path: path.into(), problem };
    let (name, data) =
        find_data(BufReader::with_capacity(1 << 16, file)).map_err(|e| malformed(e.to_string()))?;
    let data: Box<dyn Read> = match name.as_str() {
        "data.tar" => Box::new(data),
        "data.tar.gz" => Box::new(flate2::read::MultiGzDecoder::new(data)),
        "data.tar.xz" => Box::new(liblzma::read::XzDecoder::new_multi_decoder(data)),
        "data.tar.zst" => Box::new(zstd::Decoder::new(data).map_err(|e| malformed(e.to_string()))?),
        other => return Err(malformed(format!("{other} is compressed in an unknown way"))),
    };
    Ok(tar::Archive::new(data))
}

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";

/// Skips to the member whose name begins with `data.tar`.
fn find_data<R: Read>(mut input: R) -> io::Result<(String, io::Take<R>)> {
    let malformed = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if &magic != AR_MAGIC {
        return Err(malformed("not a Debian package: the ar signature is missing"));
    }
    loop {
        let mut header = [0u8; 60];
        input.read_exact(&mut header).map_err(|_| malformed("no data.tar member"))?;
        let text = |range: std::ops::Range<usize>| {
            header.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim_end)
        };
        let name = text(0..16).ok_or_else(|| malformed("a member's name is not text"))?;
        let size: u64 = text(48..58)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| malformed("a member's size is not a number"))?;
        let name = name.trim_end_matches('/').to_owned();
        if name.starts_with("data.tar") {
            return Ok((name, input.take(size)));
        }
        // Members are padded to even offsets.
        let skip = size.checked_add(size % 2).ok_or_else(|| malformed("a member is too large"))?;
        if io::copy(&mut (&mut input).take(skip), &mut io::sink())? != skip {
            return Err(malformed("the file is truncated"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len())
                .into_bytes();
        bytes.extend(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    fn package() -> Vec<u8> {
        [
            AR_MAGIC.to_vec(),
            member("debian-binary", b"2.0"),
            member("control.tar.xz/", b"12345"),
            member("data.tar", b"payload"),
        ]
        .concat()
    }

    #[test]
    fn odd_members_are_skipped_with_their_padding() {
        let package = package();
        let (name, mut data) = find_data(&package[..]).unwrap();
        let mut content = String::new();
        data.read_to_string(&mut content).unwrap();
        assert_eq!((name.as_str(), content.as_str()), ("data.tar", "payload"));
    }

    proptest! {
        #[test]
        fn truncated_and_garbled_packages_give_errors(
            cut in 0usize..200, position in 0usize..200, byte: u8,
        ) {
            let mut bytes = package();
            let index = position % bytes.len();
            bytes[index] = byte;
            bytes.truncate(cut);
            if let Ok((name, _)) = find_data(&bytes[..]) {
                prop_assert!(name.starts_with("data.tar"));
            }
        }
    }
}
