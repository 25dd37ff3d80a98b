//! A file system that is soon full.

use std::path::PathBuf;
use std::process::Command;

use crate::{Scratch, run};

/// A small file system that everybody may write to, gone with the value; `None` where mounting is
/// not allowed.
pub struct SmallDisk {
    pub place: PathBuf,
}

impl SmallDisk {
    #[must_use]
    pub fn mount(scratch: &Scratch, size: &str) -> Option<SmallDisk> {
        let place = scratch.directory("disk");
        let options = format!("size={size},mode=0777");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "outcrop-test"]).arg(&place);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        is_mounted.then_some(SmallDisk { place })
    }

    pub fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.place)).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
