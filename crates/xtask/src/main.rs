//! House rules as programs.
fn main() {}
