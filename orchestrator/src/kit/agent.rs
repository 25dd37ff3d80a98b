//! Finds the guest's agent and puts it in front of a kit's modules: the initramfs.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use outcrop_guest::protocol::{VERSION, version_of_agent};

use super::cpio::{Entry, Owner, Writer};
use super::error::{Error, Result};

/// Directories that the agent mounts something on.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "sysroot"];

/// The agent's executable for an architecture: in `OUTCROP_AGENT_DIR`, else beside the running
/// program; `outcrop-agent-ARCH` before `outcrop-agent`. One of another version of the protocol is an
/// error: its guest would start, and then not understand.
pub fn find(architecture: &str) -> Result<PathBuf> {
    let directories: Vec<PathBuf> = match std::env::var_os("OUTCROP_AGENT_DIR") {
        Some(directory) => vec![directory.into()],
        None => std::env::current_exe()
            .ok()
            .and_then(|program| program.parent().map(Path::to_owned))
            .into_iter()
            .collect(),
    };
    let agent = find_in(&directories, architecture)?;
    check_version(&agent, architecture)?;
    Ok(agent)
}

fn check_version(agent: &Path, architecture: &str) -> Result<()> {
    let executable = std::fs::read(agent).map_err(Error::host("cannot read", agent))?;
    let its = match version_of_agent(&executable) {
        Some(VERSION) => return Ok(()),
        Some(other) => format!("version {other}"),
        None => "no version that can be told".to_owned(),
    };
    let (path, architecture) = (agent.to_owned(), architecture.to_owned());
    Err(Error::AgentVersion { path, architecture, its, ours: VERSION })
}

fn find_in(directories: &[PathBuf], architecture: &str) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = directories
        .iter()
        .flat_map(|directory| {
            [format!("outcrop-agent-{architecture}"), "outcrop-agent".to_owned()]
                .map(|name| directory.join(name))
        })
        .collect();
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| Error::NoAgent {
        architecture: architecture.to_owned(),
        searched: candidates.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

/// Writes the first half of an initramfs: `/init`, `/dev/console` and empty mount points.
pub fn write_archive(agent: &[u8], output: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(output);
    for directory in MOUNT_POINTS {
        writer.add(directory.as_bytes(), Entry::Directory, Owner::root(0o755))?;
    }
    // The kernel opens it for PID 1 before anything is mounted.
    let console = Entry::CharDevice { major: 5, minor: 1 };
    writer.add(b"dev/console", console, Owner::root(0o600))?;
    writer.add(b"init", Entry::File(agent), Owner::root(0o755))?;
    writer.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use outcrop_guest::protocol::AGENT_MARK;

    use super::*;

    #[test]
    fn an_agent_of_another_version_is_told_before_its_guest_starts() {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("outcrop-agent-s390x");
        let check = |executable: &[u8]| {
            std::fs::write(&agent, executable).unwrap();
            check_version(&agent, "s390x").map_err(|error| error.to_string())
        };
        let right = [b"\x7fELF\0", AGENT_MARK.as_bytes(), b"\0more"].concat();
        assert_eq!(check(&right), Ok(()));
        let later = String::from_utf8(right.clone()).unwrap();
        let later = later.replace(&format!("{VERSION};"), "4711;");
        let said = check(later.as_bytes()).unwrap_err();
        assert!(said.contains("speaks version 4711 ") && said.contains("s390x"), "{said}");
        for cut in [0, right.len() - 6, right.len() - 5 - AGENT_MARK.len()] {
            assert!(check(&right[..cut]).unwrap_err().contains("no version"), "{cut}");
        }
    }

    #[test]
    fn the_architecture_s_own_agent_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [directory.path().to_owned()];
        let message = find_in(&directories, "x86_64").unwrap_err().to_string();
        assert!(message.contains("outcrop-agent-x86_64"), "{message}");
        std::fs::write(directory.path().join("outcrop-agent"), "").unwrap();
        assert!(find_in(&directories, "x86_64").unwrap().ends_with("outcrop-agent"));
        std::fs::write(directory.path().join("outcrop-agent-x86_64"), "").unwrap();
        assert!(find_in(&directories, "x86_64").unwrap().ends_with("outcrop-agent-x86_64"));
    }
}
