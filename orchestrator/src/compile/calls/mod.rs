//! Compilers' calls of a guest, run by the host in the guest's own view (docs/host-toolchain.md).
//!
//! ```text
//! guest: make ─► gcc (= caller) ─► agent ─► port ─┐
//! host:                              QEMU ◄───────┘
//!                                      └─► outcrop compile-calls ─► gcc, in the host view
//! ```

mod confinement;
mod job;
mod refusal;
mod server;
mod syscalls;
pub mod toolchain;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use outcrop_fs::view::{Changes, SharedTree, What};
use outcrop_guest::protocol::compile::{Answer, Change};
use serde::{Deserialize, Serialize};

use toolchain::Toolchain;

use super::endpoint::Limits;

/// What the server of one guest is told, as a JSON file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the host view is mounted.
    pub view: PathBuf,
    /// Where the compilers' own tree is mounted.
    pub tools: PathBuf,
    pub toolchain: Toolchain,
    pub limits: Limits,
    /// Jobs at once; others wait.
    pub slots: usize,
    /// A line of JSON is appended for each job.
    pub log: PathBuf,
}

/// The server of one guest's calls, and what it is connected to.
pub struct CallServer {
    pub process: Child,
    /// For QEMU.
    pub port: OwnedFd,
    /// For [`answer_changes`].
    pub changes: UnixStream,
}

/// Directories of one guest: the mounts of its view and of the compilers' own tree, and where the
/// server's files go.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub view: &'a Path,
    pub tools: &'a Path,
    pub directory: &'a Path,
}

/// What the server writes to ask for changes.
const ASK: u8 = b'?';

/// Paths in one message.
const PATHS_A_MESSAGE: usize = 128;

/// Answers the server's question, each time that it comes, what its jobs have changed in the view: until
/// the server is gone.
pub fn answer_changes(mut server: UnixStream, tree: &SharedTree) -> io::Result<()> {
    let mut question = [0];
    while server.read(&mut question)? > 0 {
        let Changes { list, incomplete } = tree.take_changes();
        let mut changes: Vec<Change> = list.into_iter().map(message).collect();
        if incomplete {
            changes.push(Change { path: Vec::new(), what: Change::ANYTHING });
        }
        let mut bytes = Vec::new();
        let end: &[Change] = &[];
        for some in changes.chunks(PATHS_A_MESSAGE).chain([end]) {
            let answer = Answer::Changed { id: 0, changes: some.to_vec() };
            answer.encode(&mut bytes).map_err(io::Error::other)?;
        }
        server.write_all(&bytes)?;
    }
    Ok(())
}

fn message(change: outcrop_fs::view::Change) -> Change {
    let What { name, content, listing } = change.what;
    let flags = [(name, Change::NAME), (content, Change::CONTENT), (listing, Change::LISTING)];
    let what = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
    Change { path: change.path, what }
}

/// Whether compilers can be confined on this host; if not, why, as one sentence.
pub fn can_confine(program: &Path) -> Result<(), String> {
    let ended = Command::new(program).arg(COMMAND).arg(CHECK).stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.trim().rsplit_once(": ").map_or(said.trim(), |(_, reason)| reason);
    Err(format!("this host gives an ordinary user no namespaces ({said})"))
}

/// The name of this program's command, and what is given in the place of settings for a mere try.
const COMMAND: &str = "compile-calls";
const CHECK: &str = "check";

/// `outcrop compile-calls SETTINGS`: serves one guest on standard input, which is a socket, and asks for
/// changes on standard output.
pub fn main(settings: &Path) -> ExitCode {
    if settings == Path::new(CHECK) {
        return match confinement::try_namespaces() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                crate::output::say(format_args!("namespaces: {error}"));
                ExitCode::FAILURE
            }
        };
    }
    let settings = std::fs::read(settings)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    let ended = settings.and_then(|settings: Settings| server::run(settings));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::output::say(format_args!("compilers' calls: {reason}"));
            ExitCode::FAILURE
        }
    }
}
