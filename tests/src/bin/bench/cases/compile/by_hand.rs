//! Packages built without Outcrop: with the host's cross compiler, and by `qemu-user`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::{as_user, shared_store};

use super::{Phase, Taken, Target};
use crate::bench::{Bench, remove};
use crate::guest::kit;
use crate::measure::{Result, is_root, seconds};
use crate::trees::mount_outcrop;
use outcrop_tests::packages::Package;

/// Runs each of its arguments as a step, and writes a line with the seconds and the processor seconds
/// that it took.
const STEPS: &str = r#"set -e
cd "$1"; shift
TIMEFORMAT='%R %U %S'
for step; do
    { time sh -ec "$step" >log 2>&1 </dev/null; } 2>>times || { tail -n 20 log >&2; exit 1; }
done"#;

/// Unpacks the package into an empty directory of the user's.
fn unpack(package: &Package, directory: &Path) -> Result<()> {
    let archive = shared_store().join("sources").join(package.sha256);
    let mut tar = as_user("tar");
    tar.arg("xf").arg(archive).arg("--strip-components=1").arg("-C").arg(directory);
    seconds(&mut tar).map(drop)
}

/// What [`STEPS`] wrote.
fn taken(directory: &Path) -> Result<Taken> {
    let text = std::fs::read_to_string(directory.join("times"))?;
    let mut lines = text.lines();
    let mut taken = Taken::default();
    for phase in &mut taken {
        let line = lines.next().ok_or("a step has no time")?;
        let numbers: Vec<f64> =
            line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [wall, user, system] = numbers[..] else { return Err("a time is no time".into()) };
        *phase = Phase { seconds: wall, cpu_seconds: user + system };
    }
    Ok(taken)
}

pub struct HostCompiler<'a> {
    bench: &'a Bench,
    triplet: &'static str,
}

impl<'a> HostCompiler<'a> {
    pub fn find(bench: &'a Bench, target: &Target) -> Result<HostCompiler<'a>> {
        let triplet = target.triplet;
        for program in ["gcc-12", "g++-12", "ar"] {
            seconds(Command::new(format!("{triplet}-{program}")).arg("--version"))?;
        }
        Ok(HostCompiler { bench, triplet })
    }

    pub fn build(&self, package: &Package) -> Result<Taken> {
        let directory = self.bench.fresh("by-hand")?;
        let destination = self.bench.fresh("by-hand-installed")?;
        unpack(package, &directory)?;
        let triplet = self.triplet;
        let mut steps = as_user("bash");
        steps.args(["-c", STEPS, "bash"]).arg(&directory).args(package.commands);
        for (name, program) in [
            ("CC", "gcc-12"),
            ("CXX", "g++-12"),
            ("AR", "ar"),
            ("RANLIB", "ranlib"),
            ("STRIP", "strip"),
        ] {
            steps.env(name, format!("{triplet}-{program}"));
        }
        steps.env("HOST", triplet).env("MAKEFLAGS", "-j2").env("DESTDIR", destination);
        seconds(&mut steps)?;
        taken(&directory)
    }
}

/// The kit's packages in a directory, where programs of their architecture run. Root only.
pub struct Emulator<'a> {
    bench: &'a Bench,
    root: PathBuf,
    /// Where the kernel is told of formats of programs, and the name that it has for ours.
    formats: PathBuf,
    name: &'static str,
    triplet: &'static str,
}

impl<'a> Emulator<'a> {
    pub fn install(bench: &'a Bench, target: &Target) -> Result<Emulator<'a>> {
        if !is_root() {
            return Err("only root can tell the kernel of an emulator".into());
        }
        let program = bench.peers.qemu_user(target.qemu)?;
        eprintln!("bench: unpacking the kit for qemu-user");
        let tar = bench.scratch.join("kit.tar");
        let mut layers = Vec::new();
        for package in kit::packages(target.arch)? {
            layers.extend([PathBuf::from("--layer"), package]);
        }
        let opened = mount_outcrop(bench, layers)?;
        let mut pack = as_user("tar");
        pack.arg("cf").arg(&tar).arg("-C").arg(&opened.place).arg(".");
        seconds(&mut pack)?;
        opened.end()?;
        let root = bench.fresh("emulated")?;
        let script = "tar xf \"$TAR\" -C .
                      for name in bin sbin lib lib64; do [ -e $name ] || ln -s usr/$name $name; done
                      mkdir -p dev proc tmp work; chmod 1777 tmp
                      mknod -m 666 dev/null c 1 3; mknod -m 666 dev/urandom c 1 9";
        let mut prepare = Command::new("sh");
        prepare.args(["-ec", script]).env("TAR", &tar).current_dir(&root);
        seconds(&mut prepare)?;
        remove(&tar)?;
        let formats = bench.fresh("formats")?;
        seconds(Command::new("mount").args(["-t", "binfmt_misc", "none"]).arg(&formats))?;
        let emulator =
            Emulator { bench, root, formats, name: target.qemu, triplet: target.triplet };
        std::fs::write(emulator.formats.join("register"), format_of(target, &program))?;
        Ok(emulator)
    }

    pub fn build(&self, package: &Package) -> Result<Taken> {
        let directory = self.bench.fresh("emulated/work/source")?;
        self.bench.fresh("emulated/work/installed")?;
        unpack(package, &directory)?;
        // As root up to the chroot, as the user from there on.
        let user = std::fs::metadata(&directory)?;
        let mut chroot = Command::new("chroot");
        chroot.arg(format!("--userspec={}:{}", user.uid(), user.gid())).arg(&self.root).args([
            "/bin/bash",
            "-c",
            STEPS,
            "bash",
        ]);
        chroot.arg("/work/source").args(package.commands).env_clear();
        for (name, value) in [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("CC", "gcc"),
            ("CXX", "g++"),
            ("AR", "ar"),
            ("RANLIB", "ranlib"),
            ("HOST", self.triplet),
            ("MAKEFLAGS", "-j2"),
            ("DESTDIR", "/work/installed"),
        ] {
            chroot.env(name, value);
        }
        seconds(&mut chroot)?;
        taken(&directory)
    }
}

impl Drop for Emulator<'_> {
    fn drop(&mut self) {
        // The machine is to be left as it was found.
        let _ = std::fs::write(self.formats.join(self.name), "-1");
        let _ = rustix::mount::unmount(&self.formats, rustix::mount::UnmountFlags::empty());
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// What the kernel's documentation (admin-guide/binfmt-misc) wants: 64-bit little-endian ELF programs
/// of the machine; `F` opens the emulator now, so that it is there in a chroot.
fn format_of(target: &Target, program: &Path) -> String {
    let escaped = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let mut magic = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\0\0";
    let mut mask = [0xff; 20];
    magic[18] = target.elf_machine;
    // The system (Linux or any), and programs that are executable or position independent.
    (mask[7], mask[16]) = (0, 0xfe);
    format!(":{}:M::{}:{}:{}:F", target.qemu, escaped(&magic), escaped(&mask), program.display())
}
