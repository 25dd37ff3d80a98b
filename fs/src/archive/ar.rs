//! The `ar` container of Debian packages (deb(5)).

#![forbid(unsafe_code)]

use std::io::{Read, Seek, SeekFrom};

use crate::error::{Error, Result};

pub const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_SIZE: u64 = 60;
/// Bytes of `debian-binary` that are looked at; more lines may follow the version.
const LONGEST_VERSION: u64 = 32;

/// Where a member's bytes lie in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// Finds the `data.tar` member of a `.deb`, whatever its compression.
pub fn find_data<R: Read + Seek>(label: &str, file: &mut R) -> Result<Member> {
    let read_error = |e| Error::host("cannot read", label, e);
    let error = |offset: u64, problem: &str| Error::Malformed {
        layer: label.to_owned(),
        path: None,
        offset: Some(offset),
        problem: problem.to_owned(),
    };
    let end = file.seek(SeekFrom::End(0)).map_err(read_error)?;
    file.rewind().map_err(read_error)?;
    let mut magic = [0; MAGIC.len()];
    if end < MAGIC.len() as u64 {
        return Err(error(0, "this is not a Debian package"));
    }
    file.read_exact(&mut magic).map_err(read_error)?;
    if magic != *MAGIC {
        return Err(error(0, "this is not a Debian package"));
    }
    let mut position = MAGIC.len() as u64;
    let mut is_package = false;
    while position < end {
        let data = position.saturating_add(HEADER_SIZE);
        if data > end {
            return Err(error(position, "the package is truncated in the header of a member"));
        }
        let mut header = [0; HEADER_SIZE as usize];
        file.seek(SeekFrom::Start(position)).map_err(read_error)?;
        file.read_exact(&mut header).map_err(read_error)?;
        let (name, size) = parse_header(&header)
            .ok_or_else(|| error(position, "the header of a member is malformed"))?;
        let after = data.checked_add(size).filter(|&after| after <= end);
        let Some(after) = after else {
            return Err(error(
                position,
                &format!("the package is truncated: member {name} has {size} bytes"),
            ));
        };
        if name == "debian-binary" {
            let mut text = vec![0; size.min(LONGEST_VERSION) as usize];
            file.seek(SeekFrom::Start(data)).map_err(read_error)?;
            file.read_exact(&mut text).map_err(read_error)?;
            check_version(&text).map_err(|problem| error(data, &problem))?;
            is_package = true;
        } else if !is_package {
            return Err(error(position, "this is not a Debian package: debian-binary is missing"));
        }
        if name == "data.tar" || name.starts_with("data.tar.") {
            return Ok(Member { name, offset: data, size });
        }
        // Members begin at even offsets.
        position = after.saturating_add(after % 2);
    }
    Err(error(end, "the package has no data.tar member"))
}

/// Packages of another major version are incompatible, newer minor ones are not.
fn check_version(text: &[u8]) -> Result<(), String> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let minor = line.strip_prefix(b"2.").unwrap_or_default();
    if !minor.is_empty() && minor.iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    let found = line.escape_ascii();
    Err(format!("its debian-binary says '{found}', and only packages of version 2 can be read"))
}

fn parse_header(header: &[u8; HEADER_SIZE as usize]) -> Option<(String, u64)> {
    if header[58..60] != *b"`\n" {
        return None;
    }
    let name = header[..16].trim_ascii_end();
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let size = super::number::decimal(header[48..58].trim_ascii_end())?;
    Some((name.escape_ascii().to_string(), size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", data.len())
                .into_bytes();
        out.extend_from_slice(data);
        if data.len() % 2 == 1 {
            out.push(b'\n');
        }
        out
    }

    fn package(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (name, data) in members {
            out.extend(member(name, data));
        }
        out
    }

    #[test]
    fn finds_data_behind_an_odd_member() {
        let bytes = package(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", b"odd"),
            ("data.tar.zst/", b"1234"),
        ]);
        let found = find_data("p.deb", &mut Cursor::new(&bytes)).unwrap();
        assert_eq!((found.name.as_str(), found.size), ("data.tar.zst", 4));
        assert_eq!(&bytes[found.offset as usize..][..4], b"1234");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = package(&[("debian-binary", b"2.0\n"), ("data.tar", b"1234")]);
        for length in 0..bytes.len() {
            let error = find_data("p.deb", &mut Cursor::new(&bytes[..length])).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn only_the_known_major_version_is_accepted() {
        let find = |version: &[u8]| {
            let bytes = package(&[("debian-binary", version), ("data.tar", b"1234")]);
            find_data("p.deb", &mut Cursor::new(&bytes))
        };
        for version in ["2.0\n", "2.0", "2.7\n", "2.10\nmore\n", "2.0\n\n"] {
            assert_eq!(find(version.as_bytes()).unwrap().size, 4, "{version:?}");
        }
        for version in ["9.0\n", "20.0\n", "1.0\n", "", "\n2.0\n", "2\n", "2.\n", "2.x\n", " 2.0\n"]
        {
            let error = find(version.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("its debian-binary says"), "{version:?}: {error}");
        }
        let error = find(b"9.0\n").unwrap_err().to_string();
        assert!(error.contains("'9.0'"), "{error}");
        assert!(find(&[0xff; 5000]).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn other_archives_are_refused() {
        let bytes = package(&[("object.o", b"1234")]);
        let error = find_data("lib.a", &mut Cursor::new(&bytes)).unwrap_err();
        assert!(error.to_string().contains("debian-binary is missing"), "{error}");
    }
}
