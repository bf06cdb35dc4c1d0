//! The journal: one stream of commits for all partitions of a data directory, in a ring of files that are used again.
//!
//! ```text
//!   journal/00000001   │blk 41│blk 42│ .. │blk 90│      full, kept until all its batches are durable in segments
//!   journal/00000002   │blk 91│blk 92│ old blocks ...   written now
//!   journal/00000003   old blocks                       spare
//! ```
//!
//! A block is durable before the next one is begun, so the chain (block numbers in a row, each block naming the CRC of the one
//! before) ends where the last commit ended, and a good block behind a bad one proves damage (S2).

pub(crate) mod block;
pub(crate) mod entry;
pub(crate) mod reader;
pub(crate) mod writer;

pub(crate) const DIRECTORY: &str = "journal";

/// Where a block begins, and what the block before it was: enough to read the chain from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JournalPosition {
    /// Names the file.
    pub(crate) file: u32,
    pub(crate) position: u64,
    /// The number of the block that begins there.
    pub(crate) seq: u64,
    pub(crate) previous_crc: u32,
}

impl JournalPosition {
    pub(crate) const NONE: JournalPosition = JournalPosition { file: 0, position: 0, seq: 0, previous_crc: 0 };
    /// Of the first block of all.
    pub(crate) const START: JournalPosition = JournalPosition { file: 1, position: 0, seq: 1, previous_crc: 0 };
}

pub(crate) fn path(file: u32) -> String {
    format!("{DIRECTORY}/{file:08}")
}
