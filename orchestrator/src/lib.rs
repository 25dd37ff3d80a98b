//! Builds whole operating systems natively in QEMU guests, without root.
//!
//! ```text
//! definitions ─► graph, keys ─► build ─► guest ─► artifact in the store ─► export
//!                    ▲            ▲
//!                 sources        kit
//! ```

#![deny(unsafe_code)]
// They panic where nobody listens; `output` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod build;
pub mod cli;
pub mod compile;
pub mod config;
pub mod definitions;
pub mod export;
pub mod graph;
pub mod guest;
pub mod keys;
pub mod kit;
mod output;
pub mod process;
pub mod sources;
pub mod store;
mod words;
