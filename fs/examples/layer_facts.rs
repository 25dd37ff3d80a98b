//! Opens archives as layers and prints what that cost: `layer_facts CACHE-DIRECTORY ARCHIVE…`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use outcrop_fs::layer::Layer;
use outcrop_fs::layer::cache::{Archive, LayerCache};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().ok_or("give a cache directory and archives")?;
    let cache = LayerCache::new(PathBuf::from(directory));
    for path in arguments {
        let archive = Archive::new(PathBuf::from(path));
        let mut times = Vec::new();
        let mut opened = None;
        for _ in 0..2 {
            let start = Instant::now();
            opened = Some(cache.open(&archive, &|_| {})?);
            times.push(start.elapsed());
        }
        let Some(layer) = opened else { continue };
        let start = Instant::now();
        let mut bytes = 0_u64;
        let mut waiting = vec![outcrop_fs::layer::Entry::ROOT];
        while let Some(entry) = waiting.pop() {
            let metadata = layer.metadata(entry)?;
            bytes = bytes.saturating_add(metadata.size);
            if metadata.kind.is_directory() {
                layer.children(entry, 0, &mut |_, child| {
                    waiting.push(child);
                    std::ops::ControlFlow::Continue(())
                })?;
            }
        }
        println!(
            "{}: {} entries, {bytes} bytes, index {} bytes ({:.1} an entry); \
             first opening {:.2?}, second {:.2?}, walk {:.2?}",
            layer.label(),
            layer.entry_count(),
            layer.index_size(),
            layer.index_size() as f64 / layer.entry_count() as f64,
            times.first().copied().unwrap_or_default(),
            times.last().copied().unwrap_or_default(),
            start.elapsed(),
        );
    }
    Ok(())
}
