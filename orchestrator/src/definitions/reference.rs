//! Finds where a definition says that it needs another: for messages, so the files are read again.

#![forbid(unsafe_code)]

use super::node::{self, Node};
use super::problem::{Spot, Step};
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

impl Definitions {
    /// Where it is said that `from` needs `to` or is made of it. `text` gives the content of a file.
    pub fn reference(
        &self,
        from: ComponentId,
        to: ComponentId,
        text: impl Fn(&str) -> Option<String>,
    ) -> Option<Place> {
        let (component, target) = (self.get(from)?, self.get(to)?);
        if component.chunk().is_none() {
            return Some(place(component, &own_steps(component, to), target, &text));
        }
        // What a chunk needs is said by its entry in a stratum, or by the stratum for all of them.
        let found = self.iter().find_map(|(_, stratum)| {
            let members = &stratum.stratum()?.members;
            let item = members.iter().position(|member| member.chunk == from)?;
            let steps = match target.chunk() {
                Some(_) => vec![field("chunks"), Step::Item(item), field("build-depends")],
                None => vec![field("build-depends")],
            };
            let place = place(stratum, &steps, target, &text);
            (place.line > 0).then_some(place)
        });
        let file = component.file.clone();
        Some(found.unwrap_or(Place { file, line: 0, column: 0 }))
    }
}

/// Steps of a cycle that are explained: each costs reading a file.
const MOST_STEPS: usize = 20;

impl Definitions {
    /// The steps of a cycle (paths of components, the first again at the end), each with its place,
    /// a line each. `text` gives the content of a file.
    pub fn explain_cycle(&self, cycle: &[String], text: impl Fn(&str) -> Option<String>) -> String {
        let mut lines = String::new();
        for step in cycle.windows(2).take(MOST_STEPS) {
            let [from, to] = step else { continue };
            let ids = self.find(from).zip(self.find(to));
            let place = ids.and_then(|(from, to)| self.reference(from, to, &text));
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

fn place(
    component: &Component,
    steps: &[Step],
    target: &Component,
    text: &impl Fn(&str) -> Option<String>,
) -> Place {
    let spot = Spot { file: component.file.clone(), steps: steps.to_vec() };
    let root = text(&spot.file).and_then(|text| node::parse(&text).root);
    let found = root.as_ref().filter(|_| !steps.is_empty()).map(|root| {
        let node = root.find(steps);
        item_about(node, target).unwrap_or(node)
    });
    let (line, column) = found.map_or((0, 0), |node| (node.line, node.column));
    Place { file: spot.file, line, column }
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
