//! What a journal block can say. Kinds are stored as numbers; a number is never given to another kind.

use base_types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use bytes::{BufMut, BytesMut};

use crate::{
    codec::{Fields, put_partition},
    options::ReplicaOptions,
};

/// A closed or current segment, as far as it is placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentExtent {
    pub(crate) base: Offset,
    /// Bytes of it that belong to the log. The file may be longer.
    pub(crate) len: u64,
    pub(crate) next_offset: Offset,
    /// The largest timestamp in it, or a larger one.
    pub(crate) max_timestamp: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// After `gap` bytes that say nothing, the next `len` bytes of the payload are a batch that continues the log of `tp`.
    Batch {
        tp: TopicPartition,
        base: Offset,
        len: u32,
        gap: u16,
    },
    /// The log up to the end of the last of these segments is durable in segments. Lists those that changed since the last
    /// entry of this kind or the manifest, and the epochs that began since.
    Placed {
        tp: TopicPartition,
        segments: Vec<SegmentExtent>,
        epochs: Vec<(LeaderEpoch, Offset)>,
    },
    /// The log now ends at `to`. Where segments were cut, the last one is `segment` and `len` bytes long.
    Truncated {
        tp: TopicPartition,
        to: Offset,
        cut: Option<(Offset, u64)>,
    },
    /// The log is empty and starts at `start`.
    Reset {
        tp: TopicPartition,
        start: Offset,
    },
    /// Records below `to` are gone, and so are the segments with a base offset below `first_segment`. It is named, because a
    /// replay knows less about segments than the life that removed them did.
    LogStart {
        tp: TopicPartition,
        to: Offset,
        first_segment: Option<Offset>,
    },
    Created {
        tp: TopicPartition,
        options: ReplicaOptions,
    },
    Deleted {
        tp: TopicPartition,
    },
    /// From here on batches may be appended to the current segment without a word in the journal (page-cache durability).
    /// What lies behind the last known end was cut off before.
    Unjournaled {
        tp: TopicPartition,
    },
}

const BATCH: u8 = 1;
const PLACED: u8 = 2;
const TRUNCATED: u8 = 3;
const RESET: u8 = 4;
const LOG_START: u8 = 5;
const CREATED: u8 = 6;
const DELETED: u8 = 7;
const UNJOURNALED: u8 = 8;
const BATCH_AFTER_GAP: u8 = 9;

/// Size of an encoded `Batch` entry, and how much more one with a gap takes.
pub(crate) const BATCH_ENTRY_BYTES: usize = 33;
pub(crate) const GAP_BYTES: usize = 2;

impl Entry {
    pub(crate) fn partition(&self) -> TopicPartition {
        match self {
            Entry::Batch { tp, .. }
            | Entry::Placed { tp, .. }
            | Entry::Truncated { tp, .. }
            | Entry::Reset { tp, .. }
            | Entry::LogStart { tp, .. }
            | Entry::Created { tp, .. }
            | Entry::Deleted { tp }
            | Entry::Unjournaled { tp } => *tp,
        }
    }

    pub(crate) fn encode(&self, into: &mut BytesMut) {
        let mut head = |kind: u8| {
            into.put_u8(kind);
            put_partition(into, self.partition());
        };
        match self {
            Entry::Batch { base, len, gap, .. } => {
                head(if *gap == 0 { BATCH } else { BATCH_AFTER_GAP });
                into.put_i64(base.0);
                into.put_u32(*len);
                if *gap != 0 {
                    into.put_u16(*gap);
                }
            }
            Entry::Placed { segments, epochs, .. } => {
                head(PLACED);
                put_extents(into, segments);
                put_epochs(into, epochs);
            }
            Entry::Truncated { to, cut, .. } => {
                head(TRUNCATED);
                into.put_i64(to.0);
                let (segment, len) = cut.unwrap_or((Offset::UNKNOWN, 0));
                into.put_i64(segment.0);
                into.put_u64(len);
            }
            Entry::Reset { start: offset, .. } => {
                head(RESET);
                into.put_i64(offset.0);
            }
            Entry::LogStart { to, first_segment, .. } => {
                head(LOG_START);
                into.put_i64(to.0);
                into.put_i64(first_segment.unwrap_or(Offset::UNKNOWN).0);
            }
            Entry::Created { options, .. } => {
                head(CREATED);
                into.put_u32(options.segment_bytes);
            }
            Entry::Deleted { .. } => head(DELETED),
            Entry::Unjournaled { .. } => head(UNJOURNALED),
        }
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Option<Entry> {
        let kind = fields.u8()?;
        let tp = fields.partition()?;
        Some(match kind {
            BATCH => Entry::Batch { tp, base: fields.offset()?, len: fields.u32()?, gap: 0 },
            BATCH_AFTER_GAP => Entry::Batch { tp, base: fields.offset()?, len: fields.u32()?, gap: fields.u16()? },
            PLACED => Entry::Placed { tp, segments: extents(fields)?, epochs: epochs(fields)? },
            TRUNCATED => {
                let to = fields.offset()?;
                let (segment, len) = (fields.offset()?, fields.u64()?);
                Entry::Truncated { tp, to, cut: (segment != Offset::UNKNOWN).then_some((segment, len)) }
            }
            RESET => Entry::Reset { tp, start: fields.offset()? },
            LOG_START => {
                let to = fields.offset()?;
                let first_segment = Some(fields.offset()?).filter(|base| *base != Offset::UNKNOWN);
                Entry::LogStart { tp, to, first_segment }
            }
            CREATED => Entry::Created { tp, options: ReplicaOptions { segment_bytes: fields.u32()? } },
            DELETED => Entry::Deleted { tp },
            UNJOURNALED => Entry::Unjournaled { tp },
            _ => return None,
        })
    }
}

pub(crate) fn put_extents(into: &mut impl BufMut, segments: &[SegmentExtent]) {
    into.put_u32(segments.len() as u32);
    for segment in segments {
        into.put_i64(segment.base.0);
        into.put_u64(segment.len);
        into.put_i64(segment.next_offset.0);
        into.put_i64(segment.max_timestamp.0);
    }
}

pub(crate) fn extents(fields: &mut Fields<'_>) -> Option<Vec<SegmentExtent>> {
    fields.list(32, |fields| {
        Some(SegmentExtent {
            base: fields.offset()?,
            len: fields.u64()?,
            next_offset: fields.offset()?,
            max_timestamp: fields.timestamp()?,
        })
    })
}

pub(crate) fn put_epochs(into: &mut impl BufMut, epochs: &[(LeaderEpoch, Offset)]) {
    into.put_u32(epochs.len() as u32);
    for (epoch, start) in epochs {
        into.put_i32(epoch.0);
        into.put_i64(start.0);
    }
}

pub(crate) fn epochs(fields: &mut Fields<'_>) -> Option<Vec<(LeaderEpoch, Offset)>> {
    fields.list(12, |fields| Some((fields.epoch()?, fields.offset()?)))
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn every_kind_reads_back_and_no_cut_of_it_does() {
        let tp = TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(3) };
        let extent = SegmentExtent { base: Offset(1), len: 2, next_offset: Offset(3), max_timestamp: Timestamp(4) };
        let entries = [
            Entry::Batch { tp, base: Offset(9), len: 70, gap: 0 },
            Entry::Batch { tp, base: Offset(9), len: 70, gap: 4095 },
            Entry::Placed { tp, segments: vec![extent, extent], epochs: vec![(LeaderEpoch(1), Offset(2))] },
            Entry::Truncated { tp, to: Offset(5), cut: None },
            Entry::Truncated { tp, to: Offset(5), cut: Some((Offset(0), 100)) },
            Entry::Reset { tp, start: Offset(8) },
            Entry::LogStart { tp, to: Offset(8), first_segment: None },
            Entry::LogStart { tp, to: Offset(8), first_segment: Some(Offset(7)) },
            Entry::Created { tp, options: ReplicaOptions { segment_bytes: 1000 } },
            Entry::Deleted { tp },
            Entry::Unjournaled { tp },
        ];
        for entry in entries {
            let mut bytes = BytesMut::new();
            entry.encode(&mut bytes);
            let mut fields = Fields(&bytes);
            assert_eq!(Entry::decode(&mut fields), Some(entry));
            assert!(fields.end().is_some());
            for cut in 0..bytes.len() {
                assert_eq!(Entry::decode(&mut Fields(&bytes[..cut])), None);
            }
        }
        let mut bytes = BytesMut::new();
        Entry::Batch { tp, base: Offset(9), len: 70, gap: 0 }.encode(&mut bytes);
        assert_eq!(bytes.len(), BATCH_ENTRY_BYTES);
        Entry::Batch { tp, base: Offset(9), len: 70, gap: 1 }.encode(&mut bytes);
        assert_eq!(bytes.len(), 2 * BATCH_ENTRY_BYTES + GAP_BYTES);
    }

    #[test]
    fn a_count_that_the_bytes_do_not_hold_allocates_nothing() {
        let mut bytes = BytesMut::new();
        bytes.put_u8(PLACED);
        put_partition(&mut bytes, TopicPartition::default());
        bytes.put_u32(u32::MAX);
        assert_eq!(Entry::decode(&mut Fields(&bytes)), None);
    }
}
