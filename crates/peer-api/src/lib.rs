//! What the three services say to each other, as plain Rust types.
