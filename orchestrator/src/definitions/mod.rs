//! Baserock definitions: YAML in, a checked model out (docs/definitions.md).
