//! Real files and the real RocksDB.
//!
//! What it must not know: what is stored. It keeps the promises of `store-api` and nothing else.
//!
//! ```text
//!   OsVfs     files under one directory, locked against a second process; direct I/O where the file system offers it
//!   RocksKv   derived state, with little memory
//! ```
//!
//! Assumes: `fdatasync` and `O_DSYNC` make data reach the medium, and a sector of 512 bytes is written whole or not at all.
//!
//! Tested by the contract suites of `store-api` and by `segment-log` on real files, in `tests/`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one crate that touches files")]

mod kv;
mod vfs;

pub use kv::{OpenedKv, RocksKv};
pub use vfs::{DirectIo, OpenDirectoryError, OsVfs};
