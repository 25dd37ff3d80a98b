//! The documents of an OCI image layout. Pure: bytes in, values out.
//!
//! <https://github.com/opencontainers/image-spec>: image-layout.md, image-index.md, manifest.md,
//! descriptor.md; Docker's image manifest, version 2, schema 2, has the same members.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const INDEXES: [&str; 2] = [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];

const MANIFESTS: [&str; 2] = [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];

const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

const TAG: &str = "org.opencontainers.image.ref.name";

/// A SHA-256, as descriptors write it: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// # Errors
    /// A sentence for other algorithms and for what is no digest.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let Some(digits) = text.strip_prefix("sha256:") else {
            return Err(format!("{text} is not a SHA-256 digest (sha256:…), the only one known"));
        };
        let wrong = || format!("{text} is not a digest: sha256: and 64 hexadecimal digits");
        let mut digest = [0; 32];
        let mut pairs = digits.as_bytes().chunks_exact(2);
        if digits.len() != 64 {
            return Err(wrong());
        }
        for (byte, pair) in digest.iter_mut().zip(&mut pairs) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            let lower = pair.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| lower).ok_or_else(wrong)?;
        }
        Ok(Digest(digest))
    }

    pub fn hexadecimal(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[derive(Debug, Deserialize)]
pub struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    pub version: String,
}

/// What an image runs on, in Go's words: `amd64`, `linux`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    #[serde(rename = "mediaType")]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn tag(&self) -> Option<&str> {
        self.annotations.get(TAG).map(String::as_str)
    }

    /// Whether it could be an image: attestations say that they run on nothing known.
    pub fn is_image(&self) -> bool {
        self.platform.as_ref().is_none_or(|platform| platform.architecture != "unknown")
    }

    /// How a person would ask for it.
    pub fn describe(&self) -> String {
        match (self.tag(), &self.platform) {
            (Some(tag), Some(platform)) => format!("{tag} ({platform})"),
            (Some(tag), None) => tag.to_owned(),
            (None, Some(platform)) => format!("{} ({platform})", self.digest),
            (None, None) => self.digest.clone(),
        }
    }
}

/// What a descriptor of an index may lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Document {
    Index(Vec<Descriptor>),
    /// The layers, lowest first.
    Manifest(Vec<Descriptor>),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Either {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("the JSON cannot be used: {error}"))
}

pub fn parse_index(bytes: &[u8]) -> Result<Vec<Descriptor>, String> {
    parse::<Index>(bytes).map(|index| index.manifests)
}

/// What a blob is, by the media type of the descriptor that led to it.
pub fn parse_document(media_type: &str, bytes: &[u8]) -> Result<Document, String> {
    if INDEXES.contains(&media_type) {
        return parse_index(bytes).map(Document::Index);
    }
    if MANIFESTS.contains(&media_type) {
        return parse::<Manifest>(bytes).map(|manifest| Document::Manifest(manifest.layers));
    }
    Err(format!("the unknown media type {media_type}, neither an image nor an index of images"))
}

/// The media type of a document that no descriptor describes.
pub fn media_type(bytes: &[u8]) -> Result<String, String> {
    let found: Either = parse(bytes)?;
    match (found.media_type, found.manifests, found.layers) {
        (Some(said), _, _) => Ok(said),
        (None, Some(_), None) => Ok(INDEX.to_owned()),
        (None, None, Some(_)) => Ok(MANIFEST.to_owned()),
        _ => Err("neither an image nor an index of images".to_owned()),
    }
}

pub fn is_layer(media_type: &str) -> bool {
    LAYERS.contains(&media_type)
}
