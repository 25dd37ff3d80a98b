//! Building a target: scheduler, chunks, strata, systems.
