//! Inputs of a key as a structured map, their canonical text and digest (docs/keys.md).

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A value of a key's inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Null,
    Boolean(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Number(i64::from(number))
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

/// A map from fixed names.
pub(super) fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The SHA-256 of a component's inputs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of an artifact: `name.digest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub name: String,
    pub digest: Digest,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.digest)
    }
}

impl fmt::Display for Value {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Style::Canonical.write(self))
    }
}

/// Everything that a key covers, by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyInputs(pub BTreeMap<String, Value>);

/// A difference between the inputs of two keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Names of fields and positions in lists, from the outside in.
    pub field: Vec<String>,
    /// `None`: the field is new.
    pub before: Option<Value>,
    /// `None`: the field is gone.
    pub after: Option<Value>,
}

impl KeyInputs {
    /// The canonical text that is hashed.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        Style::Canonical.map(&mut text, &self.0);
        text
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// One canonical text for each field, as `artifact.json` keeps them.
    pub fn to_texts(&self) -> BTreeMap<String, String> {
        let fields = self.0.iter();
        fields.map(|(field, value)| (field.clone(), Style::Canonical.write(value))).collect()
    }

    /// The inverse of [`KeyInputs::to_texts`]; what another program wrote and is no value is a text.
    pub fn from_texts(texts: &BTreeMap<String, String>) -> KeyInputs {
        let value = |text: &String| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::Text(text.clone()))
        };
        KeyInputs(texts.iter().map(|(field, text)| (field.clone(), value(text))).collect())
    }

    /// What changed from `self` to `newer`, at the innermost place where they differ.
    pub fn diff(&self, newer: &KeyInputs) -> Vec<Change> {
        let mut changes = Vec::new();
        diff_maps(&self.0, &newer.0, &mut Vec::new(), &mut changes);
        changes
    }
}

fn diff_maps(
    before: &BTreeMap<String, Value>,
    after: &BTreeMap<String, Value>,
    way: &mut Vec<String>,
    changes: &mut Vec<Change>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        way.push(name.clone());
        diff(before.get(name), after.get(name), way, changes);
        way.pop();
    }
}

fn diff(
    before: Option<&Value>,
    after: Option<&Value>,
    way: &mut Vec<String>,
    changes: &mut Vec<Change>,
) {
    match (before, after) {
        (Some(Value::Map(a)), Some(Value::Map(b))) => diff_maps(a, b, way, changes),
        (Some(Value::List(a)), Some(Value::List(b))) => diff_lists(a, b, way, changes),
        (a, b) if a == b => {}
        (a, b) => {
            changes.push(Change { field: way.clone(), before: a.cloned(), after: b.cloned() })
        }
    }
}

/// What is equal at both ends of two lists is not looked at, so that an item put in between is one
/// change.
fn diff_lists(before: &[Value], after: &[Value], way: &mut Vec<String>, changes: &mut Vec<Change>) {
    let pairs = before.iter().zip(after);
    let head = pairs.take_while(|(a, b)| a == b).count();
    let (before, after) = (before.get(head..).unwrap_or(&[]), after.get(head..).unwrap_or(&[]));
    let pairs = before.iter().rev().zip(after.iter().rev());
    let tail = pairs.take_while(|(a, b)| a == b).count();
    let longest = before.len().max(after.len());
    for i in 0..longest.saturating_sub(tail) {
        let at = |items: &[Value]| (i < items.len().saturating_sub(tail)).then_some(i);
        way.push(head.saturating_add(i).to_string());
        diff(
            at(before).and_then(|i| before.get(i)),
            at(after).and_then(|i| after.get(i)),
            way,
            changes,
        );
        way.pop();
    }
}

/// How a JSON text is written. Our own writer, since the text is a format of ours and must not
/// follow a library's taste.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without white space; only what must be escaped is escaped.
    Canonical,
    /// As Python's `json.dumps(…, sort_keys=True)`: a space after separators, ASCII only.
    Python,
}

impl Style {
    pub fn write(self, value: &Value) -> String {
        let mut text = String::new();
        self.value(&mut text, value);
        text
    }

    fn value(self, out: &mut String, value: &Value) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::Text(text) => self.text(out, text),
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.separator(out, i);
                    self.value(out, item);
                }
                out.push(']');
            }
            Value::Map(entries) => self.map(out, entries),
        }
    }

    fn map(self, out: &mut String, entries: &BTreeMap<String, Value>) {
        out.push('{');
        for (i, (name, value)) in entries.iter().enumerate() {
            self.separator(out, i);
            self.text(out, name);
            out.push_str(if self == Style::Python { ": " } else { ":" });
            self.value(out, value);
        }
        out.push('}');
    }

    fn separator(self, out: &mut String, index: usize) {
        if index > 0 {
            out.push_str(if self == Style::Python { ", " } else { "," });
        }
    }

    fn text(self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                ' '..='~' => out.push(c),
                c if c >= ' ' && self == Style::Canonical => out.push(c),
                c => {
                    let mut units = [0u16; 2];
                    for unit in c.encode_utf16(&mut units) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
            }
        }
        out.push('"');
    }
}
