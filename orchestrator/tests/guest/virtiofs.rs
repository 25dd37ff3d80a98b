//! A sysroot served by this process, to one guest after the other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outcrop::guest::{Guest, GuestError, GuestOptions, Root};
use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::layer::directory::DirectoryLayer;
use outcrop_fs::node::{Ino, Kind};
use outcrop_fs::sysroot::{Options, Policy, Sysroot as Tree, Zone};
use outcrop_fs::transport::{Caching, VirtiofsServer};

use crate::kit::{Kit, Sysroot};
use crate::{MOUNT_POINTS, commands, output, script};

fn tree(sysroot: &Sysroot) -> Arc<Tree> {
    let layer = DirectoryLayer::open(sysroot.path()).unwrap();
    let zones = vec![Zone { prefix: b"/".to_vec(), policy: Policy::Scratch }];
    Arc::new(Tree::new(vec![Arc::new(layer)], Options { zones, spool_directory: None }).unwrap())
}

fn options(kit: &Kit, sysroot: &Sysroot, server: &VirtiofsServer) -> GuestOptions {
    let mut options = kit.options(sysroot);
    options.root = Root::Virtiofs { socket: server.socket().to_owned() };
    options
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    let found = tree.resolve(path.as_bytes()).unwrap();
    let mut bytes = vec![0; found.meta.size as usize];
    assert_eq!(tree.read(found.ino, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A directory whose sockets have names too long for an address.
fn deep(scratch: &Path) -> std::path::PathBuf {
    let directory = scratch.join("d".repeat(60)).join("e".repeat(60));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_over_virtiofs_and_their_writes_arrive() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    let tree = tree(&sysroot);
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("s");
    let server = VirtiofsServer::start(tree.clone(), &socket, Caching::immutable()).unwrap();
    commands(options(&kit, &sysroot, &server)).await;
    server.stop();
    assert_eq!(content(&tree, "/work/file"), b"here\n");
    assert_eq!(tree.resolve(b"/work/file").unwrap().meta.mode, 0o4711);
    assert_eq!(content(&tree, "/work/big"), vec![0; 20 << 20]);
    nothing_is_left_of_mounts(&tree);
}

fn nothing_is_left_of_mounts(tree: &Tree) {
    for mount_point in MOUNT_POINTS {
        let found = tree.resolve(format!("/{mount_point}").as_bytes());
        assert!(found.is_err(), "{mount_point} was left behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_outlives_its_guests() {
    let Some(kit) = Kit::find() else { return };
    let sysroot = Sysroot::new(&kit);
    let tree = tree(&sysroot);
    let scratch = tempfile::tempdir().unwrap();
    let socket = deep(scratch.path()).join("s");
    let server = VirtiofsServer::start(tree.clone(), &socket, Caching::immutable()).unwrap();

    let ino = a_guest_that_shuts_down(&kit, &sysroot, &server, &tree).await;
    assert!(tree.attributes(ino).is_err(), "an unlinked file that was held is gone");

    let before = open_descriptors();
    // A killed QEMU, with a file held open that has no name any more.
    let mut guest = Guest::start(options(&kit, &sysroot, &server)).await.unwrap();
    assert_eq!(output(&mut guest, "cat /work/file").await, "here\n");
    output(&mut guest, "echo held > /work/held; sync").await;
    let held = tree.resolve(b"/work/held").unwrap().ino;
    let qemu = rustix::process::Pid::from_raw(guest.process_id().unwrap() as i32).unwrap();
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        rustix::process::kill_process(qemu, rustix::process::Signal::KILL).unwrap();
    });
    let hold =
        script("exec 3< /work/held; rm /work/held; echo gone > /work/gone; sync; sleep 1000");
    let error = guest.run(&hold, |_, _| {}).await.unwrap_err();
    killer.await.unwrap();
    assert!(matches!(error, GuestError::QemuEnded { .. }), "{error}");
    drop(guest);
    wait_until(|| tree.attributes(held).is_err()).await;
    assert_eq!(content(&tree, "/work/gone"), b"gone\n");

    // A kernel that panics.
    let mut guest = Guest::start(options(&kit, &sysroot, &server)).await.unwrap();
    let error = guest.run(&script("echo c > /proc/sysrq-trigger"), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, GuestError::KernelPanicked { .. }), "{error}");
    drop(guest);

    let mut guest = Guest::start(options(&kit, &sysroot, &server)).await.unwrap();
    assert_eq!(output(&mut guest, "cat /work/gone").await, "gone\n");
    guest.shut_down().await.unwrap();
    wait_until(|| open_descriptors() <= before).await;
    server.stop();
    assert!(!socket.exists());
    assert_eq!(Arc::strong_count(&tree), 1, "nobody serves the tree any more");
}

async fn a_guest_that_shuts_down(
    kit: &Kit,
    sysroot: &Sysroot,
    server: &VirtiofsServer,
    tree: &Tree,
) -> Ino {
    let mut guest = Guest::start(options(kit, sysroot, server)).await.unwrap();
    eprintln!("{:?}", guest.timings());
    let text = output(
        &mut guest,
        "grep ' / ' /proc/mounts | cut -d ' ' -f 1-3; mkdir /work; echo here > /work/file
         dd if=/dev/zero of=/work/big bs=1M count=20 2>/dev/null; chmod 4711 /work/file
         dd if=/work/big bs=1M 2>/dev/null | wc -c; echo x > /work/gone; echo more >> /work/gone
         stat -c '%a %s' /work/file /work/gone",
    )
    .await;
    assert_eq!(text, "root / virtiofs\n20971520\n4711 5\n644 7\n");
    let ino = tree.resolve(b"/work/gone").unwrap().ino;
    output(&mut guest, "rm /work/gone").await;
    guest.shut_down().await.unwrap();
    assert_eq!(content(tree, "/work/file"), b"here\n");
    assert_eq!(content(tree, "/work/big"), vec![0; 20 << 20]);
    assert_eq!(tree.resolve(b"/work/file").unwrap().meta.mode, 0o4711);
    assert_eq!(tree.resolve(b"/bin/busybox").unwrap().meta.kind, Kind::File);
    nothing_is_left_of_mounts(tree);
    ino
}

async fn wait_until(condition: impl Fn() -> bool) {
    let limit = Duration::from_secs(30);
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, wait).await.expect("it does not come true");
}
