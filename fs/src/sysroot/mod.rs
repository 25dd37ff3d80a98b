//! An ordered stack of layers, merged lazily, plus writable zones (docs/sysroot.md).
