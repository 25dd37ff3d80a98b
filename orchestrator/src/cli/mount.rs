//! `outcrop mount`: a virtual sysroot to look around in, or to write into and capture.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::ValueEnum;
use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::sysroot::{Options, Policy, Sysroot, Zone};
use outcrop_fs::transport::{Caching, Mount, MountOptions, clean_stale, resolve_mountpoint};
use outcrop_fs::view::MappedView;

use crate::output;

use super::context::Context;
use super::error::{CommandError, CommandResult};
use super::interrupt::{Interrupt, runtime};
use super::kept::{Plan, Request, check_destination};
use super::tree::{self, TreeArguments};

/// Mount layers, or a built system, as one file tree
///
/// Nothing is unpacked: the tree is assembled as it is looked at. Owners, modes and device nodes
/// are shown as the layers have them; the mount belongs to you alone.
///
/// Example: outcrop mount --layer base.tar.xz --layer git:src#v1.2@/usr/src/app ~/root
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    tree: TreeArguments,

    /// Allow writing; what is written goes to a spool, never into a layer
    #[arg(long)]
    rw: bool,

    /// At unmount, write the tree with all changes as an artifact to this tar file (with --rw)
    #[arg(long, value_name = "OUT.tar", requires = "rw")]
    capture: Option<PathBuf>,

    /// Which part of the tree the capture takes
    #[arg(long, value_name = "PATH", default_value = "/", requires = "capture")]
    zone: String,

    /// Set all times in the capture to this many seconds since 1970
    #[arg(long, value_name = "SECONDS", requires = "capture")]
    mtime: Option<i64>,

    /// How the tree is shown: as it is, or in the disguise that QEMU's 9p server wants
    #[arg(long, value_enum, default_value_t = View::True)]
    view: View,

    /// Return when the tree is mounted, and serve it in the background
    #[arg(long, short)]
    background: bool,

    /// Where to mount: an empty directory
    mountpoint: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum View {
    True,
    Mapped,
}

/// The line that a background server prints when the tree can be used.
const READY: &str = "ready";

pub fn run(arguments: &Arguments) -> CommandResult {
    if arguments.background && std::env::var_os("OUTCROP_SERVE").is_none() {
        return start_background(&arguments.mountpoint);
    }
    serve(arguments)
}

/// Starts this very command once more in a session of its own and waits until it serves.
fn start_background(mountpoint: &Path) -> CommandResult {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::host(format!("cannot find my own program: {error}")))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env("OUTCROP_SERVE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| CommandError::host(format!("cannot start the server: {error}")))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        // The server ends its output by closing it, ready or not.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line.trim() == READY {
        output::say(format_args!(
            "mounted on {} (process {}); end it with: outcrop unmount {}",
            mountpoint.display(),
            child.id(),
            mountpoint.display()
        ));
        return Ok(());
    }
    let code = child.wait().ok().and_then(|status| status.code());
    // The server has said on stderr what went wrong.
    let exit = match code {
        Some(2) => super::error::Exit::BadInput,
        Some(3) => super::error::Exit::HostLacks,
        Some(130) => super::error::Exit::Interrupted,
        _ => super::error::Exit::BuildFailed,
    };
    Err(CommandError::new(exit, format!("{} was not mounted", mountpoint.display())))
}

fn serve(arguments: &Arguments) -> CommandResult {
    let context = Context::open()?;
    if clean_stale(&arguments.mountpoint)? {
        output::say(format_args!(
            "cleaned the stale mount of a killed server on {}",
            arguments.mountpoint.display()
        ));
        forget_lost_capture(&context, &arguments.mountpoint)?;
    }
    if let Some(out) = &arguments.capture {
        check_destination(out)?;
    }
    let tree::Opened { layers, specs } = tree::open_tree(&context, &arguments.tree)?;
    let policy = match (arguments.rw, &arguments.capture) {
        (false, _) => Policy::ReadOnly,
        (true, Some(_)) => Policy::Capture,
        (true, None) => Policy::Scratch,
    };
    let zones = vec![Zone { prefix: b"/".to_vec(), policy }];
    let run = context.run_directory()?;
    let plan = plan_capture(arguments, specs, run.path())?;
    let spool_directory = Some(run.path().to_owned());
    let sysroot = Arc::new(Sysroot::new(layers, Options { zones, spool_directory })?);
    if plan.is_some() {
        check_zone(&sysroot, &arguments.zone)?;
    }
    let view: Arc<dyn Filesystem> = match arguments.view {
        View::True => sysroot.clone(),
        View::Mapped => Arc::new(MappedView::new(
            sysroot.clone(),
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        )),
    };
    let runtime = runtime()?;
    let mut interrupt = {
        let _entered = runtime.enter();
        Interrupt::new()?
    };
    let record = MountRecord::write(&context, run.path(), &arguments.mountpoint, plan.is_some())?;
    let options = MountOptions {
        caching: Caching::of_tree(sysroot.is_live()),
        read_only: !arguments.rw,
        ..MountOptions::default()
    };
    let mount =
        Mount::start(view, &arguments.mountpoint, &options).inspect_err(|_| record.remove())?;
    if arguments.rw && arguments.capture.is_none() {
        output::say("what is written is dropped at the end: `--capture OUT.tar` keeps it");
    }
    announce(arguments, &record);
    let ended = runtime.block_on(until_unmounted(mount, &mut interrupt));
    let result = match plan {
        Some(plan) => plan.finish(&context, &sysroot, ended),
        None => ended,
    };
    let result = match result {
        Err(error) if arguments.background => {
            record.leave_error(&error);
            // Said by `outcrop unmount`: nobody reads what is printed here.
            Err(CommandError::new(super::error::Exit::Interrupted, ""))
        }
        result => {
            record.forget_empty_log();
            result
        }
    };
    // Ends the waiting of `outcrop unmount`: to give back the spool's memory takes a while.
    record.remove();
    drop(run);
    result
}

/// Tells of a capture that a killed server has not written.
fn forget_lost_capture(context: &Context, mountpoint: &Path) -> CommandResult {
    let Ok(mountpoint) = resolve_mountpoint(mountpoint) else { return Ok(()) };
    if let Some(record) = find_record(context, &mountpoint)?
        && let Some(Err(lost)) = record.ended()
    {
        output::say(lost.message);
    }
    Ok(())
}

/// What is to be captured may still be made in the mount, where nothing is in its way.
fn check_zone(sysroot: &Sysroot, zone: &str) -> CommandResult {
    match sysroot.resolve(zone.as_bytes()) {
        Ok(_) => Ok(()),
        Err(error) if error.errno() == outcrop_fs::Errno::NOENT => {
            log::warn!("the tree has no {zone} yet: make it before the unmount, which captures it");
            Ok(())
        }
        Err(error) => Err(CommandError::input(format!("cannot capture {zone}: {error}"))
            .hint("nothing was mounted; name a directory with --zone")),
    }
}

/// Waits until somebody unmounts, or a signal asks us to.
async fn until_unmounted(mount: Mount, interrupt: &mut Interrupt) -> CommandResult {
    let unmounter = mount.unmounter();
    let mut ended = tokio::task::spawn_blocking(move || mount.wait());
    let stopped = tokio::select! {
        _ = &mut ended => false,
        () = interrupt.wait() => true,
    };
    if stopped {
        unmounter.unmount()?;
        let _ = ended.await;
    }
    Ok(())
}

fn announce(arguments: &Arguments, record: &MountRecord) {
    if arguments.background {
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{READY}");
        let _ = stdout.flush();
        if let Err(error) = record.leave_terminal() {
            log::warn!("the server keeps the terminal: {error}");
        }
    } else {
        output::say(format_args!(
            "mounted on {}; Ctrl-C or `outcrop unmount {}` ends it",
            arguments.mountpoint.display(),
            arguments.mountpoint.display()
        ));
    }
}

fn plan_capture(
    arguments: &Arguments,
    specs: Vec<String>,
    run: &Path,
) -> CommandResult<Option<Plan>> {
    let Some(out) = &arguments.capture else { return Ok(None) };
    let directory = std::env::current_dir()
        .map_err(|error| CommandError::host(format!("cannot tell where I am: {error}")))?;
    let out = out.clone();
    let (zone, mtime) = (arguments.zone.clone(), arguments.mtime);
    let request = Request { directory, layers: specs, zone, mtime, out };
    Ok(Some(Plan::new(request, run)?))
}

/// What `outcrop unmount` needs to know of a running server. It lies in the server's run directory
/// and goes with it, or, where a capture may be lost, in the logs, so that it outlives a killed
/// server. An error of the server stays behind there, too.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct MountRecord {
    mountpoint: PathBuf,
    process: u32,
    run: PathBuf,
    error: PathBuf,
    #[serde(skip)]
    place: PathBuf,
}

const RECORD: &str = "mount.json";
/// Between the message and the hint of an error that was left behind.
const HINT: &str = "\nhint: ";

impl MountRecord {
    fn write(
        context: &Context,
        run: &Path,
        mountpoint: &Path,
        captures: bool,
    ) -> CommandResult<Self> {
        let fault = |error: std::io::Error| {
            CommandError::host(format!("cannot describe the mount in {}: {error}", run.display()))
        };
        let process = std::process::id();
        let error = context.store.root().join("logs").join(format!("mount-{process}.error"));
        let place = if captures { error.with_extension("json") } else { run.join(RECORD) };
        let record = MountRecord {
            // What is wrong with the mount point is said where it is mounted on.
            mountpoint: resolve_mountpoint(mountpoint)
                .or_else(|_| std::path::absolute(mountpoint).map_err(fault))?,
            process,
            run: run.to_owned(),
            error,
            place,
        };
        let text = serde_json::to_string(&record).map_err(|error| fault(error.into()))?;
        std::fs::write(&record.place, text).map_err(fault)?;
        Ok(record)
    }

    /// Whoever started the server may wait for the end of its output: from here on messages go to
    /// a log.
    fn leave_terminal(&self) -> std::io::Result<()> {
        let log = std::fs::File::create(self.log())?;
        rustix::stdio::dup2_stdout(&log)?;
        rustix::stdio::dup2_stderr(&log)?;
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.error.with_extension("log")
    }

    fn forget_empty_log(&self) {
        if std::fs::metadata(self.log()).is_ok_and(|meta| meta.len() == 0) {
            let _ = std::fs::remove_file(self.log());
        }
    }

    /// The server has finished.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.place);
    }

    /// What the server said in the background, to be told once.
    pub fn take_log(&self) -> Vec<u8> {
        let said = std::fs::read(self.log()).unwrap_or_default();
        let _ = std::fs::remove_file(self.log());
        said
    }

    fn leave_error(&self, error: &CommandError) {
        let hint = error.hint.iter().map(|hint| format!("{HINT}{hint}")).collect::<String>();
        let text = format!("{}{hint}", error.message);
        if let Err(problem) = std::fs::write(&self.error, text) {
            log::warn!("cannot write {}: {problem}", self.error.display());
        }
    }

    /// `None` while the server works, then how it ended.
    pub fn ended(&self) -> Option<CommandResult> {
        let alive = Path::new("/proc").join(self.process.to_string()).exists();
        // The run directory of a dead process goes with the next command, whoever has its number then.
        if self.place.exists() && self.run.exists() && alive {
            return None;
        }
        match std::fs::read_to_string(&self.error) {
            Ok(error) => {
                let _ = std::fs::remove_file(&self.error);
                Some(Err(match error.split_once(HINT) {
                    Some((message, hint)) => CommandError::build(message).hint(hint),
                    None => CommandError::build(error),
                }))
            }
            Err(_) if self.place.exists() => {
                self.remove();
                let place = self.mountpoint.display();
                Some(Err(CommandError::build(format!(
                    "the server of the mount on {place} was killed before it had finished: what was \
                     written there is lost, and nothing was captured"
                ))))
            }
            Err(_) => Some(Ok(())),
        }
    }
}

/// The record of the server that serves a mount point, if one of ours does.
pub fn find_record(context: &Context, mountpoint: &Path) -> CommandResult<Option<MountRecord>> {
    let root = context.store.root();
    let list = |directory: &str| {
        let path = root.join(directory);
        let entries = std::fs::read_dir(&path).map_err(|error| {
            CommandError::host(format!("cannot read {}: {error}", path.display()))
        })?;
        Ok::<_, CommandError>(entries.flatten().map(|entry| entry.path()))
    };
    let is_record = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "json")
            && path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"mount-"))
    };
    let running = list("run")?.map(|directory| directory.join(RECORD));
    for place in running.chain(list("logs")?.filter(is_record)) {
        let Ok(text) = std::fs::read_to_string(&place) else { continue };
        let Ok(mut record) = serde_json::from_str::<MountRecord>(&text) else { continue };
        if record.mountpoint == mountpoint {
            record.place = place;
            return Ok(Some(record));
        }
    }
    Ok(None)
}
