//! What the end-to-end tests share: the program, an ordinary user, a home, a kit, a mountpoint.
//!
//! As root every command is run as the user `outcrop-test`, which `scripts/test` makes; as anybody
//! else it is run as it is.

// A test says what is wrong by panicking, and helpers are part of the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod archives;
pub mod console;
pub mod definitions;
pub mod git_server;
pub mod own_store;
pub mod packages;
pub mod samples;
pub mod small_disk;
pub mod suites;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The user that commands run as when the tests run as root.
pub const USER: &str = "outcrop-test";

/// Whether a test that cannot run must fail (in CI) instead of saying that it was skipped.
fn must_run() -> bool {
    std::env::var_os("OUTCROP_TESTS_MUST_RUN").is_some()
}

/// Says why a test does not run. Use as `if let Some(()) = skip(…) { return }`.
pub fn skip(why: &str) {
    assert!(!must_run(), "cannot run, and must: {why}");
    eprintln!("skipped: {why}");
}

/// Where the tests keep programs, stores and kits: `OUTCROP_TEST_HOME`, which `scripts/test` sets
/// to a directory that the ordinary user owns.
pub fn home() -> PathBuf {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| match std::env::var_os("OUTCROP_TEST_HOME") {
        Some(home) => PathBuf::from(home),
        None => panic!("OUTCROP_TEST_HOME is not set: run scripts/test"),
    })
    .clone()
}

/// The `outcrop` program under test.
pub fn program() -> PathBuf {
    home().join("bin/outcrop")
}

/// The examples of the repository, readable for the ordinary user.
pub fn examples() -> PathBuf {
    home().join("examples")
}

/// The store that holds the kit and survives between runs.
pub fn shared_store() -> PathBuf {
    home().join("store")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as the ordinary user, with a clean environment and the shared store.
pub fn as_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", home())
        .env("LC_ALL", "C.UTF-8")
        .env("OUTCROP_HOME", shared_store())
        .current_dir(home())
        .stdin(Stdio::null());
    command
}

/// `outcrop` as the ordinary user.
pub fn outcrop() -> Command {
    as_user(program())
}

/// A directory that the ordinary user owns, removed at the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        let parent = home().join("scratch");
        std::fs::create_dir_all(&parent).unwrap();
        let directory = tempfile::Builder::new().prefix("t-").tempdir_in(parent).unwrap();
        give_to_user(directory.path());
        Scratch(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new subdirectory of the user's.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir(&path).unwrap();
        give_to_user(&path);
        path
    }

    /// Makes the directories above a name, the user's all of them.
    pub fn directory_of(&self, name: &str) {
        let mut place = self.path().to_owned();
        for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
            place.push(part);
            if !place.exists() {
                std::fs::create_dir(&place).unwrap();
                give_to_user(&place);
            }
        }
    }

    /// A new file of the user's.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        self.directory_of(name);
        std::fs::write(&path, content).unwrap();
        give_to_user(&path);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

pub fn give_to_user(path: &Path) {
    if is_root() {
        let owner = format!("{USER}:{USER}");
        let status = Command::new("chown").arg(owner).arg(path).status().unwrap();
        assert!(status.success(), "cannot give {} to {USER}", path.display());
    }
}

/// What a command said, for assertions.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            self.code == 0,
            "exit code {}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "exit code {} instead of {code}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        assert!(self.stderr.contains(what), "{what:?} is not in:\n{}", self.stderr);
        self
    }
}

pub fn run(command: &mut Command) -> Said {
    Said::of(command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
}

/// A mount in the background, ended with the test.
pub struct Mounted {
    pub mountpoint: PathBuf,
    ended: bool,
}

impl Mounted {
    /// Mounts with the given arguments before the mountpoint.
    #[track_caller]
    pub fn new<I, S>(scratch: &Scratch, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mountpoint = scratch.join("mnt");
        // A dead mount does not even say that it exists.
        if std::fs::read_dir(scratch.path()).unwrap().flatten().all(|e| e.file_name() != "mnt") {
            scratch.directory("mnt");
        }
        let mut command = outcrop();
        command.arg("mount").arg("--background").args(arguments).arg(&mountpoint);
        run(&mut command).ok();
        Mounted { mountpoint, ended: false }
    }

    #[track_caller]
    pub fn end(mut self) {
        self.ended = true;
        run(outcrop().arg("unmount").arg(&self.mountpoint)).ok();
    }

    /// Runs a shell script in the mount as its owner: nobody else may look into it.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Said {
        let mut command = as_user("sh");
        command.arg("-ec").arg(script).current_dir("/").env("MNT", &self.mountpoint);
        run(&mut command)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.ended {
            let _ = as_user("fusermount3").arg("-uz").arg(&self.mountpoint).status();
        }
    }
}

/// Polls until `condition` holds; panics with `what` after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes whose command line contains `text`.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(text) && !line.contains("setpriv") {
                found.push(line);
            }
        }
    }
    found
}

/// Whether guests are to be started; makes the shared store's kit once if so.
#[must_use]
pub fn guests_can_run() -> bool {
    if std::env::var_os("OUTCROP_TESTS_WITHOUT_GUESTS").is_some() {
        eprintln!("skipped: OUTCROP_TESTS_WITHOUT_GUESTS is set");
        return false;
    }
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let create = || {
            let mut command = outcrop();
            command.args(["kit", "create", "--arch", &guest_arch(), "--if-outdated"]);
            command
        };
        let made = run(&mut create());
        if !made.stderr.contains("indexes") {
            made.ok();
            return;
        }
        // A mirror in the middle of an update. No test depends on a release's updates.
        eprintln!("{}; taking the release without updates", made.stderr.trim());
        run(create().arg("--sources").arg(release_alone())).ok();
    });
    true
}

/// A file with the first of the host's archives, without what came after the release.
fn release_alone() -> PathBuf {
    let text = std::fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap();
    let first = text.split("\n\n").next().unwrap();
    let lines = first.lines().map(|line| match line.strip_prefix("Suites: ") {
        Some(suites) => format!("Suites: {}\n", suites.split(' ').next().unwrap()),
        None => format!("{line}\n"),
    });
    let path = shared_store().with_file_name("release.sources");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    path
}

/// The architecture of the guests of tests that run for several, by its name in definitions.
pub fn guest_arch() -> String {
    std::env::var("OUTCROP_TEST_ARCH").unwrap_or_else(|_| "x86_64".to_owned())
}
