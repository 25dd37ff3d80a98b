//! YAML as a tree of positioned nodes with the raw text of every scalar.
//!
//! `serde_yaml` reads good files (see [`super::yaml`]); this second reader serves what it cannot:
//! positions of semantic errors, several errors in one file, merge keys and quoting.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::decode::shorten_plain;
use super::problem::Step;

/// Deepest nesting that is read, aliases expanded; real definitions nest 8 levels.
const MAX_DEPTH: usize = 64;
/// Faults listed for one file before giving up on it.
pub(super) const MAX_FAULTS: usize = 50;
/// Most nodes that aliases may blow a file up to; the largest real file has about 2,000.
const MAX_NODES: usize = 1_000_000;
/// Most bytes of scalar text that aliases may blow a file up to.
const MAX_TEXT: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Scalar {
        text: String,
        /// Neither quoted nor a block: subject to YAML's guessing of types.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub content: Content,
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
}

const TOO_DEEP: &str = "the document is nested deeper than 64 levels";

/// Something wrong with the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// What could be read of a file.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// `None` for an empty file and after a syntax error.
    pub root: Option<Node>,
    pub faults: Vec<Fault>,
    /// Keys that stand a second time in a mapping; the last one is in the tree.
    pub duplicates: Vec<Fault>,
}

impl Node {
    pub fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Null as YAML 1.1 and 1.2 agree on it.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a mapping's key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The node at the end of `steps`, or the last one on the way that exists.
    pub fn find(&self, steps: &[Step]) -> &Node {
        let mut node = self;
        for step in steps {
            let next = match (step, &node.content) {
                (Step::Field(name), _) => node.get(name),
                (Step::Item(index), Content::List(items)) => items.get(*index),
                (Step::Item(_), _) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Removes the child at `path` (indexes of list items or mapping entries). False when the
    /// path is empty or leads nowhere.
    pub fn remove(&mut self, path: &[usize]) -> bool {
        let Some((&last, way)) = path.split_last() else { return false };
        let mut node = self;
        for &index in way {
            let next = match &mut node.content {
                Content::List(items) => items.get_mut(index),
                Content::Map(entries) => entries.get_mut(index).map(|(_, value)| value),
                Content::Scalar { .. } => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        match &mut node.content {
            Content::List(items) if last < items.len() => drop(items.remove(last)),
            Content::Map(entries) if last < entries.len() => drop(entries.remove(last)),
            _ => return false,
        }
        true
    }

    fn size(&self) -> (usize, usize) {
        match &self.content {
            Content::Scalar { text, .. } => (1, text.len()),
            Content::List(items) => items.iter().map(Node::size).fold((1, 0), add),
            Content::Map(entries) => {
                entries.iter().map(|(k, v)| add(k.size(), v.size())).fold((1, 0), add)
            }
        }
    }
}

fn add(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

/// Reads one document. Time and memory are bounded by the length of `text` and the limits above.
pub(super) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                if let Err(fault) = builder.event(event, span) {
                    return builder.given_up(fault);
                }
            }
            Some(Err(error)) => {
                let marker = error.marker();
                return builder.given_up(Fault {
                    line: marker.line(),
                    column: marker.col().saturating_add(1),
                    message: error.info().to_owned(),
                });
            }
        }
    }
    Parsed { root: builder.root, faults: builder.faults, duplicates: builder.duplicates }
}

/// A collection that is being read: its node, its anchor, and a key that waits for its value.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
    /// Keys so far, with their positions in the mapping.
    keys: HashMap<String, usize>,
    /// Levels of the deepest child.
    depth: usize,
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    stack: Vec<Open>,
    /// What aliases stand for, with its levels.
    anchors: HashMap<usize, (Node, usize)>,
    faults: Vec<Fault>,
    duplicates: Vec<Fault>,
    nodes: usize,
    bytes: usize,
}

impl Builder {
    fn given_up(mut self, fault: Fault) -> Parsed {
        self.faults.push(fault);
        Parsed { root: None, faults: self.faults, duplicates: self.duplicates }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let (line, column) = (span.start.line(), span.start.col().saturating_add(1));
        let fault = |message: &str| Fault { line, column, message: message.to_owned() };
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(fault("a second document starts here; a definition is one document"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                // `!!str yes` is a text, as a quoted one is.
                let is_text =
                    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !is_text;
                let content = Content::Scalar { text: text.into_owned(), plain };
                let node = Node { content, line, column };
                self.count(node.size(), line, column)?;
                self.complete(node, 1, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((_, depth)) if self.stack.len().saturating_add(*depth) > MAX_DEPTH => {
                    Err(fault(TOO_DEEP))
                }
                Some((node, depth)) => {
                    let (size, depth) = (node.size(), *depth);
                    let mut node = node.clone();
                    (node.line, node.column) = (line, column);
                    self.count(size, line, column)?;
                    self.complete(node, depth, 0)
                }
                None => Err(fault("the alias names an anchor that is not complete here")),
            },
            Event::SequenceStart(..) | Event::MappingStart(..) if self.stack.len() >= MAX_DEPTH => {
                Err(fault(TOO_DEEP))
            }
            Event::SequenceStart(anchor, _) => {
                self.open(Node { content: Content::List(Vec::new()), line, column }, anchor);
                Ok(())
            }
            Event::MappingStart(anchor, _) => {
                self.open(Node { content: Content::Map(Vec::new()), line, column }, anchor);
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(open) => {
                    self.count((1, 0), line, column)?;
                    let node = self.merge(open.node);
                    self.complete(node, open.depth.saturating_add(1), open.anchor)
                }
                None => Err(fault("the document ends a collection that it never began")),
            },
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn open(&mut self, node: Node, anchor: usize) {
        self.stack.push(Open { node, anchor, key: None, keys: HashMap::new(), depth: 0 });
    }

    fn complete(&mut self, node: Node, depth: usize, anchor: usize) -> Result<(), Fault> {
        let (line, column) = (node.line, node.column);
        if anchor != 0 {
            self.count(node.size(), line, column)?;
            self.anchors.insert(anchor, (node.clone(), depth));
        }
        let Some(parent) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.depth = parent.depth.max(depth);
        match (&mut parent.node.content, parent.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Map(_), None) => {
                if node.text().is_none() {
                    let message = "a mapping's key must be text".to_owned();
                    return Err(Fault { line, column, message });
                }
                parent.key = Some(node);
            }
            (Content::Map(entries), Some(key)) => {
                let name = key.text().unwrap_or_default();
                let place = entries.len();
                match parent.keys.insert(name.to_owned(), place).filter(|_| name != "<<") {
                    None => entries.push((key, node)),
                    Some(earlier) => {
                        parent.keys.insert(name.to_owned(), earlier);
                        if self.duplicates.len() < MAX_FAULTS {
                            let name = shorten_plain(name);
                            let message = format!("the key `{name}` stands twice in this mapping");
                            let (line, column) = (key.line, key.column);
                            self.duplicates.push(Fault { line, column, message });
                        }
                        if let Some(entry) = entries.get_mut(earlier) {
                            *entry = (key, node);
                        }
                    }
                }
            }
            (Content::Scalar { .. }, _) => {}
        }
        Ok(())
    }

    /// Accounts for nodes about to be kept, so that aliases of aliases end early.
    fn count(&mut self, size: (usize, usize), line: usize, column: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(size.0);
        self.bytes = self.bytes.saturating_add(size.1);
        if self.nodes > MAX_NODES || self.bytes > MAX_TEXT {
            let message = "the document is too large once its aliases are expanded".to_owned();
            return Err(Fault { line, column, message });
        }
        Ok(())
    }

    /// Applies merge keys (<https://yaml.org/type/merge.html>): what the mapping says itself wins,
    /// then earlier merged mappings.
    fn merge(&mut self, mut node: Node) -> Node {
        let Content::Map(entries) = &mut node.content else { return node };
        if !entries.iter().any(|(key, _)| is_merge(key)) {
            return node;
        }
        let (merges, mut own): (Vec<_>, Vec<_>) =
            std::mem::take(entries).into_iter().partition(|(key, _)| is_merge(key));
        let mut names: HashSet<String> =
            own.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect();
        for (key, value) in merges {
            let maps = match value.content {
                Content::List(items) => items.into_iter().map(|n| n.content).collect(),
                content => vec![content],
            };
            for map in maps {
                let Content::Map(more) = map else {
                    if self.faults.len() >= MAX_FAULTS {
                        break;
                    }
                    let message = "the merge key `<<` takes a mapping or a list of them".to_owned();
                    self.faults.push(Fault { line: key.line, column: key.column, message });
                    continue;
                };
                for (k, v) in more {
                    if names.insert(k.text().unwrap_or_default().to_owned()) {
                        own.push((k, v));
                    }
                }
            }
        }
        *entries = own;
        node
    }
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.content, Content::Scalar { text, plain: true } if text == "<<")
}
