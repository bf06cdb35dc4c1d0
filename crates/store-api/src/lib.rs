//! What a disk must promise: [`Vfs`] for files and [`KvStore`] for derived state, with a model of each that crashes on command.
//!
//! What it must not know: what is stored, and any real file. `store-os` is the provider that touches the machine.
//!
//! ```text
//!            segment-log                       who stores
//!        Vfs             KvStore               what is promised    (vfs.rs, kv.rs)
//!   MemVfs  OsVfs     MemKv  RocksKv           who keeps it        (here, store-os)
//!        contract::vfs   contract::kv          the proof: one suite, both providers
//! ```
//!
//! The models are not stand-ins for speed: they are the definition of what may be lost. What was not synced may survive a crash
//! wholly, partly, torn at a sector or not at all, and so may names whose directory was not synced (S1, S7). Code that
//! passes on them has been tried against worse disks than most machines have.
//!
//! Tested in each module and by `tests/contract.rs`.

pub mod contract;
mod error;
mod kv;
mod memory_kv;
mod memory_vfs;
mod vfs;

pub use error::{DiskError, DiskErrorKind, DiskOperation, KvError};
pub use kv::{KvBatch, KvChange, KvDurability, KvPair, KvStore, prefix_end};
pub use memory_kv::MemKv;
pub use memory_vfs::{DiskFault, Image, MemVfs, Observer, Survivors};
pub use vfs::{FileUse, Vfs, VfsFile};

/// The unit of the data path: journal blocks start at a multiple of it, and direct I/O needs addresses and lengths that are one.
pub const BLOCK_BYTES: usize = 4096;
/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;
