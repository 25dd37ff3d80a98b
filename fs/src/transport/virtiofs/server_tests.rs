use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::view::memory_tree::MemoryTree;

fn start(socket: &Path) -> Result<VirtiofsServer, VirtiofsError> {
    VirtiofsServer::start(Arc::new(MemoryTree::new()), socket, Caching::immutable())
}

/// What QEMU says first, VHOST_USER_GET_FEATURES (docs/interop/vhost-user.rst of QEMU): request 1,
/// version 1, no payload; the answer has 8 bytes.
fn features(stream: &mut UnixStream) -> u64 {
    stream.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).unwrap();
    u64::from_le_bytes(answer[12..].try_into().unwrap())
}

#[test]
fn strangers_and_cut_connections_do_not_end_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let server = start(&socket).unwrap();
    drop(UnixStream::connect(&socket).unwrap());
    let mut stranger = UnixStream::connect(&socket).unwrap();
    stranger.write_all(&[0xff; 500]).unwrap();
    drop(stranger);
    let mut half = UnixStream::connect(&socket).unwrap();
    half.write_all(&[1, 0, 0]).unwrap();
    drop(half);
    for _ in 0..3 {
        let mut qemu = UnixStream::connect(&socket).unwrap();
        assert_ne!(features(&mut qemu) & 1 << 32, 0, "VIRTIO_F_VERSION_1");
    }
    server.stop();
}

#[test]
fn stopping_does_not_wait_for_whoever_is_connected() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let server = start(&socket).unwrap();
    let mut qemu = UnixStream::connect(&socket).unwrap();
    features(&mut qemu);
    server.stop();
    assert_eq!(qemu.read(&mut [0; 8]).unwrap(), 0, "the connection was cut");
    assert!(!socket.exists());
    // The same place can be used again.
    drop(start(&socket).unwrap());
}

#[test]
fn connections_leave_no_descriptors_behind() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let server = start(&socket).unwrap();
    // Other tests open files meanwhile, but not events.
    let events = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = descriptors.filter_map(|one| std::fs::read_link(one.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("eventfd")).count()
    };
    let connect = |count: usize| {
        for _ in 0..count {
            features(&mut UnixStream::connect(&socket).unwrap());
        }
    };
    connect(1);
    let before = events();
    connect(50);
    assert!(events() < before + 50, "{} events, {before} before", events());
    server.stop();
}

#[test]
fn the_socket_is_its_owners_and_may_lie_deep() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("socket");
    let server = start(&socket).unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!socket.exists());
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let message = start(&taken).err().unwrap().to_string();
    assert!(message.contains("taken"), "{message}");
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    let missing = directory.path().join("missing/socket");
    assert!(start(&missing).err().unwrap().to_string().contains("missing/socket"));
}
