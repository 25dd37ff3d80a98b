//! Exporting a tree as an archive or a file system image, straight from its nodes.
//!
//! `docs/export.md` says what each format keeps. A new format is a file here that implements
//! [`Exporter`], and a variant of [`Format`].

#![forbid(unsafe_code)]

mod builder;
mod cpio;
mod error;
mod ext4;
mod format;
mod squashfs;
mod survey;
mod tarball;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use outcrop_fs::capture::{CaptureOptions, MtimePolicy, OnProgress, Progress, Skipped};
use outcrop_fs::draft::{DraftDirectory, parent};
use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::{Ino, Timestamp};

pub use builder::find_program;
pub use error::{Error, Result};
pub use format::Format;
use survey::Survey;

/// Runs its argument with a directory at which the true view of the exported tree is mounted, and
/// unmounts it afterwards.
pub type WithMount<'a> = &'a dyn Fn(&mut dyn FnMut(&Path) -> Result<()>) -> Result<()>;

#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    pub mtime: MtimePolicy,
    /// SHA-256 that stands for the tree, where the caller knows one (an artifact's): identifiers
    /// inside an image are derived from it. Without it the tree is read once more.
    pub identity: Option<[u8; 32]>,
    /// Size of an `ext4` image in bytes; without it the content and some room to write.
    pub size: Option<u64>,
    /// Needed for `ext4` where the host's `mke2fs` cannot read a tar.
    pub with_mount: Option<WithMount<'a>>,
    /// Also called while a builder of the host runs; `Break` ends the export with
    /// [`Error::Cancelled`].
    pub progress: Option<OnProgress<'a>>,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Names in the tree.
    pub entries: u64,
    /// Length of the output in bytes.
    pub bytes: u64,
    /// Nodes that the format could not carry at all.
    pub skipped: Vec<Skipped>,
    /// What the format lost of the others: whole sentences.
    pub warnings: Vec<String>,
}

/// Writes the tree at `root` as `format` into the file `out`.
///
/// The output is written beside and renamed when it is complete; on any error nothing new remains
/// and what was there before stays. The same tree and options give the same bytes.
///
/// # Errors
/// [`Error::HostLacks`] where a program is missing, [`Error::Builder`] where one failed,
/// [`Error::Cancelled`] where `options.progress` said so, and what the tree or the disk fails with.
pub fn export(
    tree: &dyn Filesystem,
    root: Ino,
    format: Format,
    out: &Path,
    options: &Options<'_>,
) -> Result<Report> {
    let survey = Survey::of(tree, root, options.mtime)?;
    let job = Job { tree, root, options, survey: &survey };
    let fault = |doing, source| outcrop_fs::Error::host(doing, out, source);
    // A directory, not a file: some builders insist on making their output themselves.
    let scratch = DraftDirectory::beside(out).map_err(|source| fault("cannot create", source))?;
    let draft = scratch.path().join("draft");
    let outcome = format.exporter().write(&job, &draft)?;
    let file = File::open(&draft).map_err(|source| fault("cannot write", source))?;
    file.sync_all().map_err(|source| fault("cannot write", source))?;
    let bytes = file.metadata().map_err(|source| fault("cannot write", source))?.len();
    // Whoever cancelled meanwhile keeps what was there before.
    job.report(Progress { entries: survey.entries, bytes })?;
    std::fs::rename(&draft, out).map_err(|source| fault("cannot rename to", source))?;
    File::open(parent(out))
        .and_then(|directory| directory.sync_all())
        .map_err(|source| fault("cannot write", source))?;
    let Outcome { skipped, warnings } = outcome;
    Ok(Report { entries: survey.entries, bytes, skipped, warnings })
}

/// What an exporter is given.
struct Job<'a> {
    tree: &'a dyn Filesystem,
    root: Ino,
    options: &'a Options<'a>,
    survey: &'a Survey,
}

impl<'a> Job<'a> {
    fn capture_options(&self) -> CaptureOptions<'a> {
        CaptureOptions {
            mtime: self.options.mtime,
            progress: self.options.progress,
            ..CaptureOptions::default()
        }
    }

    fn report(&self, progress: Progress) -> Result<()> {
        match self.options.progress.map_or(ControlFlow::Continue(()), |report| report(progress)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// The time that an image says it was made at, in seconds: the newest of the tree's, so that
    /// it depends on nothing else. Image formats have 32 unsigned bits, and 0 means "unset".
    fn image_time(&self) -> u32 {
        let Timestamp { seconds, .. } = self.survey.newest;
        seconds.clamp(1, i64::from(u32::MAX)) as u32
    }
}

/// What an exporter reports.
#[derive(Default)]
struct Outcome {
    skipped: Vec<Skipped>,
    warnings: Vec<String>,
}

/// One format.
trait Exporter: Sync {
    /// The word that selects it.
    fn name(&self) -> &'static str;

    /// One line for help.
    fn about(&self) -> &'static str;

    /// Makes the file `draft`, which does not exist yet. A partial draft is the caller's to remove.
    fn write(&self, job: &Job<'_>, draft: &Path) -> Result<Outcome>;
}
