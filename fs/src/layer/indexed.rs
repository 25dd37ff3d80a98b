//! A layer that reads an archive through its index.
