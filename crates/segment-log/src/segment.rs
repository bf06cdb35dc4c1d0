//! Segments: files with nothing but record batches, byte for byte as Kafka keeps them. `docs/formats/segment.md`.

pub(crate) mod files;
pub(crate) mod index;
pub(crate) mod walk;

use base_types::{Offset, Timestamp, TopicPartition};

use self::index::Index;
use crate::journal::entry::SegmentExtent;

pub(crate) const DIRECTORY: &str = "partitions";

/// A segment as the replica's state knows it. The last one of a replica is the active one.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Bytes that belong to the log. The file may be longer.
    pub(crate) len: u64,
    pub(crate) next_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    /// Bytes known to be durable, and the offset behind them.
    pub(crate) synced_len: u64,
    pub(crate) synced_next: Offset,
    /// Whether the name is durable.
    pub(crate) name_synced: bool,
    /// Kept while the segment is active.
    pub(crate) index: Option<Index>,
    /// `index.covered` when it was last stored.
    pub(crate) index_stored: u64,
}

impl Segment {
    pub(crate) fn new(base: Offset) -> Segment {
        Segment {
            base,
            len: 0,
            next_offset: base,
            max_timestamp: Timestamp::NONE,
            synced_len: 0,
            synced_next: base,
            name_synced: false,
            index: Some(Index::default()),
            index_stored: 0,
        }
    }

    /// One that is durable as `extent` says.
    pub(crate) fn durable(extent: SegmentExtent) -> Segment {
        Segment {
            len: extent.len,
            next_offset: extent.next_offset,
            max_timestamp: extent.max_timestamp,
            synced_len: extent.len,
            synced_next: extent.next_offset,
            name_synced: true,
            index: None,
            ..Segment::new(extent.base)
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.synced_len == self.len && self.name_synced
    }

    /// The durable part.
    pub(crate) fn extent(&self) -> SegmentExtent {
        SegmentExtent {
            base: self.base,
            len: self.synced_len,
            next_offset: self.synced_next,
            max_timestamp: self.max_timestamp,
        }
    }
}

/// Directories are named by ids, never by names that a client chose.
pub(crate) fn directory(tp: TopicPartition) -> String {
    format!("{DIRECTORY}/{tp}")
}

pub(crate) fn path(tp: TopicPartition, base: Offset) -> String {
    format!("{DIRECTORY}/{tp}/{:020}.log", base.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let tp = TopicPartition::default();
        assert_eq!(path(tp, Offset(42)), "partitions/AAAAAAAAAAAAAAAAAAAAAA-0/00000000000000000042.log");
    }
}
