//! Many threads ask one session at once, as a pool of request threads would.

use std::collections::HashMap;
use std::sync::Arc;

use super::hostile::{Space, layered_tree};
use super::session::Session;
use crate::filesystem::Filesystem;
use crate::node::{Ino, ROOT_INO};
use crate::sysroot::Sysroot;
use crate::transport::caching::Caching;
use crate::transport::fuse_message::request_bytes::*;

const PROCESSES: usize = 6;
const ROUNDS: usize = 3_000;
/// Bytes of each shared file that belong to one process.
const SLOT: usize = 100;
/// Files of layers that all processes write to, each in its slot.
const SHARED: [&str; 4] = ["usr/bin/su", "usr/bin/ping", "usr/sparse", "etc/motd"];
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"motd", b"link", b"e", b"su"];
/// Directories that a process keeps at most.
const MOST_DIRECTORIES: usize = 20;

/// What the work of others may answer a request with. `ESTALE` is not among it: a process only
/// names nodes that it holds.
const EXPECTED: [i32; 9] = [
    libc::ENOENT,
    libc::EEXIST,
    libc::ENOTEMPTY,
    libc::EISDIR,
    libc::ENOTDIR,
    libc::EINVAL,
    libc::EPERM,
    libc::EBUSY,
    libc::EROFS,
];

/// A process of the guest, with its part of its kernel's count of holds.
struct Process<'a> {
    session: &'a Session,
    number: usize,
    random: u64,
    held: HashMap<Ino, u64>,
    /// Held once each, to the end.
    directories: Vec<Ino>,
    shared: Vec<Ino>,
    /// Files that nobody else writes to, and what they hold.
    own: Vec<(Ino, Vec<u8>)>,
}

impl<'a> Process<'a> {
    fn new(session: &'a Session, number: usize) -> Self {
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
        let directories = vec![ROOT_INO];
        let (held, shared, own) = (HashMap::new(), Vec::new(), Vec::new());
        let mut process = Process { session, number, random, held, directories, shared, own };
        process.hold(ROOT_INO, false);
        for path in SHARED {
            let found = path.split('/').fold(ROOT_INO, |at, name| {
                let looked_up = request(1, at, &body().name(name.as_bytes()).0);
                process.ask_for_entry(&looked_up).unwrap()
            });
            *process.held.get_mut(&found).unwrap() -= 1;
            process.shared.push(found);
        }
        process
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    fn name(&mut self) -> &'static [u8] {
        NAMES[self.below(NAMES.len())]
    }

    fn directory(&mut self) -> Ino {
        let place = self.below(self.directories.len());
        self.directories[place]
    }

    fn node(&mut self) -> Ino {
        let held: Vec<Ino> =
            self.held.iter().filter(|(_, count)| **count > 0).map(|(ino, _)| *ino).collect();
        if held.is_empty() { ROOT_INO } else { held[self.below(held.len())] }
    }

    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, i32> {
        let mut space = Space::new(1 << 14);
        let length = self.session.answer(message, &mut space);
        let reply = &space.bytes[..length];
        match reply.get(4..8).map(|errno| -i32::from_le_bytes(errno.try_into().unwrap())) {
            None => Ok(Vec::new()),
            Some(0) => Ok(reply[16..].to_vec()),
            Some(errno) => Err(errno),
        }
    }

    /// Asks for what others may have changed.
    fn try_to(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self.ask(message) {
            Ok(body) => Some(body),
            Err(errno) => {
                assert!(EXPECTED.contains(&errno), "opcode {}: errno {errno}", message[4]);
                None
            }
        }
    }

    fn hold(&mut self, ino: Ino, is_directory: bool) {
        let known = self.directories.contains(&ino);
        if is_directory && !known && self.directories.len() < MOST_DIRECTORIES {
            self.directories.push(ino);
        } else {
            *self.held.entry(ino).or_default() += u64::from(ino != ROOT_INO);
        }
    }

    /// Asks for something that is answered with a node, which is then held.
    fn ask_for_entry(&mut self, message: &[u8]) -> Option<Ino> {
        let entry = self.try_to(message)?;
        let ino = number(&entry, 0);
        if ino == 0 {
            return None;
        }
        self.hold(ino, is_directory(&entry));
        Some(ino)
    }

    fn forget(&mut self) {
        let ino = self.node();
        let Some(count) = self.held.remove(&ino).filter(|count| *count > 0) else { return };
        if self.own.iter().any(|(own, _)| *own == ino) {
            self.held.insert(ino, count);
        } else {
            self.ask(&request(2, ino, &body().u64(count).0)).unwrap();
        }
    }

    fn list(&mut self) {
        let directory = self.directory();
        let listed = self.ask(&reading(44, directory, 0, 1 << 13)).unwrap();
        let mut rest = listed.as_slice();
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[144..148].try_into().unwrap()) as usize;
            let name = &rest[152..152 + length];
            let ino = number(rest, 0);
            if ino != 0 && name != b"." && name != b".." {
                self.hold(ino, is_directory(rest));
            }
            rest = &rest[(152 + length).next_multiple_of(8)..];
        }
    }

    fn make_own(&mut self, round: usize) {
        let name = format!("own {} {round}", self.number);
        let directory = self.directory();
        let create = creating(35, directory, (2, 0o100_644, 0), name.as_bytes());
        let Some(ino) = self.ask_for_entry(&create) else { return };
        let content = vec![self.number as u8 + 1; 1 + self.below(9000)];
        self.ask(&writing(ino, 0, 0, &content)).unwrap();
        let to = self.directory();
        let moved = body().u64(to).name(name.as_bytes()).name(self.name());
        self.try_to(&request(12, directory, &moved.0));
        self.own.push((ino, content));
    }

    /// Writes to the process's slot of a shared file and finds there what it wrote.
    fn write_slot(&mut self, round: usize) {
        let place = self.below(SHARED.len());
        let file = self.shared[place];
        let offset = (self.number * SLOT) as u64;
        let slot = [round as u8; SLOT];
        self.ask(&writing(file, offset, 4, &slot)).unwrap();
        let seen = self.ask(&reading(15, file, offset, SLOT as u32)).unwrap();
        assert_eq!(seen, slot, "process {}", self.number);
        if self.below(8) == 0 {
            let name = if self.below(2) == 0 { "security.capability".into() } else { self.xattr() };
            let set = body().u32(3).u32(0).u32(0).u32(0).name(name.as_bytes()).bytes(b"all");
            self.ask(&request(21, file, &set.0)).unwrap();
        }
    }

    fn xattr(&self) -> String {
        format!("user.process{}", self.number)
    }

    fn step(&mut self, round: usize) {
        let (directory, name) = (self.directory(), self.name());
        match self.below(16) {
            0..=2 => {
                self.ask_for_entry(&request(1, directory, &body().name(name).0));
            }
            3 => {
                self.ask_for_entry(&creating(35, directory, (2, 0o106_755, 0), name));
            }
            4 => {
                let fields = body().u32(0o755).u32(0).name(name);
                self.ask_for_entry(&request(9, directory, &fields.0));
            }
            opcode @ (5 | 6) => {
                // UNLINK and RMDIR.
                self.try_to(&request(opcode as u32 + 5, directory, &body().name(name).0));
            }
            7 | 8 => {
                let (to, flags) = (self.directory(), self.below(3) as u32);
                let moved = body().u64(to).u32(flags).u32(0).name(name).name(self.name());
                self.try_to(&request(45, directory, &moved.0));
            }
            9 => {
                let linked = body().u64(self.node()).name(name);
                self.ask_for_entry(&request(13, directory, &linked.0));
            }
            10 | 11 => self.forget(),
            12 => self.list(),
            13 => {
                let node = self.node();
                let found = self.ask(&request(3, node, &[0; 16])).unwrap();
                let shown = number(&found, 16);
                assert_eq!(shown, self.session.shown_number(node));
                assert!(u32::try_from(shown).is_ok(), "{shown}");
            }
            14 => self.make_own(round),
            _ => self.write_slot(round),
        }
    }

    /// Looks whether everything is there, and gives back every hold.
    fn end(mut self) {
        for (ino, content) in std::mem::take(&mut self.own) {
            let seen = self.ask(&reading(15, ino, 0, 1 << 14)).unwrap();
            assert!(seen == content, "a file of process {}: {} bytes", self.number, seen.len());
        }
        for file in std::mem::take(&mut self.shared) {
            let set = body().u32(3).u32(0).u32(0).u32(0).name(self.xattr().as_bytes());
            self.ask(&request(21, file, &set.bytes(b"end").0)).unwrap();
            self.ask(&request(2, file, &body().u64(1).0)).unwrap();
        }
        let directories = self.directories.iter().skip(1).map(|ino| (*ino, 1));
        for (ino, count) in self.held.iter().map(|(ino, count)| (*ino, *count)).chain(directories) {
            self.ask(&request(2, ino, &body().u64(count).0)).unwrap();
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Of a `fuse_entry_out`, by the type bits of its mode.
fn is_directory(entry: &[u8]) -> bool {
    u32::from_le_bytes(entry[100..104].try_into().unwrap()) & 0o170_000 == 0o040_000
}

fn check_shared(tree: &Sysroot, shared: &[Ino]) {
    for ino in shared {
        let xattrs = tree.list_xattrs(*ino).unwrap();
        let ours = xattrs.iter().filter(|name| name.starts_with(b"user.process")).count();
        assert_eq!(ours, PROCESSES, "xattrs of {ino}");
        let mut content = vec![0; PROCESSES * SLOT];
        assert_eq!(tree.read(*ino, 0, &mut content).unwrap(), content.len());
        for slot in content.chunks(SLOT) {
            assert!(slot.iter().all(|byte| *byte == slot[0]), "a slot of {ino} is torn");
        }
    }
}

#[test]
fn processes_that_work_at_once_lose_nothing_and_leave_nothing() {
    let tree = Arc::new(layered_tree());
    let session = Session::new(tree.clone(), Caching::immutable());
    // All have looked up what they share before any of them moves it.
    let watcher = Process::new(&session, PROCESSES);
    let processes: Vec<_> = (0..PROCESSES).map(|number| Process::new(&session, number)).collect();
    std::thread::scope(|scope| {
        for mut process in processes {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    process.step(round);
                }
                process.end();
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS / 20 {
                tree.changed_paths().unwrap();
            }
        });
    });
    check_shared(&tree, &watcher.shared);
    watcher.end();
    assert_eq!(tree.held_nodes(), 0, "every hold was given back");
    tree.audit();
    session.guest_has_gone();
    tree.audit();
}
