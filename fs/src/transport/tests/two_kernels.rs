//! One tree with two users whose kernels remember what they are told: both roles are played by this
//! machine's kernel, through two mounts.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, RenameFlags, StatxFlags, renameat_with, statx};

use super::can_mount;
use crate::sysroot::{Options, Policy, Sysroot, Zone};
use crate::transport::{Caching, Mount, MountOptions};
use crate::view::{GuestView, HostView, SharedTree};

/// Besides the directory `d`.
const NAMES: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "e"];
const ROUNDS: usize = 5_000;
/// `OUTCROP_STRESS_ROUNDS=100000` takes a few minutes.
const VARIABLE: &str = "OUTCROP_STRESS_ROUNDS";

struct World {
    shared: Arc<SharedTree>,
    guest: Mount,
    host: Mount,
    /// In another file system than the mounts.
    foreign: PathBuf,
    directory: tempfile::TempDir,
}

impl World {
    fn new(host_caching: Caching) -> World {
        let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
        let tree = Sysroot::new(Vec::new(), Options { zones, spool_directory: None }).unwrap();
        let shared = SharedTree::new(Arc::new(tree));
        let directory = tempfile::tempdir().unwrap();
        let (guest_place, host_place) = (directory.path().join("g"), directory.path().join("h"));
        fs::create_dir(&guest_place).unwrap();
        fs::create_dir(&host_place).unwrap();
        let foreign = directory.path().join("foreign");
        fs::write(&foreign, "").unwrap();
        let guest = Arc::new(GuestView::new(shared.clone()));
        let options = MountOptions { caching: Caching::asked_anew(), ..MountOptions::default() };
        let guest = Mount::start(guest, &guest_place, &options).unwrap();
        let options = MountOptions { caching: host_caching, ..MountOptions::default() };
        let host = Arc::new(HostView::new(shared.clone(), 0, 0));
        let host = Mount::start(host, &host_place, &options).unwrap();
        shared.announce_to(host.announcer());
        fs::create_dir(guest_place.join("d")).unwrap();
        World { shared, guest, host, foreign, directory }
    }

    /// What the agent does (`guest/src/agent/forgetting.rs`).
    fn tell_guest(&self) {
        let changes = self.shared.take_changes();
        assert!(!changes.incomplete);
        for change in changes.list {
            let path = String::from_utf8(change.path).unwrap();
            let path = self.guest.mountpoint().join(path.trim_start_matches('/'));
            if change.what.name || change.what.content {
                fs::hard_link(&self.foreign, &path).unwrap_err();
            }
            if change.what.content || change.what.listing {
                take_in_attributes(&path);
            }
        }
    }
}

/// Until the kernel has taken in the answer to this question.
fn take_in_attributes(path: &Path) {
    let state = |how| {
        let found = statx(CWD, path, how, StatxFlags::BASIC_STATS).ok()?;
        let time = (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec);
        Some((found.stx_size, found.stx_nlink, time))
    };
    while state(AtFlags::STATX_FORCE_SYNC) != state(AtFlags::STATX_DONT_SYNC) {}
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// One change by one side. What cannot be done changes nothing.
fn change(random: &mut Random, root: &Path) -> String {
    // The last of each: the directory moves, too, with what is in it.
    let mut name = || NAMES.get(random.below(NAMES.len() + 1)).copied().unwrap_or("d");
    let (one, other) = (name(), name());
    let (from, to) = (root.join(one), root.join(other));
    let content = vec![random.below(256) as u8; random.below(9000)];
    let what = match random.below(10) {
        0..=2 => ("write", fs::write(&from, content)),
        3 => {
            let file = OpenOptions::new().append(true).open(&from);
            ("append", file.and_then(|mut file| file.write_all(&content)))
        }
        4 => ("remove", fs::remove_file(&from)),
        5 => ("rename", fs::rename(&from, &to)),
        6 => ("link", fs::hard_link(&from, &to)),
        7 => {
            let file = OpenOptions::new().write(true).open(&from);
            ("truncate", file.and_then(|file| file.set_len(content.len() as u64 / 2)))
        }
        8 => {
            let swapped = renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE);
            ("exchange", swapped.map_err(Into::into))
        }
        _ if root.join("d").exists() => {
            let _ = fs::remove_file(root.join("d/a"));
            let _ = fs::remove_file(root.join("d/b"));
            ("remove d", fs::remove_dir(root.join("d")))
        }
        _ => ("make d", fs::create_dir(root.join("d"))),
    };
    format!("{} {one} {other}: {:?}", what.0, what.1)
}

/// What can be seen of a tree, but for numbers of links (docs/host-toolchain.md, "Left out").
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for name in NAMES.into_iter().chain(["d", "a/a", "a/b", "b/a", "e/b"]) {
        let path = root.join(name);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let content = match found.is_dir() {
            true => list(&path).join(","),
            false => {
                let bytes = fs::read(&path).unwrap_or_else(|e| format!("{e}").into_bytes());
                let mtime = (found.mtime(), found.mtime_nsec());
                format!("{} {:?} {mtime:?}", bytes.len(), bytes.first())
            }
        };
        seen.insert(name.to_owned(), format!("{} {content}", found.len()));
    }
    seen.insert(String::new(), list(root).join(","));
    seen
}

fn list(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).map(Iterator::flatten);
    let mut names: Vec<String> = entries
        .map(|all| all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn neither_kernel_is_wrong_about_what_the_other_side_has_changed() {
    neither_is_wrong(Caching::announced(), ROUNDS);
}

/// As on a host of which `Caching` knows that it has to ask each time.
#[test]
fn nor_is_a_kernel_that_remembers_content_alone() {
    neither_is_wrong(Caching::announced_without_waiting(), ROUNDS / 5);
}

fn neither_is_wrong(host_caching: Caching, rounds: usize) {
    if !can_mount() {
        return;
    }
    let asked_for = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let rounds = asked_for.unwrap_or(rounds);
    let world = World::new(host_caching);
    let (guest, host) = (world.guest.mountpoint(), world.host.mountpoint());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = now.as_nanos() as u64 | 1;
    let mut random = Random(seed);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Answers that are on their way while something changes.
        for root in [guest, host] {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    seen(root);
                }
            });
        }
        let stop = StopAtEnd(&over);
        for round in 0..rounds {
            let by_host = random.below(2) == 0;
            let (doer, other) = if by_host { (host, guest) } else { (guest, host) };
            let done = change(&mut random, doer);
            if by_host {
                world.tell_guest();
            }
            let (theirs, ours) = (seen(other), seen(doer));
            let doer = if by_host { "host" } else { "guest" };
            assert_eq!(theirs, ours, "seed {seed}, round {round}: the {doer}'s {done}");
        }
        drop(stop);
    });
    drop(world.directory);
}

/// The other threads end with a failed assertion, too.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
