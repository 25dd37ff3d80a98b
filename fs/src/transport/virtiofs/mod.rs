//! virtiofs: a guest's kernel asks, our own process answers (docs/virtiofs.md).
//!
//! ```text
//! guest ─ virtio queue ─► device ─ message ─► session ─► Filesystem
//!         (guest memory)            ◄─ reply ─┘
//! ```
//!
//! QEMU only introduces both sides to each other over a unix socket (vhost-user); requests and
//! replies lie in the guest's memory, which is mapped here. No privilege is needed on either side.

mod device;
mod error;
mod guest_memory;
mod holds;
#[cfg(any(test, feature = "fuzzing"))]
pub mod hostile;
mod numbers;
mod patience;
mod server;
mod session;
mod tally;

pub use error::VirtiofsError;
pub use server::VirtiofsServer;

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod reconnection_tests;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod schedules;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod stress_tests;
