//! Finds the guest's agent and puts it in front of a kit's modules: the initramfs.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::cpio::{Entry, Owner, Writer};
use super::error::{Error, Result};

/// Directories that the agent mounts something on.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "sysroot"];

/// The agent's executable for an architecture: in `OUTCROP_AGENT_DIR`, else beside the running
/// program; `outcrop-agent-ARCH` before `outcrop-agent`.
pub fn find(architecture: &str) -> Result<PathBuf> {
    let directories: Vec<PathBuf> = match std::env::var_os("OUTCROP_AGENT_DIR") {
        Some(directory) => vec![directory.into()],
        None => std::env::current_exe()
            .ok()
            .and_then(|program| program.parent().map(Path::to_owned))
            .into_iter()
            .collect(),
    };
    find_in(&directories, architecture)
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
    use super::*;

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
