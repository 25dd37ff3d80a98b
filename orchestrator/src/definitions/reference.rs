//! Finds where a definition says that it needs another: for messages, so the files are read again.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::node::{self, Node};
use super::problem::Step;
use super::resolve::identity;
use super::{Component, ComponentId, Definitions, Detail};

/// A place in a definition file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Relative to the definitions directory.
    pub file: String,
    /// 1-based; 0 where only the file is known.
    pub line: usize,
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Files that places are looked for in, each read and parsed once.
pub struct FilesAgain<F> {
    text: F,
    parsed: HashMap<String, Option<Node>>,
}

impl<F: Fn(&str) -> Option<String>> FilesAgain<F> {
    /// `text` gives the content of a file.
    pub fn new(text: F) -> Self {
        FilesAgain { text, parsed: HashMap::new() }
    }

    fn root(&mut self, file: &str) -> Option<&Node> {
        if !self.parsed.contains_key(file) {
            let root = (self.text)(file).and_then(|text| node::parse(&text).root);
            self.parsed.insert(file.to_owned(), root);
        }
        self.parsed.get(file)?.as_ref()
    }
}

impl Definitions {
    /// Where it is said that `from` needs `to` or is made of it.
    pub fn reference<F: Fn(&str) -> Option<String>>(
        &self,
        from: ComponentId,
        to: ComponentId,
        files: &mut FilesAgain<F>,
    ) -> Option<Place> {
        let (component, target) = (self.get(from)?, self.get(to)?);
        if component.chunk().is_none() {
            return Some(place(component, &own_steps(component, to), target, files));
        }
        // What a chunk needs is said by its entry in a stratum, or by the stratum for all of them.
        let found = self.iter().find_map(|(_, stratum)| {
            let members = &stratum.stratum()?.members;
            let item = members.iter().position(|member| member.chunk == from)?;
            let steps = match target.chunk() {
                Some(_) => vec![field("chunks"), Step::Item(item), field("build-depends")],
                None => vec![field("build-depends")],
            };
            let place = place(stratum, &steps, target, files);
            (place.line > 0).then_some(place)
        });
        let file = component.file.clone();
        Some(found.unwrap_or(Place { file, line: 0, column: 0 }))
    }
}

impl Definitions {
    /// Where a stratum says something of what a chunk is made from: `way` leads from the chunk's entry to
    /// it, by fields.
    pub fn place_of_source<F: Fn(&str) -> Option<String>>(
        &self,
        chunk: ComponentId,
        way: &[&str],
        files: &mut FilesAgain<F>,
    ) -> Option<Place> {
        self.iter().find_map(|(_, stratum)| {
            let members = &stratum.stratum()?.members;
            let item = members.iter().position(|member| member.chunk == chunk)?;
            let entry = files.root(&stratum.file)?.find(&[field("chunks"), Step::Item(item)]);
            entry.get("repo")?;
            let way: Vec<Step> = way.iter().map(|name| field(name)).collect();
            let node = entry.find(&way);
            Some(Place { file: stratum.file.clone(), line: node.line, column: node.column })
        })
    }
}

/// Steps of a cycle that are explained: each costs reading a file.
const MOST_STEPS: usize = 20;

impl Definitions {
    /// The steps of a cycle (paths of components, the first again at the end), each with its place,
    /// a line each.
    pub fn explain_cycle<F: Fn(&str) -> Option<String>>(
        &self,
        cycle: &[String],
        files: &mut FilesAgain<F>,
    ) -> String {
        let mut lines = String::new();
        for step in cycle.windows(2).take(MOST_STEPS) {
            let [from, to] = step else { continue };
            let ids = self.find(from).zip(self.find(to));
            let place = ids.and_then(|(from, to)| self.reference(from, to, files));
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            lines += &format!("\n    {place}`{from}` needs `{to}`");
        }
        match cycle.len().saturating_sub(1).saturating_sub(MOST_STEPS) {
            0 => lines,
            more => format!("{lines}\n    and {more} more"),
        }
    }
}

fn field(name: &str) -> Step {
    Step::Field(name.to_owned())
}

/// The list, or already the item, in which a component names another.
fn own_steps(component: &Component, to: ComponentId) -> Vec<Step> {
    match &component.detail {
        Detail::Stratum(stratum) => {
            match stratum.members.iter().position(|member| member.chunk == to) {
                Some(item) => vec![field("chunks"), Step::Item(item)],
                None => vec![field("build-depends")],
            }
        }
        Detail::System(_) => vec![field("strata")],
        Detail::Cluster(_) | Detail::Chunk(_) => Vec::new(),
    }
}

fn place<F: Fn(&str) -> Option<String>>(
    component: &Component,
    steps: &[Step],
    target: &Component,
    files: &mut FilesAgain<F>,
) -> Place {
    let file = component.file.clone();
    let found = files.root(&file).filter(|_| !steps.is_empty()).map(|root| {
        let node = root.find(steps);
        item_about(node, target).unwrap_or(node)
    });
    let (line, column) = found.map_or((0, 0), |node| (node.line, node.column));
    Place { file, line, column }
}

/// The item of a list that names a component: by name, by file, or in its field `morph`.
fn item_about<'a>(list: &'a Node, target: &Component) -> Option<&'a Node> {
    let node::Content::List(items) = &list.content else { return None };
    let is_target =
        |text: &str| text == target.name || identity(text).is_ok_and(|path| path == target.path);
    items.iter().find_map(|item| {
        let named = item.get("morph").unwrap_or(item);
        named.text().is_some_and(is_target).then_some(named)
    })
}
