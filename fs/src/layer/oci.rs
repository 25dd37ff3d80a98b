//! Images of an OCI image layout: which of its layers make the image that was asked for
//! (docs/layers.md).

#![forbid(unsafe_code)]

mod document;
mod place;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use self::document::{Descriptor, Document, Layout};
use self::place::Found;
use super::cache::Archive;
use crate::archive::Interpretation;
use crate::error::{Error, Result};

pub use self::document::{Digest, Platform};
pub use self::place::Place;

/// No document of an image is larger. Registries refuse manifests above 4 MiB.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// An index may list another one; a deeper chain is nobody's image.
const DEEPEST_INDEX: usize = 4;

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// A tag or `sha256:…`; none needed where the layout has one image.
    pub reference: Option<String>,
    /// Decides where an image index lists several manifests.
    pub platform: Platform,
    /// Whether an image for another platform is refused even where it is the only one.
    pub platform_is_asked: bool,
}

/// The layers of an image, lowest first, as archives whose digests are still to be checked.
///
/// # Errors
/// [`Error::Invalid`] for what the layout does not have, with what it has;
/// [`Error::Malformed`] for documents and blobs that are not what they should be.
pub fn layers(place: &Place, choice: &Choice) -> Result<Vec<Archive>> {
    let image = Image { place, label: place.path().display().to_string() };
    image.check_layout()?;
    let manifest = image.find(choice)?;
    let count = manifest.len();
    let name = match &choice.reference {
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
    /// Linux on the architecture that this program was made for.
    pub fn of_host() -> Platform {
        match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => Platform::linux("ppc64le"),
            architecture => Platform::linux(architecture),
        }
    }

    /// Linux on an architecture by its name in Go, or by Linux's or Rust's.
    pub fn linux(architecture: &str) -> Platform {
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" | "i686" => "386",
            "armv7l" | "armhf" => "arm",
            "powerpc64" => "ppc64",
            "powerpc64le" | "ppc64el" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned() }
    }
}

struct Image<'a> {
    place: &'a Place,
    label: String,
}

impl Image<'_> {
    fn invalid(&self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: {problem}", self.label))
    }

    /// `file` is a name in the layout.
    fn malformed(&self, file: &str, problem: impl Into<String>) -> Error {
        Error::Malformed {
            layer: self.label.clone(),
            path: Some(file.to_owned()),
            offset: None,
            problem: problem.into(),
        }
    }

    fn check_layout(&self) -> Result<()> {
        let name = "oci-layout";
        let Some(found) = self.place.find(name)? else {
            return Err(self.invalid("this is no OCI image layout: it has no file oci-layout"));
        };
        let layout: Layout = document::parse(&self.read(name, &found)?)
            .map_err(|problem| self.malformed(name, problem))?;
        match layout.version.split('.').next() {
            Some("1") => Ok(()),
            _ => Err(self.malformed(
                name,
                format!("the layout has version {}; only 1 is known", layout.version),
            )),
        }
    }

    /// The layers of the manifest that is asked for.
    fn find(&self, choice: &Choice) -> Result<Vec<Descriptor>> {
        let name = "index.json";
        let found = self.place.find(name)?;
        let found = found.ok_or_else(|| self.malformed(name, "the file is missing"))?;
        let bytes = self.read(name, &found)?;
        let index = document::parse_index(&bytes).map_err(|p| self.malformed(name, p))?;
        let mut candidates = match choice.reference.as_deref() {
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
            let chosen = self.choose(candidates, choice)?;
            let (name, found) = self.blob(&chosen)?;
            let bytes = self.document(&name, &found, &chosen)?;
            let document = document::parse_document(&chosen.media_type, &bytes);
            match document.map_err(|problem| self.malformed(&name, problem))? {
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
        let (name, found) = self.blob(&descriptor)?;
        let bytes = self.read(&name, &found)?;
        descriptor.size = bytes.len() as u64;
        descriptor.media_type =
            document::media_type(&bytes).map_err(|problem| self.malformed(&name, problem))?;
        Ok(descriptor)
    }

    fn choose(&self, candidates: Vec<Descriptor>, choice: &Choice) -> Result<Descriptor> {
        let platform = &choice.platform;
        let described: Vec<String> = candidates.iter().map(Descriptor::describe).collect();
        let mut images: Vec<_> = candidates.into_iter().filter(Descriptor::is_image).collect();
        let mut seen = BTreeSet::new();
        images.retain(|it| seen.insert(it.digest.clone()));
        let says_platform = images.iter().any(|it| it.platform.is_some());
        if says_platform && (images.len() > 1 || choice.platform_is_asked) {
            images.retain(|it| it.platform.as_ref() == Some(platform));
        }
        let mut images = images.into_iter();
        match (images.next(), images.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.invalid(match described.is_empty() {
                true => "there is no image in this layout".to_owned(),
                false => format!(
                    "no image is for {platform} (`,arch=NAME` asks for another); there is: {}",
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

    /// A blob, by its name in the layout.
    fn blob(&self, descriptor: &Descriptor) -> Result<(String, Found)> {
        let digest = Digest::parse(&descriptor.digest).map_err(|problem| self.invalid(problem))?;
        let name = format!("blobs/sha256/{}", digest.hexadecimal());
        match self.place.find(&name)? {
            Some(found) => Ok((name, found)),
            None => Err(self.malformed(&name, "the blob is missing")),
        }
    }

    /// A document's bytes, compared with its descriptor.
    fn document(&self, name: &str, found: &Found, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read(name, found)?;
        if bytes.len() as u64 != descriptor.size {
            return Err(self.malformed(name, wrong_size(bytes.len() as u64, descriptor)));
        }
        let digest = Digest(Sha256::digest(&bytes).into());
        if Digest::parse(&descriptor.digest) != Ok(digest) {
            let problem = format!("the blob is damaged: its SHA-256 is {}", digest.hexadecimal());
            return Err(self.malformed(name, problem));
        }
        Ok(bytes)
    }

    fn read(&self, name: &str, found: &Found) -> Result<Vec<u8>> {
        let bytes = found.read(LARGEST_DOCUMENT)?;
        bytes.ok_or_else(|| self.malformed(name, "the document is larger than 4 MiB"))
    }

    /// A layer's blob, checked for presence and size.
    fn archive(&self, layer: Descriptor, label: String) -> Result<Archive> {
        let (name, found) = self.blob(&layer)?;
        if !document::is_layer(&layer.media_type) {
            let problem = format!("a layer of the unknown media type {}", layer.media_type);
            return Err(self.malformed(&name, problem));
        }
        if found.size != layer.size {
            return Err(self.malformed(&name, wrong_size(found.size, &layer)));
        }
        let digest = Digest::parse(&layer.digest).map_err(|problem| self.invalid(problem))?;
        Ok(Archive {
            label,
            part: found.part,
            interpretation: Some(Interpretation::OciLayer),
            digest: Some(digest.0),
            digest_is_claimed: true,
            ..Archive::new(found.path)
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
