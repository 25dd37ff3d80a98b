//! The index of an archive: a mapped, checksummed table of its nodes (docs/index-format.md).
