//! From positioned nodes to the serde types of [`super::raw`], with every error located.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Content, Fault, MAX_FAULTS, Node};
use super::problem::nearest;

/// Line and column.
type Place = (usize, usize);

/// A [`Fault`] with a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub fault: Fault,
    pub suggestion: Option<String>,
    /// The rest of the file can be used without it.
    pub ignored: bool,
}

/// Decodes `root`. When something does not fit, it is noted and removed, and decoding starts
/// again, so that all errors of a file are found in one run. `tolerant`: what YBD never looked at
/// is ignored.
pub(super) fn decode<T: DeserializeOwned>(
    mut root: Node,
    tolerant: bool,
) -> (Option<T>, Vec<Finding>) {
    let mut findings = Vec::new();
    // Fields that were removed, with the place of their mapping: nobody forgot them.
    let mut removed: HashSet<(Place, String)> = HashSet::new();
    // What is only missing because it was removed takes a round, too.
    for _ in 0..2 * MAX_FAULTS {
        let error = match T::deserialize(&root) {
            Ok(value) => return (Some(value), findings),
            Err(error) => error,
        };
        let place = error.place.unwrap_or((root.line, root.column));
        let missing = error.missing.map(|field| (place, field.to_owned()));
        let path: Vec<usize> = error.path.into_iter().rev().collect();
        if missing.is_none_or(|field| !removed.contains(&field)) {
            let fault = Fault { line: place.0, column: place.1, message: error.message };
            let ignored = tolerant && error.unknown && is_in_cluster_entry(&root, &path);
            findings.push(Finding { fault, suggestion: error.suggestion, ignored });
        }
        removed.extend(field_at(&root, &path));
        if findings.len() >= MAX_FAULTS || !root.remove(&path) {
            break;
        }
    }
    (None, findings)
}

/// Whether a path leads into an entry of `systems`, whose fields YBD did not check.
fn is_in_cluster_entry(root: &Node, path: &[usize]) -> bool {
    let (Content::Map(entries), [first, _, _, ..]) = (&root.content, path) else { return false };
    entries.get(*first).is_some_and(|(key, _)| key.text() == Some("systems"))
}

/// The place of the mapping that has the entry at `path`, and the entry's key.
fn field_at(root: &Node, path: &[usize]) -> Option<(Place, String)> {
    let (&last, way) = path.split_last()?;
    let mut node = root;
    for &index in way {
        node = match &node.content {
            Content::List(items) => items.get(index)?,
            Content::Map(entries) => entries.get(index).map(|(_, value)| value)?,
            Content::Scalar { .. } => return None,
        };
    }
    let Content::Map(entries) = &node.content else { return None };
    let key = entries.get(last)?.0.text()?;
    Some(((node.line, node.column), key.to_owned()))
}

/// Why a node does not fit its type.
#[derive(Debug)]
pub(super) struct DecodeError {
    message: String,
    suggestion: Option<String>,
    /// The field that a mapping lacks.
    missing: Option<&'static str>,
    /// There is no such field.
    unknown: bool,
    place: Option<Place>,
    /// Way from the root to the culprit, innermost index first.
    path: Vec<usize>,
}

impl DecodeError {
    fn at(mut self, node: &Node) -> Self {
        self.place.get_or_insert((node.line, node.column));
        self
    }

    fn below(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        DecodeError {
            message: message.to_string(),
            suggestion: None,
            missing: None,
            unknown: false,
            place: None,
            path: Vec::new(),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Str(text) => format!("the text {}", shorten(text)),
            other => other.to_string(),
        };
        let wanted = match expected.to_string().as_str() {
            "a sequence" => "a list".to_owned(),
            "a string" => "text".to_owned(),
            "u32" => "a number from 0 to 4294967295".to_owned(),
            other => other.to_owned(),
        };
        Self::custom(format!("expected {wanted}, found {found}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Self::custom(format!("unknown field `{}`", shorten_plain(field)));
        error.unknown = true;
        error.suggestion =
            nearest(field, expected.iter().copied()).map(|name| format!("did you mean `{name}`?"));
        error
    }

    fn missing_field(field: &'static str) -> Self {
        let mut error = Self::custom(format!("the field `{field}` is missing"));
        error.missing = Some(field);
        error
    }
}

fn shorten(text: &str) -> String {
    format!("`{}`", shorten_plain(text))
}

pub(super) fn shorten_plain(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST && line.len() == text.len() {
        return text.to_owned();
    }
    line.chars().take(LONGEST).chain(['…']).collect()
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => Unexpected::Unit,
            Content::Scalar { text, .. } => Unexpected::Str(text),
            Content::List(_) => Unexpected::Seq,
            Content::Map(_) => Unexpected::Map,
        }
    }

    fn mismatch(&self, expected: &dyn Expected) -> DecodeError {
        <DecodeError as serde::de::Error>::invalid_type(self.unexpected(), expected).at(self)
    }

    /// A plain scalar that YAML 1.1 reads as a boolean. Its one-letter forms are left alone, as
    /// PyYAML leaves them.
    fn boolean(&self) -> Option<bool> {
        match &self.content {
            Content::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                    Some(false)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn parse_number<T: std::str::FromStr>(&self) -> Option<T> {
        self.text().and_then(|text| text.parse().ok())
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Content::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Content::Scalar { .. } if self.is_null() => visitor.visit_unit(),
            Content::Scalar { text, .. } => match self.boolean() {
                Some(value) => visitor.visit_bool(value),
                None => visitor.visit_borrowed_str(text),
            },
        }
        .map_err(|e: DecodeError| e.at(self))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.content {
            Content::Scalar { text, .. } => {
                visitor.visit_borrowed_str(text).map_err(|e: DecodeError| e.at(self))
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.boolean() {
            Some(value) => visitor.visit_bool(value),
            None => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.parse_number() {
            // YAML 1.1 reads 010 as eight.
            Some(value)
                if self.text().is_some_and(|text| text.len() > 1 && text.starts_with('0')) =>
            {
                let message = format!(
                    "a number with a zero in front means different things to different readers; \
                     write {value}"
                );
                Err(<DecodeError as serde::de::Error>::custom(message).at(self))
            }
            Some(value) => visitor.visit_u32(value),
            None => Err(self.mismatch(&"a number from 0 to 4294967295")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.content {
            Content::Map(entries) => {
                visitor.visit_map(Entries { entries, next: 0 }).map_err(|e: DecodeError| e.at(self))
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct enum
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let index = self.next;
        let Some(item) = self.items.get(index) else { return Ok(None) };
        self.next = index.saturating_add(1);
        seed.deserialize(item).map(Some).map_err(|e| e.at(item).below(index))
    }
}

struct Entries<'de> {
    entries: &'de [(Node, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let index = self.next;
        let Some((key, _)) = self.entries.get(index) else { return Ok(None) };
        self.next = index.saturating_add(1);
        let text = StrDeserializer::new(key.text().unwrap_or_default());
        seed.deserialize(text).map(Some).map_err(|e: DecodeError| e.at(key).below(index))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        let index = self.next.saturating_sub(1);
        match self.entries.get(index) {
            Some((key, value)) => seed.deserialize(value).map_err(|e| {
                // A missing value has no place of its own worth pointing at.
                let place = if value.is_null() { key } else { value };
                e.at(place).below(index)
            }),
            None => Err(serde::de::Error::custom("a mapping's value was read before its key")),
        }
    }
}
