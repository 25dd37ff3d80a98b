//! The agent as the initramfs of a finished system on a block device.

use crate::command_line::Arguments;
use crate::failure::Failure;
use crate::system;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, chroot};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const NEW_ROOT: &str = "/newroot";

/// A disk is announced some time after its driver is loaded.
const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);

/// Offset and bytes that tell a file system.
const SIGNATURES: [(&str, u64, &[u8]); 3] = [
    ("squashfs", 0, b"hsqs"),
    ("ext4", 0x438, &[0x53, 0xef]),
    ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
];

/// Mounts `device` and becomes its init. Returns only with a failure.
pub fn start_system(device: &str, arguments: &Arguments) -> Result<(), Failure> {
    let device = Path::new(device);
    let file_system = recognise(device)?;
    let root = Path::new(NEW_ROOT);
    fs::create_dir_all(root).map_err(|e| Failure::at("cannot create", root, e))?;
    let flags = if arguments.flag("rw") { 0 } else { libc::MS_RDONLY };
    let source = device.as_os_str().as_encoded_bytes();
    system::mount(source, root, file_system.as_bytes(), flags, b"")
        .map_err(|e| Failure::at(&format!("cannot mount, as {file_system},"), device, e))?;
    release_memory();
    for directory in ["dev", "proc", "sys"] {
        let from = Path::new("/").join(directory);
        let to = root.join(directory);
        // A system without the directory mounts nothing there itself either.
        if to.is_dir() {
            system::mount(from.as_os_str().as_encoded_bytes(), &to, b"", libc::MS_MOVE, b"")
                .map_err(|e| Failure::at("cannot move a mount to", &to, e))?;
        }
    }
    let fail = |e| Failure::at("cannot make the new root of", device, e);
    std::env::set_current_dir(root).map_err(fail)?;
    system::mount(b".", Path::new("/"), b"", libc::MS_MOVE, b"").map_err(fail)?;
    chroot(".").map_err(fail)?;
    std::env::set_current_dir("/").map_err(fail)?;
    let init = arguments.value("init").unwrap_or("/sbin/init");
    let error = Command::new(init).env_clear().env("TERM", "linux").env("HOME", "/").exec();
    Err(Failure::at("the system on the disk cannot start: cannot run", Path::new(init), error))
}

/// Waits for the disk and looks at its first bytes.
fn recognise(device: &Path) -> Result<&'static str, Failure> {
    let limit = Instant::now() + APPEARANCE_LIMIT;
    let disk = loop {
        match File::open(device) {
            Ok(disk) => break disk,
            Err(e) if e.kind() != ErrorKind::NotFound || Instant::now() >= limit => {
                return Err(Failure::at("cannot open the disk", device, e));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    for (name, offset, signature) in SIGNATURES {
        let mut found = vec![0; signature.len()];
        if disk.read_exact_at(&mut found, offset).is_ok() && found == signature {
            return Ok(name);
        }
    }
    Err(Failure::new(format!(
        "{} holds no file system that can be started (squashfs, ext4, erofs)",
        device.display()
    )))
}

/// The modules live in memory and are no longer needed; a failure costs only memory.
fn release_memory() {
    let _ = fs::remove_dir_all("/lib/modules");
}
