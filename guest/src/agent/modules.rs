//! Loading the kernel modules that the kit put into the initramfs.

use crate::failure::Failure;
use crate::system;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Paths of modules, one a line, in the order in which they must be loaded.
const LIST: &str = "/lib/modules/outcrop.list";

/// Loads every listed module. One whose hardware is absent, or that is loaded already, is fine.
pub fn load_all() -> Result<(), Failure> {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        // A kernel with everything built in needs no list.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::at("cannot read", Path::new(LIST), e)),
    };
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        load(&Path::new("/").join(line))?;
    }
    Ok(())
}

fn load(path: &Path) -> Result<(), Failure> {
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    let result = File::open(path).and_then(|file| system::load_module(&file, compressed));
    match result {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENODEV)) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::new(format!(
            "the kernel module {} is missing from the initramfs; create the kit again",
            path.display()
        ))),
        Err(e) => Err(Failure::at("cannot load the kernel module", path, e)),
    }
}
