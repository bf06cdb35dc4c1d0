//! A batch with its place in a log.

use std::hash::{Hash, Hasher};

use base_types::{LeaderEpoch, Offset, Timestamp};
use bytes::{Bytes, BytesMut};

use crate::crc::{self, CRC_START, crc32c};
use crate::header::{BatchHeader, HEADER_LEN, TimestampType};
use crate::produced::{BatchError, ProducedBatch};

/// A batch as it is stored: the header rewritten, the records by reference. Its CRC was verified (S3).
#[derive(Clone, Debug)]
pub struct StampedBatch {
    header: BatchHeader,
    head: [u8; HEADER_LEN],
    body: Bytes,
    /// Head and body in one piece, where they came so.
    whole: Option<Bytes>,
}

/// The same bytes, wherever they lie.
impl PartialEq for StampedBatch {
    fn eq(&self, other: &StampedBatch) -> bool {
        self.head == other.head && self.body == other.body
    }
}

/// The head holds the CRC of the body.
impl Hash for StampedBatch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.head.hash(state);
    }
}

impl StampedBatch {
    /// Gives the batch its base offset and the epoch of the leader that appends it. The CRC covers neither.
    pub fn stamp(batch: &ProducedBatch, base_offset: Offset, leader_epoch: LeaderEpoch) -> StampedBatch {
        StampedBatch::with_header(batch, BatchHeader { base_offset, leader_epoch, ..*batch.header() })
    }

    /// As [`StampedBatch::stamp`], with all records' time set to `now` (`message.timestamp.type=LogAppendTime`).
    pub fn stamp_with_log_append_time(
        batch: &ProducedBatch,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> StampedBatch {
        let header = batch.header();
        let attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        let header = BatchHeader { base_offset, leader_epoch, attributes, max_timestamp: now, ..*header };
        StampedBatch::with_header(batch, header)
    }

    /// A batch read back from a log or received from its leader. `bytes` must be that batch and nothing more.
    pub fn from_stored(bytes: Bytes) -> Result<StampedBatch, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.size() != bytes.len() {
            return Err(BatchError::Size { claimed: header.size(), have: bytes.len() });
        }
        let computed = crc32c(bytes.get(CRC_START..).unwrap_or_default());
        if computed != header.crc {
            return Err(BatchError::Crc { claimed: header.crc, computed });
        }
        let body = bytes.slice(HEADER_LEN..);
        Ok(StampedBatch { header, head: header.to_bytes(), body, whole: Some(bytes) })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// CRC-32C of all its bytes. Those that the batch's own CRC covers are not read: what happened to them since it was verified
    /// stays visible.
    pub fn crc32c_of_all(&self) -> u32 {
        let (before, covered) = self.head.split_at(CRC_START);
        crc::joined_crc32c(crc32c(before), self.header.crc, covered.len() + self.body.len())
    }

    /// The whole batch in bytes.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// Head and body, which follow each other in the log.
    pub fn pieces(&self) -> (&[u8; HEADER_LEN], &Bytes) {
        (&self.head, &self.body)
    }

    /// In one piece: a copy, except for a batch that came from storage.
    pub fn to_bytes(&self) -> Bytes {
        match &self.whole {
            Some(whole) => whole.clone(),
            None => {
                let mut bytes = BytesMut::with_capacity(self.size());
                bytes.extend_from_slice(&self.head);
                bytes.extend_from_slice(&self.body);
                bytes.freeze()
            }
        }
    }

    fn with_header(batch: &ProducedBatch, mut header: BatchHeader) -> StampedBatch {
        let body = batch.body();
        let mut head = header.to_bytes();
        let received = batch.head();
        if head[CRC_START..] != received[CRC_START..] {
            header.crc = crc::corrected(header.crc, received, &head, body.len());
            head = header.to_bytes();
        }
        StampedBatch { header, head, body, whole: None }
    }
}
