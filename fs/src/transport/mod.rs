//! How a view reaches somebody: the host kernel's `/dev/fuse`, or a guest's virtiofs.

mod caching;
mod duties;
mod faults;
mod fuse;
mod fuse_message;
mod kernel_values;
mod mount;
mod mount_error;
mod mount_table;
mod names;
mod virtiofs;

pub use caching::Caching;
pub use mount::{
    Mount, MountOptions, Unmounted, Unmounter, clean_stale, fusermount, resolve_mountpoint,
};
pub use mount_error::MountError;
#[cfg(any(test, feature = "fuzzing"))]
pub use virtiofs::hostile;
pub use virtiofs::{VirtiofsError, VirtiofsServer};

#[cfg(test)]
mod tests;
