//! A layer made of a list of nodes.
