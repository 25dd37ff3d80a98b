//! The cases, and what they share: the content, a plain directory with the same content, mounts.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use outcrop_tests::{Scratch, as_user, give_to_user, outcrop};

use crate::content::{Content, Shape};
use crate::measure::{Result, seconds};
use crate::report::Row;

mod build;
mod capture;
mod read;
mod ready;

type Case = fn(&Bench) -> Result<Vec<Row>>;

pub const ALL: [(&str, Case); 6] = [
    ("ready", ready::ready),
    ("index", ready::index),
    ("memory", ready::memory),
    ("read", read::read),
    ("capture", capture::capture),
    ("build", build::build),
];

pub struct Bench {
    pub content: Content,
    pub rounds: usize,
    pub scratch: Scratch,
}

impl Bench {
    pub fn new(shape: Shape, rounds: usize) -> Result<Bench> {
        let scratch = Scratch::new();
        let directory = scratch.directory("content");
        eprintln!("bench: making the content");
        let content = Content::generate(&directory, &shape)?;
        Ok(Bench { content, rounds, scratch })
    }

    /// `--layer` arguments for the whole content.
    pub fn layers(&self) -> Vec<PathBuf> {
        let layers = self.content.layers.iter();
        layers.flat_map(|layer| [PathBuf::from("--layer"), layer.clone()]).collect()
    }

    /// An empty directory of the user's, whatever was there.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        remove(&path)?;
        std::fs::create_dir(&path)?;
        give_to_user(&path);
        Ok(path)
    }

    /// Unpacks every layer with `tar`, and says how long that took.
    pub fn unpack(&self, into: &Path) -> Result<f64> {
        let mut command = as_user("sh");
        command
            .args(["-ec", "for tar; do tar xf \"$tar\" -C \"$INTO\"; done", "sh"])
            .args(&self.content.layers)
            .env("INTO", into);
        seconds(&mut command)
    }

    /// This program as the user, for peers of our own making.
    pub fn peer(&self) -> Result<Command> {
        Ok(as_user(std::env::current_exe()?))
    }

    pub fn mount<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Mounted> {
        let mountpoint = self.fresh("mnt")?;
        let mut command = outcrop();
        command.arg("mount").arg("--background").args(arguments).arg(&mountpoint);
        // A file, not a pipe: the server may hold it open for as long as it lives.
        let said = self.scratch.join("said");
        command.stdout(Stdio::null()).stderr(File::create(&said)?);
        let start = Instant::now();
        let status = command.status()?;
        let took = start.elapsed().as_secs_f64();
        let said = std::fs::read_to_string(&said)?;
        if !status.success() {
            return Err(format!("{command:?}: {}", said.trim()).into());
        }
        Ok(Mounted { mountpoint, took, said, ended: false })
    }
}

/// A mount in the background.
pub struct Mounted {
    pub mountpoint: PathBuf,
    /// Seconds from the start of `outcrop mount` until the tree could be used.
    pub took: f64,
    said: String,
    ended: bool,
}

impl Mounted {
    /// The process that serves it.
    pub fn process(&self) -> Result<u32> {
        let number = self.said.split("(process ").nth(1).and_then(|rest| rest.split(')').next());
        Ok(number.ok_or_else(|| format!("no process in: {}", self.said))?.parse()?)
    }

    /// Unmounts, and says how long it took until everything was finished.
    pub fn end(mut self) -> Result<f64> {
        self.ended = true;
        seconds(outcrop().arg("unmount").arg(&self.mountpoint))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.ended {
            let _ = as_user("fusermount3").arg("-uz").arg(&self.mountpoint).status();
        }
    }
}

pub fn remove(path: &Path) -> Result<()> {
    let result = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}
