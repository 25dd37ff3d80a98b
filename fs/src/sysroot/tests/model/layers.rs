//! How layers lie over each other, and what a tree becomes as one layer.

use std::collections::{BTreeMap, HashMap};

use super::{Id, Model, Node, ROOT, Time};
use crate::node::{Kind, Timestamp};

/// What a layer says of a directory that it does not describe.
const IMPLIED: (u16, Timestamp) = (0o755, Timestamp::new(1_000, 5));

/// What one layer says, in an order in which parents come first.
#[derive(Debug, Clone)]
pub enum Said {
    Node(Box<Node>),
    /// A directory that is there, but not described.
    Implied,
    Link {
        existing: Vec<u8>,
    },
    Whiteout,
    Opaque,
}

impl Model {
    /// Lays a layer over what is there, as docs/sysroot.md describes it.
    pub fn lay(&mut self, layer: &[(Vec<u8>, Said)]) {
        for (path, said) in layer {
            match said {
                Said::Whiteout => self.cut(path),
                Said::Opaque => {
                    if let Some(id) = self.find(path) {
                        self.nodes[id].children.clear();
                    }
                }
                _ => {}
            }
        }
        let mut own: HashMap<&[u8], Id> = HashMap::new();
        for (path, said) in layer {
            let lower = self.find(path).filter(|id| self.nodes[*id].kind.is_directory());
            let id = match (said, lower) {
                (Said::Whiteout | Said::Opaque, _) => continue,
                (Said::Link { existing }, _) => own[existing.as_slice()],
                (Said::Implied, Some(_)) => continue,
                (Said::Implied, None) => {
                    self.add(Node::new(Kind::Directory, IMPLIED.0, vec![], IMPLIED.1))
                }
                (Said::Node(node), Some(lower)) if node.kind.is_directory() => {
                    let children = std::mem::take(&mut self.nodes[lower].children);
                    self.nodes[lower] = Node { children, ..*node.clone() };
                    continue;
                }
                (Said::Node(node), _) => self.add(*node.clone()),
            };
            own.insert(path, id);
            self.cut(path);
            let (parent, name) = split(path);
            let parent = self.find(parent).expect("parents come first");
            self.nodes[parent].children.insert(name.to_vec(), id);
        }
    }

    fn cut(&mut self, path: &[u8]) {
        let (parent, name) = split(path);
        if let Some(parent) = self.find(parent) {
            self.nodes[parent].children.remove(name);
        }
    }

    /// What a capture of a directory is, opened as a layer. No tar can hold sockets; their names are
    /// given back, too.
    pub fn captured(&self, directory: Id) -> (Model, Vec<Vec<u8>>) {
        let mut model = Model { nodes: vec![self.as_layer(directory)] };
        let mut copies = BTreeMap::from([(directory, ROOT)]);
        let mut sockets = Vec::new();
        let mut waiting = vec![(directory, Vec::new())];
        while let Some((from, path)) = waiting.pop() {
            for (name, child) in &self.nodes[from].children {
                let path = if path.is_empty() { name.clone() } else { join(&path, name) };
                if self.nodes[*child].kind == Kind::Socket {
                    sockets.push(path);
                    continue;
                }
                let copy =
                    *copies.entry(*child).or_insert_with(|| model.add(self.as_layer(*child)));
                model.nodes[copies[&from]].children.insert(name.clone(), copy);
                if self.nodes[*child].kind.is_directory() {
                    waiting.push((*child, path));
                }
            }
        }
        sockets.sort();
        (model, sockets)
    }

    fn as_layer(&self, id: Id) -> Node {
        let node = self.nodes[id].clone();
        let Time::At(mtime) = node.mtime else { panic!("a time that was not looked at") };
        let (atime, ctime) = (Time::At(mtime), Time::At(mtime));
        Node { atime, ctime, children: BTreeMap::new(), temporary: false, ..node }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|byte| *byte == b'/').expect("an absolute path");
    (&path[..cut], &path[cut + 1..])
}
