//! Where the files of an image layout are: in a directory, or in a tar of one.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::archive::Compression;
use crate::content::Identity;
use crate::error::{Error, Result};
use crate::layer::cache::{Archive, LayerCache, OnProgress, Part};
use crate::layer::indexed::IndexedLayer;
use crate::layer::{Entry, Layer};
use crate::node::Kind;

/// An image layout, opened.
pub enum Place {
    Directory(PathBuf),
    Packed { path: PathBuf, layer: Box<IndexedLayer> },
}

/// A file of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The file itself, or the tar that it is a part of.
    pub path: PathBuf,
    pub part: Option<Part>,
    pub size: u64,
}

impl Place {
    /// Opens a directory, or a tar, which is indexed when it is first used.
    pub fn open(path: &Path, cache: &LayerCache, progress: OnProgress<'_>) -> Result<Place> {
        let host = |error| Error::host("cannot open", path, error);
        let metadata = fs::metadata(path).map_err(host)?;
        if metadata.is_dir() {
            return Ok(Place::Directory(path.to_owned()));
        }
        let mut first = Vec::new();
        if metadata.is_file() {
            File::open(path).map_err(host)?.take(8).read_to_end(&mut first).map_err(host)?;
        }
        if Compression::recognise(&first) != Compression::None {
            return Err(Error::Invalid(format!(
                "{} is compressed; of packed images only a plain tar can be used: uncompress it",
                path.display()
            )));
        }
        let layer = Box::new(cache.open(&Archive::new(path), progress)?);
        Ok(Place::Packed { path: path.to_owned(), layer })
    }

    pub fn path(&self) -> &Path {
        match self {
            Place::Directory(path) | Place::Packed { path, .. } => path,
        }
    }

    /// Finds a file by its name in the layout; `None` where there is none.
    pub(super) fn find(&self, name: &str) -> Result<Option<Found>> {
        match self {
            Place::Directory(directory) => {
                let path = directory.join(name);
                match fs::metadata(&path) {
                    Ok(metadata) => Ok(Some(Found { path, part: None, size: metadata.len() })),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::host("cannot open", path, error)),
                }
            }
            Place::Packed { path, layer } => find_in(layer, name).map(|part| {
                part.map(|part| Found { path: path.clone(), part: Some(part), size: part.length })
            }),
        }
    }
}

fn find_in(layer: &IndexedLayer, name: &str) -> Result<Option<Part>> {
    let mut entry = Entry::ROOT;
    for component in name.split('/') {
        if layer.metadata(entry)?.kind != Kind::Directory {
            return Ok(None);
        }
        match layer.lookup(entry, component.as_bytes())? {
            Some(below) => entry = below,
            None => return Ok(None),
        }
    }
    let metadata = layer.metadata(entry)?;
    let stored = match metadata.kind {
        Kind::File => layer.identity(entry)?,
        _ => None,
    };
    match stored {
        Some(Identity::Stored { offset, .. }) => Ok(Some(Part { offset, length: metadata.size })),
        _ => {
            let problem = "it is no plain file in the tar";
            Err(Error::Malformed {
                layer: layer.label().to_owned(),
                path: Some(name.to_owned()),
                offset: None,
                problem: problem.to_owned(),
            })
        }
    }
}

impl Found {
    /// The whole content, if that is not longer than `limit`.
    pub fn read(&self, limit: u64) -> Result<Option<Vec<u8>>> {
        let host = |error| Error::host("cannot read", &self.path, error);
        let mut file = File::open(&self.path).map_err(host)?;
        let length = match self.part {
            Some(part) => {
                io::Seek::seek(&mut file, io::SeekFrom::Start(part.offset)).map_err(host)?;
                part.length
            }
            None => u64::MAX,
        };
        let mut bytes = Vec::new();
        let most = length.min(limit.saturating_add(1));
        file.take(most).read_to_end(&mut bytes).map_err(host)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }
}
