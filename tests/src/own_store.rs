//! A store of a test's own, with the kit of the shared one.

use std::path::PathBuf;
use std::process::Command;

use crate::definitions::tree;
use crate::{Scratch, as_user, outcrop, run, shared_store};

/// A store and definitions that no other test uses, so that what is removed from the store harms
/// nobody, and what is left in it was left here.
pub struct Own {
    scratch: Scratch,
    definitions: PathBuf,
}

impl Own {
    /// The chunks are those of [`tree`].
    pub fn new(chunks: &[(&str, &[&str], &str)]) -> Own {
        let scratch = Scratch::new();
        let definitions = tree(&scratch, chunks);
        let store = scratch.directory("store");
        let from = shared_store();
        let mut copy = as_user("cp");
        copy.arg("-al").args(["version", "kits", "layers"].map(|name| from.join(name))).arg(&store);
        run(&mut copy).ok();
        run(as_user("chmod").arg("700").arg(&store)).ok();
        Own { scratch, definitions }
    }

    /// Replaces the definitions.
    pub fn define(&mut self, chunks: &[(&str, &[&str], &str)]) {
        self.definitions = tree(&self.scratch, chunks);
    }

    pub fn store(&self) -> PathBuf {
        self.scratch.join("store")
    }

    pub fn outcrop(&self, arguments: &[&str]) -> Command {
        let mut command = outcrop();
        command.args(arguments).env("OUTCROP_HOME", self.store());
        command
    }

    pub fn on(&self, arguments: &[&str]) -> Command {
        let mut command = self.outcrop(arguments);
        command.arg("--definitions").arg(&self.definitions);
        command
    }

    pub fn build(&self, target: &str) -> Command {
        self.on(&["build", target, "--arch", "x86_64"])
    }
}
