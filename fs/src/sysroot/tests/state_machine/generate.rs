//! What the state machine is fed: layers and operations.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::layer::MemoryLayer;
use super::super::model::{CAPABILITY, Node, Said};
use crate::filesystem::{Allocate, Rename, SetAttributes, SetTime, SetXattr};
use crate::node::{Device, Kind, Metadata, Timestamp, Xattrs};

/// Nodes and directories are picked by index, modulo what there is.
#[derive(Debug, Clone)]
pub enum Operation {
    Create {
        directory: usize,
        name: usize,
        kind: Kind,
        setgid: bool,
    },
    Symlink {
        directory: usize,
        name: usize,
    },
    Temporary {
        directory: usize,
    },
    Link {
        node: usize,
        directory: usize,
        name: usize,
    },
    Unlink {
        directory: usize,
        name: usize,
    },
    RemoveDirectory {
        directory: usize,
        name: usize,
    },
    Rename {
        from: (usize, usize),
        to: (usize, usize),
        how: Rename,
    },
    Write {
        node: usize,
        offset: usize,
        length: usize,
        byte: u8,
    },
    Truncate {
        node: usize,
        size: usize,
    },
    Allocate {
        node: usize,
        offset: usize,
        length: usize,
        how: Allocate,
    },
    Copy {
        from: (usize, usize),
        to: (usize, usize),
        length: usize,
    },
    SetAttributes {
        node: usize,
        set: SetAttributes,
    },
    SetXattr {
        node: usize,
        name: usize,
        value: u8,
        how: SetXattr,
    },
    RemoveXattr {
        node: usize,
        name: usize,
    },
    ChangeKind {
        node: usize,
        kind: Kind,
    },
    Open {
        node: usize,
    },
    Close {
        open: usize,
    },
    /// Reads on in a directory, for so many names, or begins to read it.
    List {
        directory: usize,
        names: usize,
    },
}

pub const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d\xff", b"e"];
pub const XATTRS: [&[u8]; 3] = [CAPABILITY, b"trusted.t", b"user.test"];
const DEVICE: Device = Device { major: 300, minor: 70_000 };

/// Sizes around a page, so that runs are cut in the middle and at their ends.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![0..20usize, 4090..4100usize, 0..10_000usize]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        3 => Just(Kind::Directory),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
        1 => Just(Kind::CharDevice(DEVICE)),
        1 => Just(Kind::BlockDevice(DEVICE)),
    ]
}

pub fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let pick = || 0..64usize;
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => (pick(), name(), kind(), any::<bool>()).prop_map(|(directory, name, kind, setgid)| {
            O::Create { directory, name, kind, setgid }
        }),
        1 => (pick(), name()).prop_map(|(directory, name)| O::Symlink { directory, name }),
        1 => pick().prop_map(|directory| O::Temporary { directory }),
        2 => (pick(), pick(), name())
            .prop_map(|(node, directory, name)| O::Link { node, directory, name }),
        4 => (pick(), name()).prop_map(|(directory, name)| O::Unlink { directory, name }),
        3 => (pick(), name()).prop_map(|(directory, name)| O::RemoveDirectory { directory, name }),
        6 => ((pick(), name()), (pick(), name()), prop_oneof![
            3 => Just(Rename::Replace),
            1 => Just(Rename::NoReplace),
            2 => Just(Rename::Exchange),
        ]).prop_map(|(from, to, how)| O::Rename { from, to, how }),
        4 => (pick(), extent(), extent(), 1..255u8)
            .prop_map(|(node, offset, length, byte)| O::Write { node, offset, length, byte }),
        2 => (pick(), extent()).prop_map(|(node, size)| O::Truncate { node, size }),
        2 => (pick(), extent(), extent(), prop_oneof![
            Just(Allocate::Reserve),
            Just(Allocate::ReserveKeepSize),
            Just(Allocate::PunchHole),
            Just(Allocate::ZeroRange),
            Just(Allocate::ZeroRangeKeepSize),
        ]).prop_map(|(node, offset, length, how)| O::Allocate { node, offset, length, how }),
        2 => ((pick(), extent()), (pick(), extent()), extent())
            .prop_map(|(from, to, length)| O::Copy { from, to, length }),
        3 => (pick(), attributes()).prop_map(|(node, set)| O::SetAttributes { node, set }),
        2 => (pick(), 0..XATTRS.len(), any::<u8>(), prop_oneof![
            Just(SetXattr::Any), Just(SetXattr::Create), Just(SetXattr::Replace),
        ]).prop_map(|(node, name, value, how)| O::SetXattr { node, name, value, how }),
        1 => (pick(), 0..XATTRS.len()).prop_map(|(node, name)| O::RemoveXattr { node, name }),
        1 => (pick(), prop_oneof![Just(Kind::Symlink), kind()])
            .prop_map(|(node, kind)| O::ChangeKind { node, kind }),
        2 => pick().prop_map(|node| O::Open { node }),
        1 => pick().prop_map(|open| O::Close { open }),
        3 => (pick(), 1..4usize).prop_map(|(directory, names)| O::List { directory, names }),
    ]
}

/// Times that no clock shows.
fn time() -> impl Strategy<Value = Timestamp> {
    (-2..3i64, prop_oneof![Just(0u32), 1..1_000_000_000u32])
        .prop_map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds))
}

fn attributes() -> impl Strategy<Value = SetAttributes> {
    let set_time = || {
        let time = prop_oneof![time().prop_map(SetTime::At), Just(SetTime::Now)];
        prop::option::weighted(0.3, time)
    };
    let owner = || prop::option::weighted(0.3, 0..3u32);
    let size = prop::option::weighted(0.2, extent().prop_map(|size| size as u64));
    let mode = prop::option::of(0..0o10000u16);
    (mode, owner(), owner(), size, set_time(), set_time(), any::<bool>()).prop_map(
        |(mode, uid, gid, size, atime, mtime, kill_privileges)| SetAttributes {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
            kill_privileges,
        },
    )
}

/// A layer's statement before it is known whether it fits.
#[derive(Debug, Clone)]
pub enum Wish {
    /// A file's data are gaps and the bytes after them, then a gap to the end.
    Node {
        kind: Kind,
        described: Described,
        runs: Vec<(usize, Vec<u8>)>,
        tail: usize,
    },
    Symlink,
    Link(usize),
    Whiteout,
    Opaque,
    /// The layer's root, described or not.
    Root(Option<Described>),
}

#[derive(Debug, Clone)]
pub struct Described {
    mode: u16,
    owner: (u32, u32),
    mtime: Timestamp,
    xattrs: Xattrs,
}

impl Described {
    fn plain(mode: u16) -> Described {
        let mtime = Timestamp::new(1_000, 5);
        Described { mode, owner: (0, 0), mtime, xattrs: Xattrs::new() }
    }

    fn metadata(&self) -> Metadata {
        let Described { mode, owner: (uid, gid), mtime, .. } = *self;
        Metadata { mode, uid, gid, mtime, ..Metadata::default_directory() }
    }

    fn said(self, kind: Kind, bytes: Vec<u8>) -> Said {
        let mut node = Node::new(kind, self.mode, bytes, self.mtime);
        (node.uid, node.gid) = self.owner;
        node.xattrs = self.xattrs;
        Said::Node(Box::new(node))
    }
}

fn described() -> impl Strategy<Value = Described> {
    let xattr = (0..XATTRS.len(), any::<u8>());
    let xattrs = vec(xattr, 0..3).prop_map(|xattrs| {
        xattrs.into_iter().map(|(name, value)| (XATTRS[name].to_vec(), vec![value])).collect()
    });
    (0..0o10000u16, (0..3u32, 0..3u32), time(), xattrs)
        .prop_map(|(mode, owner, mtime, xattrs)| Described { mode, owner, mtime, xattrs })
}

pub fn wish() -> impl Strategy<Value = (Vec<u8>, Wish)> {
    let path = vec(0..NAMES.len(), 1..4).prop_map(|names| {
        names.iter().flat_map(|name| [b"/".as_slice(), NAMES[*name]].concat()).collect()
    });
    let bytes = prop_oneof![vec(1..255u8, 1..10), (1..255u8).prop_map(|byte| vec![byte; 5000])];
    let gap = |range: Range<usize>| prop_oneof![3 => Just(0), 1 => range, 1 => Just(4096)];
    let runs = vec((gap(1..100), bytes), 0..4);
    let node = (kind(), described(), runs, gap(1..9000))
        .prop_map(|(kind, described, runs, tail)| Wish::Node { kind, described, runs, tail });
    let wish = prop_oneof![
        8 => node,
        1 => Just(Wish::Symlink),
        2 => (0..64usize).prop_map(Wish::Link),
        1 => Just(Wish::Whiteout),
        1 => Just(Wish::Opaque),
        1 => prop::option::of(described()).prop_map(Wish::Root),
    ];
    (path, wish)
}

/// Keeps the wishes that make a well-formed layer, parents first.
pub fn layer(label: &str, wishes: Vec<(Vec<u8>, Wish)>) -> (MemoryLayer, Vec<(Vec<u8>, Said)>) {
    let mut draft = Draft {
        layer: MemoryLayer::new(label),
        said: Vec::new(),
        linkable: Vec::new(),
        opaque: BTreeSet::new(),
    };
    let root = wishes.iter().find_map(|(_, wish)| match wish {
        Wish::Root(described) => Some(described.clone()),
        _ => None,
    });
    draft.describe_root(root.unwrap_or_else(|| Some(Described::plain(0o755))));
    for (path, wish) in wishes {
        draft.take(path, wish);
    }
    (draft.layer, draft.said)
}

struct Draft {
    layer: MemoryLayer,
    said: Vec<(Vec<u8>, Said)>,
    linkable: Vec<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
}

impl Draft {
    fn change(&mut self, change: impl FnOnce(MemoryLayer) -> MemoryLayer) {
        self.layer = change(std::mem::replace(&mut self.layer, MemoryLayer::new("")));
    }

    fn describe_root(&mut self, described: Option<Described>) {
        let root = b"/".to_vec();
        let Some(described) = described else {
            let nothing = Metadata::default_directory();
            self.change(|layer| layer.described(&root, nothing, Xattrs::new()).implied(&root));
            return;
        };
        let (meta, xattrs) = (described.metadata(), described.xattrs.clone());
        self.change(|layer| layer.described(&root, meta, xattrs));
        self.said.push((root, described.said(Kind::Directory, vec![])));
    }

    fn take(&mut self, path: Vec<u8>, wish: Wish) {
        let cuts = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let parents: Vec<&[u8]> = cuts.map(|(cut, _)| &path[..cut]).collect();
        let in_the_way =
            |parent: &[u8]| self.layer.exists(parent) && !self.layer.is_directory(parent);
        let fits = match wish {
            Wish::Root(_) => false,
            Wish::Whiteout => true,
            Wish::Opaque => self.layer.is_directory(&path) && self.opaque.insert(path.clone()),
            Wish::Link(_) if self.linkable.is_empty() => false,
            _ => !self.layer.exists(&path),
        };
        if !fits || parents.iter().any(|parent| in_the_way(parent)) {
            return;
        }
        for parent in parents {
            if !self.layer.exists(parent) {
                self.change(|layer| layer.directory(parent).implied(parent));
                self.said.push((parent.to_vec(), Said::Implied));
            }
        }
        let said = match wish {
            Wish::Node { kind, described, runs, tail } => {
                self.add(&path, kind, described, runs, tail)
            }
            Wish::Symlink => {
                self.change(|layer| layer.symlink(&path, "target"));
                self.linkable.push(path.clone());
                Described::plain(0o777).said(Kind::Symlink, b"target".to_vec())
            }
            Wish::Link(index) => {
                let existing = self.linkable[index % self.linkable.len()].clone();
                self.change(|layer| layer.link(&existing, &path));
                Said::Link { existing }
            }
            Wish::Whiteout => {
                self.change(|layer| layer.whiteout(&path));
                Said::Whiteout
            }
            Wish::Opaque | Wish::Root(_) => {
                self.change(|layer| layer.opaque(&path));
                Said::Opaque
            }
        };
        self.said.push((path, said));
    }

    fn add(
        &mut self,
        path: &[u8],
        kind: Kind,
        described: Described,
        runs: Vec<(usize, Vec<u8>)>,
        tail: usize,
    ) -> Said {
        let mut bytes = Vec::new();
        if kind == Kind::File {
            let mut placed = Vec::new();
            for (gap, run) in runs {
                bytes.resize(bytes.len() + gap, 0);
                placed.push((bytes.len() as u64, run.clone()));
                bytes.extend(run);
            }
            bytes.resize(bytes.len() + tail, 0);
            self.change(|layer| layer.sparse(path, bytes.len() as u64, placed));
        } else {
            self.change(|layer| layer.node(path, kind, 0));
        }
        let (meta, xattrs) = (described.metadata(), described.xattrs.clone());
        self.change(|layer| layer.described(path, meta, xattrs));
        if !kind.is_directory() {
            self.linkable.push(path.to_vec());
        }
        described.said(kind, bytes)
    }
}
