//! Asking a layer everything that can be asked of it.

use std::ops::ControlFlow;

use outcrop_fs::layer::indexed::IndexedLayer;
use outcrop_fs::layer::{Entry, Layer};

/// Answers or errors, but no panic and no endless walk.
pub fn ask_everything(layer: &IndexedLayer) {
    let count = layer.entry_count().min(1000);
    for entry in (0..count + 2).map(Entry) {
        let _ = layer.metadata(entry);
        let _ = layer.link_count(entry);
        let _ = layer.names(entry);
        let _ = layer.subdirectories(entry);
        let _ = layer.lookup(entry, b"file");
        let _ = layer.child_count(entry);
        let mut children = 0_u64;
        let _ = layer.children(entry, 0, &mut |_, _| {
            children += 1;
            ControlFlow::Continue(())
        });
        assert!(children <= layer.entry_count(), "more children than entries");
        let _ = layer.read(entry, 0, &mut [0; 32]);
        let _ = layer.read(entry, u64::MAX, &mut [0; 32]);
        let _ = layer.read_link(entry);
        let _ = layer.xattrs(entry);
        let _ = layer.next_data(entry, 0);
        let _ = layer.data_bytes(entry);
        let _ = layer.whiteout(entry, b"gone");
        let _ = layer.is_opaque(entry);
        let _ = layer.digest(entry);
        walk_up(layer, entry);
    }
}

fn walk_up(layer: &IndexedLayer, entry: Entry) {
    let mut at = entry;
    for _ in 0..=layer.entry_count() {
        match layer.parent(at) {
            Ok(parent) if parent != at => at = parent,
            _ => return,
        }
    }
    panic!("a walk upwards has no end");
}
