//! What fuzzing found worth keeping (`fuzz/corpus`) is run again by every test run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../fuzz/src/control.rs"]
mod control;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_control_messages_is_understood_or_refused() {
    replay::replay("control", control::run);
}
