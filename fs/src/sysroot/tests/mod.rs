//! Tests of the sysroot against in-memory layers.

mod content;
mod data;
mod directories;
mod kept;
mod layer;
mod merge;
mod model;
mod operations;
mod rename;
#[cfg(feature = "shuttle")]
mod schedules;
mod state_machine;
mod threads;
mod zones;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Options, Policy, Sysroot, Zone};
use crate::error::{Errno, Result};
use crate::filesystem::{Creation, DataSink, Filesystem, Rename, SetAttributes, SetXattr};
use crate::layer::Layer;
use crate::node::{Attributes, Ino, Kind};
use layer::MemoryLayer;

const CREATION: Creation = Creation { mode: 0o644, uid: 10, gid: 20 };

fn zone(prefix: &str, policy: Policy) -> Zone {
    Zone { prefix: prefix.as_bytes().to_vec(), policy }
}

fn stack(layers: Vec<MemoryLayer>) -> Vec<Arc<dyn Layer>> {
    layers.into_iter().map(|layer| Arc::new(layer) as Arc<dyn Layer>).collect()
}

fn read_only(layers: Vec<MemoryLayer>) -> Sysroot {
    Sysroot::new(stack(layers), Options::default()).unwrap()
}

fn writable(layers: Vec<MemoryLayer>) -> Sysroot {
    with_zones(layers, vec![zone("/", Policy::Capture)])
}

fn with_zones(layers: Vec<MemoryLayer>, zones: Vec<Zone>) -> Sysroot {
    Sysroot::new(stack(layers), Options { zones, spool_directory: None }).unwrap()
}

fn stat(sysroot: &Sysroot, path: &str) -> Attributes {
    sysroot.resolve(path.as_bytes()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn ino(sysroot: &Sysroot, path: &str) -> Ino {
    stat(sysroot, path).ino
}

fn content(sysroot: &Sysroot, path: &str) -> Vec<u8> {
    content_of(sysroot, ino(sysroot, path))
}

fn content_of(sysroot: &Sysroot, ino: Ino) -> Vec<u8> {
    let size = sysroot.attributes(ino).unwrap().meta.size as usize;
    let mut buffer = vec![0xee; size + 10];
    let read = sysroot.read(ino, 0, &mut buffer).unwrap();
    assert_eq!(read, size, "a read gives everything up to the size");
    buffer.truncate(read);
    // From somewhere in the middle, as a transport takes it.
    let from = size / 3;
    let mut handed_on = Collected::default();
    let count = sysroot.read_to(ino, from as u64, size + 10, &mut handed_on).unwrap();
    assert_eq!(count, size - from);
    assert_eq!(handed_on.0, buffer[from..], "handed on and read are the same");
    buffer
}

#[derive(Default)]
struct Collected(Vec<u8>);

impl DataSink for Collected {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        self.0.resize(self.0.len() + count as usize, 0);
        Ok(())
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<u64> {
        let mut bytes = vec![0; length as usize];
        let count = file.read_at(&mut bytes, offset)?;
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count as u64)
    }
}

/// The names of a directory, without the dots, in the order reported.
fn list(sysroot: &Sysroot, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    sysroot
        .read_directory(ino(sysroot, path), 2, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    names
}

fn make_file(sysroot: &Sysroot, directory: &str, name: &str, bytes: &[u8]) -> Ino {
    let parent = ino(sysroot, directory);
    let made = sysroot.make_node(parent, name.as_bytes(), Kind::File, CREATION).unwrap();
    sysroot.write(made.ino, 0, bytes).unwrap();
    sysroot.forget(made.ino, 1);
    made.ino
}

#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: Result<T>, expected: Errno) {
    match result {
        Ok(value) => panic!("expected {expected:?}, got {value:?}"),
        Err(error) => assert_eq!(error.errno(), expected, "{error}"),
    }
}
