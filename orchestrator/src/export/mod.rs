//! Exporting a tree as an archive or an image.
