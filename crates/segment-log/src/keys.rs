//! Keys and values in the store of derived state: one file for each kind. `docs/formats/kv-keys.md`.
//!
//! A key begins with its kind; numbers are never given to another kind. Partition and offset follow, big-endian, so that keys
//! of one partition lie side by side in order.

pub(crate) mod checkpoint;
pub(crate) mod segment_index;

use base_types::TopicPartition;

use crate::codec::put_partition;

const CHECKPOINT: u8 = 1;
const SEGMENT_INDEX: u8 = 2;

fn partition_key(kind: u8, tp: TopicPartition) -> Vec<u8> {
    let mut key = vec![kind];
    put_partition(&mut key, tp);
    key
}

/// Prefixes of everything that is kept about a partition.
pub(crate) fn partition_prefixes(tp: TopicPartition) -> [Vec<u8>; 2] {
    [partition_key(CHECKPOINT, tp), partition_key(SEGMENT_INDEX, tp)]
}
