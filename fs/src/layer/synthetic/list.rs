//! The text form of node lists (docs/layers.md).

#![forbid(unsafe_code)]

use super::{SyntheticKind, SyntheticNode};
use crate::node::Device;

/// What is wrong with a node list, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ListError {
    /// Counted from 1.
    pub line: usize,
    pub problem: String,
}

/// Reads a node list.
pub fn parse(text: &[u8]) -> Result<Vec<SyntheticNode>, ListError> {
    let mut nodes = Vec::new();
    for (position, line) in text.split(|&b| b == b'\n').enumerate() {
        let blank = line.trim_ascii_start();
        if blank.is_empty() || blank.starts_with(b"#") {
            continue;
        }
        let node = parse_line(line)
            .map_err(|problem| ListError { line: position.saturating_add(1), problem })?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn parse_line(line: &[u8]) -> Result<SyntheticNode, String> {
    let mut rest = line;
    let kind = field(&mut rest).ok_or("it is empty")?;
    let path = field(&mut rest).ok_or("the path is missing")?;
    let mode = field(&mut rest).ok_or("the mode is missing")?;
    let uid = field(&mut rest).ok_or("the uid is missing")?;
    let gid = field(&mut rest).ok_or("the gid is missing")?;
    let more = unescape(skip_blanks(rest))?;

    let path = unescape(path)?;
    if !path.starts_with(b"/") {
        return Err(format!("the path {} is not absolute", path.escape_ascii()));
    }
    let mode = number(mode, 8).and_then(|mode| u16::try_from(mode).ok());
    let mode = mode
        .filter(|&mode| mode <= 0o7777)
        .ok_or("the mode is not an octal number of at most 7777")?;
    let uid = number(uid, 10).ok_or("the uid is not a number below 2^32")?;
    let gid = number(gid, 10).ok_or("the gid is not a number below 2^32")?;

    let wants_more = |what: &str| match more.is_empty() {
        true => Err(format!("the {what} is missing")),
        false => Ok(more.clone()),
    };
    let wants_nothing = |kind: SyntheticKind| match more.is_empty() {
        true => Ok(kind),
        false => Err(format!("nothing may follow the gid, but '{}' does", more.escape_ascii())),
    };
    let kind = match kind {
        b"dir" => wants_nothing(SyntheticKind::Directory)?,
        b"file" => SyntheticKind::File(more),
        b"symlink" => SyntheticKind::Symlink(wants_more("target")?),
        b"link" => SyntheticKind::HardLink(wants_more("target")?),
        b"char" => SyntheticKind::CharDevice(device(&more)?),
        b"block" => SyntheticKind::BlockDevice(device(&more)?),
        b"fifo" => wants_nothing(SyntheticKind::Fifo)?,
        b"socket" => wants_nothing(SyntheticKind::Socket)?,
        other => {
            return Err(format!(
                "'{}' is no type; there are dir, file, symlink, link, char, block, fifo and socket",
                other.escape_ascii()
            ));
        }
    };
    let node = SyntheticNode::new(path, kind, mode);
    Ok(SyntheticNode { uid, gid, ..node })
}

fn device(text: &[u8]) -> Result<Device, String> {
    let mut parts = text.splitn(2, |&b| b == b':');
    let major = parts.next().and_then(|part| number(part, 10));
    let minor = parts.next().and_then(|part| number(part, 10));
    let (Some(major), Some(minor)) = (major, minor) else {
        return Err(format!("'{}' is not MAJOR:MINOR", text.escape_ascii()));
    };
    let numbers =
        [("major", major, Device::LARGEST_MAJOR), ("minor", minor, Device::LARGEST_MINOR)];
    for (name, number, most) in numbers {
        if number > most {
            return Err(format!("Linux has no {name} number {number}; it goes up to {most}"));
        }
    }
    Ok(Device { major, minor })
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    // from_str_radix takes a sign, which has no place here.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !is_blank(b)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = skip_blanks(rest);
    let end = text.iter().position(|&b| is_blank(b)).unwrap_or(text.len());
    let (field, after) = text.split_at_checked(end)?;
    *rest = after;
    (!field.is_empty()).then_some(field)
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (code, after) = match tail {
            [b'n', after @ ..] => (b'\n', after),
            [b't', after @ ..] => (b'\t', after),
            [b's', after @ ..] => (b' ', after),
            [b'\\', after @ ..] => (b'\\', after),
            [b'x', high, low, after @ ..] => {
                let digit = |d: u8| char::from(d).to_digit(16);
                let code = digit(*high).zip(digit(*low)).map(|(h, l)| h * 16 + l);
                let code = code.and_then(|code| u8::try_from(code).ok());
                (code.ok_or("\\x wants two hexadecimal digits")?, after)
            }
            _ => return Err("a backslash must begin \\n, \\t, \\s, \\\\ or \\xHH".to_owned()),
        };
        out.push(code);
        rest = after;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn reads_all_types() {
        let text = b"# a comment\n\
            dir / 0755 0 0\n\
            \n\
            \tfile /etc/a\\sb 4755 1 4294967295  two words\\n\n\
            symlink /bin 0777 0 0 usr/bin\n\
            link /c 0 0 0 /etc/a\\sb\n\
            char /dev/null 0666 0 0 1:3\n\
            block /dev/b 0660 0 6 4095:1048575\n\
            fifo /f 0600 0 0\n\
            socket /\\xff 0600 0 0\n";
        let nodes = parse(text).unwrap();
        assert_eq!(nodes.len(), 8);
        let file = &nodes[1];
        assert_eq!(file.path, b"/etc/a b");
        assert_eq!((file.mode, file.uid, file.gid), (0o4755, 1, u32::MAX));
        assert_eq!(file.kind, SyntheticKind::File(b"two words\n".to_vec()));
        assert_eq!(nodes[3].kind, SyntheticKind::HardLink(b"/etc/a b".to_vec()));
        let device = Device { major: 4095, minor: 1_048_575 };
        assert_eq!(nodes[5].kind, SyntheticKind::BlockDevice(device));
        assert_eq!(nodes[7].path, b"/\xff");
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(problem("dir / 0755 0 0\ndir x 0755 0 0"), "line 2: the path x is not absolute");
        assert!(problem("dri / 0755 0 0").contains("'dri' is no type"));
        assert!(problem("dir /").contains("mode is missing"));
        assert!(problem("dir / 0855 0 0").contains("octal"));
        assert!(problem("dir / 17777 0 0").contains("octal"));
        assert!(problem("dir / 755 +1 0").contains("uid"));
        assert!(problem("dir / 755 1 4294967296").contains("gid"));
        assert!(problem("dir / 755 0 0 x").contains("nothing may follow"));
        assert!(problem("char /c 666 0 0 1").contains("MAJOR:MINOR"));
        let too_large = problem("fifo /f 600 0 0\nchar /c 666 0 0 4096:0");
        assert_eq!(too_large, "line 2: Linux has no major number 4096; it goes up to 4095");
        let too_large = problem("block /b 660 0 6 8:1048576");
        assert_eq!(too_large, "line 1: Linux has no minor number 1048576; it goes up to 1048575");
        assert!(problem("char /c 666 0 0 5:4294967296").contains("MAJOR:MINOR"));
        assert!(problem("symlink /c 777 0 0").contains("target is missing"));
        assert!(problem("file /c 777 0 0 \\q").contains("backslash"));
        assert!(problem("file /c 777 0 0 \\x0").contains("backslash"));
    }
}
