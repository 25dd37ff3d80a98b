//! What the fuzz targets run. The targets of FUSE messages are in `outcrop-fs`, whose parser is not
//! public; tests on a stable compiler include the files beside this one to replay the corpus.

pub mod archive;
pub mod control;
pub mod definitions;
pub mod index;
mod layer;
