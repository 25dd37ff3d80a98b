//! Tar archives as single-commit git repositories. The rules are in `docs/sources.md`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use git2::{Oid, Repository, Signature, Time};
use sha2::{Digest, Sha256};

use super::error::{Context, Error, Result};
use super::{Progress, Session};
use crate::store::hex;

/// Limits of what is believed of a member's name.
const LONGEST_NAME: usize = 255;
const DEEPEST_PATH: usize = 128;

/// Files up to this size go through memory; larger ones through a temporary file of libgit2.
const SMALL_FILE: u64 = 8 << 20;

/// The last second of the year 9999: later times are garbage, and git tools trip over them.
const LATEST_TIME: u64 = 253_402_300_799;

/// What a line of a commit's message begins with that has the checksum of an archive.
const CHECKSUM: &str = "sha256: ";

/// The first checksum in the message of an import's commit.
pub(super) fn checksum_of(commit: &git2::Commit<'_>) -> Option<String> {
    let message = String::from_utf8_lossy(commit.message_bytes());
    message.lines().find_map(|line| line.strip_prefix(CHECKSUM)).map(str::to_owned)
}

/// A directory in the making.
pub(super) type Members = BTreeMap<Vec<u8>, Member>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Member {
    /// A file or symlink: blob and git mode.
    Blob(Oid, i32),
    Directory(Members),
}

/// What an archive holds; its blobs are in the repository already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub members: Members,
    /// Newest modification time, in seconds since 1970.
    pub newest: i64,
    /// SHA-256 of the archive file, 64 hex digits.
    pub sha256: String,
}

/// Reads an archive file into a repository's object database, hashing it on the way.
pub(super) fn read(session: &Session<'_>, repo: &Repository, path: &Path) -> Result<Content> {
    let file = File::open(path).context("cannot open the archive", path)?;
    let mut hashing = BufReader::with_capacity(1 << 16, Hashing::new(file));
    let what = path.display().to_string();
    let read =
        decompress(&mut hashing).context("cannot read the archive", path).and_then(|stream| {
            let mut reader =
                TarReader { repo, what: &what, content: Content::default(), ignored_git: false };
            reader.read(session, stream)?;
            Ok(reader.content)
        });
    let mut content = read?;
    // A decompressor stops at its own end: the file's last bytes still belong to its checksum.
    io::copy(&mut hashing, &mut io::sink()).context("cannot read the archive", path)?;
    content.sha256 = hashing.into_inner().finish();
    Ok(content)
}

struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Hashing {
    fn new(file: File) -> Self {
        Hashing { file, hasher: Sha256::new() }
    }

    fn finish(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Decompresses by what the content begins with.
pub(super) fn decompress<'a>(reader: &'a mut dyn BufRead) -> io::Result<Box<dyn Read + 'a>> {
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if start.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(reader)?)
    } else if start.starts_with(&[0x5d, 0, 0]) {
        let stream = liblzma::stream::Stream::new_lzma_decoder(u64::MAX)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
    } else {
        Box::new(reader)
    })
}

struct TarReader<'a> {
    repo: &'a Repository,
    what: &'a str,
    content: Content,
    ignored_git: bool,
}

impl TarReader<'_> {
    fn read(&mut self, session: &Session<'_>, stream: Box<dyn Read + '_>) -> Result<()> {
        let what = self.what.to_owned();
        let broken = |error: io::Error| bad(&what, format!("it is truncated or corrupt: {error}"));
        let mut archive = tar::Archive::new(stream);
        let mut count = 0u64;
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            count = count.saturating_add(1);
            if count % 64 == 1
                && !session.tell(Progress::Importing { what: self.what, members: count })
            {
                return Err(Error::Cancelled);
            }
            let mtime = entry.header().mtime().unwrap_or(0);
            if mtime <= LATEST_TIME {
                self.content.newest = self.content.newest.max(mtime as i64);
            }
            self.member(&mut entry)?;
        }
        if count == 0 {
            return Err(bad(self.what, "it is empty, or not a tar archive"));
        }
        Ok(())
    }

    fn member(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        use tar::EntryType;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let raw = entry.path_bytes().into_owned();
        let Some(path) = self.split(&raw)? else { return Ok(()) };
        let member = match kind {
            EntryType::Directory => Member::Directory(Members::new()),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = entry.header().mode().unwrap_or(0) & 0o100 != 0;
                let mode = if executable { 0o100755 } else { 0o100644 };
                Member::Blob(self.blob(entry)?, mode)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Member::Blob(self.repo.blob(&target).context("cannot import", self.what)?, 0o120000)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let place = self.split(&target)?.unwrap_or_default();
                find(&self.content.members, &place).cloned().ok_or_else(|| {
                    let (name, target) = (lossy(&raw), lossy(&target));
                    bad(self.what, format!("{name} is a hard link to {target}, which is not there"))
                })?
            }
            other => {
                let name = lossy(&raw);
                return Err(bad(
                    self.what,
                    format!("{name} is neither file, directory nor link (type {other:?})"),
                ));
            }
        };
        if path.is_empty() {
            return match member {
                Member::Directory(_) => Ok(()),
                Member::Blob(..) => Err(bad(self.what, "a member has no name")),
            };
        }
        insert(&mut self.content.members, &path, member)
            .map_err(|problem| bad(self.what, format!("{}: {problem}", lossy(&raw))))
    }

    fn blob(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Oid> {
        let broken =
            |error: io::Error| bad(self.what, format!("it is truncated or corrupt: {error}"));
        let size = entry.size();
        if size <= SMALL_FILE {
            let mut data = Vec::new();
            entry.read_to_end(&mut data).map_err(broken)?;
            return self.repo.blob(&data).context("cannot import", self.what);
        }
        let mut writer = self.repo.blob_writer(None).context("cannot import", self.what)?;
        io::copy(entry, &mut writer).map_err(broken)?;
        writer.commit().context("cannot import", self.what)
    }

    /// A member's path as names; `None` for what is left out.
    fn split(&mut self, raw: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        let problem = |problem: &str| {
            let start: Vec<u8> = raw.iter().take(100).copied().collect();
            bad(self.what, format!("the member {:?} {problem}", lossy(&start)))
        };
        if raw.starts_with(b"/") {
            return Err(problem("has an absolute name"));
        }
        if raw.contains(&0) {
            return Err(problem("has a NUL in its name"));
        }
        let mut path = Vec::new();
        for name in raw.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(problem("leads out of the archive with ..")),
                _ if name.len() > LONGEST_NAME => return Err(problem("has a name over 255 bytes")),
                _ if name.eq_ignore_ascii_case(b".git") => {
                    if !std::mem::replace(&mut self.ignored_git, true) {
                        log::warn!("{}: {} is left out", self.what, lossy(raw));
                    }
                    return Ok(None);
                }
                _ => path.push(name.to_vec()),
            }
        }
        if path.len() > DEEPEST_PATH {
            return Err(problem("lies too deep"));
        }
        Ok(Some(path))
    }
}

fn bad(what: &str, problem: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("{what}: the archive cannot be used: {problem}."))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn find<'a>(members: &'a Members, path: &[Vec<u8>]) -> Option<&'a Member> {
    let (name, rest) = path.split_first()?;
    match (members.get(name)?, rest) {
        (found @ Member::Blob(..), []) => Some(found),
        (Member::Directory(below), rest) => find(below, rest),
        _ => None,
    }
}

/// Puts a member at its path; the later of two counts, except that nothing replaces a directory
/// that has something in it.
fn insert(members: &mut Members, path: &[Vec<u8>], member: Member) -> Result<(), &'static str> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    let slot = members.entry(name.clone());
    if !rest.is_empty() {
        return match slot.or_insert_with(|| Member::Directory(Members::new())) {
            Member::Directory(below) => insert(below, rest, member),
            Member::Blob(..) => Err("lies below something that is not a directory"),
        };
    }
    match slot {
        MapEntry::Vacant(slot) => {
            slot.insert(member);
        }
        MapEntry::Occupied(mut slot) => match (slot.get(), &member) {
            (Member::Directory(_), Member::Directory(_)) => {}
            (Member::Directory(below), _) if !below.is_empty() => {
                return Err("replaces a directory that is not empty");
            }
            _ => {
                slot.insert(member);
            }
        },
    }
    Ok(())
}

/// Takes away a single leading directory, as release archives have it.
pub(super) fn strip(mut members: Members) -> Members {
    if members.len() == 1
        && let Some(Member::Directory(below)) = members.first_entry().map(|only| only.get().clone())
    {
        members = below;
    }
    members
}

/// Writes directories as trees; `None` for one without files, which git cannot hold.
pub(super) fn write_tree(
    repo: &Repository,
    members: &Members,
) -> std::result::Result<Option<Oid>, git2::Error> {
    let mut builder = repo.treebuilder(None)?;
    for (name, member) in members {
        match member {
            Member::Blob(oid, mode) => {
                builder.insert(name.as_slice(), *oid, *mode)?;
            }
            Member::Directory(below) => {
                if let Some(oid) = write_tree(repo, below)? {
                    builder.insert(name.as_slice(), oid, 0o040000)?;
                }
            }
        }
    }
    if builder.is_empty() { Ok(None) } else { builder.write().map(Some) }
}

/// What a commit says of an import.
pub(super) struct Description<'a> {
    pub subject: &'a str,
    pub seconds: i64,
    pub checksums: &'a [String],
    pub parent: Option<Oid>,
}

/// The commit of an import: the same for the same tree and description.
pub(super) fn commit(
    repo: &Repository,
    members: &Members,
    description: &Description<'_>,
    what: &str,
) -> Result<Oid> {
    let make = || {
        let Some(tree) = write_tree(repo, members)? else { return Ok(None) };
        let time = Time::new(description.seconds, 0);
        let who = Signature::new("Outcrop", "outcrop@localhost", &time)?;
        let mut message = format!("{}\n\n", description.subject);
        for checksum in description.checksums {
            message.push_str(&format!("{CHECKSUM}{checksum}\n"));
        }
        let tree = repo.find_tree(tree)?;
        let parent = description.parent.map(|id| repo.find_commit(id)).transpose()?;
        let parents: Vec<_> = parent.iter().collect();
        repo.commit(None, &who, &who, &message, &tree, &parents).map(Some)
    };
    make().context("cannot import", what)?.ok_or_else(|| bad(what, "there is no file in it"))
}
