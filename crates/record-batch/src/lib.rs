//! RecordBatch v2: the bytes that are stored and carried.
//!
//! A batch is received, stored, replicated and served as the client made it. This crate checks it once, at the door, gives
//! it its place in a log by rewriting the header alone, and reads its records where something really needs them.
//!
//! What it must not know: requests, topics, files, clocks. Time and limits are handed in.
//!
//! ```text
//!   Produce ──► ProducedBatch::check ──► StampedBatch::stamp ──► log, replicas ──► Fetch
//!                 header, CRC,             61 new bytes,            │
//!                 records if plain         the rest by reference    ├─ batches()   walk by header (recovery, fetch)
//!                                                                   ├─ Records     read records, bounded (compaction, tools)
//!                                                                   └─ EndTxnMarker
//! ```
//!
//! The layout, big-endian. The CRC covers `attributes` to the end, so that a base offset and a leader epoch can be stamped
//! without touching it:
//!
//! ```text
//!    0  base offset       8        23  last offset delta   4
//!    8  length            4        27  base timestamp      8
//!   12  leader epoch      4        35  max timestamp       8
//!   16  magic (2)         1        43  producer id         8
//!   17  CRC-32C           4        51  producer epoch      2
//!   21  attributes        2        53  base sequence       4
//!                                  57  record count        4
//!                                  61  records, compressed as one block
//! ```
//!
//! Invariants kept: S3 (nothing becomes a [`StampedBatch`] whose CRC was not verified), R10 (a batch's offsets are dense
//! when it is produced), W8 (nothing is allocated in proportion to a claim in a header).
//!
//! Tested at the bottom of each module and in `tests/`: golden bytes written by Kafka's own client in `fixtures/`, Kafka's
//! own verdicts on bad batches, properties against a dumb twin, and mutated bytes.

mod builder;
mod compression;
mod control;
mod crc;
mod header;
mod produced;
mod record;
mod records;
mod stamped;
mod varint;
mod walk;

pub use builder::{BatchBuilder, BuildError, Producer};
pub use compression::DecompressError;
pub use control::EndTxnMarker;
pub use crc::joined_crc32c;
pub use header::{
    Attributes, BatchHeader, Compression, HEADER_LEN, HeaderError, LOG_OVERHEAD, TimestampType, UnknownCompression,
};
pub use produced::{BatchError, BatchLimits, CompressedRecords, ProducedBatch, TimestampLimits};
pub use record::{Record, RecordDamage, RecordHeader};
pub use records::{Records, RecordsError};
pub use stamped::StampedBatch;
pub use walk::{Batches, batches};
