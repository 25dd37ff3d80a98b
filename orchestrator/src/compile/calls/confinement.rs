//! A world for compilers that has the guest's tree and nothing else.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{Signal, pivot_root, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, set_no_new_privs, unshare_unsafe};

use super::Settings;
use super::toolchain::{LOADER, PARTS, PLACE, Toolchain};

/// Devices of the host that a job may use.
const DEVICES: [&str; 2] = ["null", "zero"];

/// Where jobs have their temporary files: nobody else needs them. Relative to the root.
pub const TEMPORARY: &str = "dev/outcrop-tmp";

/// How much room these have.
const DEVICE_OPTIONS: &CStr = c"mode=0755,size=2g,nr_inodes=100k";

/// Makes `view` the root of this process, which must have a single thread, and of all that it starts:
/// without network, other processes, other users, and what only a privileged process may do. The
/// process that goes on is the first of its kind; the caller's waits for it and does not return.
pub fn enter(settings: &Settings) -> io::Result<()> {
    let view = settings.view.as_path();
    isolate()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    mount_bind(view, view)?;
    // Nothing of the guest's runs here.
    let never = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(view, MountFlags::BIND | never, c"")?;
    let devices = view.join("dev");
    mount("tmpfs", &devices, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, DEVICE_OPTIONS)?;
    for name in DEVICES {
        let place = devices.join(name);
        File::create(&place)?;
        mount_bind(Path::new("/dev").join(name), &place)?;
    }
    let tools = devices.join("kit");
    fs::create_dir(&tools)?;
    mount_bind(&settings.tools, &tools)?;
    lay_out_tools(&devices, &settings.toolchain)?;
    fs::DirBuilder::new().mode(0o700).create(view.join(TEMPORARY))?;
    std::env::set_current_dir(view)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    become_first()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Whether this host gives an ordinary user what [`enter`] needs; enters an empty world of its own, so
/// it is for a process that then ends.
pub fn try_namespaces() -> io::Result<()> {
    isolate()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::NOSUID, DEVICE_OPTIONS)?;
    Ok(())
}

/// Namespaces of this process's own, in which it is the same user as before.
fn isolate() -> io::Result<()> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS;
    #[allow(unsafe_code)]
    // SAFETY: descriptors stay shared; the process has one thread.
    unsafe { unshare_unsafe(flags) }?;
    fs::write("/proc/self/setgroups", "deny")?;
    // Not root, not even in here: a program that is started then has no capability left.
    fs::write("/proc/self/uid_map", format!("{0} {0} 1", uid.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("{0} {0} 1", gid.as_raw()))
}

/// What programs of the compilers' own tree go by, beside the devices.
fn lay_out_tools(devices: &Path, toolchain: &Toolchain) -> io::Result<()> {
    let inside = |path: &Path| {
        let relative = path.strip_prefix("/").unwrap_or(path);
        Path::new(PLACE).join(relative)
    };
    let here = |path: &str| devices.join(path.strip_prefix("/dev/").unwrap_or(path));
    symlink(inside(&toolchain.loader), here(LOADER))?;
    let libraries = toolchain.libraries.file_name().unwrap_or_default();
    symlink(inside(&toolchain.libraries), devices.join(libraries))?;
    let parts = here(PARTS);
    fs::create_dir(&parts)?;
    for (name, path) in &toolchain.parts {
        symlink(inside(path), parts.join(name))?;
    }
    Ok(())
}

/// Goes on in a child, the first process of the new namespace: with it all others end.
fn become_first() -> io::Result<()> {
    #[allow(unsafe_code)]
    // SAFETY: the process has one thread, so the child may do whatever its parent could.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        child => {
            let child = rustix::process::Pid::from_raw(child);
            let status = rustix::process::waitpid(child, rustix::process::WaitOptions::empty())?;
            let code = status.and_then(|(_, status)| status.exit_status()).unwrap_or(1);
            std::process::exit(code)
        }
    }
}
