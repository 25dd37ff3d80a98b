//! Writing a file that is to be durable soon: the disk works while the rest is still written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::error::{Errno, Error, Result};

/// So many bytes are given to the disk at a time: enough to keep it busy, few enough that little is
/// left for the end.
const STEP: u64 = 32 << 20;

/// Lets `write` write to the file, while another thread syncs what is there already. When this
/// returns, only the last bytes are left to be synced.
///
/// # Errors
/// What `write` fails with, then what syncing fails with: the kernel tells a lost write only once.
pub(super) fn written_back<T>(
    file: &mut File,
    name: &Path,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<T> {
    let fault = |source: io::Error| Error::host("cannot write", name, source);
    let same = file.try_clone().map_err(fault)?;
    std::thread::scope(|scope| {
        let (due, asked) = sync_channel(1);
        let sync = move || asked.into_iter().try_for_each(|()| same.sync_data());
        let syncing = std::thread::Builder::new()
            .name("capture-sync".to_owned())
            .spawn_scoped(scope, sync)
            .map_err(fault)?;
        let mut writer = Stepping { file, left: STEP, due };
        let written = write(&mut writer);
        drop(writer);
        let synced = syncing.join().unwrap_or_else(|_| Err(Errno::IO.into()));
        let value = written?;
        synced.map_err(fault)?;
        Ok(value)
    })
}

/// Asks for a sync after every [`STEP`].
struct Stepping<'a> {
    file: &'a mut File,
    /// Bytes until the next one is due.
    left: u64,
    due: SyncSender<()>,
}

impl Write for Stepping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.left = self.left.saturating_sub(written as u64);
        // While one is under way, another waits already: there is nothing to add.
        if self.left == 0 && self.due.try_send(()).is_ok() {
            self.left = STEP;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_written_in_order_and_a_failure_comes_out() {
        let mut file = tempfile::tempfile().unwrap();
        let piece = vec![7; 10 << 20];
        let written = written_back(&mut file, Path::new("out.tar"), |writer| {
            for _ in 0..10 {
                writer.write_all(&piece).unwrap();
            }
            writer.write_all(b"end").unwrap();
            Ok(())
        });
        written.unwrap();
        assert_eq!(file.metadata().unwrap().len(), 10 * piece.len() as u64 + 3);
        let failed: Result<()> =
            written_back(&mut file, Path::new("out.tar"), |_| Err(Errno::NOSPC.into()));
        assert_eq!(failed.unwrap_err().errno(), Errno::NOSPC);
    }

    #[test]
    fn what_could_not_be_synced_is_an_error_although_all_was_written() {
        // Takes everything, but cannot be synced.
        let mut null = File::options().write(true).open("/dev/null").unwrap();
        let piece = vec![7; STEP as usize];
        let error = written_back(&mut null, Path::new("out.tar"), |writer| {
            writer.write_all(&piece).unwrap();
            Ok(())
        })
        .unwrap_err();
        let Error::Host { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::InvalidInput);
    }
}
