//! How a view reaches somebody: the kernel's `/dev/fuse`.
