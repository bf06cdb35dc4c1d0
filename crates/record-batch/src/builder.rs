//! Making batches: for tools, tests, the simulator and the coordinators' own topics.

use std::fmt;

use base_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::{Bytes, BytesMut};

use crate::compression::compress;
use crate::crc::{CRC_START, crc32c};
use crate::header::{Attributes, BatchHeader, Compression, HEADER_LEN, LOG_OVERHEAD};
use crate::record::put_record;

/// Collects records and gives them back as one batch, as a client would send it.
///
/// ```
/// use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch};
/// use base_types::Timestamp;
///
/// let now = Timestamp(1_700_000_000_000);
/// let bytes = BatchBuilder::new(Compression::Zstd)
///     .record(Some(b"key"), Some(b"value"), &[("trace", None)], now)
///     .record(None, Some(b"another"), &[], now)
///     .build()
///     .unwrap();
/// let batch = ProducedBatch::check(bytes, &BatchLimits::default()).unwrap();
/// assert_eq!(batch.header().record_count, 2);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BatchBuilder {
    compression: Compression,
    attributes: Attributes,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: Producer,
    /// Uncompressed.
    records: Vec<u8>,
    record_count: usize,
    base_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
}

/// Who numbered a batch's records (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: Sequence,
}

/// Records do not make a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// No record was given.
    Empty,
    /// More bytes or records than a batch can count.
    TooLarge { bytes: usize, records: usize },
}

impl Producer {
    /// Neither idempotent nor transactional.
    pub const NONE: Producer =
        Producer { id: ProducerId::NONE, epoch: ProducerEpoch::NONE, base_sequence: Sequence::NONE };

    /// For control batches, which are not numbered.
    pub fn without_sequence(id: ProducerId, epoch: ProducerEpoch) -> Producer {
        Producer { id, epoch, base_sequence: Sequence::NONE }
    }
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            compression,
            attributes: Attributes::new(compression),
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::UNKNOWN,
            producer: Producer::NONE,
            records: Vec::new(),
            record_count: 0,
            base_timestamp: None,
            max_timestamp: Timestamp::NONE,
        }
    }

    pub fn producer(mut self, producer: Producer) -> BatchBuilder {
        self.producer = producer;
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes = self.attributes.with_transactional(true);
        self
    }

    pub fn control(mut self) -> BatchBuilder {
        self.attributes = self.attributes.with_control(true);
        self
    }

    pub fn base_offset(mut self, base_offset: Offset) -> BatchBuilder {
        self.base_offset = base_offset;
        self
    }

    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> BatchBuilder {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Adds a record. Header keys may repeat.
    pub fn record(
        mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Timestamp,
    ) -> BatchBuilder {
        self.push(key, value, headers, timestamp);
        self
    }

    /// As [`BatchBuilder::record`], for loops.
    pub fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Timestamp,
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.0.wrapping_sub(base.0);
        // A count beyond i32 is refused by `build`; until then the delta only has to be some number.
        let offset_delta = self.record_count as i32;
        put_record(&mut self.records, timestamp_delta, offset_delta, key, value, headers);
        self.record_count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The size of the batch without compression.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    pub fn build(self) -> Result<Bytes, BuildError> {
        let base_timestamp = self.base_timestamp.ok_or(BuildError::Empty)?;
        let body = match self.compression {
            Compression::None => self.records,
            compression => compress(compression, &self.records),
        };
        let too_large = BuildError::TooLarge { bytes: body.len(), records: self.record_count };
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            length: i32::try_from(HEADER_LEN - LOG_OVERHEAD + body.len()).map_err(|_| too_large)?,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: i32::try_from(self.record_count - 1).map_err(|_| too_large)?,
            base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: i32::try_from(self.record_count).map_err(|_| too_large)?,
        };
        let mut bytes = BytesMut::with_capacity(header.size());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&body);
        header.crc = crc32c(bytes.get(CRC_START..).unwrap_or_default());
        if let Some(head) = bytes.get_mut(..HEADER_LEN) {
            head.copy_from_slice(&header.to_bytes());
        }
        Ok(bytes.freeze())
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Empty => f.write_str("a batch needs at least one record"),
            BuildError::TooLarge { bytes, records } => {
                write!(f, "{records} records in {bytes} bytes are more than one batch can hold")
            }
        }
    }
}

impl std::error::Error for BuildError {}
