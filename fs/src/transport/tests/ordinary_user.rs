//! The same tests once more without privileges, and processes for others to kill.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;

/// The unprivileged user that every system has.
const NOBODY: u32 = 65_534;
const DAEMON_MOUNTPOINT: &str = "OUTCROP_TEST_DAEMON_MOUNTPOINT";

#[test]
fn everything_works_as_an_ordinary_user() {
    if !can_mount() || !is_root() {
        eprintln!("SKIPPED: only root can become somebody else; the other tests ran as this user");
        return;
    }
    let mode = fs::metadata("/dev/fuse").unwrap().mode();
    if mode & 0o006 != 0o006 {
        eprintln!("SKIPPED: /dev/fuse has mode {mode:o}; an ordinary user may not open it");
        return;
    }
    // Both the program and its temporary directory must be within the user's reach.
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = home.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(NOBODY), Some(NOBODY)).unwrap();
    let output = Command::new(&program)
        .args(["transport::tests::", "--nocapture", "--test-threads=2"])
        .env("TMPDIR", &temporary)
        .env("HOME", &temporary)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "as an ordinary user:\n{text}\n{errors}");
    assert!(text.contains("lifecycle"), "nothing was run:\n{text}");
}

/// A process that mounts and serves until it is killed, at the latest when the test ends.
pub(super) struct Daemon {
    child: Child,
    mountpoint: PathBuf,
}

impl Daemon {
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = crate::transport::clean_stale(&self.mountpoint) {
            eprintln!("{error}");
        }
    }
}

pub(super) fn start_daemon(mountpoint: &std::path::Path) -> Daemon {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "transport::tests::ordinary_user::daemon"])
        .env(DAEMON_MOUNTPOINT, mountpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Daemon { child, mountpoint: mountpoint.to_owned() };
    eventually("the daemon has mounted", || mountpoint.join("alive").exists());
    daemon
}

#[test]
#[ignore = "a process for other tests, not a test"]
fn daemon() {
    let Some(mountpoint) = std::env::var_os(DAEMON_MOUNTPOINT) else {
        panic!("{DAEMON_MOUNTPOINT} is not set");
    };
    let tree = MemoryTree::new();
    put_file(&tree, b"alive", b"yes");
    let mount = Mount::start(Arc::new(tree), mountpoint.as_ref(), &exclusive()).unwrap();
    mount.wait().unwrap();
}
