//! Opening a layer from a specification such as `git:REPO#REV` or a bare path.
