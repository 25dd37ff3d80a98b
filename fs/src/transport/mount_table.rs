//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)): what is mounted where.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// One mount. Number and device are its own among all that live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub id: u64,
    pub device: String,
    pub mountpoint: PathBuf,
    pub file_system: String,
}

/// The mounts at exactly this (absolute, resolved) path, the topmost last.
pub(super) fn mounted_at(mountpoint: &Path) -> io::Result<Vec<TableEntry>> {
    let table = std::fs::read(MOUNT_TABLE)?;
    Ok(parse(&table).filter(|entry| entry.mountpoint == mountpoint).collect())
}

fn parse(table: &[u8]) -> impl Iterator<Item = TableEntry> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<TableEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?;
    let mountpoint = fields.nth(1)?;
    // A lone dash ends the optional fields.
    let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(TableEntry {
        id,
        device: String::from_utf8_lossy(device).into_owned(),
        mountpoint: PathBuf::from(unescape(mountpoint)),
        file_system: String::from_utf8_lossy(unescape(file_system).as_bytes()).into_owned(),
    })
}

/// Undoes the kernel's `\040` and the like.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => plain.push(*first),
        }
    }
    OsString::from_vec(plain)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_understood() {
        let line =
            b"41 23 0:55 / /tmp/a\\040b\\134c rw,nosuid shared:7 master:1 - fuse.outcrop x rw";
        let expected = TableEntry {
            id: 41,
            device: "0:55".into(),
            mountpoint: PathBuf::from("/tmp/a b\\c"),
            file_system: "fuse.outcrop".into(),
        };
        assert_eq!(parse_line(line), Some(expected));
    }

    #[test]
    fn a_line_without_optional_fields_is_understood() {
        let line = b"41 23 0:55 / /mnt rw - ext4 /dev/sda1 rw";
        assert_eq!(parse_line(line).map(|entry| entry.file_system), Some("ext4".into()));
    }

    #[test]
    fn broken_lines_are_passed_over() {
        assert_eq!(parse(b"\n1 2\nx 23 0:55 / /mnt rw - a b\n41 23 0:55 / /mnt rw\n").count(), 0);
    }

    #[test]
    fn a_backslash_without_three_digits_stays() {
        assert_eq!(unescape(b"a\\04"), OsString::from("a\\04"));
        assert_eq!(unescape(b"\\999"), OsString::from("\\999"));
    }

    #[test]
    fn the_root_of_this_machine_is_mounted() {
        assert!(!mounted_at(Path::new("/")).unwrap().is_empty());
    }
}
