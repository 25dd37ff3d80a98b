//! How a view reaches somebody: the kernel's `/dev/fuse`.

mod caching;
mod duties;
mod fuse;
mod mount;
mod mount_error;
mod mount_table;

pub use caching::Caching;
pub use mount::{Mount, MountOptions, Unmounted, Unmounter, clean_stale};
pub use mount_error::MountError;

#[cfg(test)]
mod tests;
