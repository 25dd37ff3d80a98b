//! Images of an OCI image layout: which of its layers make the image that was asked for
//! (docs/layers.md).

#![forbid(unsafe_code)]

mod document;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use self::document::{Descriptor, Document, Layout};
use super::cache::Archive;
use crate::archive::Interpretation;
use crate::error::{Error, Result};

pub use self::document::{Digest, Platform};

/// No document of an image is larger. Registries refuse manifests above 4 MiB.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// An index may list another one; a deeper chain is nobody's image.
const DEEPEST_INDEX: usize = 4;

/// The layers of an image, lowest first, as archives whose digests are still to be checked.
///
/// `reference` is a tag or `sha256:…`; `platform` decides where an image index lists several
/// manifests.
///
/// # Errors
/// [`Error::Invalid`] for what the layout does not have, with what it has;
/// [`Error::Malformed`] for documents and blobs that are not what they should be.
pub fn layers(
    directory: &Path,
    reference: Option<&str>,
    platform: &Platform,
) -> Result<Vec<Archive>> {
    let image = Image { directory, label: directory.display().to_string() };
    image.check_layout()?;
    let manifest = image.find(reference, platform)?;
    let count = manifest.len();
    let name = match reference {
        Some(reference) => format!("oci:{}:{reference}", image.label),
        None => format!("oci:{}", image.label),
    };
    let archive = |(number, layer): (usize, Descriptor)| {
        let label = format!("{name} (layer {} of {count})", number.saturating_add(1));
        image.archive(layer, label)
    };
    manifest.into_iter().enumerate().map(archive).collect()
}

impl Platform {
    /// Linux on the architecture that this program was made for, by its name in Go.
    pub fn of_host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned() }
    }
}

struct Image<'a> {
    directory: &'a Path,
    label: String,
}

impl Image<'_> {
    fn invalid(&self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: {problem}", self.label))
    }

    fn malformed(&self, file: &Path, problem: impl Into<String>) -> Error {
        let file = file.strip_prefix(self.directory).unwrap_or(file);
        Error::Malformed {
            layer: self.label.clone(),
            path: Some(file.display().to_string()),
            offset: None,
            problem: problem.into(),
        }
    }

    fn check_layout(&self) -> Result<()> {
        let path = self.directory.join("oci-layout");
        let bytes = match self.read(&path) {
            Err(Error::Host { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) && self.directory.exists() =>
            {
                return Err(self.invalid("this is no OCI image layout: it has no file oci-layout"));
            }
            bytes => bytes?,
        };
        let layout: Layout =
            document::parse(&bytes).map_err(|problem| self.malformed(&path, problem))?;
        match layout.version.split('.').next() {
            Some("1") => Ok(()),
            _ => Err(self.malformed(
                &path,
                format!("the layout has version {}; only 1 is known", layout.version),
            )),
        }
    }

    /// The layers of the manifest that is asked for.
    fn find(&self, reference: Option<&str>, platform: &Platform) -> Result<Vec<Descriptor>> {
        let path = self.directory.join("index.json");
        let bytes = self.read(&path)?;
        let index = document::parse_index(&bytes).map_err(|p| self.malformed(&path, p))?;
        let mut candidates = match reference {
            None => index,
            Some(digest) if digest.starts_with("sha256:") => {
                let found = index.iter().find(|descriptor| descriptor.digest == digest);
                vec![match found {
                    Some(descriptor) => descriptor.clone(),
                    None => self.by_digest(digest)?,
                }]
            }
            Some(tag) => self.tagged(index, tag)?,
        };
        for _ in 0..DEEPEST_INDEX {
            let chosen = self.choose(candidates, platform)?;
            let path = self.blob(&chosen)?;
            let bytes = self.document(&path, &chosen)?;
            let document = document::parse_document(&chosen.media_type, &bytes);
            match document.map_err(|problem| self.malformed(&path, problem))? {
                Document::Manifest(layers) => return Ok(layers),
                Document::Index(listed) => candidates = listed,
            }
        }
        Err(self.invalid(format!("indexes are nested more than {DEEPEST_INDEX} deep")))
    }

    /// What has a tag; several where they are for different platforms.
    fn tagged(&self, index: Vec<Descriptor>, tag: &str) -> Result<Vec<Descriptor>> {
        let tags = list(index.iter().filter_map(Descriptor::tag));
        let found: Vec<_> = index.into_iter().filter(|it| it.tag() == Some(tag)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        Err(self.invalid(match tags.is_empty() {
            true => format!("no image has the tag {tag}; none has a tag at all"),
            false => format!("no image has the tag {tag}; there is: {tags}"),
        }))
    }

    /// A manifest that only an index further down names, or nobody: its media type is told by
    /// itself.
    fn by_digest(&self, digest: &str) -> Result<Descriptor> {
        let mut descriptor = Descriptor {
            media_type: String::new(),
            digest: digest.to_owned(),
            size: 0,
            platform: None,
            annotations: Default::default(),
        };
        let path = self.blob(&descriptor)?;
        let bytes = self.read(&path)?;
        descriptor.size = bytes.len() as u64;
        descriptor.media_type =
            document::media_type(&bytes).map_err(|problem| self.malformed(&path, problem))?;
        Ok(descriptor)
    }

    fn choose(&self, candidates: Vec<Descriptor>, platform: &Platform) -> Result<Descriptor> {
        let described: Vec<String> = candidates.iter().map(Descriptor::describe).collect();
        let mut images: Vec<_> = candidates.into_iter().filter(Descriptor::is_image).collect();
        let mut seen = BTreeSet::new();
        images.retain(|it| seen.insert(it.digest.clone()));
        if images.len() > 1 {
            let fits = |it: &Descriptor| it.platform.as_ref().is_some_and(|of| of == platform);
            images = match images.iter().any(|it| it.platform.is_some()) {
                true => images.into_iter().filter(fits).collect(),
                false => images,
            };
        }
        let mut images = images.into_iter();
        match (images.next(), images.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.invalid(match described.is_empty() {
                true => "there is no image in this layout".to_owned(),
                false => format!(
                    "no image is for {platform}; there is: {}",
                    list(described.iter().map(String::as_str))
                ),
            })),
            (Some(_), Some(_)) => Err(self.invalid(format!(
                "several images could be meant; add one of these to oci:{}: {}",
                self.label,
                list(described.iter().map(String::as_str))
            ))),
        }
    }

    /// Where a blob should be.
    fn blob(&self, descriptor: &Descriptor) -> Result<PathBuf> {
        let digest = Digest::parse(&descriptor.digest).map_err(|problem| self.invalid(problem))?;
        Ok(self.directory.join("blobs/sha256").join(digest.hexadecimal()))
    }

    /// A document's bytes, compared with its descriptor.
    fn document(&self, path: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read(path)?;
        if bytes.len() as u64 != descriptor.size {
            return Err(self.malformed(path, wrong_size(bytes.len() as u64, descriptor)));
        }
        let digest = Digest(Sha256::digest(&bytes).into());
        if Digest::parse(&descriptor.digest) != Ok(digest) {
            let problem = format!("the blob is damaged: its SHA-256 is {}", digest.hexadecimal());
            return Err(self.malformed(path, problem));
        }
        Ok(bytes)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let host = |error| Error::host("cannot read", path, error);
        let file = File::open(path).map_err(|error| self.opening(path, error))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_DOCUMENT.saturating_add(1)).read_to_end(&mut bytes).map_err(host)?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            return Err(self.malformed(path, "the document is larger than 4 MiB"));
        }
        Ok(bytes)
    }

    fn opening(&self, path: &Path, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::NotFound && path.starts_with(self.directory.join("blobs"))
        {
            return self.malformed(path, "the blob is missing");
        }
        Error::host("cannot read", path, error)
    }

    /// A layer's blob, checked for presence and size.
    fn archive(&self, layer: Descriptor, label: String) -> Result<Archive> {
        let path = self.blob(&layer)?;
        if !document::is_layer(&layer.media_type) {
            let problem = format!("a layer of the unknown media type {}", layer.media_type);
            return Err(self.malformed(&path, problem));
        }
        let size = std::fs::metadata(&path).map_err(|error| self.opening(&path, error))?.len();
        if size != layer.size {
            return Err(self.malformed(&path, wrong_size(size, &layer)));
        }
        let digest = Digest::parse(&layer.digest).map_err(|problem| self.invalid(problem))?;
        Ok(Archive {
            label,
            interpretation: Some(Interpretation::OciLayer),
            digest: Some(digest.0),
            digest_is_claimed: true,
            ..Archive::new(path)
        })
    }
}

fn wrong_size(size: u64, descriptor: &Descriptor) -> String {
    format!("the blob has {size} bytes instead of {}", descriptor.size)
}

/// Words for a message, each once.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = words.collect();
    words.into_iter().collect::<Vec<_>>().join(", ")
}
