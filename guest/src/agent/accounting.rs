//! Has the kernel note what each process of the guest costs.

use crate::system;
use outcrop_guest::accounting::add_up;
use outcrop_guest::protocol::ProgramUse;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// In the agent's own world, which commands do not see.
const PLACE: &str = "/accounting";

/// Records of a million processes; the kernel pauses when it is full.
const OPTIONS: &[u8] = b"size=64m,mode=0700";

/// What is told without accounting is only less, so no failure of it matters.
#[derive(Default)]
pub struct Accounting {
    begun: bool,
    records: Option<File>,
}

impl Accounting {
    /// Begins, once.
    pub fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        self.records = begin().ok();
    }

    /// What the processes cost that have ended since the last call.
    pub fn take(&mut self) -> Vec<ProgramUse> {
        let mut bytes = Vec::new();
        let Some(records) = &mut self.records else { return Vec::new() };
        let read = records
            .seek(SeekFrom::Start(0))
            .and_then(|_| records.read_to_end(&mut bytes))
            .and_then(|_| records.set_len(0));
        match read {
            Ok(()) => add_up(&bytes),
            Err(_) => Vec::new(),
        }
    }
}

fn begin() -> io::Result<File> {
    let place = Path::new(PLACE);
    fs::create_dir_all(place)?;
    system::mount(b"tmpfs", place, b"tmpfs", 0, OPTIONS)?;
    let path = place.join("records");
    let records = File::options().read(true).write(true).create_new(true).open(&path)?;
    system::account_to(&path)?;
    Ok(records)
}
