//! The sparse index of a segment.
//!
//! ```text
//!   key    2 │ topic id 16 │ partition 4 │ base offset 8
//!   value  version 1 │ cut 8 │ covered 8 │ max timestamp 8 │ (relative offset 4, position 4, max timestamp before 8) … │ CRC 4
//! ```

use base_types::{Offset, TopicPartition};
use bytes::BufMut;

use crate::{
    codec::Fields,
    segment::index::{Index, IndexEntry},
};

const VERSION: u8 = 2;

/// Of all keys of a partition.
pub(crate) fn prefix(tp: TopicPartition) -> Vec<u8> {
    super::partition_key(super::SEGMENT_INDEX, tp)
}

pub(crate) fn key(tp: TopicPartition, base: Offset) -> Vec<u8> {
    let mut key = prefix(tp);
    key.put_i64(base.0);
    key
}

/// The base offset of the segment that a key is about.
pub(crate) fn base(key: &[u8]) -> Option<Offset> {
    key.last_chunk().map(|bytes| Offset(i64::from_be_bytes(*bytes)))
}

pub(crate) fn encode(key: &[u8], index: &Index, cut: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(29 + 16 * index.entries.len());
    value.put_u8(VERSION);
    value.put_u64(cut);
    value.put_u64(index.covered);
    value.put_i64(index.max_timestamp.0);
    for entry in &index.entries {
        value.put_u32(entry.relative_offset);
        value.put_u32(entry.position);
        value.put_i64(entry.max_timestamp_before.0);
    }
    super::seal(key, value)
}

/// `None` on any doubt: the index is then made anew from the segment.
pub(crate) fn decode(key: &[u8], value: &[u8], cut: u64, segment_len: u64) -> Option<Index> {
    let mut fields = Fields(super::unseal(key, value)?);
    if fields.u8()? != VERSION || fields.u64()? != cut {
        return None;
    }
    let covered = fields.u64().filter(|covered| *covered <= segment_len)?;
    let max_timestamp = fields.timestamp()?;
    let mut entries = Vec::with_capacity(fields.0.len() / 16);
    while !fields.0.is_empty() {
        let entry = IndexEntry {
            relative_offset: fields.u32()?,
            position: fields.u32()?,
            max_timestamp_before: fields.timestamp()?,
        };
        let grows = entries.last().is_none_or(|last: &IndexEntry| {
            last.position < entry.position && last.relative_offset < entry.relative_offset
        });
        if !grows || u64::from(entry.position) >= covered.max(1) {
            return None;
        }
        entries.push(entry);
    }
    Some(Index { entries, covered, max_timestamp })
}

#[cfg(test)]
mod tests {
    use base_types::Timestamp;

    use super::*;

    #[test]
    fn an_index_reads_back_and_doubt_gives_none() {
        let entry = |relative_offset, position| IndexEntry {
            relative_offset,
            position,
            max_timestamp_before: Timestamp(i64::from(position)),
        };
        let index = Index { entries: vec![entry(0, 0), entry(5, 100)], covered: 200, max_timestamp: Timestamp(7) };
        let value = encode(b"key", &index, 1);
        let decode = |value: &[u8], cut, len| decode(b"key", value, cut, len);
        assert_eq!(super::decode(b"other", &value, 1, 200), None);
        assert_eq!(decode(&value, 1, 200), Some(index.clone()));
        assert_eq!(decode(&value, 2, 200), None);
        assert_eq!(decode(&value, 1, 199), None);
        assert_eq!(decode(&value[..value.len() - 1], 1, 200), None);
        let damaged = |at: usize| [&value[..at], &[value[at] ^ 4], &value[at + 1..]].concat();
        assert!((0..value.len()).all(|at| decode(&damaged(at), 1, 200).is_none()));
        let backwards = Index { entries: vec![entry(5, 100), entry(0, 0)], ..index };
        assert_eq!(decode(&encode(b"key", &backwards, 1), 1, 200), None);
    }
}
