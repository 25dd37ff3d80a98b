//! How a sysroot is shown: true, or mapped for QEMU's 9p server.
