//! Why components would be built: what changed since the newest artifact of each, and which of
//! these changes follow from which.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::inputs::{Change, KeyInputs, Value};
use super::{KeyRecord, Keys};
use crate::definitions::{ComponentId, Definitions};
use crate::graph::Graph;

/// What the inputs of earlier artifacts were.
#[derive(Debug, Default)]
pub struct Past {
    /// Digest of the newest artifact, and when it was made, by the component's path.
    newest: HashMap<String, (u64, String)>,
    /// Of artifacts, and of strata that they were made with.
    by_digest: HashMap<String, KeyInputs>,
}

impl Past {
    /// An artifact of the architecture in question.
    pub fn add_artifact(&mut self, key: &str, created: u64, inputs: KeyInputs) {
        let digest = digest_of(key).to_owned();
        if let Some(Value::Text(path)) = inputs.0.get("path") {
            let newest = self.newest.entry(path.clone()).or_default();
            if newest.1.is_empty() || newest.0 <= created {
                *newest = (created, digest.clone());
            }
        }
        self.by_digest.insert(digest, inputs);
    }

    /// A stratum, by its key or staging digest.
    pub fn add_stratum(&mut self, name: &str, inputs: KeyInputs) {
        self.by_digest.insert(digest_of(name).to_owned(), inputs);
    }

    fn newest(&self, path: &str) -> Option<&KeyInputs> {
        self.by_digest.get(&self.newest.get(path)?.1)
    }
}

/// The store escapes names in keys, inputs do not.
fn digest_of(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no earlier artifact.
    NeverBuilt,
    /// Something of its own changed.
    Changed,
    /// Only what it is made from changed.
    Follows,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::NeverBuilt => "never built",
            Reason::Changed => "changed",
            Reason::Follows => "follows",
        }
    }
}

/// Why one component would be built, or why others would because of it.
#[derive(Debug, Clone)]
pub struct Explanation {
    pub component: ComponentId,
    /// False for a stratum, and for a component that was built again already: others follow it.
    pub to_build: bool,
    pub reason: Reason,
    /// Its own changes.
    pub changes: Vec<Change>,
    /// The components whose own changes it follows, but for those that changed only as it did
    /// itself; in building order.
    pub because: Vec<ComponentId>,
}

/// Explains `to_build`, in building order; what others follow stands before them.
pub fn explain(
    definitions: &Definitions,
    graph: &Graph,
    keys: &Keys,
    past: &Past,
    to_build: &HashSet<ComponentId>,
) -> Vec<Explanation> {
    let mut explainer =
        Explainer { definitions, graph, keys, past, to_build, compared: HashMap::new() };
    let mut followed: BTreeMap<usize, ComponentId> = BTreeMap::new();
    let mut reasons: HashMap<ComponentId, Explanation> = HashMap::new();
    let rank: HashMap<ComponentId, usize> = graph.order().iter().copied().zip(0..).collect();
    let place = |id: &ComponentId| rank.get(id).copied().unwrap_or(usize::MAX);
    for &id in graph.order().iter().filter(|id| to_build.contains(id)) {
        let own = explainer.compare(&Node { id, since: Since::Newest });
        let roots = explainer.roots(&own);
        let reason = own.reason();
        followed.insert(place(&id), id);
        let mut because: Vec<_> = roots.keys().copied().collect();
        because.sort_by_key(&place);
        for (root, difference) in roots {
            followed.insert(place(&root), root);
            let known = reasons.entry(root).or_insert_with(|| Explanation {
                component: root,
                to_build: to_build.contains(&root),
                reason: difference.reason(),
                changes: Vec::new(),
                because: Vec::new(),
            });
            if !known.to_build {
                add_changes(&mut known.changes, &difference.changes);
            }
        }
        let changes = own.changes.clone();
        reasons.insert(id, Explanation { component: id, to_build: true, reason, changes, because });
    }
    followed.values().filter_map(|id| reasons.remove(id)).collect()
}

/// A component, and what it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    id: ComponentId,
    since: Since,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Since {
    /// Its newest artifact.
    Newest,
    /// What somebody's earlier artifact was made with: a key or staging digest.
    Reference(String),
}

/// How a component differs from what it is compared with.
#[derive(Debug, Clone, Default)]
struct Difference {
    never_built: bool,
    changes: Vec<Change>,
    /// What it is made from and changed as well.
    below: Vec<Node>,
}

impl Difference {
    fn reason(&self) -> Reason {
        match self {
            Difference { never_built: true, .. } => Reason::NeverBuilt,
            Difference { changes, .. } if changes.is_empty() => Reason::Follows,
            _ => Reason::Changed,
        }
    }

    fn differs_from(&self, other: &Difference) -> bool {
        self.changes.iter().any(|change| !other.changes.contains(change))
    }
}

struct Explainer<'a> {
    definitions: &'a Definitions,
    graph: &'a Graph,
    keys: &'a Keys,
    past: &'a Past,
    to_build: &'a HashSet<ComponentId>,
    compared: HashMap<Node, Rc<Difference>>,
}

impl Explainer<'_> {
    /// What something follows: everything below it that has changes of its own, and others than it.
    fn roots(&mut self, of: &Difference) -> HashMap<ComponentId, Difference> {
        let mut roots: HashMap<ComponentId, Difference> = HashMap::new();
        let mut seen: HashSet<Node> = of.below.iter().cloned().collect();
        let mut queue: VecDeque<Node> = of.below.iter().cloned().collect();
        while let Some(node) = queue.pop_front() {
            let found = self.compare(&node);
            if found.never_built || found.differs_from(of) {
                let root = roots.entry(node.id).or_default();
                root.never_built |= found.never_built;
                add_changes(&mut root.changes, &found.changes);
            }
            queue.extend(found.below.iter().filter(|next| seen.insert((*next).clone())).cloned());
        }
        roots
    }

    fn compare(&mut self, node: &Node) -> Rc<Difference> {
        if let Some(known) = self.compared.get(node) {
            return Rc::clone(known);
        }
        let path = self.definitions.path_of(node.id);
        let (earlier, now) = match &node.since {
            Since::Newest => {
                (self.past.newest(path), self.keys.get(node.id).map(|record| &record.inputs))
            }
            Since::Reference(name) => {
                (self.past.by_digest.get(digest_of(name)), self.seen_as(node.id, name))
            }
        };
        let difference = match (earlier, now) {
            (Some(earlier), Some(now)) => self.difference(earlier, now),
            _ => self.unknown(node),
        };
        let difference = Rc::new(difference);
        self.compared.insert(node.clone(), Rc::clone(&difference));
        difference
    }

    /// The inputs of what a reference of this form means: keys have names, staging digests do not.
    fn seen_as(&self, id: ComponentId, reference: &str) -> Option<&KeyInputs> {
        if reference.contains('.') {
            self.keys.get(id).map(|record| &record.inputs)
        } else {
            self.keys.staging(id).map(|(_, inputs)| inputs)
        }
    }

    fn difference(&self, earlier: &KeyInputs, now: &KeyInputs) -> Difference {
        let mut changes = by_name(earlier).diff(&by_name(now));
        if changes.is_empty() {
            // Only an order changed, which names do not show.
            changes = earlier.diff(now);
        }
        let mut difference = Difference::default();
        for change in changes {
            match self.reference(&change) {
                Some(node) => difference.below.push(node),
                None => difference.changes.push(change),
            }
        }
        difference
    }

    /// The component whose change a change only passes on.
    fn reference(&self, change: &Change) -> Option<Node> {
        let way: Vec<&str> = change.field.iter().map(String::as_str).collect();
        let name = match way.as_slice() {
            ["dependencies" | "members", name] | ["members" | "strata", name, "key"] => name,
            _ => return None,
        };
        let (Some(Value::Text(before)), Some(Value::Text(_))) = (&change.before, &change.after)
        else {
            return None;
        };
        let id = self.definitions.find(name.strip_prefix('[')?.strip_suffix(']')?)?;
        Some(self.node(id, before))
    }

    fn node(&self, id: ComponentId, before: &str) -> Node {
        let since = match self.to_build.contains(&id) {
            true => Since::Newest,
            false => Since::Reference(before.to_owned()),
        };
        Node { id, since }
    }

    /// Where nothing tells what something was made of.
    fn unknown(&self, node: &Node) -> Difference {
        let Since::Reference(before) = &node.since else {
            return Difference { never_built: true, ..Difference::default() };
        };
        let below = self.to_build_within(node.id);
        let mut changes = Vec::new();
        if below.is_empty() {
            let key = |record: &KeyRecord| record.key.to_string();
            let (field, after) = match before.contains('.') {
                true => ("key", self.keys.get(node.id).map(key)),
                false => ("staging", self.keys.staging(node.id).map(|(d, _)| d.to_string())),
            };
            let before = Some(before.as_str().into());
            changes.push(Change {
                field: vec![field.to_owned()],
                before,
                after: after.map(Value::Text),
            });
        }
        Difference { never_built: false, changes, below }
    }

    /// The chunks of a stratum and of the strata below it that are to be built.
    fn to_build_within(&self, id: ComponentId) -> Vec<Node> {
        let mut found = BTreeSet::new();
        let mut seen = HashSet::from([id]);
        let mut queue = vec![id];
        while let Some(id) = queue.pop() {
            let is_stratum = self.definitions.get(id).is_some_and(|c| c.stratum().is_some());
            if !is_stratum {
                continue;
            }
            for below in self.graph.dependencies(id).filter(|&below| seen.insert(below)) {
                if self.to_build.contains(&below) {
                    found.insert(below);
                }
                queue.push(below);
            }
        }
        found.into_iter().map(|id| Node { id, since: Since::Newest }).collect()
    }
}

/// Those of fields that no known change is about: two dependents may have used two older builds.
fn add_changes(known: &mut Vec<Change>, more: &[Change]) {
    for change in more {
        if !known.iter().any(|known| known.field == change.field) {
            known.push(change.clone());
        }
    }
}

/// Inputs in which items of lists that have a name stand under it, in brackets: then an item that
/// was put in between is one change, and changes say where they are.
fn by_name(inputs: &KeyInputs) -> KeyInputs {
    let named = |(field, value): (&String, &Value)| {
        let value = match (field.as_str(), value) {
            ("steps", Value::List(items)) => named_items(items, "name"),
            ("devices", Value::List(items)) => named_items(items, "filename"),
            ("strata", Value::List(items)) => named_items(items, "path"),
            ("integration", Value::List(items)) => named_items(items, "key"),
            ("dependencies" | "members" | "recipes", Value::Map(entries)) => {
                let bracketed = entries.iter().map(|(name, v)| (format!("[{name}]"), v.clone()));
                Some(Value::Map(bracketed.collect()))
            }
            _ => None,
        };
        value.map(|value| (field.clone(), value))
    };
    let mut inputs = inputs.clone();
    let replaced: Vec<_> = inputs.0.iter().filter_map(named).collect();
    inputs.0.extend(replaced);
    inputs
}

/// `None` where the names are not unique.
fn named_items(items: &[Value], name: &str) -> Option<Value> {
    let mut entries = BTreeMap::new();
    for item in items {
        let Value::Map(item) = item else { return None };
        let Some(Value::Text(text)) = item.get(name) else { return None };
        let mut rest = item.clone();
        rest.remove(name);
        if entries.insert(format!("[{text}]"), Value::Map(rest)).is_some() {
            return None;
        }
    }
    Some(Value::Map(entries))
}

impl Change {
    /// Where the change is: `steps[configure].commands[2]`.
    pub fn place(&self) -> String {
        let mut place = String::new();
        for part in &self.field {
            match part {
                part if part.starts_with('[') => place.push_str(part),
                part if part.bytes().all(|b| b.is_ascii_digit()) => {
                    place.push_str(&format!("[{part}]"));
                }
                part if place.is_empty() => place.push_str(part),
                part => place.push_str(&format!(".{part}")),
            }
        }
        place
    }
}
