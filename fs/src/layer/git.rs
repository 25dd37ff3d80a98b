//! A layer that reads blobs of a git tree from the object database on demand.
