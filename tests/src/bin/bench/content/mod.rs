//! What the cases work on, made once a run.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use outcrop_tests::give_to_user;
use tar::{Builder, EntryType, Header};

use crate::measure::Result;
use random::Random;

pub mod layers;
mod random;

/// The name of the file in [`large`].
pub const LARGE_NAME: &str = "large";
/// 2001-09-09, as good as any.
const MTIME: u64 = 1_000_000_000;
/// Files in one directory of [`many`].
const NAMES_A_DIRECTORY: u64 = 200;

/// A tar with nothing in it but one directory.
pub fn empty(path: &Path) -> Result<PathBuf> {
    archive(path, |tar| {
        tar.append_data(&mut header(EntryType::Directory, 0o755, 0), "empty/", [].as_slice())
    })
}

/// A tar with one large file that does not compress.
pub fn large(path: &Path, bytes: u64) -> Result<PathBuf> {
    archive(path, |tar| {
        let mut one = header(EntryType::Regular, 0o644, bytes);
        tar.append_data(&mut one, LARGE_NAME, Random(1).take(bytes))
    })
}

/// A tar of very many empty files.
pub fn many(path: &Path, entries: u64) -> Result<PathBuf> {
    archive(path, |tar| {
        let mut directory = String::new();
        for entry in 0..entries {
            if entry % NAMES_A_DIRECTORY == 0 {
                directory = format!("usr/{:03}/{entry}", entry / NAMES_A_DIRECTORY % 100);
                let mut one = header(EntryType::Directory, 0o755, 0);
                tar.append_data(&mut one, format!("{directory}/"), [].as_slice())?;
            } else {
                let mut one = header(EntryType::Regular, 0o644, 0);
                tar.append_data(&mut one, format!("{directory}/file-{entry}"), [].as_slice())?;
            }
        }
        Ok(())
    })
}

/// A tar of text files, which compress as source code does.
pub fn words(path: &Path, files: u64, bytes_each: u64) -> Result<PathBuf> {
    let mut random = Random(3);
    let vocabulary: Vec<String> =
        (0..4096).map(|_| format!("{:x} ", random.next() >> (random.next() % 40 + 20))).collect();
    archive(path, |tar| {
        for number in 0..files {
            let mut text = String::new();
            while (text.len() as u64) < bytes_each {
                // The product of two: some words are frequent.
                let (one, other) = (random.next() % 64, random.next() % 64);
                text += &vocabulary[(one * other) as usize];
            }
            let name = format!("source/part-{}/of-{}/file-{number}", number % 10, number % 120);
            let mut one = header(EntryType::Regular, 0o644, text.len() as u64);
            tar.append_data(&mut one, name, text.as_bytes())?;
        }
        Ok(())
    })
}

fn archive(
    path: &Path,
    fill: impl FnOnce(&mut Builder<BufWriter<File>>) -> std::io::Result<()>,
) -> Result<PathBuf> {
    let mut builder = Builder::new(create(path)?);
    fill(&mut builder)?;
    builder.into_inner()?.flush()?;
    give_to_user(path);
    Ok(path.to_owned())
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file =
        File::create(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(size);
    header
}
