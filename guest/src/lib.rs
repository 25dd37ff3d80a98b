//! The control protocol between the orchestrator and the agent that is PID 1 of a guest.
//!
//! The agent itself is the program `outcrop-agent` of this crate. The format is written down in
//! `docs/control-protocol.md`.

#![forbid(unsafe_code)]

pub mod accounting;
pub mod protocol;
