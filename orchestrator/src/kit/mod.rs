//! Kits: what a guest of one architecture needs below the definitions (docs/kits.md).
