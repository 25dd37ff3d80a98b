//! Builds whole operating systems natively in QEMU guests, without root.
//!
//! ```text
//! definitions ─► graph, keys ─► build ─► guest ─► artifact in the store ─► export
//!                    ▲            ▲
//!                 sources        kit
//! ```

#![deny(unsafe_code)]

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
pub mod process;
pub mod sources;
pub mod store;
mod words;
