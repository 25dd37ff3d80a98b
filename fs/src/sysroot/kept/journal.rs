//! The lines of the journal (docs/kept-changes.md). Values only.

#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::node::Ino;

pub const VERSION: u32 = 1;

/// Bytes as text: each is the character of that number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(Vec<u8>);

impl Bytes {
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.clone()
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Bytes {
    fn from(bytes: &T) -> Bytes {
        Bytes(bytes.as_ref().to_vec())
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        bytes.0.into_iter().map(char::from).collect()
    }
}

impl TryFrom<String> for Bytes {
    type Error = std::char::TryFromCharError;

    fn try_from(text: String) -> std::result::Result<Bytes, Self::Error> {
        text.chars().map(u8::try_from).collect::<std::result::Result<_, _>>().map(Bytes)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    pub version: u32,
    pub layers: Vec<LayerVersion>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerVersion {
    pub label: String,
    pub version: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NodeName {
    Number(Ino),
    Layer(LayerNode),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNode {
    pub layer: u32,
    pub path: Bytes,
    #[serde(rename = "type")]
    pub kind: u32,
    pub size: u64,
    pub mtime: (i64, u32),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNode {
    pub node: NodeName,
    pub mode: u32,
    pub device: (u32, u32),
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    pub atime: (i64, u32),
    pub ctime: (i64, u32),
    pub names: u32,
    pub xattrs: Option<Vec<(Bytes, Bytes)>>,
    pub body: KeptBody,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptBody {
    Lower,
    Empty,
    Data(KeptData),
    Target(Bytes),
    Directory(KeptDirectory),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptData {
    pub sources: Vec<LayerNode>,
    /// Offset, length, source (0 is the spool), offset in the source.
    pub runs: Vec<(u64, u64, usize, u64)>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDirectory {
    pub parent: NodeName,
    pub name: Option<Bytes>,
    pub removed: Vec<Bytes>,
    pub added: Vec<(Bytes, NodeName)>,
    pub subdirectories: i64,
}

pub fn line<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Invalid(format!("The changes cannot be written down: {error}.")))
}

pub fn parse<T: DeserializeOwned>(line: &[u8]) -> std::result::Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}
