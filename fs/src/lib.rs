//! Layers of archives, packages and git trees, merged lazily into one sysroot.
//!
//! Data flows one way:
//!
//! ```text
//! archive, git, dir ─► layer ─► sysroot ─► view ─► transport
//!                                  │
//!                                  └─► capture ─► archive
//! ```
//!
//! Everything up to the views speaks the [`filesystem::Filesystem`] trait and knows no transport;
//! a transport only translates between that trait and its own messages.

#![deny(unsafe_code)]

pub mod archive;
pub mod capture;
pub mod content;
pub mod diff;
pub mod draft;
pub mod error;
pub mod filesystem;
pub mod index;
pub mod layer;
pub mod node;
mod sync;
pub mod sysroot;
pub mod transport;
pub mod view;

pub use error::{Errno, Error, Result};
pub use node::{Device, Ino, Kind, Metadata, Timestamp, Xattrs};
