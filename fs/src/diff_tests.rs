//! Trees from node lists, compared.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Aspect, Difference, diff};
use crate::content::Identity;
use crate::error::Result;
use crate::layer::synthetic::{self, SyntheticNode};
use crate::layer::{DataRun, Entry, Layer};
use crate::node::{Metadata, Timestamp, Xattrs};
use crate::sysroot::{Options, Sysroot};

fn nodes(list: &str) -> Vec<SyntheticNode> {
    synthetic::parse(list.as_bytes()).unwrap()
}

fn tree_of(nodes: Vec<SyntheticNode>) -> Sysroot {
    let layer: Arc<dyn Layer> = Arc::new(synthetic::layer("nodes", nodes).unwrap());
    Sysroot::new(vec![layer], Options::default()).unwrap()
}

fn tree(list: &str) -> Sysroot {
    tree_of(nodes(list))
}

/// Each difference as a line: `+ path`, `- path`, or the path and the aspects.
fn told(from: &Sysroot, to: &Sysroot, ignored: &[Aspect]) -> Vec<String> {
    let mut lines = Vec::new();
    let ignored: BTreeSet<Aspect> = ignored.iter().copied().collect();
    diff(from, to, &ignored, &mut |path, difference| {
        let path = String::from_utf8_lossy(path);
        lines.push(match difference {
            Difference::Added(_) => format!("+ {path}"),
            Difference::Removed(_) => format!("- {path}"),
            Difference::Changed { aspects, .. } => format!("{path} {aspects:?}"),
        });
        Ok(())
    })
    .unwrap();
    lines
}

const BASE: &str = "\
dir /etc 0755 0 0
file /etc/motd 0644 0 0 hello
file /etc/same 0644 0 0 same
symlink /etc/link 0777 0 0 motd
char /dev 0600 0 5 5:1
file /one 0644 0 0 x
link /two 0644 0 0 /one
file /three 0644 0 0 x
";

#[test]
fn equal_trees_do_not_differ() {
    assert_eq!(told(&tree(BASE), &tree(BASE), &[]), [] as [String; 0]);
}

#[test]
fn each_aspect_is_told_alone() {
    let cases: [(&str, &str, &str); 11] = [
        ("motd 0644 0 0 hello", "motd 0600 0 0 hello", "/etc/motd {Mode}"),
        ("motd 0644 0 0 hello", "motd 0644 1 0 hello", "/etc/motd {Owner}"),
        ("motd 0644 0 0 hello", "motd 0644 0 1 hello", "/etc/motd {Owner}"),
        ("motd 0644 0 0 hello", "motd 0644 0 0 hell", "/etc/motd {Size, Content}"),
        ("motd 0644 0 0 hello", "motd 0644 0 0 hallo", "/etc/motd {Content}"),
        ("0 0 motd", "0 0 same", "/etc/link {Target}"),
        ("0 0 motd", "0 0 /absolute", "/etc/link {Target}"),
        ("char /dev 0600 0 5 5:1", "char /dev 0600 0 5 5:2", "/dev {Device}"),
        ("char /dev 0600 0 5 5:1", "block /dev 0600 0 5 5:1", "/dev {Type}"),
        ("char /dev 0600 0 5 5:1", "fifo /dev 0600 0 5", "/dev {Type}"),
        ("dir /etc 0755", "dir /etc 0700", "/etc {Mode}"),
    ];
    for (old, new, expected) in cases {
        assert!(BASE.contains(old), "{old}");
        let changed = tree(&BASE.replace(old, new));
        assert_eq!(told(&tree(BASE), &changed, &[]), [expected], "{new}");
        assert_eq!(told(&changed, &tree(BASE), &[]), [expected], "{new}, the other way");
    }
}

#[test]
fn times_and_xattrs_are_compared() {
    let mut changed = nodes(BASE);
    changed[1].mtime = Timestamp::new(0, 1);
    changed[2].xattrs = Xattrs::from([(b"user.a".to_vec(), b"1".to_vec())]);
    let mut again = changed.clone();
    again[2].xattrs = Xattrs::from([(b"user.a".to_vec(), b"2".to_vec())]);
    let changed = tree_of(changed);
    assert_eq!(told(&tree(BASE), &changed, &[]), ["/etc/motd {Mtime}", "/etc/same {Xattrs}"]);
    assert_eq!(told(&tree(BASE), &changed, &[Aspect::Mtime]), ["/etc/same {Xattrs}"]);
    assert_eq!(told(&changed, &tree_of(again), &[]), ["/etc/same {Xattrs}"]);
}

#[test]
fn hard_links_are_compared_by_number_and_by_names() {
    let apart = BASE.replace("link /two 0644 0 0 /one", "file /two 0644 0 0 x");
    assert_eq!(told(&tree(BASE), &tree(&apart), &[]), ["/one {Links}", "/two {Links}"]);
    let four = format!("{BASE}link /four 0644 0 0 /three\n");
    let crossed = BASE.replace("/two 0644 0 0 /one", "/three 0644 0 0 /one");
    let crossed = crossed.replace("file /three", "file /two") + "link /four 0644 0 0 /two\n";
    let expected = ["/three {Links}", "/two {Links}"];
    assert_eq!(told(&tree(&four), &tree(&crossed), &[]), expected);
}

#[test]
fn what_came_and_went_is_told_with_everything_below() {
    let more =
        format!("{BASE}dir /etc/new 0755 0 0\nfile /etc/new/f 0644 0 0\nfile /etc.d 0644 0 0\n");
    let expected = ["/etc/new", "/etc/new/f", "/etc.d"];
    let plus: Vec<String> = expected.iter().map(|path| format!("+ {path}")).collect();
    let minus: Vec<String> = expected.iter().map(|path| format!("- {path}")).collect();
    assert_eq!(told(&tree(BASE), &tree(&more), &[]), plus);
    assert_eq!(told(&tree(&more), &tree(BASE), &[]), minus);
    let file = "file /etc 0755 0 0 now a file\n";
    assert_eq!(
        told(&tree("file /etc/motd 0644 0 0 x"), &tree(file), &[]),
        ["/etc {Type}", "- /etc/motd"]
    );
}

/// One file in the root, whose content is known by its name only.
struct Unreadable {
    identity: Option<Identity>,
    digest: Option<[u8; 32]>,
    was_read: Arc<AtomicBool>,
}

impl Layer for Unreadable {
    fn label(&self) -> &str {
        "unreadable"
    }

    fn metadata(&self, entry: Entry) -> Result<Metadata> {
        let directory = Metadata::default_directory();
        Ok(match entry {
            Entry::ROOT => directory,
            _ => Metadata { kind: crate::Kind::File, size: 10, ..directory },
        })
    }

    fn link_count(&self, _entry: Entry) -> Result<u32> {
        Ok(1)
    }

    fn names(&self, _entry: Entry) -> Result<Vec<(Entry, Vec<u8>)>> {
        Ok(vec![(Entry::ROOT, b"f".to_vec())])
    }

    fn parent(&self, _entry: Entry) -> Result<Entry> {
        Ok(Entry::ROOT)
    }

    fn subdirectories(&self, _directory: Entry) -> Result<u32> {
        Ok(0)
    }

    fn lookup(&self, _directory: Entry, name: &[u8]) -> Result<Option<Entry>> {
        Ok((name == b"f").then_some(Entry(1)))
    }

    fn children(
        &self,
        _directory: Entry,
        start: u64,
        visit: &mut dyn FnMut(&[u8], Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        if start == 0 {
            let _ = visit(b"f", Entry(1));
        }
        Ok(())
    }

    fn child_count(&self, _directory: Entry) -> Result<u64> {
        Ok(1)
    }

    fn read(&self, _entry: Entry, _offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.was_read.store(true, Ordering::Relaxed);
        buffer.fill(7);
        Ok(buffer.len())
    }

    fn read_link(&self, _entry: Entry) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn xattrs(&self, _entry: Entry) -> Result<Xattrs> {
        Ok(Xattrs::new())
    }

    fn next_data(&self, _entry: Entry, offset: u64) -> Result<Option<DataRun>> {
        Ok((offset < 10).then_some(DataRun { offset, length: 10 - offset }))
    }

    fn data_bytes(&self, _entry: Entry) -> Result<u64> {
        Ok(10)
    }

    fn digest(&self, _entry: Entry) -> Result<Option<[u8; 32]>> {
        Ok(self.digest)
    }

    fn identity(&self, _entry: Entry) -> Result<Option<Identity>> {
        Ok(self.identity.clone())
    }
}

#[test]
fn files_are_read_only_where_nothing_else_decides() {
    type Known = (Option<[u8; 32]>, Option<Identity>);
    let blob = |byte| Some(Identity::Blob(vec![byte; 20]));
    let stored = |offset| Some(Identity::Stored { device: 1, inode: 2, offset });
    let cases: [(Known, Known, bool, bool); 7] = [
        ((Some([1; 32]), None), (Some([1; 32]), None), true, false),
        ((Some([1; 32]), None), (Some([2; 32]), None), false, false),
        ((None, blob(1)), (None, blob(1)), true, false),
        ((None, blob(1)), (None, blob(2)), false, false),
        ((Some([1; 32]), stored(5)), (None, stored(5)), true, false),
        ((None, stored(5)), (None, stored(6)), true, true),
        ((Some([1; 32]), None), (None, blob(1)), true, true),
    ];
    for (number, (from, to, same, reads)) in cases.into_iter().enumerate() {
        let was_read = Arc::new(AtomicBool::new(false));
        let open = |(digest, identity): Known| {
            let layer = Unreadable { identity, digest, was_read: was_read.clone() };
            Sysroot::new(vec![Arc::new(layer)], Options::default()).unwrap()
        };
        let (from, to) = (open(from), open(to));
        let expected: &[&str] = if same { &[] } else { &["/f {Content}"] };
        assert_eq!(told(&from, &to, &[]), expected, "case {number}");
        assert_eq!(was_read.load(Ordering::Relaxed), reads, "case {number}");
        was_read.store(false, Ordering::Relaxed);
        told(&from, &to, &[Aspect::Content]);
        assert!(!was_read.load(Ordering::Relaxed), "case {number}: content is ignored");
    }
}
