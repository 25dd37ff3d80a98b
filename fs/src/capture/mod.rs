//! Turning a zone of a sysroot into an artifact: a deterministic tar stream and its index.
