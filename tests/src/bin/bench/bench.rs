//! What the cases share: places, and content that is made when it is first asked for.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use outcrop_tests::{Scratch, as_user, give_to_user};

use crate::content::layers::{Layers, Shape};
use crate::measure::{Result, seconds};
use crate::peers::Peers;
use crate::trees::TreeSet;

pub struct Bench {
    pub scale: f64,
    pub scratch: Scratch,
    pub peers: Peers,
    /// Contenders that run besides the first; all where it is empty.
    contenders: Vec<String>,
    layers: OnceCell<Layers>,
    trees: OnceCell<TreeSet>,
}

impl Bench {
    pub fn new(scale: f64, contenders: Vec<String>) -> Result<Bench> {
        let (layers, trees) = (OnceCell::new(), OnceCell::new());
        let scratch = Scratch::new();
        Ok(Bench { scale, peers: Peers::find(), scratch, contenders, layers, trees })
    }

    pub fn wants(&self, contender: &str) -> bool {
        self.contenders.is_empty() || self.contenders.iter().any(|wanted| wanted == contender)
    }

    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }

    /// 20 layers, 40,000 entries, 490 MB.
    pub fn layers(&self) -> Result<&Layers> {
        made_once(&self.layers, || {
            eprintln!("bench: making the layers");
            let (entries, bytes) = (self.scaled(40_000).max(1_000), self.scaled(490_000_000));
            let directory = self.fresh("content")?;
            Layers::generate(&directory, &Shape { layers: 20, entries, bytes })
        })
    }

    /// The layers in every form that a peer wants.
    pub fn trees(&self) -> Result<&TreeSet> {
        made_once(&self.trees, || TreeSet::new(self, "trees", &self.layers()?.each))
    }

    /// An empty directory of the user's, whatever was there.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        remove(&path)?;
        std::fs::create_dir(&path)?;
        give_to_user(&path);
        Ok(path)
    }

    /// This program as the user, for helpers.
    pub fn helper(&self) -> Result<Command> {
        Ok(as_user(std::env::current_exe()?))
    }
}

/// Unpacks tars one over the other with `tar`, and says how long that took.
pub fn unpack(tars: &[PathBuf], into: &Path) -> Result<f64> {
    let mut command = as_user("sh");
    command
        .args(["-ec", "for tar; do tar xf \"$tar\" -C \"$INTO\"; done", "sh"])
        .args(tars)
        .env("INTO", into);
    seconds(&mut command)
}

fn made_once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if cell.get().is_none() {
        let value = make()?;
        return Ok(cell.get_or_init(|| value));
    }
    cell.get().ok_or_else(|| "cannot happen: it was just made".into())
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
