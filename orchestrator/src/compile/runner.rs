//! Runs one compiler: confined, limited, watched.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, path_beneath_rules,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, setrlimit,
};

use super::endpoint::Limits;

/// Where compilers, their libraries and their parts are; read and execute only.
const READABLE: &[&str] = &[
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
];

/// What a compiler is started with; it runs in `directory`.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub program: &'a Path,
    pub arguments: &'a [OsString],
    pub directory: &'a Path,
    /// Where the compiler looks for its parts first.
    pub tools: Option<&'a Path>,
    /// Readable and executable, beside the system's directories.
    pub toolchains: &'a [PathBuf],
    pub limits: &'a Limits,
}

/// How a compiler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By itself; a wait status.
    Exited(u32),
    /// Killed by us: the reason, as a phrase.
    Stopped(&'static str),
}

/// Names of the files in a job's directory.
pub(super) const STDOUT: &str = "stdout";
pub(super) const STDERR: &str = "stderr";

/// Runs a compiler until it ends, reaches a limit or its client goes away.
pub(super) fn run(job: &Job<'_>, client: BorrowedFd<'_>) -> io::Result<Outcome> {
    let started = Instant::now();
    let output = |name: &str| File::create(job.directory.join(name));
    let mut command = Command::new(job.program);
    command
        .args(job.arguments)
        .current_dir(job.directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TMPDIR", job.directory)
        .stdin(Stdio::null())
        .stdout(output(STDOUT)?)
        .stderr(output(STDERR)?)
        .process_group(0);
    if let Some(tools) = job.tools {
        command.env("COMPILER_PATH", tools);
    }
    restrict(&mut command, confinement(job.directory, job.toolchains)?, job.limits.clone());
    let mut child = Killed(command.spawn()?);
    let outcome = watch(&child.0, client, started, job.limits.wall_seconds)?;
    if let Some(reason) = outcome {
        return Ok(Outcome::Stopped(reason));
    }
    let status = child.0.wait()?;
    Ok(match status.signal() {
        Some(signal) if signal == Signal::XCPU.as_raw() => {
            Outcome::Stopped("it used too much CPU time")
        }
        Some(signal) if signal == Signal::XFSZ.as_raw() => {
            Outcome::Stopped("its output grew too large")
        }
        Some(signal) if signal == Signal::KILL.as_raw() => Outcome::Stopped("it was killed"),
        _ => Outcome::Exited(status.into_raw().cast_unsigned()),
    })
}

/// Whether this kernel can confine a compiler.
pub(super) fn can_confine() -> Result<(), String> {
    confinement("/usr".as_ref(), &[]).map(drop).map_err(|error| error.to_string())
}

/// Rules by which the compiler reads the system's programs and writes only its own directory. File
/// access must be confined, otherwise `.incbin` gives a guest any file of the host's user; network
/// access is denied too where the kernel knows how.
fn confinement(directory: &Path, toolchains: &[PathBuf]) -> io::Result<RulesetCreated> {
    let system = READABLE.iter().map(Path::new).filter(|path| path.exists());
    let readable: Vec<&Path> = system.chain(toolchains.iter().map(PathBuf::as_path)).collect();
    let (read, all) = (AccessFs::from_read(ABI::V1), AccessFs::from_all(ABI::V1));
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .and_then(|ruleset| {
            ruleset
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessNet::from_all(ABI::V4))
        })
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(readable, read)))
        .and_then(|ruleset| {
            ruleset.add_rules(path_beneath_rules(["/dev/null"], all & AccessFs::from_file(ABI::V1)))
        })
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules([directory], all)))
        .map_err(io::Error::other)
}

/// Arranges that the child is confined and limited, and dies with the thread that starts it.
fn restrict(command: &mut Command, ruleset: RulesetCreated, limits: Limits) {
    let mut ruleset = Some(ruleset);
    let in_child = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        for (resource, limit) in [
            (Resource::Cpu, limits.cpu_seconds),
            (Resource::As, limits.memory_bytes),
            (Resource::Fsize, limits.output_bytes),
            (Resource::Core, 0),
        ] {
            setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
        }
        match ruleset.take().map(RulesetCreated::restrict_self) {
            Some(Ok(_)) => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    };
    #[allow(unsafe_code)]
    // SAFETY: the closure makes system calls only: prctl, prlimit and landlock_restrict_self. It
    // takes no lock, and allocates nothing before an error that ends the child.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Waits without taking the child's status; gives a reason if it must be killed.
fn watch(
    child: &Child,
    client: BorrowedFd<'_>,
    started: Instant,
    wall_seconds: u64,
) -> io::Result<Option<&'static str>> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = started + Duration::from_secs(wall_seconds);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some("it took too long"));
        }
        let mut watched = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(client, PollFlags::RDHUP),
        ];
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [exited, client_gone] = watched.map(|entry| !entry.revents().is_empty());
        if exited {
            return Ok(None);
        }
        if client_gone {
            return Ok(Some("its client went away"));
        }
    }
}

/// Kills the compiler's process group when dropped, and collects the compiler.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}
