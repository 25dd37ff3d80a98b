//! Where indexes and the random-access form of compressed inputs are kept.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::indexed::{IndexedLayer, Recipe, build};
use super::parallel;
use crate::archive::{Compression, Interpretation, ar};
use crate::error::{Error, Result};
use crate::index::{Index, SourceIdentity};

mod unpack;
mod verify;

pub use verify::verify;

/// An archive to open: a tar, compressed or not, or a `.deb`; told apart by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub path: PathBuf,
    /// Where in the file it is; `None` where it is the file. A part is always copied into the cache.
    pub part: Option<Part>,
    /// How messages name the layer.
    pub label: String,
    /// `None`: packages as packages, everything else as it is.
    pub interpretation: Option<Interpretation>,
    /// SHA-256 of the file, where it is known: then the cache is found by content,
    /// wherever the file lies and whatever its mtime.
    pub digest: Option<[u8; 32]>,
    /// Somebody else says that this is the digest: it is compared before the file is used for the
    /// first time.
    pub digest_is_claimed: bool,
}

/// A range of a file: a member of another archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub offset: u64,
    pub length: u64,
}

impl Archive {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let label = path.display().to_string();
        Archive {
            path,
            part: None,
            label,
            interpretation: None,
            digest: None,
            digest_is_claimed: false,
        }
    }

    /// What the archive is now.
    fn identity(&self, file: &File) -> Result<SourceIdentity> {
        let whole = build::identity(file, &self.path, self.digest)?;
        Ok(match self.part {
            Some(part) => SourceIdentity { size: part.length, ..whole },
            None => whole,
        })
    }
}

/// How far the preparation of one layer has come, in bytes of the file given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    pub label: &'a str,
    pub done: u64,
    pub total: u64,
}

/// Is told of progress, from any thread. Nothing is reported where nothing had to be prepared.
pub type OnProgress<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// A directory of indexes, and of uncompressed tars for inputs that allow no random access.
///
/// Any number of processes may use it at once. Everything in it can be deleted at any time while
/// no layer is being opened, and is made again when needed.
#[derive(Debug, Clone)]
pub struct LayerCache {
    directory: PathBuf,
}

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    PlainTar,
    /// A stream to uncompress: compression, offset and length in the file.
    Packed {
        compression: Compression,
        offset: u64,
        length: u64,
    },
}

impl LayerCache {
    pub fn new(directory: PathBuf) -> Self {
        LayerCache { directory }
    }

    /// Opens an archive, preparing it first if need be: an index is made for a plain tar, which is
    /// then used in place; other forms are uncompressed and indexed in one pass.
    pub fn open(&self, archive: &Archive, progress: OnProgress<'_>) -> Result<IndexedLayer> {
        let path = &archive.path;
        // Opening a fifo would wait for a writer.
        let kind = fs::metadata(path).map_err(|e| Error::host("cannot open", path, e))?;
        if !kind.is_file() {
            return Err(Error::Invalid(format!("{} is not a regular file.", path.display())));
        }
        let mut file = File::open(path).map_err(|e| Error::host("cannot open", path, e))?;
        let source = archive.identity(&file)?;
        let (form, is_package) = recognise(archive, &mut file, source.size)?;
        let interpretation = archive.interpretation.unwrap_or(match is_package {
            true => Interpretation::Package,
            false => Interpretation::Plain,
        });
        let stem = self.stem(archive, interpretation)?;
        let preparation = Preparation {
            archive,
            form,
            interpretation,
            source,
            index_path: with_extension(&stem, "index"),
            data_path: with_extension(&stem, "tar"),
        };
        if let Found::Valid(layer) = preparation.find(&file)? {
            return Ok(*layer);
        }
        if let Err(error) = fs::create_dir_all(&self.directory) {
            let error = Error::host("cannot create", &self.directory, error);
            return preparation.without_cache(file, error);
        }
        let _lock = match lock(&with_extension(&stem, "lock")) {
            Ok(lock) => lock,
            Err(error) => return preparation.without_cache(file, error),
        };
        match preparation.find(&file)? {
            Found::Valid(layer) => return Ok(*layer),
            Found::Outdated => {
                log::warn!("{}: its index is outdated or damaged; making it anew", archive.label);
            }
            Found::Nothing => {}
        }
        preparation.remove_drafts();
        preparation.prepare(file, progress)
    }

    /// Opens several archives, `threads` at a time; the results are in the order given.
    pub fn prepare_all(
        &self,
        archives: &[Archive],
        threads: usize,
        progress: OnProgress<'_>,
    ) -> Vec<Result<IndexedLayer>> {
        parallel::map(archives, threads, |archive| self.open(archive, progress))
    }

    /// The path of an archive's files without extension: by content where that is known, by place
    /// otherwise.
    fn stem(&self, archive: &Archive, interpretation: Interpretation) -> Result<PathBuf> {
        let kind = interpretation.name();
        let name = match archive.digest {
            // A plain tar that is a file of its own needs no copy.
            Some(digest) if archive.part.is_some() => {
                format!("{}.{kind}-part", hexadecimal(&digest))
            }
            Some(digest) => format!("{}.{kind}", hexadecimal(&digest)),
            None => {
                let path = fs::canonicalize(&archive.path)
                    .map_err(|e| Error::host("cannot resolve", &archive.path, e))?;
                let mut hasher = Xxh3::new();
                hasher.update(path.as_os_str().as_bytes());
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
                let name: String =
                    name.chars().map(|c| if plain(c) { c } else { '_' }).take(60).collect();
                format!("{name}-{:032x}.{kind}", hasher.digest128())
            }
        };
        Ok(self.directory.join(name))
    }
}

/// One archive on its way to a layer.
struct Preparation<'a> {
    archive: &'a Archive,
    form: Form,
    interpretation: Interpretation,
    source: SourceIdentity,
    index_path: PathBuf,
    /// Only used where the form is not a plain tar.
    data_path: PathBuf,
}

enum Found {
    Valid(Box<IndexedLayer>),
    Outdated,
    Nothing,
}

impl Preparation<'_> {
    fn find(&self, file: &File) -> Result<Found> {
        let data = match self.form {
            Form::PlainTar => file.try_clone(),
            Form::Packed { .. } => File::open(&self.data_path),
        };
        let data = match data {
            Ok(data) => data,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) => return Err(Error::host("cannot open", &self.data_path, e)),
        };
        let size = data.metadata().map_err(|e| Error::host("cannot stat", &self.data_path, e))?;
        match build::open_valid(&self.index_path, &self.source, size.len()) {
            Ok(Some(index)) => Ok(Found::Valid(Box::new(self.layer(index, data)))),
            Ok(None) if self.index_path.exists() => Ok(Found::Outdated),
            Ok(None) => Ok(Found::Nothing),
            Err(Error::Malformed { .. }) => Ok(Found::Outdated),
            Err(error) => Err(error),
        }
    }

    fn prepare(&self, mut file: File, progress: OnProgress<'_>) -> Result<IndexedLayer> {
        let label = &self.archive.label;
        self.check_claim(&file)?;
        match self.form {
            Form::PlainTar => {
                let bytes =
                    build::index_of(label, &file, &self.source, self.interpretation, false)?;
                self.check_unchanged(&file)?;
                let index = build::publish_or_keep(label, bytes, &self.index_path)?;
                Ok(self.layer(index, file))
            }
            Form::Packed { compression, offset, length } => {
                let path = &self.archive.path;
                file.seek(SeekFrom::Start(offset))
                    .map_err(|e| Error::host("cannot seek in", path, e))?;
                let report = |done| progress(Progress { label, done, total: length });
                let input = unpack::Counted::new((&file).take(length), &report);
                let input = BufReader::with_capacity(256 * 1024, input);
                let draft = build::draft_of(&self.data_path)?;
                let bytes = unpack::unpack(
                    label,
                    input,
                    compression,
                    draft.as_file(),
                    &self.source,
                    self.interpretation,
                )
                .map_err(|error| name_file(error, draft.path()))?;
                self.check_unchanged(&file)?;
                let data =
                    draft.reopen().map_err(|e| Error::host("cannot open", draft.path(), e))?;
                build::publish(draft, &self.data_path)?;
                let index = build::publish_or_keep(label, bytes, &self.index_path)?;
                Ok(self.layer(index, data))
            }
        }
    }

    /// A plain tar can do without the cache; anything else cannot.
    fn without_cache(&self, file: File, error: Error) -> Result<IndexedLayer> {
        let label = &self.archive.label;
        if self.form != Form::PlainTar {
            return Err(error);
        }
        log::warn!("{label}: the index is kept in memory only: {error}");
        self.check_claim(&file)?;
        let bytes = build::index_of(label, &file, &self.source, self.interpretation, false)?;
        let index = Index::from_bytes(bytes).map_err(|fault| fault.into_error(label))?;
        Ok(self.layer(index, file))
    }

    fn layer(&self, index: Index, data: File) -> IndexedLayer {
        let recipe = Recipe {
            index_path: self.index_path.clone(),
            interpretation: self.interpretation,
            digests: self.form != Form::PlainTar,
        };
        IndexedLayer::from_parts(&self.archive.label, index, data, Some(recipe))
            .holding(mark_in_use(&self.index_path))
    }

    /// Reads the whole file where its digest is only a claim.
    fn check_claim(&self, file: &File) -> Result<()> {
        let Some(claimed) = self.archive.digest.filter(|_| self.archive.digest_is_claimed) else {
            return Ok(());
        };
        let host = |error| Error::host("cannot read", &self.archive.path, error);
        let mut hasher = Sha256::new();
        let mut file = file;
        let Part { offset, length } =
            self.archive.part.unwrap_or(Part { offset: 0, length: u64::MAX });
        file.seek(SeekFrom::Start(offset)).map_err(host)?;
        std::io::copy(&mut file.take(length), &mut hasher).map_err(host)?;
        file.rewind().map_err(host)?;
        let found: [u8; 32] = hasher.finalize().into();
        if found == claimed {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{}: {} is damaged: its SHA-256 is {}.",
            self.archive.label,
            self.archive.path.display(),
            hexadecimal(&found)
        )))
    }

    fn check_unchanged(&self, file: &File) -> Result<()> {
        let now = self.archive.identity(file)?;
        if now == self.source {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{} was changed while it was read; try again when it is complete.",
            self.archive.label
        )))
    }

    /// Removes what a killed process left; nobody else can be writing while the lock is held.
    fn remove_drafts(&self) {
        for path in [&self.index_path, &self.data_path] {
            let mut prefix = path.file_name().unwrap_or_default().to_owned();
            prefix.push(".draft-");
            let Some(entries) = path.parent().and_then(|parent| fs::read_dir(parent).ok()) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                    // A draft that stays costs only space.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// Tells by the first bytes what a file is; true for a Debian package.
fn recognise(archive: &Archive, file: &mut File, size: u64) -> Result<(Form, bool)> {
    let label = &archive.label;
    let host = |e| Error::host("cannot read", &archive.path, e);
    if let Some(Part { offset, length }) = archive.part {
        let compression = Compression::recognise(&first_bytes(file, offset).map_err(host)?);
        return Ok((Form::Packed { compression, offset, length }, false));
    }
    let first = first_bytes(file, 0).map_err(host)?;
    if first.starts_with(ar::MAGIC) {
        let member = ar::find_data(label, file)?;
        let first = first_bytes(file, member.offset).map_err(host)?;
        let compression = Compression::recognise(&first);
        return Ok((
            Form::Packed { compression, offset: member.offset, length: member.size },
            true,
        ));
    }
    Ok(match Compression::recognise(&first) {
        Compression::None => (Form::PlainTar, false),
        compression => (Form::Packed { compression, offset: 0, length: size }, false),
    })
}

fn first_bytes(file: &mut File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(8).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Waits for the right to prepare an archive; it ends with the process at the latest. The file
/// stays: removing it would let two processes lock two files of one name.
fn lock(path: &Path) -> Result<File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| Error::host("cannot create", path, e))?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::host("cannot lock", path, e.into())),
            Ok(()) => return Ok(file),
        }
    }
}

/// Tells whoever tidies the cache that a layer is in use, by a shared lock on its index, and when it
/// was: now. Only a courtesy: what was opened goes on to work when its files are removed.
fn mark_in_use(index: &Path) -> Option<File> {
    let file = File::open(index).ok()?;
    flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    let now = std::time::SystemTime::now();
    // Somebody else's cache cannot be marked.
    let _ = file.set_times(fs::FileTimes::new().set_modified(now));
    Some(file)
}

/// A failed write is about the draft, not about the archive.
fn name_file(error: Error, draft: &Path) -> Error {
    match error {
        Error::Host { doing: unpack::CANNOT_WRITE, source, .. } => {
            Error::host(unpack::CANNOT_WRITE, draft, source)
        }
        other => other,
    }
}

fn with_extension(stem: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(stem);
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
