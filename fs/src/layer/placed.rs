//! A layer shown below another place than the root.
