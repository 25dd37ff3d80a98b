//! A peer: the way of the original project, made again to be measured. Every node becomes a file of
//! mode 0600 of the user, with one more file beside it, `.virtfs_metadata/NAME`, that says what it
//! is (QEMU's `mapped-file` model); the build's result is collected back from both.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

use crate::measure::Result;

#[derive(clap::Subcommand)]
pub enum Peer {
    /// Unpack as the original did
    OriginalUnpack { into: PathBuf, tars: Vec<PathBuf> },
    /// Collect what was unpacked into one tar, as the original did
    OriginalCollect { from: PathBuf, tar: PathBuf },
}

const METADATA: &str = ".virtfs_metadata";
const KIND_DIRECTORY: u32 = 0o040_000;
const KIND_SYMLINK: u32 = 0o120_000;
const KIND_FILE: u32 = 0o100_000;
const KIND_CHARACTER: u32 = 0o020_000;
const KIND_BLOCK: u32 = 0o060_000;
const KIND_FIFO: u32 = 0o010_000;
const KIND_MASK: u32 = 0o170_000;

pub fn run(peer: &Peer) -> Result<()> {
    match peer {
        Peer::OriginalUnpack { into, tars } => {
            tars.iter().try_for_each(|tar| unpack(tar, into).map_err(Into::into))
        }
        Peer::OriginalCollect { from, tar } => {
            let mut builder = Builder::new(BufWriter::with_capacity(1 << 20, File::create(tar)?));
            collect(from, Path::new(""), &mut builder)?;
            builder.into_inner()?.flush()?;
            Ok(())
        }
    }
}

fn unpack(tar: &Path, into: &Path) -> std::io::Result<()> {
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, File::open(tar)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = into.join(entry.path()?);
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => KIND_DIRECTORY,
            EntryType::Symlink => KIND_SYMLINK,
            EntryType::Char => KIND_CHARACTER,
            EntryType::Block => KIND_BLOCK,
            EntryType::Fifo => KIND_FIFO,
            _ => KIND_FILE,
        };
        let mode = kind | header.mode()?;
        let mut description = format!(
            "virtfs.uid={}\nvirtfs.gid={}\nvirtfs.mode={mode}\n",
            header.uid()?,
            header.gid()?
        );
        if matches!(kind, KIND_CHARACTER | KIND_BLOCK) {
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            let device = rustix::fs::makedev(major.unwrap_or(0), minor.unwrap_or(0));
            description += &format!("virtfs.rdev={device}\n");
        }
        let is_link = header.entry_type() == EntryType::Link;
        match kind {
            KIND_DIRECTORY => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            }
            KIND_SYMLINK => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                create(&path)?.write_all(&target)?;
            }
            _ if is_link => {
                let earlier = into.join(entry.link_name()?.unwrap_or_default());
                fs::hard_link(earlier, &path)?;
            }
            _ => {
                std::io::copy(&mut entry, &mut create(&path)?)?;
            }
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let beside = parent.join(METADATA);
        if !beside.exists() {
            fs::create_dir(&beside)?;
        }
        create(&beside.join(name))?.write_all(description.as_bytes())?;
    }
    Ok(())
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn collect(root: &Path, below: &Path, out: &mut Builder<BufWriter<File>>) -> Result<()> {
    let directory = root.join(below);
    let mut names: Vec<_> =
        fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    for name in names {
        if name == METADATA {
            continue;
        }
        let description = fs::read_to_string(directory.join(METADATA).join(&name))?;
        let value = |field: &str| -> Result<u32> {
            let line = description.lines().find_map(|line| line.strip_prefix(field));
            Ok(line.ok_or_else(|| format!("{field} is missing for {name:?}"))?.parse()?)
        };
        let mode = value("virtfs.mode=")?;
        let mut header = Header::new_gnu();
        header.set_mode(mode & 0o7777);
        header.set_uid(value("virtfs.uid=")?.into());
        header.set_gid(value("virtfs.gid=")?.into());
        header.set_mtime(0);
        header.set_size(0);
        let path = below.join(&name);
        let place = directory.join(&name);
        match mode & KIND_MASK {
            KIND_DIRECTORY => {
                header.set_entry_type(EntryType::Directory);
                out.append_data(&mut header, &path, [].as_slice())?;
                collect(root, &path, out)?;
            }
            KIND_SYMLINK => {
                header.set_entry_type(EntryType::Symlink);
                out.append_link(&mut header, &path, fs::read_to_string(&place)?)?;
            }
            _ => {
                let file = File::open(&place)?;
                header.set_entry_type(EntryType::Regular);
                header.set_size(file.metadata()?.len());
                out.append_data(&mut header, &path, file)?;
            }
        }
    }
    Ok(())
}
