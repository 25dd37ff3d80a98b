//! What fuzzing found worth keeping (`fuzz/corpus`) is run again by every test run, and changed a
//! little, since a fuzzer runs only where there is a nightly compiler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../fuzz/src/definitions.rs"]
mod definitions;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use proptest::prelude::*;

/// Pieces that mean something.
const PIECES: [&[u8]; 24] = [
    b"\n",
    b" ",
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"<<",
    b"'",
    b"|",
    b"~",
    b"0",
    b"s",
    b"morph",
    b"ref: a",
    b"name",
    b"kind: system",
    b"=== s.morph\n",
    b"=== VERSION\n",
    b"..",
    b"\xff",
];

#[test]
fn the_corpus_of_definitions_is_understood_or_refused() {
    replay::replay("definitions", definitions::run);
}

proptest! {
    #[test]
    fn definitions_with_changes_are_understood_or_refused(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..5u8), 1..8),
    ) {
        let mut bytes = SEEDS[seed].to_vec();
        for (at, piece, kind) in edits {
            let (at, piece) = (at.index(bytes.len() + 1), PIECES[piece]);
            let end = (at + piece.len()).min(bytes.len());
            match kind {
                0 => drop(bytes.splice(at..at, piece.iter().copied())),
                1 => drop(bytes.splice(at..end, piece.iter().copied())),
                2 => drop(bytes.drain(at..end)),
                // Something of the input itself.
                3 => {
                    let copied: Vec<u8> = bytes[at..].iter().take(40).copied().collect();
                    bytes.splice(at..at, copied);
                }
                _ => bytes.truncate(at),
            }
        }
        definitions::run(&bytes);
    }
}

const SEEDS: [&[u8]; 6] = [
    include_bytes!("../../fuzz/corpus/definitions/aliases"),
    include_bytes!("../../fuzz/corpus/definitions/cycles"),
    include_bytes!("../../fuzz/corpus/definitions/old"),
    include_bytes!("../../fuzz/corpus/definitions/system"),
    include_bytes!("../../fuzz/corpus/definitions/tolerated"),
    include_bytes!("../../fuzz/corpus/definitions/wrong"),
];
