//! A layer that shows a host directory as it is.
