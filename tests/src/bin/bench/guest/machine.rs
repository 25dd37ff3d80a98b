//! One emulated guest: QEMU, the kit's kernel, and `init.sh` with its marks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outcrop_tests::{as_user, give_to_user};

use super::kit::Kit;
use crate::bench::Bench;
use crate::measure::Result;

/// Seconds after which a guest counts as hung.
const LIMIT: &str = "600";
const MEMORY: &str = "1024M";
/// As the kit's recipe has it (docs/guests.md), and so that every mark gets into the kernel's log.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet mitigations=off i8042.noaux i8042.nokbd \
                                8250.nr_uarts=1 cryptomgr.notests audit=0 lsm= norandmaps init_on_alloc=0 no_timer_check \
                                printk.devkmsg=on log_buf_len=1M rdinit=/bench/init";

/// How the tree gets into the guest.
pub enum Share {
    Virtiofs { socket: PathBuf },
    NineP { directory: PathBuf, model: &'static str },
    Disk { image: PathBuf },
}

pub struct Machine {
    kernel: PathBuf,
    /// What becomes the initramfs, and the finished archive.
    files: PathBuf,
    initramfs: PathBuf,
    modules: PathBuf,
    load: &'static str,
}

impl Machine {
    /// `load` is what `init.sh` does.
    pub fn new(bench: &Bench, kit: &Kit, load: &'static str) -> Result<Machine> {
        let files = bench.fresh("initramfs")?;
        let place = files.join("bench");
        std::fs::create_dir(&place)?;
        std::fs::copy("/bin/busybox", place.join("busybox")).map_err(|error| {
            format!("cannot copy /bin/busybox (package busybox-static): {error}")
        })?;
        std::fs::write(place.join("init"), include_str!("init.sh"))?;
        let status = Command::new("chmod").arg("0755").arg(place.join("init")).status()?;
        if !status.success() {
            return Err("chmod failed".into());
        }
        let machine = Machine {
            kernel: kit.kernel.clone(),
            initramfs: bench.scratch.join("initramfs.cpio"),
            modules: kit.modules.clone(),
            files,
            load,
        };
        machine.pack()?;
        Ok(machine)
    }

    /// With `/bench/files.tar` in the initramfs.
    pub fn with_archive(self, archive: &Path) -> Result<Machine> {
        std::fs::copy(archive, self.files.join("bench/files.tar"))?;
        self.pack()?;
        Ok(self)
    }

    fn pack(&self) -> Result<()> {
        let script = "cp \"$MODULES\" \"$OUT\"; cd \"$FILES\"; \
                      find . | cpio -o -H newc --quiet >> \"$OUT\"";
        let status = Command::new("sh")
            .args(["-ec", script])
            .env("MODULES", &self.modules)
            .env("OUT", &self.initramfs)
            .env("FILES", &self.files)
            .status()?;
        if !status.success() {
            return Err("the initramfs could not be packed".into());
        }
        give_to_user(&self.initramfs);
        Ok(())
    }

    /// Boots it, and gives its marks when it has powered off.
    pub fn run(&self, share: &Share) -> Result<Marks> {
        let mut command = as_user("timeout");
        // In the foreground, so that an interrupt of the benchmark ends QEMU too.
        command.args(["--foreground", LIMIT, "qemu-system-x86_64"]);
        self.describe(&mut command);
        attach(&mut command, share);
        let name = match share {
            Share::Virtiofs { .. } => "virtiofs",
            Share::NineP { .. } => "9p",
            Share::Disk { .. } => "disk",
        };
        let words = format!("{KERNEL_ARGUMENTS} bench.share={name} bench.load={}", self.load);
        command.args(["-append", &words]).stdin(Stdio::null());
        let output = command.output()?;
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        if !console.contains("bench: over") {
            let last: Vec<&str> = console.lines().rev().take(5).collect();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("the guest did not end: {} {last:?}", said.trim()).into());
        }
        Marks::read(&console)
    }

    fn describe(&self, command: &mut Command) {
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            command.arg(word);
        }
        let memory = format!("memory-backend-memfd,id=memory,size={MEMORY},share=on");
        command
            .args(["-display", "none", "-machine", "pc,memory-backend=memory"])
            .args(["-object", &memory, "-m", MEMORY, "-smp", "1", "-accel", "tcg", "-cpu", "max"])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
    }
}

fn attach(command: &mut Command, share: &Share) {
    match share {
        Share::Virtiofs { socket } => {
            let socket = format!("socket,id=root,path={}", socket.display());
            let device = "vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024";
            command.args(["-chardev", &socket, "-device", device]);
        }
        Share::NineP { directory, model } => {
            let export = format!(
                "local,id=root,path={},security_model={model},multidevs=forbid",
                directory.display()
            );
            let device = "virtio-9p-pci,fsdev=root,mount_tag=root";
            command.args(["-fsdev", &export, "-device", device]);
        }
        Share::Disk { image } => {
            let drive = format!("file={},format=raw,if=none,id=disk", image.display());
            command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
        }
    }
}

/// What the guest measured.
pub struct Marks {
    seconds: BTreeMap<String, f64>,
    counts: BTreeMap<String, u64>,
}

impl Marks {
    /// Lines such as `[    3.141592] bench: untar begin`.
    fn read(console: &str) -> Result<Marks> {
        let mut begun = BTreeMap::new();
        let mut marks = Marks { seconds: BTreeMap::new(), counts: BTreeMap::new() };
        for line in console.lines() {
            let Some((time, text)) = line.split_once("] bench: ") else { continue };
            let time: f64 = time.trim_start_matches('[').trim().parse()?;
            let Some((step, what)) = text.trim().split_once(' ') else { continue };
            match what.split_once(' ').unwrap_or((what, "")) {
                ("begin", _) => drop(begun.insert(step.to_owned(), time)),
                ("end", _) => {
                    let begin = begun.get(step).ok_or_else(|| format!("{step} did not begin"))?;
                    marks.seconds.insert(step.to_owned(), time - begin);
                }
                ("count", number) => drop(marks.counts.insert(step.to_owned(), number.parse()?)),
                _ => return Err(format!("in the guest: {step} {what}").into()),
            }
        }
        Ok(marks)
    }

    pub fn seconds(&self, step: &str) -> Result<f64> {
        let seconds = self.seconds.get(step).copied();
        seconds.ok_or_else(|| format!("the guest did not measure {step}").into())
    }

    pub fn count(&self, step: &str) -> u64 {
        self.counts.get(step).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_from_its_begin_to_its_end() {
        let console = "[    1.500000] bench: untar begin\r\n[    3.750000] bench: untar end\r\n\
                       [    4.000000] bench: untar count 12\r\nbench: over\r\n";
        let marks = Marks::read(console).unwrap();
        assert_eq!(marks.seconds("untar").unwrap(), 2.25);
        assert_eq!(marks.count("untar"), 12);
        assert!(marks.seconds("configure").is_err());
    }

    #[test]
    fn a_step_that_failed_is_an_error_with_its_reason() {
        let console = "[    1.5] bench: untar begin\n[    3.7] bench: untar failed: no space\n";
        let error = Marks::read(console).err().unwrap().to_string();
        assert!(error.contains("untar failed: no space"), "{error}");
    }
}
