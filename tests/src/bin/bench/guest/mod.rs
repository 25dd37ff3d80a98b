//! Guests for measuring: the kit's kernel, one tree over the way that is measured, and a script as
//! PID 1. All ways get the same machine, so that the way is all that differs.

pub mod kit;
pub mod machine;
pub mod serve;
pub mod tree;
