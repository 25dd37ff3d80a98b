//! What the tests boot, and a sysroot to boot it with.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use outcrop::guest::{GuestOptions, QemuRecipe, Root, SecurityModel};

pub struct Kit {
    directory: PathBuf,
    pub busybox: PathBuf,
    scratch: tempfile::TempDir,
}

impl Kit {
    pub fn find() -> Option<Kit> {
        let Some(directory) = std::env::var_os("OUTCROP_TEST_KIT").map(PathBuf::from) else {
            eprintln!("SKIPPED: OUTCROP_TEST_KIT names no directory with vmlinuz and initramfs");
            return None;
        };
        let candidates = [directory.join("busybox"), "/bin/busybox".into()];
        let Some(busybox) = candidates.into_iter().find(|path| is_static(path)) else {
            eprintln!("SKIPPED: there is no static busybox (package busybox-static)");
            return None;
        };
        Some(Kit { directory, busybox, scratch: tempfile::tempdir().unwrap() })
    }

    pub fn recipe(&self) -> QemuRecipe {
        QemuRecipe {
            binary: "qemu-system-x86_64".into(),
            package: "qemu-system-x86".into(),
            machine: std::env::var("OUTCROP_TEST_MACHINE").unwrap_or("pc".into()),
            cpu: "max".into(),
            console: "ttyS0".into(),
            kernel_arguments: vec!["quiet".into()],
        }
    }

    pub fn kernel(&self) -> PathBuf {
        // Decompressed, it starts in half the time.
        let plain = self.directory.join("vmlinux");
        if plain.exists() { plain } else { self.directory.join("vmlinuz") }
    }

    pub fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    pub fn options(&self, sysroot: &Sysroot) -> GuestOptions {
        let mut options = GuestOptions::new(self.recipe(), self.kernel(), self.initramfs());
        options.root = Root::NineP {
            export: sysroot.path().into(),
            security_model: SecurityModel::MappedFile,
        };
        options.memory_mib = 256;
        options
    }

    /// An initramfs whose list of modules is changed: a later archive overrides an earlier one.
    pub fn initramfs_with_list(&self, change: impl FnOnce(&str) -> String) -> PathBuf {
        let mut image = fs::read(self.initramfs()).unwrap();
        let list = "lib/modules/outcrop.list";
        // The agent has the name in it too: only a header makes it an entry.
        let at = (110..image.len())
            .find(|at| {
                image[*at..].starts_with(list.as_bytes())
                    && image[at - 110..].starts_with(b"070701")
            })
            .expect("the initramfs is an uncompressed archive with a list of modules");
        let header = at - 110;
        let field = |n: usize| {
            let text = &image[header + 6 + n * 8..header + 14 + n * 8];
            usize::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
        };
        let start = (at + field(11)).next_multiple_of(4);
        let modules = std::str::from_utf8(&image[start..start + field(6)]).unwrap();
        let changed = change(modules);
        image.resize(image.len().next_multiple_of(512), 0);
        append_file(&mut image, list, changed.as_bytes());
        let path = self.scratch.path().join("initramfs-changed");
        fs::write(&path, image).unwrap();
        path
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One regular file and the trailer, in the format that the kernel's documentation
/// (driver-api/early-userspace/buffer-format) calls newc.
pub fn append_file(image: &mut Vec<u8>, name: &str, content: &[u8]) {
    for (name, mode, content) in [(name, 0o100_755, content), ("TRAILER!!!", 0, &b""[..])] {
        let numbers = [900, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        write!(image, "070701").unwrap();
        for number in numbers {
            write!(image, "{number:08x}").unwrap();
        }
        image.extend_from_slice(name.as_bytes());
        image.push(0);
        image.resize(image.len().next_multiple_of(4), 0);
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(4), 0);
    }
}

/// An ELF file without a program interpreter.
fn is_static(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        let head = &bytes[..bytes.len().min(4096)];
        head.starts_with(b"\x7fELF") && find(head, b"/ld-").is_none()
    })
}

const APPLETS: &[&str] = &[
    "sh", "cat", "chmod", "cut", "date", "dd", "echo", "env", "false", "grep", "head", "hostname",
    "id", "kill", "ls", "mkdir", "nc", "ping", "printf", "ps", "pwd", "setsid", "sleep", "stat",
    "stty", "test", "true", "tty", "wc",
];

/// A plain directory with busybox in `/bin`.
pub struct Sysroot(tempfile::TempDir);

impl Sysroot {
    pub fn new(kit: &Kit) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let busybox = bin.join("busybox");
        fs::copy(&kit.busybox, &busybox).unwrap();
        for applet in APPLETS {
            fs::hard_link(&busybox, bin.join(applet)).unwrap();
        }
        Sysroot(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
