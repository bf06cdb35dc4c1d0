//! Sizes. The shell validates configuration; what arrives here is used as it is.

use base_types::Incarnation;
use store_api::BLOCK_BYTES;

/// How the log of one data directory is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// This life of the process, drawn at random by the shell. It marks the journal blocks written in it.
    pub incarnation: Incarnation,
    /// Size of one journal file; a multiple of 4 KiB.
    pub journal_file_bytes: u64,
    /// All journal files together; at least two files.
    pub journal_bytes_max: u64,
    /// Recent batches kept in memory. Half of it may be waiting for its way into segments.
    pub tail_cache_bytes: u64,
    /// A partition that brings this much to one commit is written to its segment at once, and the journal only says where.
    pub bypass_bytes: usize,
    /// Distance of index entries in a segment.
    pub index_interval_bytes: u32,
    /// Below this much free space nothing is appended, so that truncation, manifests and a clean stop still find room (S8).
    pub reserve_bytes: u64,
    /// Open segment files, with up to three descriptors each.
    pub open_files_max: usize,
    /// Written but not synced bytes of partitions with page-cache durability, after which `flush` syncs them.
    pub unsynced_bytes_max: u64,
}

impl LogOptions {
    pub fn new(incarnation: Incarnation) -> LogOptions {
        const MIB: u64 = 1 << 20;
        LogOptions {
            incarnation,
            journal_file_bytes: 64 * MIB,
            journal_bytes_max: 512 * MIB,
            tail_cache_bytes: 64 * MIB,
            // A client's batch of "256 KiB" is a little smaller than that.
            bypass_bytes: 768 << 10,
            index_interval_bytes: 64 << 10,
            reserve_bytes: 64 * MIB,
            open_files_max: 170,
            unsynced_bytes_max: 64 * MIB,
        }
    }

    pub(crate) fn journal_files_max(&self) -> usize {
        (self.journal_bytes_max / self.journal_file_bytes).max(2) as usize
    }

    /// Bytes that may wait for their way into segments before a commit has to help.
    pub(crate) fn pending_bytes_max(&self) -> u64 {
        self.tail_cache_bytes / 2
    }

    /// From this much on an extent is written to its segment past the page cache.
    pub(crate) fn direct_bytes_min(&self) -> u64 {
        self.bypass_bytes as u64 / 2
    }

    /// The largest payload of one journal block; a commit that has more becomes several.
    pub(crate) fn block_bytes_max(&self) -> usize {
        let quarter = (self.journal_file_bytes / 4) as usize / BLOCK_BYTES * BLOCK_BYTES;
        quarter.clamp(BLOCK_BYTES, 4 << 20)
    }

    /// A bypass must happen before a partition's part no longer fits a block.
    pub(crate) fn bypass_threshold(&self) -> usize {
        self.bypass_bytes.min(self.block_bytes_max())
    }
}

/// How the log of one replica is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaOptions {
    /// A segment is closed before it would grow beyond this (Kafka's `segment.bytes`).
    pub segment_bytes: u32,
}

impl Default for ReplicaOptions {
    fn default() -> ReplicaOptions {
        ReplicaOptions { segment_bytes: 1 << 30 }
    }
}
