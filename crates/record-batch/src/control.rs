//! The markers that end a transaction in a partition (KIP-98).

use base_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::{BufMut, Bytes, BytesMut};

use crate::builder::{BatchBuilder, Producer};
use crate::header::Compression;
use crate::record::Record;
use crate::stamped::StampedBatch;

/// The only record of a control batch that a transaction coordinator has written.
///
/// ```text
///   key    version i16   0 abort, 1 commit i16
///   value  version i16   coordinator epoch i32
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    pub commit: bool,
    /// Of the coordinator that wrote it: an older one's markers are refused.
    pub coordinator_epoch: i32,
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl EndTxnMarker {
    /// The marker's batch, in its place in the log.
    pub fn batch(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> StampedBatch {
        let mut key = BytesMut::new();
        key.put_i16(0);
        key.put_i16(if self.commit { COMMIT } else { ABORT });
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i32(self.coordinator_epoch);
        let bytes = BatchBuilder::new(Compression::None)
            .base_offset(base_offset)
            .leader_epoch(leader_epoch)
            .producer(Producer::without_sequence(producer_id, producer_epoch))
            .transactional()
            .control()
            .record(Some(&key), Some(&value), &[], timestamp)
            .build();
        StampedBatch::from_stored(bytes.expect("one small record")).expect("a batch that was just built")
    }

    /// Reads the marker out of a record of a control batch. `None` for every other kind of control record, which readers
    /// are to pass over, and for one that is malformed.
    pub fn parse(record: &Record) -> Option<EndTxnMarker> {
        let commit = match i16::from_be_bytes(field(record.key.as_ref()?, 2)?) {
            COMMIT => true,
            ABORT => false,
            _ => return None,
        };
        let coordinator_epoch = i32::from_be_bytes(field(record.value.as_ref()?, 2)?);
        Some(EndTxnMarker { commit, coordinator_epoch })
    }
}

fn field<const N: usize>(bytes: &Bytes, at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
