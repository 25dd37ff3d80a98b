//! What fuzzing found worth keeping (`fuzz/corpus`) is run again by every test run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../fuzz/src/archive.rs"]
mod archive;
#[path = "../../fuzz/src/index.rs"]
mod index;
#[path = "../../fuzz/src/layer.rs"]
mod layer;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_archives_is_read_or_refused() {
    replay("archive", archive::run);
}

#[test]
fn the_corpus_of_indexes_is_answered_or_refused() {
    replay("index", index::run);
}
