//! Archive formats: tar (ustar, pax, GNU), ar and the compressions around them.
//!
//! Reading is pure and streaming: bytes go in, an entry or an error with its offset comes out.

pub mod ar;
pub mod compression;
pub mod import;
pub mod input;
mod number;
mod path;
mod pax;
pub mod reader;
mod sparse;
pub mod write;

pub use compression::Compression;
pub use import::{Interpretation, import};
pub use input::{Input, Seekable, Stream};
pub use reader::{TarEntry, TarReader};
