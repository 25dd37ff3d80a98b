//! The tree that guests work in, in every form that a way wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outcrop_tests::{USER, as_user, give_to_user};

use super::kit::Kit;
use crate::bench::{Bench, remove};
use crate::content;
use crate::measure::{Result, is_root, seconds};
use crate::trees::mount_outcrop;

/// What the packages lack because their scripts have not run.
const NODES: &str = "\
symlink /bin 0777 0 0 usr/bin
symlink /sbin 0777 0 0 usr/sbin
symlink /lib 0777 0 0 usr/lib
symlink /lib64 0777 0 0 usr/lib64
file /etc/passwd 0644 0 0 root:x:0:0:root:/root:/bin/sh\\n
file /etc/group 0644 0 0 root:x:0:\\n
dir /work 0755 0 0
dir /proc 0755 0 0
dir /dev 0755 0 0
dir /bench 0755 0 0
dir /tmp 1777 0 0
";
/// 11 MB, as a source package has them.
const FILES: u64 = 3_000;
const BYTES_A_FILE: u64 = 3_700;
/// The image is to have room for what is unpacked in it.
const IMAGE_SPARE: u64 = 400 << 20;

pub struct GuestTree {
    /// The packages, then what the cases need.
    pub layers: Vec<PathBuf>,
    /// The 3,000 files, to be unpacked in the guest.
    pub archive: PathBuf,
    place: PathBuf,
}

impl GuestTree {
    pub fn make(bench: &Bench, kit: &Kit) -> Result<GuestTree> {
        eprintln!("bench: making the guest's tree");
        let place = bench.fresh("guest")?;
        let staging = bench.fresh("guest/staging")?;
        let archive = content::words(&place.join("files.tar"), FILES, BYTES_A_FILE)?;
        let repository = bench.fresh("guest/staging/repository")?;
        make_repository(&archive, &repository)?;
        fs::write(staging.join("configure"), include_str!("configure.sh"))?;
        fs::write(staging.join("Makefile.in"), makefile())?;
        let own = place.join("own.tar");
        // The host's git runs in the guest: both are of the same Debian release.
        let script = "tar cf \"$OUT\" --owner=0 --group=0 --numeric-owner --sort=name \
                      --transform='s,^[.],srv,' -C \"$STAGING\" .; \
                      tar rPf \"$OUT\" --owner=0 --group=0 --numeric-owner \
                      --transform='s,^.*/,usr/local/bin/,' \"$(readlink -f \"$(command -v git)\")\"";
        let mut command = Command::new("sh");
        command.args(["-ec", script]);
        command.env("OUT", &own).env("STAGING", &staging);
        seconds(&mut command)?;
        give_to_user(&own);
        let list = bench.scratch.file("guest/nodes", NODES);
        let mut layers = kit.packages.clone();
        layers.push(own);
        layers.push(PathBuf::from(format!("list:{}", list.display())));
        let tree = GuestTree { layers, archive, place };
        // So that the layers are indexed before anything is measured.
        mount_outcrop(bench, tree.layer_arguments())?.end()?;
        Ok(tree)
    }

    pub fn layer_arguments(&self) -> Vec<PathBuf> {
        self.layers.iter().flat_map(|layer| [PathBuf::from("--layer"), layer.clone()]).collect()
    }

    /// All of it in one tar, with the owners that it has.
    fn merged(&self, bench: &Bench) -> Result<PathBuf> {
        let tar = self.place.join("merged.tar");
        if !tar.exists() {
            let opened = mount_outcrop(bench, self.layer_arguments())?;
            let mut command = as_user("tar");
            command
                .arg("cf")
                .arg(&tar)
                .arg("--numeric-owner")
                .arg("-C")
                .arg(&opened.place)
                .arg(".");
            seconds(&mut command)?;
            opened.end()?;
        }
        Ok(tar)
    }

    /// As the original unpacked it, for QEMU's `mapped-file`.
    pub fn as_original(&self, bench: &Bench) -> Result<PathBuf> {
        eprintln!("bench: unpacking the guest's tree for peers");
        let directory = bench.fresh("guest/original")?;
        seconds(bench.helper()?.arg("original-unpack").arg(&directory).arg(self.merged(bench)?))?;
        Ok(directory)
    }

    fn with_owners(&self, bench: &Bench) -> Result<PathBuf> {
        if !is_root() {
            return Err("only root can unpack foreign owners".into());
        }
        let directory = self.place.join("unpacked");
        if !directory.exists() {
            bench.fresh("guest/unpacked")?;
            let mut tar = Command::new("tar");
            tar.arg("xpf").arg(self.merged(bench)?).args(["--numeric-owner", "-C"]).arg(&directory);
            seconds(&mut tar)?;
        }
        Ok(directory)
    }

    /// Unpacked with its owners, for virtiofsd.
    pub fn unpacked(&self, bench: &Bench) -> Result<PathBuf> {
        bench.peers.virtiofsd()?;
        self.with_owners(bench)
    }

    /// An ext4 image.
    pub fn image(&self, bench: &Bench) -> Result<PathBuf> {
        let from = self.with_owners(bench)?;
        let image = self.place.join("image.ext4");
        let size = fs::metadata(self.merged(bench)?)?.len() * 5 / 4 + IMAGE_SPARE;
        let mut command = Command::new("mke2fs");
        command.args(["-q", "-t", "ext4", "-d"]).arg(from).arg(&image);
        seconds(command.arg(format!("{}k", size / 1024)))?;
        give_to_user(&image);
        Ok(image)
    }
}

/// A git repository of these files whose index is up to date.
fn make_repository(archive: &Path, repository: &Path) -> Result<()> {
    // Inode numbers and times of change differ from way to way, content and size do not.
    let script = "tar xf \"$ARCHIVE\" -C .; git init -q .; \
                  git config core.checkStat minimal; git config core.trustctime false; \
                  git add .; \
                  git -c user.name=bench -c user.email=bench@localhost commit -q -m all";
    let mut command = as_user("sh");
    command.args(["-ec", script]).env("ARCHIVE", archive).current_dir(repository);
    seconds(&mut command)?;
    Ok(())
}

fn makefile() -> String {
    let line = |number: usize| format!("VALUE_{number} = @HAVE_STDIO_H@ @HAVE_memcpy@ @srcdir@\n");
    (0..400).map(line).collect()
}

/// The daemon, until this value is dropped.
pub struct Virtiofsd {
    pub socket: PathBuf,
    child: Child,
}

impl Virtiofsd {
    pub fn start(bench: &Bench, directory: &Path) -> Result<Virtiofsd> {
        let socket = bench.scratch.join("virtiofsd.socket");
        remove(&socket)?;
        let mut command = Command::new(bench.peers.virtiofsd()?);
        command.arg("--shared-dir").arg(directory).arg("--socket-path").arg(&socket);
        // QEMU runs as the user and has to reach the socket.
        command.args(["--cache", "always", "--socket-group", USER]);
        let log = fs::File::create(bench.scratch.join("virtiofsd.log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let daemon = Virtiofsd { socket, child };
        let limit = Instant::now() + Duration::from_secs(10);
        while !daemon.socket.exists() {
            if Instant::now() > limit {
                let said = fs::read_to_string(bench.scratch.join("virtiofsd.log"))?;
                return Err(format!("virtiofsd did not start: {}", said.trim()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        // It ends with its guest; if that never came, it has to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
