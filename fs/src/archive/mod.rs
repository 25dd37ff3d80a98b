//! Archive formats: tar (ustar, pax, GNU), ar and the compressions around them.

pub mod write;
