//! Sources, all normalised into git: repositories, archives, Debian source packages.
