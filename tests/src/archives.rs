//! Archives with everything in them that is hard to carry, made by the `tar` crate.

use tar::{Builder, EntryType, Header};

/// A path of 300 bytes.
pub fn long_path() -> String {
    format!("long/{}/{}", "d".repeat(150), "f".repeat(144))
}

struct Node<'a> {
    path: &'a str,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: Option<(u32, u32)>,
    target: Option<&'a str>,
    content: &'a [u8],
    pax: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Node<'a> {
    fn new(path: &'a str, kind: EntryType, mode: u32) -> Self {
        let mtime = 1_000_000_000;
        let (device, target, pax) = (None, None, Vec::new());
        Node { path, kind, mode, owner: (0, 0), mtime, device, target, content: b"", pax }
    }

    fn file(path: &'a str, mode: u32, content: &'a [u8]) -> Self {
        Node { content, ..Node::new(path, EntryType::Regular, mode) }
    }
}

fn append(builder: &mut Builder<Vec<u8>>, node: &Node<'_>) {
    if !node.pax.is_empty() {
        builder.append_pax_extensions(node.pax.iter().copied()).unwrap();
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(node.kind);
    header.set_mode(node.mode);
    header.set_uid(node.owner.0);
    header.set_gid(node.owner.1);
    header.set_mtime(node.mtime);
    header.set_size(node.content.len() as u64);
    if let Some((major, minor)) = node.device {
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
    }
    match node.target {
        Some(target) => builder.append_link(&mut header, node.path, target).unwrap(),
        None => builder.append_data(&mut header, node.path, node.content).unwrap(),
    }
}

/// A tar with setuid files, foreign and large owners, devices, a fifo, links, xattrs, a 300-byte
/// path, and a time before 1970 with a fraction.
pub fn everything() -> Vec<u8> {
    let long = long_path();
    let mut builder = Builder::new(Vec::new());
    let directory = |path, mode| Node::new(path, EntryType::Directory, mode);
    let nodes = [
        directory("bin/", 0o755),
        Node::file("bin/su", 0o4755, b"#!/bin/sh\n"),
        Node { owner: (12345, 54321), ..Node::file("foreign", 0o640, b"mine\n") },
        Node { owner: (3_000_000, 4_000_000_000), ..Node::file("large-owner", 0o600, b"x") },
        directory("dev/", 0o755),
        Node {
            device: Some((5, 1)),
            owner: (0, 5),
            ..Node::new("dev/console", EntryType::Char, 0o620)
        },
        Node { device: Some((254, 3)), ..Node::new("dev/vda3", EntryType::Block, 0o660) },
        Node::new("pipe", EntryType::Fifo, 0o644),
        Node::file("one", 0o644, b"twice\n"),
        Node { target: Some("one"), ..Node::new("two", EntryType::Link, 0o644) },
        Node { target: Some("../nowhere"), ..Node::new("link", EntryType::Symlink, 0o777) },
        Node::file(&long, 0o644, b"far down\n"),
        Node {
            pax: vec![
                ("mtime", b"-5.5"),
                ("SCHILY.xattr.user.comment", b"kept"),
                (
                    "SCHILY.xattr.security.capability",
                    &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                ),
            ],
            ..Node::file("old", 0o755, b"before 1970\n")
        },
        directory("sticky/", 0o1777),
    ];
    for node in &nodes {
        append(&mut builder, node);
    }
    builder.into_inner().unwrap()
}

/// A tar of files with the given content.
pub fn files(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in entries {
        append(&mut builder, &Node::file(path, 0o644, content));
    }
    builder.into_inner().unwrap()
}

/// A tar with one entry whose name is written as it is, without the checks that a well-meaning
/// writer makes.
pub fn hostile(name: &str, kind: EntryType, target: &str) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 1024]);
    bytes
}
