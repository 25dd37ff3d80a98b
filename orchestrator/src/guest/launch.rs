//! The start of a guest: QEMU, then the hellos and `Setup`.

#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use outcrop_guest::protocol::{AgentHello, AgentMessage, HostHello, HostMessage, VERSION};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::command_line::{MachineOptions, Root, command_line};
use super::error::GuestError;
use super::link::Link;
use super::machine::GuestOptions;
use crate::process::Launch;

/// Starts QEMU with one end of the control channel.
pub(super) async fn launch(options: &GuestOptions) -> Result<Link, GuestError> {
    readable("cannot open the kernel", &options.kernel)?;
    readable("cannot open the initramfs", &options.initramfs)?;
    let (root, directory) = reachable(&options.root)?;
    let no_channel = |source| GuestError::Host {
        doing: "cannot create",
        path: PathBuf::from("the control channel"),
        source,
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(no_channel)?;
    ours.set_nonblocking(true).map_err(no_channel)?;
    let stream = UnixStream::from_std(ours).map_err(no_channel)?;
    let calls = options.calls.as_ref().map(|calls| calls.try_clone());
    let calls = calls.transpose().map_err(no_channel)?;
    let machine = MachineOptions {
        kernel: absolute(&options.kernel)?,
        initramfs: Some(absolute(&options.initramfs)?),
        memory_mib: options.memory_mib,
        accelerator: options.accelerator,
        root,
        compile: options.compile.clone(),
        control: Some(std::os::fd::AsRawFd::as_raw_fd(&theirs)),
        calls: calls.as_ref().map(std::os::fd::AsRawFd::as_raw_fd),
        disk: None,
        kernel_arguments: Vec::new(),
    };
    let mut qemu = Launch::new(&options.recipe.binary);
    qemu.command().args(command_line(&options.recipe, &machine));
    if let Some(directory) = directory {
        qemu.command().current_dir(directory);
    }
    qemu.inherit(theirs.into());
    if let Some(calls) = calls {
        qemu.inherit(calls);
    }
    if let Some(log) = &options.console_log {
        qemu.log_to(log);
    }
    let qemu = qemu.spawn().await.map_err(|source| GuestError::QemuMissing {
        program: options.recipe.binary.clone(),
        source,
    })?;
    Ok(Link::new(qemu, stream, options.console_log.clone()))
}

/// The root as QEMU is to be told it, and the directory to run it in. A socket is told by its name
/// alone: its address has no room for long paths.
fn reachable(root: &Root) -> Result<(Root, Option<PathBuf>), GuestError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        |source| GuestError::Host { doing: "cannot open the sysroot", path, source }
    };
    match root {
        Root::NineP { export, .. } => {
            std::fs::read_dir(export).map_err(fault(export))?;
            Ok((root.clone(), None))
        }
        Root::Virtiofs { socket } => {
            std::fs::metadata(socket).map_err(fault(socket))?;
            let place = std::path::absolute(socket).map_err(fault(socket))?;
            let name = place.file_name().unwrap_or_default();
            let root = Root::Virtiofs { socket: PathBuf::from(name) };
            Ok((root, place.parent().map(Path::to_owned)))
        }
        Root::None => Ok((Root::None, None)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, GuestError> {
    std::path::absolute(path).map_err(|source| GuestError::Host {
        doing: "cannot find",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn readable(doing: &'static str, path: &Path) -> Result<(), GuestError> {
    File::open(path).map(drop).map_err(|source| GuestError::Host {
        doing,
        path: path.to_owned(),
        source,
    })
}

/// Hellos and `Setup`; also says when the agent's hello came.
pub(super) async fn introduce(
    link: &mut Link,
    options: &GuestOptions,
) -> Result<(AgentHello, Instant), GuestError> {
    let AgentMessage::Hello(hello) = link.receive().await? else {
        return Err(GuestError::Unexpected("something came before the hello"));
    };
    let at = Instant::now();
    if hello.version != VERSION {
        return Err(GuestError::Version {
            build_id: String::from_utf8_lossy(&hello.build_id).into_owned(),
            theirs: hello.version,
            ours: VERSION,
        });
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    link.send(&HostMessage::Hello(HostHello {
        version: VERSION,
        build_id: env!("CARGO_PKG_VERSION").into(),
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    }))?;
    link.send(&HostMessage::Setup(options.setup()))?;
    match link.receive().await? {
        AgentMessage::Done => Ok((hello, at)),
        _ => Err(GuestError::Unexpected("no answer to Setup")),
    }
}
