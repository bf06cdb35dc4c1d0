//! What the core knew when the log was at some offset.
//!
//! ```text
//!   key    1 │ topic id 16 │ partition 4
//!   value  version 1 │ cut 8 │ as-of offset 8 │ high watermark 8 │ producer state … │ CRC 4
//! ```

use base_types::{Offset, TopicPartition};
use bytes::{BufMut, Bytes};

use crate::codec::Fields;

const VERSION: u8 = 2;

/// State that the core derived from the log below `as_of`. Of use to start from; never the truth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub as_of: Offset,
    pub high_watermark: Offset,
    /// In the core's own format.
    pub producer_state: Bytes,
}

pub(crate) fn key(tp: TopicPartition) -> Vec<u8> {
    super::partition_key(super::CHECKPOINT, tp)
}

pub(crate) fn encode(key: &[u8], checkpoint: &Checkpoint, cut: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(29 + checkpoint.producer_state.len());
    value.put_u8(VERSION);
    value.put_u64(cut);
    value.put_i64(checkpoint.as_of.0);
    value.put_i64(checkpoint.high_watermark.0);
    value.put_slice(&checkpoint.producer_state);
    super::seal(key, value)
}

/// `None` when it is of another history (`cut`) or not understood: the core then rebuilds (decision 2).
pub(crate) fn decode(key: &[u8], value: &[u8], cut: u64) -> Option<Checkpoint> {
    let mut fields = Fields(super::unseal(key, value)?);
    if fields.u8()? != VERSION || fields.u64()? != cut {
        return None;
    }
    let (as_of, high_watermark) = (fields.offset()?, fields.offset()?);
    Some(Checkpoint { as_of, high_watermark, producer_state: Bytes::copy_from_slice(fields.0) })
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_checkpoint_reads_back_in_its_own_history_only() {
        let checkpoint =
            Checkpoint { as_of: Offset(9), high_watermark: Offset(7), producer_state: Bytes::from_static(b"state") };
        let value = encode(b"key", &checkpoint, 3);
        let decode = |value: &[u8], cut| decode(b"key", value, cut);
        assert_eq!(super::decode(b"other", &value, 3), None);
        assert_eq!(decode(&value, 3), Some(checkpoint));
        assert_eq!(decode(&value, 4), None);
        assert_eq!(decode(&value[..20], 3), None);
        let damaged = |at: usize| [&value[..at], &[value[at] ^ 4], &value[at + 1..]].concat();
        assert!((0..value.len()).all(|at| decode(&damaged(at), 3).is_none()));
    }

    #[test]
    fn keys_sort_by_partition() {
        let tp =
            |topic, partition| TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex(partition) };
        let mut keys = vec![key(tp(2, 0)), key(tp(1, 300)), key(tp(1, 2))];
        keys.sort();
        assert_eq!(keys, [key(tp(1, 2)), key(tp(1, 300)), key(tp(2, 0))]);
    }
}
