//! Keys and values in the store of derived state: one file for each kind. `docs/formats/kv-keys.md`.
//!
//! A key begins with its kind; numbers are never given to another kind. Partition and offset follow, big-endian, so that keys
//! of one partition lie side by side in order. A value ends with the CRC of its key and of all before:
//! what cannot be trusted, or belongs elsewhere, is made anew.

pub(crate) mod checkpoint;
pub(crate) mod segment_index;

use base_types::TopicPartition;

use crate::{codec::put_partition, crc::crc32c};

const CHECKPOINT: u8 = 1;
const SEGMENT_INDEX: u8 = 2;

fn partition_key(kind: u8, tp: TopicPartition) -> Vec<u8> {
    let mut key = vec![kind];
    put_partition(&mut key, tp);
    key
}

/// Puts the checksum behind a value.
fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&[key, &value]);
    value.extend_from_slice(&crc.to_be_bytes());
    value
}

/// The value before the checksum, if that is right.
fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, crc) = value.split_last_chunk::<4>()?;
    (crc32c(&[key, value]) == u32::from_be_bytes(*crc)).then_some(value)
}

/// Whether the value is as it was written, whatever it says.
pub(crate) fn is_sealed(key: &[u8], value: &[u8]) -> bool {
    unseal(key, value).is_some()
}

/// Prefixes of everything that is kept about a partition.
pub(crate) fn partition_prefixes(tp: TopicPartition) -> [Vec<u8>; 2] {
    [partition_key(CHECKPOINT, tp), partition_key(SEGMENT_INDEX, tp)]
}
