//! The check of a batch that a client sent.
//!
//! The header and the CRC are always checked. Records are walked where that costs next to nothing (no compression) or
//! where something depends on them; a compressed block is otherwise opaque.
//!
//! Deviation from Kafka: Kafka decompresses every batch; here the records of a compressed one are believed to be as many
//! and as old as the header says, unless [`BatchLimits::compressed_records`] asks for more. A header whose timestamps
//! cannot be right is not believed.
//!
//! Deviation from Kafka: refused here and accepted there are bytes behind the batch that are no whole batch (Kafka drops
//! them in silence), offset deltas that are not dense, a transactional batch without a producer id, and a producer id
//! with a negative epoch.

use std::fmt;

use base_types::{ErrorCode, Offset, Timestamp};
use bytes::Bytes;

use crate::compression::{DecompressError, decompress};
use crate::crc::{CRC_START, crc32c};
use crate::header::{BatchHeader, Compression, HEADER_LEN, HeaderError, TimestampType, UnknownCompression};
use crate::record::RawRecord;
use crate::records::{RecordsError, timestamp};

/// What a topic and a request allow a batch to be.
#[derive(Clone, Debug)]
pub struct BatchLimits {
    /// `max.message.bytes`: the largest batch, header and all, as sent.
    pub max_message_bytes: usize,
    /// Whether the request's version knows zstd (Produce v7, KIP-110).
    pub zstd: bool,
    pub timestamps: TimestampLimits,
    /// Whether every record needs a key: topics with `cleanup.policy=compact`.
    pub keys_required: bool,
    pub compressed_records: CompressedRecords,
    /// How large a compressed block may become where it has to be decompressed.
    pub decompressed_bytes_max: usize,
}

/// `message.timestamp.type` and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampLimits {
    /// Records keep their time, which must lie within these bounds. No time at all ([`Timestamp::NONE`]) always may.
    CreateTime { earliest: Timestamp, latest: Timestamp },
    /// Records are about to get the time of their append.
    LogAppendTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressedRecords {
    /// Believe the header, as long as it can be true.
    #[default]
    Trust,
    /// Decompress and check each record, as Kafka does.
    Check,
}

impl Default for BatchLimits {
    /// Kafka's defaults, for a request of a current version, without bounds on time.
    fn default() -> BatchLimits {
        BatchLimits {
            max_message_bytes: 1024 * 1024 + 12,
            zstd: true,
            timestamps: TimestampLimits::CreateTime { earliest: Timestamp(i64::MIN), latest: Timestamp(i64::MAX) },
            keys_required: false,
            compressed_records: CompressedRecords::Trust,
            decompressed_bytes_max: 64 << 20,
        }
    }
}

/// One checked batch as received from a client, still unstamped, by reference.
#[derive(Clone, Debug)]
pub struct ProducedBatch {
    /// As it is to be stored: differs from the bytes where the client got the max timestamp or its type wrong, which Kafka
    /// repairs too.
    header: BatchHeader,
    bytes: Bytes,
}

/// A batch is refused. Definite: nothing of it was kept. [`BatchError::code`] is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    Header(HeaderError),
    /// No batch at all.
    Empty,
    /// More bytes than the one batch that a partition may have in a Produce request.
    MoreThanOneBatch {
        trailing: usize,
    },
    /// Fewer or more bytes than the header claims.
    Size {
        claimed: usize,
        have: usize,
    },
    TooLarge {
        size: usize,
        max: usize,
    },
    Crc {
        claimed: u32,
        computed: u32,
    },
    Compression(UnknownCompression),
    /// zstd in a Produce request older than version 7.
    ZstdTooEarly,
    /// Clients number a batch's records from 0.
    BaseOffset {
        base_offset: Offset,
    },
    /// A count of records that is not the span of offsets, or none.
    RecordCount {
        record_count: i32,
        last_offset_delta: i32,
    },
    Control,
    /// Producer id, epoch and sequence do not go together.
    Producer(Box<BatchHeader>),
    Records(RecordsError),
    /// The record with this index does not have the offset that its place gives it.
    OffsetDelta {
        index: i32,
        offset_delta: i32,
    },
    /// Records with a time out of bounds, by index; none are listed where only the header was read.
    Timestamps {
        records: Vec<i32>,
    },
    /// The client claims that the broker gave the records their time.
    TimestampType,
    /// Records without a key where each needs one, by index.
    KeysMissing {
        records: Vec<i32>,
    },
}

impl ProducedBatch {
    /// Checks the one batch that a Produce request has for a partition.
    pub fn check(bytes: Bytes, limits: &BatchLimits) -> Result<ProducedBatch, BatchError> {
        let mut header = check_shape(&bytes, limits)?;
        let computed = crc32c(bytes.get(CRC_START..).unwrap_or_default());
        if computed != header.crc {
            return Err(BatchError::Crc { claimed: header.crc, computed });
        }
        check_fields(&header)?;
        check_timestamp_type(&header, limits)?;
        let body = bytes.get(HEADER_LEN..).unwrap_or_default();
        let max_timestamp = match header.attributes.compression()? {
            Compression::None => check_records(&header, body, limits)?,
            _ if may_trust(&header, limits) => check_claimed_timestamps(&header, limits)?,
            compression => {
                let max = limits.decompressed_bytes_max;
                let block = decompress(compression, body, max).map_err(RecordsError::Decompress)?;
                check_records(&header, &block, limits)?
            }
        };
        header.max_timestamp = max_timestamp;
        header.attributes = header.attributes.with_timestamp_type(TimestampType::CreateTime);
        Ok(ProducedBatch { header, bytes })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// As received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn head(&self) -> &[u8; HEADER_LEN] {
        self.bytes.first_chunk().expect("a checked batch has a header")
    }

    pub(crate) fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }
}

/// Everything that Kafka looks at before the CRC, in Kafka's order, so that a batch with two faults gets Kafka's code.
fn check_shape(bytes: &[u8], limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Empty);
    }
    let header = BatchHeader::parse(bytes)?;
    let size = header.size();
    if bytes.len() < size {
        return Err(BatchError::Size { claimed: size, have: bytes.len() });
    }
    if header.attributes.compression()? == Compression::Zstd && !limits.zstd {
        return Err(BatchError::ZstdTooEarly);
    }
    if bytes.len() > size {
        return Err(BatchError::MoreThanOneBatch { trailing: bytes.len() - size });
    }
    if header.base_offset != Offset::ZERO {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset });
    }
    if size > limits.max_message_bytes {
        return Err(BatchError::TooLarge { size, max: limits.max_message_bytes });
    }
    Ok(header)
}

fn check_fields(header: &BatchHeader) -> Result<(), BatchError> {
    let BatchHeader { record_count, last_offset_delta, .. } = *header;
    if record_count == 0 || i64::from(record_count) != i64::from(last_offset_delta) + 1 {
        return Err(BatchError::RecordCount { record_count, last_offset_delta });
    }
    if header.attributes.is_control() {
        return Err(BatchError::Control);
    }
    let is_numbered = header.producer_epoch.0 >= 0 && header.base_sequence.0 >= 0;
    let is_consistent = if header.has_producer_id() { is_numbered } else { !header.attributes.is_transactional() };
    if is_consistent { Ok(()) } else { Err(BatchError::Producer(Box::new(*header))) }
}

/// Where the broker gives the time, a client must not claim to be the broker. Elsewhere Kafka takes the claim back and
/// keeps the time, if there is one.
fn check_timestamp_type(header: &BatchHeader, limits: &BatchLimits) -> Result<(), BatchError> {
    let claimed = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    let stamped = limits.timestamps == TimestampLimits::LogAppendTime;
    if claimed && (stamped || header.max_timestamp == Timestamp::NONE) {
        return Err(BatchError::TimestampType);
    }
    Ok(())
}

/// Whether a compressed block may stay closed.
fn may_trust(header: &BatchHeader, limits: &BatchLimits) -> bool {
    let claims_can_be_true =
        limits.timestamps == TimestampLimits::LogAppendTime || header.max_timestamp >= header.base_timestamp;
    claims_can_be_true && !limits.keys_required && limits.compressed_records == CompressedRecords::Trust
}

/// Returns the max timestamp.
fn check_claimed_timestamps(header: &BatchHeader, limits: &BatchLimits) -> Result<Timestamp, BatchError> {
    if limits.timestamps.allow(header.base_timestamp) && limits.timestamps.allow(header.max_timestamp) {
        Ok(header.max_timestamp)
    } else {
        Err(BatchError::Timestamps { records: Vec::new() })
    }
}

/// Walks all records and returns the latest of their timestamps.
fn check_records(header: &BatchHeader, block: &[u8], limits: &BatchLimits) -> Result<Timestamp, BatchError> {
    let mut rest = block;
    let mut max_timestamp = Timestamp::NONE;
    let mut untimely = Vec::new();
    let mut keyless = Vec::new();
    for index in 0..header.record_count {
        let record = RawRecord::take(&mut rest).map_err(|damage| RecordsError::Record { index, damage })?;
        if record.offset_delta != index {
            return Err(BatchError::OffsetDelta { index, offset_delta: record.offset_delta });
        }
        let timestamp = timestamp(header, record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        if !limits.timestamps.allow(timestamp) {
            untimely.push(index);
        }
        if limits.keys_required && record.key.is_none() {
            keyless.push(index);
        }
    }
    if !rest.is_empty() {
        Err(RecordsError::Trailing { bytes: rest.len() }.into())
    } else if !untimely.is_empty() {
        Err(BatchError::Timestamps { records: untimely })
    } else if !keyless.is_empty() {
        Err(BatchError::KeysMissing { records: keyless })
    } else {
        Ok(max_timestamp)
    }
}

impl TimestampLimits {
    fn allow(self, timestamp: Timestamp) -> bool {
        match self {
            TimestampLimits::LogAppendTime => true,
            TimestampLimits::CreateTime { earliest, latest } => {
                timestamp == Timestamp::NONE || (earliest <= timestamp && timestamp <= latest)
            }
        }
    }
}

impl BatchError {
    /// What the client is told. As Kafka 4.3 does it, except where Kafka has no answer of its own: an unknown compression
    /// code and a block that cannot be decompressed end there as unknown server errors.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Header(error) => error.code(),
            BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            // The producer splits the batch and tries again.
            BatchError::TooLarge { .. }
            | BatchError::Records(RecordsError::Decompress(DecompressError::TooLarge { .. })) => {
                ErrorCode::MessageTooLarge
            }
            BatchError::Compression(_) | BatchError::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
            BatchError::Timestamps { .. } | BatchError::TimestampType => ErrorCode::InvalidTimestamp,
            BatchError::Empty
            | BatchError::MoreThanOneBatch { .. }
            | BatchError::Size { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::RecordCount { .. }
            | BatchError::Control
            | BatchError::Producer(_)
            | BatchError::Records(_)
            | BatchError::OffsetDelta { .. }
            | BatchError::KeysMissing { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The records at fault, by index in the batch, for the response's record errors (KIP-467). None: the whole batch.
    pub fn records_at_fault(&self) -> &[i32] {
        match self {
            BatchError::Timestamps { records } | BatchError::KeysMissing { records } => records,
            _ => &[],
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Header(error) => error.fmt(f),
            BatchError::Empty => f.write_str("there is no batch"),
            BatchError::MoreThanOneBatch { trailing } => {
                write!(f, "a partition may have one batch in a request, and {trailing} bytes follow it")
            }
            BatchError::Size { claimed, have } => write!(f, "the batch claims {claimed} bytes and {have} are there"),
            BatchError::TooLarge { size, max } => write!(f, "a batch of {size} bytes, where {max} are allowed"),
            BatchError::Crc { claimed, computed } => {
                write!(f, "the batch claims CRC {claimed:#010x}, its bytes have {computed:#010x}")
            }
            BatchError::Compression(error) => error.fmt(f),
            BatchError::ZstdTooEarly => f.write_str("zstd needs Produce version 7 or later"),
            BatchError::BaseOffset { base_offset } => write!(f, "the base offset must be 0 and is {base_offset}"),
            BatchError::RecordCount { record_count, last_offset_delta } => {
                write!(f, "{record_count} records do not fit a last offset delta of {last_offset_delta}")
            }
            BatchError::Control => f.write_str("clients must not write control batches"),
            BatchError::Producer(header) => write!(
                f,
                "producer id {}, epoch {}, sequence {} and transactional={} do not go together",
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.attributes.is_transactional()
            ),
            BatchError::Records(error) => error.fmt(f),
            BatchError::OffsetDelta { index, offset_delta } => {
                write!(f, "record {index} has the offset delta {offset_delta}")
            }
            BatchError::Timestamps { records } if records.is_empty() => {
                f.write_str("the batch has timestamps out of bounds")
            }
            BatchError::Timestamps { records } => write!(f, "{} records have timestamps out of bounds", records.len()),
            BatchError::TimestampType => f.write_str("producers must not set the timestamp type to LogAppendTime"),
            BatchError::KeysMissing { records } => {
                write!(f, "{} records have no key, which a compacted topic needs", records.len())
            }
        }
    }
}

impl std::error::Error for BatchError {}

impl From<HeaderError> for BatchError {
    fn from(error: HeaderError) -> BatchError {
        BatchError::Header(error)
    }
}

impl From<UnknownCompression> for BatchError {
    fn from(error: UnknownCompression) -> BatchError {
        BatchError::Compression(error)
    }
}

impl From<RecordsError> for BatchError {
    fn from(error: RecordsError) -> BatchError {
        BatchError::Records(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn one_record(compression: Compression, value_len: usize) -> Bytes {
        BatchBuilder::new(compression).record(Some(b"k"), Some(&vec![0; value_len]), &[], NOW).build().unwrap()
    }

    #[test]
    fn a_bomb_is_told_to_be_too_large_when_it_is_opened_and_kept_closed_otherwise() {
        let bomb = one_record(Compression::Gzip, 2 << 20);
        let trusting = BatchLimits { decompressed_bytes_max: 1 << 20, ..BatchLimits::default() };
        assert!(ProducedBatch::check(bomb.clone(), &trusting).is_ok());
        let checking = BatchLimits { compressed_records: CompressedRecords::Check, ..trusting };
        assert_eq!(ProducedBatch::check(bomb, &checking).unwrap_err().code(), ErrorCode::MessageTooLarge);
    }

    #[test]
    fn the_largest_batch_allowed_is_allowed() {
        let batch = one_record(Compression::None, 1000);
        let exactly = BatchLimits { max_message_bytes: batch.len(), ..BatchLimits::default() };
        assert!(ProducedBatch::check(batch.clone(), &exactly).is_ok());
        let less = BatchLimits { max_message_bytes: batch.len() - 1, ..exactly };
        let error = ProducedBatch::check(batch.clone(), &less).unwrap_err();
        assert_eq!(error, BatchError::TooLarge { size: batch.len(), max: batch.len() - 1 });
    }
}
