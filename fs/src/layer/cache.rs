//! Where indexes and the random-access form of compressed inputs are kept.
