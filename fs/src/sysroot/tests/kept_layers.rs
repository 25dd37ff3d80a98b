//! What changed, kept and brought back over the same layers.

use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::generate::{operation, wish};
use super::state_machine::Pair;
use super::{CREATION, MemoryLayer, content, ino, list, make_file, over, stat};
use crate::capture::{CaptureOptions, Output, capture, capture_changes, open_changes};
use crate::error::Errno;
use crate::filesystem::{Filesystem, Rename};
use crate::layer::Layer;
use crate::node::ROOT_INO;
use crate::sysroot::{Options, Sysroot};

/// Everything that an archive of the tree knows.
fn whole(sysroot: &Sysroot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let output = Output { writer: &mut bytes, name: Path::new("memory") };
    capture(sysroot, ROOT_INO, output, &CaptureOptions::default()).unwrap();
    bytes
}

fn kept(sysroot: &Sysroot, layers: &[Arc<dyn Layer>]) -> Sysroot {
    let directory = tempfile::tempdir().unwrap();
    assert!(open_changes("none", directory.path()).unwrap().is_none());
    capture_changes(sysroot, directory.path()).unwrap();
    let mut layers = layers.to_vec();
    layers.extend(open_changes("kept", directory.path()).unwrap().unwrap());
    Sysroot::new(layers, Options::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn kept_changes_bring_the_same_tree_back(
        layers in vec(vec(wish(), 0..12), 0..4),
        operations in vec(operation(), 0..40),
    ) {
        let mut pair = Pair::new(layers);
        pair.compare()?;
        for operation in &operations {
            pair.apply(operation)?;
            // Also learns the numbers that the next operation is told.
            pair.compare()?;
        }
        let again = kept(&pair.sysroot, &pair.layers);
        prop_assert!(whole(&again) == whole(&pair.sysroot), "the trees differ");
    }
}

#[test]
fn only_what_changed_is_kept() {
    let layer = MemoryLayer::new("base")
        .file("/usr/lib/large", vec![7; 1 << 20])
        .file("/usr/lib/gone", "gone")
        .file("/was/here", "below");
    let layers: Vec<Arc<dyn Layer>> = vec![Arc::new(layer)];
    let sysroot = over(&layers);
    make_file(&sysroot, "/usr/lib", "new", b"new");
    sysroot.unlink(ino(&sysroot, "/usr/lib"), b"gone").unwrap();
    sysroot.rename(ROOT_INO, b"was", ROOT_INO, b"is", Rename::Replace).unwrap();
    sysroot.make_directory(ROOT_INO, b"was", CREATION).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let report = capture_changes(&sysroot, directory.path()).unwrap();
    assert!(report.bytes < 100_000, "{} bytes", report.bytes);
    let again = kept(&sysroot, &layers);
    assert_eq!(list(&again, "/usr/lib"), ["large", "new"]);
    assert_eq!(again.resolve(b"/usr/lib/gone").unwrap_err().errno(), Errno::NOENT);
    assert_eq!(list(&again, "/was"), Vec::<String>::new());
    assert_eq!(content(&again, "/is/here"), b"below");
    assert_eq!(stat(&again, "/usr/lib/large").meta.size, 1 << 20);
}
