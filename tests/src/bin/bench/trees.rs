//! Ways to get one tree of several layers: ours and those of peers.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use outcrop_tests::{as_user, outcrop};

use crate::bench::{Bench, remove, unpack};
use crate::measure::{Result, seconds};
use crate::peers::buildbox::Buildbox;

/// Layers in every form that somebody wants.
pub struct TreeSet {
    pub tars: Vec<PathBuf>,
    /// Each layer unpacked, for overlays.
    pub unpacked: Vec<PathBuf>,
    /// All layers unpacked over each other.
    pub merged: PathBuf,
    place: PathBuf,
    imported: OnceCell<std::result::Result<(Buildbox, String), String>>,
}

impl TreeSet {
    pub fn new(bench: &Bench, name: &str, tars: &[PathBuf]) -> Result<TreeSet> {
        eprintln!("bench: unpacking for peers");
        let place = bench.fresh(name)?;
        let mut unpacked = Vec::new();
        for (number, tar) in tars.iter().enumerate() {
            let directory = bench.fresh(&format!("{name}/{number:02}"))?;
            unpack(std::slice::from_ref(tar), &directory)?;
            unpacked.push(directory);
        }
        let merged = match unpacked.as_slice() {
            [one] => one.clone(),
            _ => {
                let merged = bench.fresh(&format!("{name}/merged"))?;
                unpack(tars, &merged)?;
                merged
            }
        };
        // So that the first mount, which makes the indexes, is not the one that is measured.
        let set =
            TreeSet { tars: tars.to_vec(), unpacked, merged, place, imported: OnceCell::new() };
        mount_outcrop(bench, set.layer_arguments())?.end()?;
        Ok(set)
    }

    pub fn layer_arguments(&self) -> Vec<PathBuf> {
        self.tars.iter().flat_map(|tar| [PathBuf::from("--layer"), tar.clone()]).collect()
    }

    /// `lowerdir` of both overlays: the topmost first.
    fn lower_directories(&self) -> String {
        let paths: Vec<String> =
            self.unpacked.iter().rev().map(|path| path.display().to_string()).collect();
        paths.join(":")
    }

    /// buildbox-casd with the merged tree in its store, and the tree's digest.
    pub fn buildbox(&self, bench: &Bench) -> Result<&(Buildbox, String)> {
        let imported = self.imported.get_or_init(|| {
            eprintln!("bench: importing into buildbox-casd");
            let import = || -> Result<(Buildbox, String)> {
                let buildbox = Buildbox::start(bench, &self.place.join("cas"))?;
                let (digest, _) = buildbox.import(&self.merged)?;
                Ok((buildbox, digest))
            };
            import().map_err(|error| error.to_string())
        });
        imported.as_ref().map_err(|reason| reason.clone().into())
    }

    pub fn remove(self) -> Result<()> {
        drop(self.imported);
        remove(&self.place)
    }
}

/// Who shows the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Outcrop,
    Ext4,
    Overlayfs,
    FuseOverlayfs,
    Buildbox,
}

impl Way {
    pub const ALL: [Way; 5] =
        [Way::Outcrop, Way::Ext4, Way::Overlayfs, Way::FuseOverlayfs, Way::Buildbox];

    pub fn name(self) -> &'static str {
        match self {
            Way::Outcrop => "Outcrop",
            Way::Ext4 => "ext4",
            Way::Overlayfs => "overlayfs",
            Way::FuseOverlayfs => "fuse-overlayfs",
            Way::Buildbox => "buildbox-fuse",
        }
    }

    /// Whether it can be had here.
    pub fn probe(self, bench: &Bench) -> Result<()> {
        match self {
            Way::Outcrop | Way::Ext4 => Ok(()),
            Way::Overlayfs => bench.peers.overlayfs(),
            Way::FuseOverlayfs => bench.peers.fuse_overlayfs(),
            Way::Buildbox => bench.peers.buildbox().map(drop),
        }
    }

    pub fn open<'a>(self, bench: &'a Bench, set: &'a TreeSet) -> Result<Opened<'a>> {
        match self {
            Way::Outcrop => mount_outcrop(bench, set.layer_arguments()),
            Way::Ext4 => {
                Ok(Opened { place: set.merged.clone(), took: 0.0, process: None, end: None })
            }
            Way::Overlayfs => {
                let place = bench.fresh("mnt-overlayfs")?;
                let options = format!("lowerdir={}", set.lower_directories());
                let mut mount = Command::new("mount");
                mount.args(["-t", "overlay", "-o", &options, "overlay"]).arg(&place);
                let took = seconds(&mut mount)?;
                let end = move |place: &Path| seconds(Command::new("umount").arg(place));
                Ok(Opened { place, took, process: None, end: Some(Box::new(end)) })
            }
            Way::FuseOverlayfs => {
                let place = bench.fresh("mnt-fuse-overlayfs")?;
                let options = format!("lowerdir={}", set.lower_directories());
                let took = seconds(as_user("fuse-overlayfs").args(["-o", &options]).arg(&place))?;
                let process = process_with("fuse-overlayfs", &place);
                let end = move |place: &Path| seconds(as_user("fusermount3").arg("-u").arg(place));
                Ok(Opened { place, took, process, end: Some(Box::new(end)) })
            }
            Way::Buildbox => {
                let (buildbox, digest) = set.buildbox(bench)?;
                let place = bench.fresh("mnt-buildbox")?;
                let took = buildbox.stage(digest, &place)?;
                let process = process_with("buildbox-fuse", &place);
                let end = move |_: &Path| buildbox.unstage();
                Ok(Opened { place, took, process, end: Some(Box::new(end)) })
            }
        }
    }
}

/// How a tree is ended; gives the seconds that it took.
type End<'a> = Box<dyn FnOnce(&Path) -> Result<f64> + 'a>;

/// A tree that can be used.
pub struct Opened<'a> {
    pub place: PathBuf,
    /// Seconds until it could be used.
    pub took: f64,
    /// The process that serves it.
    pub process: Option<u32>,
    end: Option<End<'a>>,
}

impl Opened<'_> {
    /// Ends it, and says how long it took until everything was finished.
    pub fn end(mut self) -> Result<f64> {
        self.end.take().map_or(Ok(0.0), |end| end(&self.place))
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if let Some(end) = self.end.take()
            && let Err(error) = end(&self.place)
        {
            eprintln!("bench: {error}");
        }
    }
}

/// `outcrop mount` with these arguments.
pub fn mount_outcrop<'a, S: AsRef<OsStr>>(
    bench: &Bench,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Opened<'a>> {
    mount_with(outcrop(), bench, arguments)
}

/// The same with a store of its own, in which nothing is known of any layer.
pub fn mount_in_store<'a, S: AsRef<OsStr>>(
    bench: &Bench,
    store: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Opened<'a>> {
    let mut command = outcrop();
    command.env("OUTCROP_HOME", store);
    mount_with(command, bench, arguments)
}

fn mount_with<'a, S: AsRef<OsStr>>(
    mut command: Command,
    bench: &Bench,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Opened<'a>> {
    let place = bench.fresh("mnt-outcrop")?;
    command.arg("mount").arg("--background").args(arguments).arg(&place);
    // A file, not a pipe: the server may hold it open for as long as it lives.
    let said = bench.scratch.join("said");
    command.stdout(Stdio::null()).stderr(File::create(&said)?);
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed().as_secs_f64();
    let said = std::fs::read_to_string(&said)?;
    if !status.success() {
        return Err(format!("outcrop mount: {}", said.trim()).into());
    }
    let number = said.split("(process ").nth(1).and_then(|rest| rest.split(')').next());
    let process = number.and_then(|number| number.parse().ok());
    let end = |place: &Path| seconds(outcrop().arg("unmount").arg(place));
    Ok(Opened { place, took, process, end: Some(Box::new(end)) })
}

/// The process of a program that has the place among its arguments.
fn process_with(program: &str, place: &Path) -> Option<u32> {
    let place = place.to_string_lossy().into_owned();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        let is_program = words.next()?.ends_with(program);
        let has_place = words.any(|word| word.contains(&place));
        if is_program && has_place { entry.file_name().to_str()?.parse().ok() } else { None }
    })
}
