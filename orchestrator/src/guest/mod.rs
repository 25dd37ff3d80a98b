//! Guests: QEMU processes and the channel to the agent inside.
