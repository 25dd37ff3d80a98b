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
    /// Whether file content survives an open.
    pub keep_cache: bool,
    /// Whether directory listings do.
    pub keep_listings: bool,
    /// Whether content is forgotten when a file turns out to have another time.
    pub by_time: bool,
}

impl Caching {
    /// For a tree that nothing changes, and for one whose only writer is this mount.
    pub const fn immutable() -> Self {
        let (entry_ttl, attr_ttl) = (FOREVER, FOREVER);
        Caching { entry_ttl, attr_ttl, keep_cache: true, keep_listings: true, by_time: false }
    }

    /// For a tree that something else changes too, and of which each change is announced
    /// ([`crate::view::HostView`]). Announcements do not reach listings that are on their way.
    pub const fn announced() -> Self {
        Caching { keep_listings: false, ..Caching::immutable() }
    }

    /// For a tree that something else changes too, where the kernel is made to ask for what has changed.
    pub const fn asked_anew() -> Self {
        Caching { by_time: true, ..Caching::immutable() }
    }

    /// For a tree with one user at a time, which may be live: [`crate::sysroot::Sysroot::is_live`].
    pub const fn of_tree(is_live: bool) -> Self {
        if is_live { Caching::shared() } else { Caching::immutable() }
    }

    /// For a tree that something else changes too, such as a second mount of the same sysroot.
    pub const fn shared() -> Self {
        let (entry_ttl, attr_ttl) = (Duration::ZERO, Duration::ZERO);
        Caching { entry_ttl, attr_ttl, keep_cache: false, keep_listings: false, by_time: true }
    }
}
