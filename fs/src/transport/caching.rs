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

    /// For a tree that something else changes too, and of which each change is announced to this
    /// machine's kernel ([`crate::view::HostView`]).
    pub fn announced() -> Self {
        Caching::announced_to(rustix::system::uname().release().to_bytes())
    }

    /// `kernel` is its release, such as `6.12.43+deb13-amd64`. From Linux 6.19 on announcements of names
    /// do not wait for lookups that are on their way (fs/fuse/dir.c: fuse_reverse_inval_entry), so
    /// that such a kernel has to ask for names and attributes each time. Nowhere do they reach listings
    /// that are on their way.
    fn announced_to(kernel: &[u8]) -> Self {
        let numbers = std::str::from_utf8(kernel).unwrap_or_default();
        let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let waits = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (6, 19),
            _ => false,
        };
        if waits { Caching::announced_with_waiting() } else { Caching::announced_without_waiting() }
    }

    const fn announced_with_waiting() -> Self {
        Caching { keep_listings: false, ..Caching::immutable() }
    }

    pub(super) const fn announced_without_waiting() -> Self {
        Caching { keep_cache: true, by_time: false, ..Caching::shared() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_by_kernels_whose_announcements_wait_for_lookups() {
        for release in ["5.15.0-91-generic", "6.1.0-31-amd64", "6.18.44", "6.18-rc1"] {
            assert!(!Caching::announced_to(release.as_bytes()).entry_ttl.is_zero(), "{release}");
        }
        for release in ["6.19.0", "6.19-rc1", "7.0.1-arch1", "10.0", "", "x", "6", "\u{fffd}"] {
            let caching = Caching::announced_to(release.as_bytes());
            assert!(caching.entry_ttl.is_zero() && caching.attr_ttl.is_zero(), "{release}");
        }
    }
}
