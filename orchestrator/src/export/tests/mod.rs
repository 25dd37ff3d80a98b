//! Exports of trees in memory, read back by the tools that each format has.

mod cpio;
mod ext4;
mod failures;
#[path = "../../../../fs/src/capture/tests/memory.rs"]
#[allow(dead_code)]
mod memory;
mod squashfs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outcrop_fs::node::ROOT_INO;
use sha2::{Digest, Sha256};

use self::memory::{MemoryTree, everything};
use super::*;
use outcrop_fs;

/// An export into a directory that lives as long.
struct Exported {
    _directory: tempfile::TempDir,
    path: PathBuf,
    report: Report,
}

impl Exported {
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

fn try_export(tree: &MemoryTree, format: Format, options: &Options<'_>) -> Result<Exported> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let report = export(tree, ROOT_INO, format, &path, options)?;
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(report.bytes, path.metadata().unwrap().len());
    Ok(Exported { _directory: directory, path, report })
}

/// `None`, said aloud, where the host lacks what the format needs.
fn exported(tree: &MemoryTree, format: Format, options: &Options<'_>) -> Option<Exported> {
    match try_export(tree, format, options) {
        Ok(exported) => Some(exported),
        Err(error @ Error::HostLacks { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{format}: {error}"),
    }
}

/// Standard output of a tool; `None`, said aloud, where the tool is missing.
fn tool(name: &str, arguments: &[&str], input: Option<&Path>) -> Option<String> {
    let stdin = match input {
        Some(path) => Stdio::from(File::open(path).unwrap()),
        None => Stdio::null(),
    };
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(stdin)
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} {arguments:?}: {said}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no {name} on this machine");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[test]
fn two_exports_are_identical_bytes() {
    let tree = everything();
    for format in [Format::Tar, Format::TarZst, Format::Cpio, Format::CpioGz, Format::Squashfs] {
        let first = exported(&tree, format, &Options::default());
        // Another second: no clock may get in.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let second = exported(&tree, format, &Options::default());
        let (Some(first), Some(second)) = (first, second) else { continue };
        assert!(sha256(&first.bytes()) == sha256(&second.bytes()), "{format} differs");
    }
}

#[test]
fn compressed_forms_hold_the_plain_ones() {
    let tree = everything();
    let of = |format| exported(&tree, format, &Options::default()).unwrap().bytes();
    assert!(zstd::decode_all(of(Format::TarZst).as_slice()).unwrap() == of(Format::Tar));
    let mut plain = Vec::new();
    let gzip = of(Format::CpioGz);
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut plain)
        .unwrap();
    assert!(plain == of(Format::Cpio));
}

#[test]
fn formats_are_found_by_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
        assert!(!format.about().is_empty());
    }
    let error = "iso".parse::<Format>().unwrap_err().to_string();
    assert!(error.contains("tar, tar.zst, cpio, cpio.gz, squashfs, ext4"), "{error}");
}
