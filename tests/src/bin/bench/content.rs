//! The content that everybody works on: always the same bytes for the same shape.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use outcrop_tests::give_to_user;
use tar::{Builder, EntryType, Header};

use crate::measure::Result;

/// How much content.
pub struct Shape {
    pub layers: u64,
    /// Entries of all layers together: files, symlinks and directories.
    pub entries: u64,
    /// Bytes of all files of all layers together.
    pub bytes: u64,
    /// Bytes of the one large file.
    pub large: u64,
}

impl Shape {
    pub const FULL: Shape =
        Shape { layers: 20, entries: 40_000, bytes: 490_000_000, large: 1 << 30 };
    pub const TENTH: Shape =
        Shape { layers: 20, entries: 4_000, bytes: 49_000_000, large: (1 << 30) / 10 };
}

/// Where the content lies.
pub struct Content {
    pub layers: Vec<PathBuf>,
    /// All layers in one tar.
    pub all: PathBuf,
    /// A tar with nothing in it but one directory.
    pub empty: PathBuf,
    /// A tar with one large file, and the name of that file.
    pub large: PathBuf,
}

pub const LARGE_NAME: &str = "large";
/// 2001-09-09, as good as any.
const MTIME: u64 = 1_000_000_000;
/// One entry in so many opens a directory, one is a symlink.
const ENTRIES_A_DIRECTORY: u64 = 14;
const ENTRIES_A_SYMLINK: u64 = 12;
/// Of the logarithm of sizes in bytes, before scaling: most files are small, most bytes are in
/// large ones, as in /usr of a Debian system.
const LOG_SIZE: (f64, f64) = (7.7, 2.0);

impl Content {
    pub fn generate(directory: &Path, shape: &Shape) -> Result<Content> {
        let mut layers = Vec::new();
        let mut all = Builder::new(create(&directory.join("all.tar"))?);
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
            layers.push(path);
        }
        all.into_inner()?.into_inner()?;
        let empty = directory.join("empty.tar");
        let mut writer = Builder::new(create(&empty)?);
        writer.append_data(&mut header(EntryType::Directory, 0o755, 0), "empty/", [].as_slice())?;
        writer.into_inner()?.into_inner()?;
        let large = directory.join("large.tar");
        let mut writer = Builder::new(create(&large)?);
        let mut one = header(EntryType::Regular, 0o644, shape.large);
        writer.append_data(&mut one, LARGE_NAME, Random(1).take(shape.large))?;
        writer.into_inner()?.into_inner()?;
        let content = Content { layers, all: directory.join("all.tar"), empty, large };
        for path in [&content.all, &content.empty, &content.large] {
            give_to_user(path);
        }
        Ok(content)
    }
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file =
        File::create(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
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

/// xorshift64*: bytes that do not compress, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Normally distributed, nearly: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        sum - 6.0
    }
}

impl Read for Random {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            piece.copy_from_slice(bytes.get(..piece.len()).unwrap_or_default());
        }
        Ok(buffer.len())
    }
}
