//! The layers that everybody works on: always the same bytes for the same shape.

use std::io::Read;
use std::path::{Path, PathBuf};

use outcrop_tests::give_to_user;
use tar::{Builder, EntryType, Header};

use super::random::Random;
use super::{create, header};
use crate::measure::Result;

/// How much content.
pub struct Shape {
    pub layers: u64,
    /// Entries of all layers together: files, symlinks and directories.
    pub entries: u64,
    /// Bytes of all files of all layers together.
    pub bytes: u64,
}

/// The layers, and all of them in one tar.
pub struct Layers {
    pub each: Vec<PathBuf>,
    pub all: PathBuf,
}

/// One entry in so many opens a directory, one is a symlink.
const ENTRIES_A_DIRECTORY: u64 = 14;
const ENTRIES_A_SYMLINK: u64 = 12;
/// Of the logarithm of sizes in bytes, before scaling: most files are small, most bytes are in
/// large ones, as in /usr of a Debian system.
const LOG_SIZE: (f64, f64) = (7.7, 2.0);

impl Layers {
    pub fn generate(directory: &Path, shape: &Shape) -> Result<Layers> {
        let mut each = Vec::new();
        let path = directory.join("all.tar");
        let mut all = Builder::new(create(&path)?);
        for number in 0..shape.layers {
            let path = directory.join(format!("layer-{number:02}.tar"));
            let mut layer = Builder::new(create(&path)?);
            write_layer(number, shape, &mut |header, name, target, bytes| match target {
                Some(target) => {
                    layer.append_link(&mut header.clone(), name, target)?;
                    all.append_link(&mut header.clone(), name, target)
                }
                None => {
                    layer.append_data(&mut header.clone(), name, bytes)?;
                    all.append_data(&mut header.clone(), name, bytes)
                }
            })?;
            layer.into_inner()?.into_inner()?;
            give_to_user(&path);
            each.push(path);
        }
        all.into_inner()?.into_inner()?;
        give_to_user(&path);
        Ok(Layers { each, all: path })
    }
}

type Write<'a> = &'a mut dyn FnMut(&Header, &str, Option<&str>, &[u8]) -> std::io::Result<()>;

fn write_layer(number: u64, shape: &Shape, write: Write<'_>) -> Result<()> {
    let entries = shape.entries / shape.layers;
    let mut random = Random(number + 2);
    let own = format!("usr/lib/package-{number:02}");
    for directory in ["usr/", "usr/bin/", "usr/lib/", "usr/share/", &format!("{own}/")] {
        write(&header(EntryType::Directory, 0o755, 0), directory, None, &[])?;
    }
    let sizes = sizes(&mut random, entries, shape.bytes / shape.layers);
    let mut directory = own.clone();
    for (entry, size) in (0_u64..).zip(sizes) {
        if entry % ENTRIES_A_DIRECTORY == 0 {
            directory = match entry / ENTRIES_A_DIRECTORY % 4 {
                // Directories that every layer has are merged.
                0 => "usr/share".to_owned(),
                depth => format!("{own}/part-{entry}{}", "/deeper".repeat(depth as usize - 1)),
            };
            if directory.starts_with(&own) {
                let mut made = own.clone();
                for part in directory.split('/').skip(own.split('/').count()) {
                    made = format!("{made}/{part}");
                    let name = format!("{made}/");
                    write(&header(EntryType::Directory, 0o755, 0), &name, None, &[])?;
                }
            }
        }
        let name = format!("{directory}/{number:02}-file-{entry}");
        if entry % ENTRIES_A_SYMLINK == 1 {
            let target = format!("{number:02}-file-{}", entry + 1);
            write(&header(EntryType::Symlink, 0o777, 0), &name, Some(&target), &[])?;
            continue;
        }
        let mut bytes = vec![0; size as usize];
        random.read_exact(&mut bytes)?;
        let mode = if entry % 5 == 0 { 0o755 } else { 0o644 };
        write(&header(EntryType::Regular, mode, size), &name, None, &bytes)?;
    }
    Ok(())
}

/// As many sizes as the layer has names besides its directories, `bytes` together.
fn sizes(random: &mut Random, entries: u64, bytes: u64) -> Vec<u64> {
    let directories = entries / ENTRIES_A_DIRECTORY;
    // Three of four groups open one to three directories: one and a half in the mean.
    let names = entries.saturating_sub(directories * 3 / 2 + 5);
    let (mean, deviation) = LOG_SIZE;
    let is_file = |entry: usize| entry as u64 % ENTRIES_A_SYMLINK != 1;
    let drawn: Vec<f64> = (0..names).map(|_| (mean + deviation * random.normal()).exp()).collect();
    let total: f64 =
        drawn.iter().enumerate().filter(|(entry, _)| is_file(*entry)).map(|(_, size)| size).sum();
    drawn.into_iter().map(|size| (size * bytes as f64 / total) as u64).collect()
}
