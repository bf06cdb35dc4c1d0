//! Batches as a client would send them, made by hand.

use base_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::{Bytes, BytesMut};
use record_batch::{Attributes, BatchHeader, BatchLimits, HEADER_LEN, ProducedBatch};

/// `producer`: id, epoch and sequence of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub value: u32,
    pub records: i32,
    pub producer: Option<(i64, i16, i32)>,
}

pub fn produced(spec: Spec) -> ProducedBatch {
    let mut body = BytesMut::new();
    for index in 0..spec.records {
        body.extend_from_slice(&record(spec.value, index));
    }
    let (id, epoch, sequence) = spec.producer.unwrap_or((-1, -1, -1));
    let mut header = BatchHeader {
        base_offset: Offset::ZERO,
        length: (HEADER_LEN - 12 + body.len()) as i32,
        leader_epoch: base_types::LeaderEpoch::UNKNOWN,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: spec.records - 1,
        base_timestamp: Timestamp(1_000),
        max_timestamp: Timestamp(1_000),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        record_count: spec.records,
    };
    let mut covered = BytesMut::from(&header.to_bytes()[21..]);
    covered.extend_from_slice(&body);
    header.crc = crc32c(&covered);
    let mut bytes = BytesMut::from(&header.to_bytes()[..]);
    bytes.extend_from_slice(&body);
    let bytes: Bytes = bytes.freeze();
    ProducedBatch::check(bytes, &BatchLimits::default()).expect("a valid batch")
}

/// One record without key and headers; its value is four bytes.
fn record(value: u32, index: i32) -> Vec<u8> {
    let varint = |n: i32| (n << 1) as u8; // Small and not negative, or -1 below.
    let mut fields = vec![0, 0, varint(index), 1, varint(4)];
    fields.extend_from_slice(&value.to_be_bytes());
    fields.push(0);
    let mut record = vec![varint(fields.len() as i32)];
    record.extend_from_slice(&fields);
    record
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
