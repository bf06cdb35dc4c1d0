//! The log on a disk: a journal that all partitions of a data directory share, segments behind it, and recovery.
//!
//! Plain blocking code over [`store_api::Vfs`] and [`store_api::KvStore`]. The shell calls it on I/O threads, the simulator on
//! disks that crash.
//!
//! What it must not know: leaders, followers, ISR, requests, clocks, threads, randomness. It is told what to append and where
//! to cut.
//!
//! ```text
//!            commit                          flush, in the background
//!   batches ───────► journal block ────────────────────────────► segments ───► manifest ───► journal files used again
//!                    = tail cache, read by reference              cold reads
//!   large parts ───────────────────────────────────────────────► segment, the journal says where
//!   page-cache durability ─────────────────────────────────────► segment, the journal says nothing
//! ```
//!
//! One commit makes batches of many partitions durable with one sequential write. Its block, 4 KiB-aligned, is at the same time
//! the memory that readers and replication get. Segments are written later, in large extents; when they and a new
//! manifest are durable, journal files are used again. After a crash the journal is read from where the manifest says,
//! never the segments; only partitions with page-cache durability have the unsynced end of one segment looked at.
//!
//! `docs/formats/` describes every byte.
//!
//! Invariants kept: S1, S2, S3, S4, S5, S6, S7, S8, S11, S12, R11.
//!
//! Tested at the bottom of each module, in `tests/` (a dumb twin, every crash point of a long trace, faults, and fixtures of
//! every released format), and by the simulator.

mod codec;
mod crc;
mod error;
mod journal;
mod keys;
mod manifest;
mod options;
mod poison;
mod replica;
mod segment;
mod slab;
mod store;
mod tail;

pub use error::{CorruptBatch, Damage, OpenError, ReadError, StoreError};
pub use keys::checkpoint::Checkpoint;
pub use options::{LogOptions, ReplicaOptions};
pub use store::{
    CommitReport, Durability, Finding, FlushBudget, FlushReport, LogRead, LogStats, LogStore, LogWrite, RecoveryReport,
    ReplicaOnDisk, ScrubCursor, ScrubStep, TimestampHit, VerifyReport,
};
