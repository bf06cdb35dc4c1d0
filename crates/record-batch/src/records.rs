//! The records of a batch, one after the other.

use std::fmt;

use base_types::Timestamp;
use bytes::Bytes;

use crate::compression::{DecompressError, decompress};
use crate::header::{BatchHeader, Compression, TimestampType, UnknownCompression};
use crate::produced::ProducedBatch;
use crate::record::{RawRecord, Record, RecordDamage};
use crate::stamped::StampedBatch;

/// Reads the records of one batch. Zero copy where the batch is not compressed, else one bounded block.
///
/// After an error there are no more records.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    block: Bytes,
    /// How far the block was read.
    position: usize,
    /// How many records were read.
    index: i32,
}

/// A batch's records cannot be read. The same bytes never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordsError {
    Compression(UnknownCompression),
    Decompress(DecompressError),
    /// The record with this index in the batch is damaged.
    Record {
        index: i32,
        damage: RecordDamage,
    },
    /// Bytes follow the last record.
    Trailing {
        bytes: usize,
    },
}

impl Records {
    /// Starts reading the records behind `header`. `decompressed_bytes_max` bounds what a compressed block may become.
    pub fn read(header: &BatchHeader, body: Bytes, decompressed_bytes_max: usize) -> Result<Records, RecordsError> {
        let block = match header.attributes.compression().map_err(RecordsError::Compression)? {
            Compression::None => body,
            // A batch that compaction emptied has no block at all.
            _ if header.record_count == 0 => Bytes::new(),
            compression => {
                let block = decompress(compression, &body, decompressed_bytes_max);
                Bytes::from(block.map_err(RecordsError::Decompress)?)
            }
        };
        Ok(Records { header: *header, block, position: 0, index: 0 })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.block.get(self.position..)?;
        if self.index >= self.header.record_count {
            self.position = usize::MAX;
            return if rest.is_empty() { None } else { Some(Err(RecordsError::Trailing { bytes: rest.len() })) };
        }
        let index = self.index;
        self.index += 1;
        match RawRecord::take(&mut rest) {
            Ok(raw) => {
                self.position = self.block.len() - rest.len();
                Some(Ok(Record {
                    offset: self.header.base_offset.plus(i64::from(raw.offset_delta)),
                    timestamp: timestamp(&self.header, raw.timestamp_delta),
                    key: raw.key.map(|key| self.block.slice_ref(key)),
                    value: raw.value.map(|value| self.block.slice_ref(value)),
                    headers: raw.headers(&self.block),
                }))
            }
            Err(damage) => {
                self.position = usize::MAX;
                Some(Err(RecordsError::Record { index, damage }))
            }
        }
    }
}

impl ProducedBatch {
    /// The records, with offsets counted from 0.
    pub fn records(&self, decompressed_bytes_max: usize) -> Result<Records, RecordsError> {
        Records::read(self.header(), self.body(), decompressed_bytes_max)
    }
}

impl StampedBatch {
    pub fn records(&self, decompressed_bytes_max: usize) -> Result<Records, RecordsError> {
        let (_, body) = self.pieces();
        Records::read(self.header(), body.clone(), decompressed_bytes_max)
    }
}

/// The time of a record in its batch. Wraps as Java does, so that all readers see the same nonsense in nonsense.
pub(crate) fn timestamp(header: &BatchHeader, delta: i64) -> Timestamp {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => Timestamp(header.base_timestamp.0.wrapping_add(delta)),
    }
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordsError::Compression(error) => error.fmt(f),
            RecordsError::Decompress(error) => error.fmt(f),
            RecordsError::Record { index, damage } => write!(f, "record {index} is damaged: {damage}"),
            RecordsError::Trailing { bytes } => write!(f, "{bytes} bytes follow the last record"),
        }
    }
}

impl std::error::Error for RecordsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, HEADER_LEN};

    fn two_records() -> (BatchHeader, Bytes) {
        let now = Timestamp(1_700_000_000_000);
        let bytes = BatchBuilder::new(Compression::None)
            .record(Some(b"k"), Some(b"v"), &[], now)
            .record(None, None, &[], now)
            .build()
            .unwrap();
        (BatchHeader::parse(&bytes).unwrap(), bytes.slice(HEADER_LEN..))
    }

    fn read(header: &BatchHeader, body: Bytes) -> Vec<Result<Record, RecordsError>> {
        Records::read(header, body, 1000).unwrap().collect()
    }

    #[test]
    fn bytes_behind_the_last_record_are_reported_once() {
        let (header, body) = two_records();
        let longer = Bytes::from([&body, &[0, 0][..]].concat());
        let records = read(&header, longer);
        assert_eq!(records.len(), 3);
        assert_eq!(records[2], Err(RecordsError::Trailing { bytes: 2 }));
    }

    #[test]
    fn there_are_no_records_after_a_damaged_one() {
        let (header, body) = two_records();
        let shorter = body.slice(..body.len() - 1);
        let records = read(&header, shorter);
        assert_eq!(records.len(), 2);
        assert_eq!(records[1], Err(RecordsError::Record { index: 1, damage: RecordDamage::Truncated }));
    }

    #[test]
    fn records_refer_to_the_batch_and_copy_nothing() {
        let (header, body) = two_records();
        let records = read(&header, body.clone());
        let value = records[0].as_ref().unwrap().value.as_ref().unwrap();
        assert!(body.as_ptr_range().contains(&value.as_ptr()));
    }
}
