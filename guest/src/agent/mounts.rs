//! Mounts of the initramfs itself, and the table of what is mounted.

use crate::failure::Failure;
use crate::system;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Everything else needs these three: std's process spawning opens /dev/null.
pub fn early() -> Result<(), Failure> {
    for (target, file_system) in [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs")] {
        let target = Path::new(target);
        fs::create_dir_all(target).map_err(|e| Failure::at("cannot create", target, e))?;
        system::mount(file_system.as_bytes(), target, file_system.as_bytes(), 0, b"")
            .map_err(|e| Failure::at("cannot mount", target, e))?;
    }
    Ok(())
}

/// Mount points at and below `root`, the last mounted first.
pub fn below(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let table = Path::new("/proc/mounts");
    let text = fs::read(table).map_err(|e| Failure::at("cannot read", table, e))?;
    let mut found: Vec<PathBuf> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(1))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|path| path.starts_with(root))
        .collect();
    found.reverse();
    Ok(found)
}

/// The kernel writes blank, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', later @ ..]) => {
                plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = later;
            }
            _ => plain.push(*first),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn mount_table_escapes() {
        assert_eq!(super::unescape(br"/a\040b\134c\9"), br"/a b\c\9");
    }
}
