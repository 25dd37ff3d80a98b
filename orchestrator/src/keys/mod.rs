//! Cache keys of components (docs/keys.md).
