//! The local, crash-safe home of artifacts, indexes, mirrors and logs (docs/store.md).
