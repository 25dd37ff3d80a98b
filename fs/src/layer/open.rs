//! From a layer's specification, as people write it, to the layer (docs/layers.md).

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Layer;
use super::cache::{Archive, LayerCache, OnProgress};
use super::directory::DirectoryLayer;
use super::git::GitLayer;
use super::oci::{self, Choice, Place, Platform};
use super::parallel;
use super::placed::Placed;
use super::synthetic;
use crate::error::{Error, Result};

/// Where a layer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory that is recognised by its content.
    Path(PathBuf),
    /// A tar, compressed or not, or a Debian package.
    Archive(PathBuf),
    Git {
        repository: PathBuf,
        /// `HEAD` where none is given.
        revision: Option<String>,
        subdirectory: Option<String>,
    },
    Directory(PathBuf),
    /// A node list.
    List(PathBuf),
    /// An artifact of the store, by key.
    Artifact(String),
    /// An image of an OCI image layout.
    Image {
        /// A directory, or a tar of one.
        path: PathBuf,
        /// A tag or a digest; none needed where the layout has one image.
        reference: Option<String>,
        /// This host's where none is given.
        architecture: Option<String>,
    },
}

/// A layer's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub source: Source,
    /// The directory at which the layer's root appears; `None` for the root.
    pub at: Option<Vec<u8>>,
}

/// What opening needs from outside.
pub struct Opener<'a> {
    pub cache: &'a LayerCache,
    pub progress: OnProgress<'a>,
    /// How many archives are prepared at once.
    pub threads: usize,
    /// Finds the layer of an artifact's key.
    pub artifact: &'a (dyn Fn(&str) -> Result<Arc<dyn Layer>> + Sync),
}

impl Spec {
    /// Reads a specification; looks at nothing but the text.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Spec> {
        let text = text.as_ref();
        let bytes = text.as_bytes();
        let (source, at) = match bytes.windows(2).rposition(|pair| pair == b"@/") {
            Some(position) => {
                let (source, at) = bytes.split_at_checked(position).unwrap_or((bytes, b""));
                (source, at.get(1..).filter(|at| *at != b"/"))
            }
            None => (bytes, None),
        };
        let invalid =
            |problem: &str| Error::Invalid(format!("The layer '{}' {problem}.", text.display()));
        if let Some(at) = at
            && at.split(|&b| b == b'/').any(|name| name == b"." || name == b"..")
        {
            return Err(invalid("is placed at a path with '.' or '..'; give a plain one"));
        }
        let source = parse_source(source).map_err(|problem| invalid(&problem))?;
        Ok(Spec { source, at: at.map(<[u8]>::to_vec) })
    }
}

fn parse_source(text: &[u8]) -> Result<Source, String> {
    let path = |rest: &[u8]| match rest {
        b"" => Err("names no file".to_owned()),
        _ => Ok(PathBuf::from(OsString::from_vec(rest.to_vec()))),
    };
    if let Some(rest) = text.strip_prefix(b"tar:") {
        return path(rest).map(Source::Archive);
    }
    if let Some(rest) = text.strip_prefix(b"dir:") {
        return path(rest).map(Source::Directory);
    }
    if let Some(rest) = text.strip_prefix(b"list:") {
        return path(rest).map(Source::List);
    }
    if let Some(rest) = text.strip_prefix(b"git:") {
        return parse_git(rest);
    }
    if let Some(rest) = text.strip_prefix(b"artifact:") {
        let key = utf8(rest)?;
        return match key.is_empty() {
            true => Err("names no artifact".to_owned()),
            false => Ok(Source::Artifact(key)),
        };
    }
    if let Some(rest) = text.strip_prefix(b"oci:") {
        return parse_image(rest);
    }
    if text.windows(3).any(|part| part == b"://") {
        return Err("is a URL, and layers are files: fetch it first".to_owned());
    }
    path(text).map(Source::Path)
}

fn parse_git(rest: &[u8]) -> Result<Source, String> {
    let (repository, revision) = match rest.iter().position(|&b| b == b'#') {
        Some(hash) => (
            rest.get(..hash).unwrap_or_default(),
            Some(utf8(rest.get(hash.saturating_add(1)..).unwrap_or_default())?),
        ),
        None => (rest, None),
    };
    if repository.is_empty() {
        return Err("names no repository".to_owned());
    }
    let (revision, subdirectory) = match revision {
        Some(text) => match text.split_once(':') {
            Some((revision, subdirectory)) => {
                (Some(revision.to_owned()), Some(subdirectory.to_owned()))
            }
            None => (Some(text), None),
        },
        None => (None, None),
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Source::Git {
        repository: PathBuf::from(OsString::from_vec(repository.to_vec())),
        revision: given(revision),
        subdirectory: given(subdirectory),
    })
}

/// The path ends at the last `/:`, else at the first colon: a tag may hold colons, but no `/:`.
fn parse_image(rest: &[u8]) -> Result<Source, String> {
    const ARCHITECTURE: &[u8] = b",arch=";
    let (rest, architecture) = match find_last(rest, ARCHITECTURE) {
        Some((before, name)) if is_architecture(name) => (before, Some(utf8(name)?)),
        _ => (rest, None),
    };
    let (path, reference) = match find_last(rest, b"/:") {
        Some((path, reference)) => (path, Some(utf8(reference)?)),
        None => match rest.iter().position(|&b| b == b':') {
            Some(colon) => (
                rest.get(..colon).unwrap_or_default(),
                Some(utf8(rest.get(colon.saturating_add(1)..).unwrap_or_default())?),
            ),
            None => (rest, None),
        },
    };
    if path.is_empty() {
        return Err("names no directory".to_owned());
    }
    Ok(Source::Image {
        path: PathBuf::from(OsString::from_vec(path.to_vec())),
        reference: reference.filter(|reference| !reference.is_empty()),
        architecture,
    })
}

fn is_architecture(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// What comes before and after the last `mark`.
fn find_last<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).rposition(|window| window == mark)?;
    Some((text.get(..at)?, text.get(at.saturating_add(mark.len())..)?))
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "has a part that is not UTF-8".to_owned())
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Path(path) => write!(f, "{}", path.display())?,
            Source::Archive(path) => write!(f, "tar:{}", path.display())?,
            Source::Directory(path) => write!(f, "dir:{}", path.display())?,
            Source::List(path) => write!(f, "list:{}", path.display())?,
            Source::Artifact(key) => write!(f, "artifact:{key}")?,
            Source::Image { path, reference, architecture } => {
                write!(f, "oci:{}", path.display())?;
                if path.as_os_str().as_bytes().contains(&b':') {
                    write!(f, "/:")?;
                } else if reference.is_some() {
                    write!(f, ":")?;
                }
                write!(f, "{}", reference.as_deref().unwrap_or_default())?;
                if let Some(architecture) = architecture {
                    write!(f, ",arch={architecture}")?;
                }
            }
            Source::Git { repository, revision, subdirectory } => {
                write!(f, "git:{}", repository.display())?;
                match (revision, subdirectory) {
                    (None, None) => {}
                    (revision, None) => write!(f, "#{}", revision.as_deref().unwrap_or(""))?,
                    (revision, Some(subdirectory)) => {
                        write!(f, "#{}:{subdirectory}", revision.as_deref().unwrap_or(""))?;
                    }
                }
            }
        }
        match &self.at {
            Some(at) => write!(f, "@{}", at.escape_ascii()),
            None => Ok(()),
        }
    }
}

/// Opens what a specification names, preparing archives in the cache where need be: one layer, but
/// for an image the layers of it, lowest first.
pub fn open(spec: &Spec, opener: &Opener<'_>) -> Result<Vec<Arc<dyn Layer>>> {
    let layers: Vec<Arc<dyn Layer>> = match &spec.source {
        Source::Path(path) => vec![open_path(path, opener)?],
        Source::Archive(path) => vec![open_archive(path, opener)?],
        Source::Git { repository, revision, subdirectory } => {
            let revision = revision.as_deref().unwrap_or("HEAD");
            vec![open_git(repository, revision, subdirectory.as_deref())?]
        }
        Source::Directory(path) => vec![open_directory(path)?],
        Source::List(path) => vec![open_list(path)?],
        Source::Artifact(key) => vec![(opener.artifact)(key)?],
        Source::Image { path, reference, architecture } => {
            let platform = architecture.as_deref().map(Platform::linux);
            let choice = Choice {
                reference: reference.clone(),
                platform_is_asked: platform.is_some(),
                platform: platform.unwrap_or_else(Platform::of_host),
            };
            open_image(path, &choice, opener)?
        }
    };
    let Some(at) = &spec.at else { return Ok(layers) };
    let mut placed: Vec<Arc<dyn Layer>> = Vec::with_capacity(layers.len());
    for layer in layers {
        placed.push(Arc::new(Placed::new(layer, at)?));
    }
    Ok(placed)
}

/// Opens several specifications, `opener.threads` at a time, in the order given. The first that
/// fails decides.
pub fn open_all(specs: &[Spec], opener: &Opener<'_>) -> Result<Vec<Arc<dyn Layer>>> {
    let opened: Result<Vec<_>> =
        parallel::map(specs, opener.threads, |spec| open(spec, opener)).into_iter().collect();
    Ok(opened?.into_iter().flatten().collect())
}

fn open_path(path: &Path, opener: &Opener<'_>) -> Result<Arc<dyn Layer>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::host("cannot open", path, e))?;
    if metadata.is_dir() {
        return open_directory(path);
    }
    open_archive(path, opener)
}

fn open_archive(path: &Path, opener: &Opener<'_>) -> Result<Arc<dyn Layer>> {
    Ok(Arc::new(opener.cache.open(&Archive::new(path), opener.progress)?))
}

fn open_list(path: &Path) -> Result<Arc<dyn Layer>> {
    let text = std::fs::read(path).map_err(|e| Error::host("cannot read", path, e))?;
    let label = path.display().to_string();
    let nodes = synthetic::parse(&text)
        .map_err(|error| Error::malformed(label.clone(), error.to_string()))?;
    Ok(Arc::new(synthetic::layer(&label, nodes)?))
}

fn open_git(
    repository: &Path,
    revision: &str,
    subdirectory: Option<&str>,
) -> Result<Arc<dyn Layer>> {
    Ok(Arc::new(GitLayer::open(repository, revision, subdirectory)?))
}

fn open_image(path: &Path, choice: &Choice, opener: &Opener<'_>) -> Result<Vec<Arc<dyn Layer>>> {
    let place = Place::open(path, opener.cache, opener.progress)?;
    let archives = oci::layers(&place, choice)?;
    let mut layers: Vec<Arc<dyn Layer>> = Vec::with_capacity(archives.len());
    for layer in opener.cache.prepare_all(&archives, opener.threads, opener.progress) {
        layers.push(Arc::new(layer?));
    }
    Ok(layers)
}

fn open_directory(path: &Path) -> Result<Arc<dyn Layer>> {
    Ok(Arc::new(DirectoryLayer::open(path)?))
}
