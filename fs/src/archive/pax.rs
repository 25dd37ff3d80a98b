//! Pax extended headers: `LENGTH KEYWORD=VALUE\n` records (POSIX.1-2017, pax(1)).

#![forbid(unsafe_code)]

use super::number;
use crate::node::{Timestamp, Xattrs};

/// What extended headers say about an entry; `None` leaves the word to the ustar header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timestamp>,
    /// SCHILY.devmajor and SCHILY.devminor (star, bsdtar).
    pub device_major: Option<u64>,
    pub device_minor: Option<u64>,
    pub xattrs: Xattrs,
    pub sparse: Sparse,
}

/// The `GNU.sparse.*` records of GNU tar's formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Offsets and lengths of 0.0 and 0.1, alternating.
    pub map: Option<Vec<u64>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Bytes from the beginning of the records.
    pub offset: u64,
    pub text: String,
}

impl Extended {
    /// Applies the records of one extended header over what is known already.
    pub fn apply(&mut self, records: &[u8]) -> Result<(), Problem> {
        let mut rest = records;
        while !rest.is_empty() {
            let offset = records.len().saturating_sub(rest.len()) as u64;
            let problem = |text: String| Problem { offset, text };
            let (keyword, value, after) = split_record(rest)
                .ok_or_else(|| problem("a pax record is malformed".to_owned()))?;
            self.set(keyword, value).map_err(|what| {
                problem(format!("the pax record '{}' {what}", keyword.escape_ascii()))
            })?;
            rest = after;
        }
        Ok(())
    }

    fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match keyword {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_path = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(number::time(value).ok_or("is not a time")?),
            b"SCHILY.devmajor" => self.device_major = number(value)?,
            b"SCHILY.devminor" => self.device_minor = number(value)?,
            b"RHT.security.selinux" => {
                self.xattrs.insert(b"security.selinux".to_vec(), value.to_vec());
            }
            _ => {
                if let Some(name) = keyword.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(unescape_keyword(name), value.to_vec())?;
                } else if let Some(name) = keyword.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = base64(value).ok_or("is not base64")?;
                    self.set_xattr(unescape_url(name), value)?;
                } else if let Some(field) = keyword.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(field, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), &'static str> {
        if name.is_empty() || name.contains(&0) || name.len() > usize::from(u16::MAX) {
            return Err("names no possible extended attribute");
        }
        self.xattrs.insert(name, value);
        Ok(())
    }
}

impl Sparse {
    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match field {
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.real_size = number(value)?,
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                // 0.0 repeats the two in turn.
                let expected_offset = map.len().is_multiple_of(2);
                if expected_offset != (field == b"offset") {
                    return Err("comes out of turn");
                }
                map.push(number::decimal(value).ok_or("is not a number")?);
            }
            b"map" => {
                let numbers: Option<Vec<u64>> = match value {
                    b"" => Some(Vec::new()),
                    _ => value.split(|&b| b == b',').map(number::decimal).collect(),
                };
                self.map = Some(numbers.ok_or("is not a list of numbers")?);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn is_used(&self) -> bool {
        self.major.is_some() || self.map.is_some()
    }
}

/// Keyword, value and what follows the record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(number::decimal(bytes.get(..space)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (keyword, value) = body.split_at_checked(equals)?;
    if keyword.is_empty() {
        return None;
    }
    Some((keyword, value.get(1..)?, rest))
}

/// An empty value takes an earlier one back.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("contains a NUL byte");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    number::decimal(value).map(Some).ok_or("is not a number")
}

/// GNU tar writes `=` and `%` of an attribute's name as `%3D` and `%25`.
fn unescape_keyword(name: &[u8]) -> Vec<u8> {
    unescape(name, |code| matches!(code, b'=' | b'%'))
}

fn unescape_url(name: &[u8]) -> Vec<u8> {
    unescape(name, |_| true)
}

fn unescape(name: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let code = match tail {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)).map(|(h, l)| h * 16 + l),
            _ => None,
        };
        match code.filter(|&code| wanted(code)) {
            Some(code) => {
                out.push(code);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Base64 of RFC 4648, with or without padding, as libarchive writes it.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |last| last.saturating_add(1));
    let (digits, padding) = text.split_at_checked(end)?;
    if padding.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len());
    let (mut bits, mut count) = (0_u32, 0_u32);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(((bits >> count) & 0xff) as u8);
        }
    }
    // A single digit in the last group carries no whole byte.
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(records: &[u8]) -> Result<Extended, Problem> {
        let mut extended = Extended::default();
        extended.apply(records).map(|()| extended)
    }

    #[test]
    fn reads_records() {
        let extended = apply(b"12 path=a=b\n14 uid=300000\n20 mtime=-1.5000000\n").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a=b"[..]));
        assert_eq!(extended.uid, Some(300_000));
        assert_eq!(extended.mtime, Some(Timestamp::new(-2, 500_000_000)));
    }

    #[test]
    fn an_empty_value_takes_back() {
        let extended = apply(b"10 path=a\n8 path=\n").unwrap();
        assert_eq!(extended.path, None);
    }

    #[test]
    fn xattrs_of_both_writers() {
        let extended =
            apply(b"30 SCHILY.xattr.user.a%3Db=x\0\n36 LIBARCHIVE.xattr.user.c=AAEC/w==\n");
        let extended = extended.unwrap();
        assert_eq!(extended.xattrs.get(&b"user.a=b"[..]).unwrap(), b"x\0");
        assert_eq!(extended.xattrs.get(&b"user.c"[..]).unwrap(), b"\0\x01\x02\xff");
    }

    #[test]
    fn bad_records() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 path=a\n",
            b"10 path=ab\n",
            b"3 a\n",
            b"0 path=a\n",
            b"9 uid=12x\n",
            b"99999999999999999999999 a=b\n",
            b"11 path=a\0\n",
            b"5 =ab\n",
        ] {
            assert!(apply(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
