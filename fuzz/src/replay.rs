//! Running a corpus again.

use std::panic::catch_unwind;
use std::path::Path;

/// Runs a target with every input of its corpus; a panic names the input.
pub fn replay(target: &str, run: fn(&[u8])) {
    // A test program may be run elsewhere than where it was built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let corpus = Path::new(&here).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for input in std::fs::read_dir(corpus).unwrap() {
        let path = input.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let outcome = catch_unwind(|| run(&bytes));
        assert!(outcome.is_ok(), "{}", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "there is no corpus of {target}");
}
