//! `outcrop export`: a tree as an archive or an image.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outcrop_fs::capture::Progress;
use outcrop_fs::filesystem::Filesystem;
use outcrop_fs::node::ROOT_INO;
use outcrop_fs::sysroot::Sysroot;
use outcrop_fs::transport::{Caching, Mount, MountOptions};

use crate::export::{self, Format, Options, Report};
use crate::output;
use crate::words::counted;

use super::context::{Context, DefinitionsArguments};
use super::error::{CommandError, CommandResult, Exit};
use super::interrupt::run_interruptible;
use super::tree;

/// Write a built system, an artifact or a layer as an archive or an image
///
/// Owners, modes, device nodes, setuid bits and xattrs are those of the tree, whoever you are.
/// Exporting twice gives identical bytes.
///
/// Example: outcrop export minimal-x86_64 --definitions examples/minimal -f squashfs -o minimal.sqfs
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A built component, artifact:KEY, or a layer (see `outcrop mount --help`)
    target: String,

    /// tar, tar.zst, cpio, cpio.gz, squashfs or ext4
    #[arg(long, short)]
    format: Format,

    /// Where to write; by default the target's name with the format's ending
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Size of an ext4 image in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    size: Option<u64>,

    #[command(flatten)]
    definitions: DefinitionsArguments,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    if arguments.size.is_some() && arguments.format != Format::Ext4 {
        return Err(CommandError::input(
            "--size is the size of an image of ext4, not of other formats",
        ));
    }
    let context = Context::open()?;
    let sysroot = tree::open_target(&context, &arguments.target, &arguments.definitions)?;
    let out = arguments.output.clone().unwrap_or_else(|| default_output(arguments));
    let size = arguments.size.map(|mib| mib.saturating_mul(1 << 20));
    let report = write(&context, Arc::new(sysroot), arguments.format, &out, size)?;
    for skipped in &report.skipped {
        output::say(format_args!(
            "not exported: {}: {}",
            String::from_utf8_lossy(&skipped.path),
            skipped.reason
        ));
    }
    for warning in &report.warnings {
        output::say(format_args!("warning: {warning}"));
    }
    output::say(format_args!(
        "{}, {} bytes",
        counted(report.entries, "entry", "entries"),
        report.bytes
    ));
    output::print(out.display())?;
    Ok(())
}

fn default_output(arguments: &Arguments) -> PathBuf {
    let name = arguments.target.rsplit('/').next().unwrap_or("tree");
    let name = name.trim_start_matches("artifact:");
    PathBuf::from(format!("{name}.{}", arguments.format))
}

/// Exports on a thread of its own, so that a signal can stop it.
pub fn write(
    context: &Context,
    sysroot: Arc<Sysroot>,
    format: Format,
    out: &Path,
    size: Option<u64>,
) -> CommandResult<Report> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = cancelled.clone();
    let run = context.run_directory()?;
    let out = out.to_owned();
    run_interruptible(async move {
        // Dropping this future sets the flag, and the export ends at its next look at it.
        let guard = CancelOnDrop(cancelled);
        let work = tokio::task::spawn_blocking(move || {
            let with_mount = |work: &mut dyn FnMut(&Path) -> export::Result<()>| {
                mounted(run.path(), sysroot.clone(), work)
            };
            let progress = |_: Progress| match flag.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let options = Options {
                size,
                with_mount: Some(&with_mount),
                progress: Some(&progress),
                ..Options::default()
            };
            export::export(sysroot.as_ref(), ROOT_INO, format, &out, &options)
        });
        let result = work.await;
        std::mem::forget(guard);
        match result {
            Ok(report) => Ok(report?),
            Err(error) => Err(CommandError::build(format!("the export ended: {error}"))),
        }
    })
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while the true view of the tree is mounted below `directory`.
fn mounted(
    directory: &Path,
    sysroot: Arc<dyn Filesystem>,
    work: &mut dyn FnMut(&Path) -> export::Result<()>,
) -> export::Result<()> {
    let mountpoint = directory.join("mnt");
    std::fs::create_dir_all(&mountpoint)
        .map_err(|source| outcrop_fs::Error::host("cannot create", &mountpoint, source))?;
    let options = MountOptions { caching: Caching::immutable(), ..MountOptions::default() };
    let mount_error = |error: outcrop_fs::transport::MountError| {
        export::Error::Files(outcrop_fs::Error::Invalid(error.to_string()))
    };
    let mount = Mount::start(sysroot, &mountpoint, &options).map_err(mount_error)?;
    let result = work(&mountpoint);
    mount.unmount().map_err(mount_error)?;
    result
}

impl From<export::Error> for CommandError {
    fn from(error: export::Error) -> Self {
        let exit = match &error {
            export::Error::HostLacks { .. } => Exit::HostLacks,
            export::Error::Cancelled => Exit::Interrupted,
            _ => Exit::BuildFailed,
        };
        CommandError::new(exit, error.to_string())
    }
}
