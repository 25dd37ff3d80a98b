//! Keys: how an artifact is addressed. Written down in `docs/store.md`.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use super::error::Error;

/// Longest escaped name that a key carries: with the digest it stays below `NAME_MAX`.
const LONGEST_NAME: usize = 120;

/// Hex digits of a SHA-256.
const DIGEST_DIGITS: usize = 64;

/// `<name>.<64 hex digits>`, safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Makes the key of a name and a SHA-256; see `docs/store.md` for the escaping.
    pub fn new(name: &str, digest: &[u8; 32]) -> Key {
        Key(format!("{}.{}", escape(name), hex(digest)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the key carries it: escaped, and cut if it was long.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(name, _)| name)
    }

    /// 64 hex digits.
    pub fn digest(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, digest)| digest)
    }

    /// The two hex digits that choose the directory.
    pub(super) fn shard(&self) -> &str {
        self.digest().get(..2).unwrap_or("00")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Key, Error> {
        let is_key = text.rsplit_once('.').is_some_and(|(name, digest)| {
            !name.is_empty()
                && name.len() <= LONGEST_NAME
                && !name.starts_with('.')
                && name.bytes().all(is_plain_or_escape)
                && digest.len() == DIGEST_DIGITS
                && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if !is_key {
            return Err(Error::Invalid(format!(
                "{text:?} is not a key: a key is a name, a dot and 64 lower-case hex digits."
            )));
        }
        Ok(Key(text.to_owned()))
    }
}

fn is_plain_or_escape(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'@')
}

/// A name as a file name: other bytes, `@` and a leading dot become `@` and two hex digits.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for (place, byte) in name.bytes().enumerate() {
        let plain = is_plain_or_escape(byte) && byte != b'@' && !(place == 0 && byte == b'.');
        let next = if plain { char::from(byte).to_string() } else { format!("@{byte:02x}") };
        if escaped.len() + next.len() > LONGEST_NAME {
            break;
        }
        escaped.push_str(&next);
    }
    if escaped.is_empty() { "@".to_owned() } else { escaped }
}

/// Lower-case hex digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
