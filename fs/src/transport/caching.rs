//! What an asking kernel may remember.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Far longer than any mount lives, far from overflowing the kernel's clock arithmetic.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the kernel may remember of a mount without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caching {
    /// How long a name, or its absence, stays valid.
    pub entry_ttl: Duration,
    /// How long attributes stay valid.
    pub attr_ttl: Duration,
    /// Whether file content and directory listings survive an open.
    pub keep_cache: bool,
}

impl Caching {
    /// For a tree that nothing changes, and for one whose only writer is this mount.
    pub const fn immutable() -> Self {
        Caching { entry_ttl: FOREVER, attr_ttl: FOREVER, keep_cache: true }
    }

    /// For a tree with one user at a time, which may be live: [`crate::sysroot::Sysroot::is_live`].
    pub const fn of_tree(is_live: bool) -> Self {
        if is_live { Caching::shared() } else { Caching::immutable() }
    }

    /// For a tree that something else changes too, such as a second mount of the same sysroot.
    pub const fn shared() -> Self {
        Caching { entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO, keep_cache: false }
    }
}
