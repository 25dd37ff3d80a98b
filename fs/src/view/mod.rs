//! How a sysroot is shown: true, or mapped for QEMU's 9p server.
//!
//! The true view is the tree itself: every [`Filesystem`](crate::filesystem::Filesystem) already
//! is one. The mapped view wraps it. `docs/views.md` specifies both.

mod loader;
mod mapped;
#[cfg(test)]
pub(crate) mod memory_tree;
mod shared;

pub use loader::{LoaderView, Relocation, Renamed};
pub use mapped::MappedView;
pub use shared::{Announcer, Change, Changes, GuestView, HostView, SharedTree, What};
