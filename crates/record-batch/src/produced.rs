//! The check of a batch that a client sent.

use std::fmt;

use base_types::{ErrorCode, Offset};
use bytes::Bytes;

use crate::crc::{CRC_START, crc32c};
use crate::header::{BatchHeader, Compression, HEADER_LEN, HeaderError, UnknownCompression};

/// What a topic and a request allow a batch to be.
#[derive(Clone, Debug)]
pub struct BatchLimits {
    /// `max.message.bytes`: the largest batch, header and all, as sent.
    pub max_message_bytes: usize,
    /// Whether the request's version knows zstd (Produce v7, KIP-110).
    pub zstd: bool,
}

impl Default for BatchLimits {
    /// Kafka's defaults, for a request of a current version.
    fn default() -> BatchLimits {
        BatchLimits { max_message_bytes: 1024 * 1024 + 12, zstd: true }
    }
}

/// One checked batch as received from a client, still unstamped, by reference.
#[derive(Clone, Debug)]
pub struct ProducedBatch {
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
    MoreThanOneBatch { trailing: usize },
    /// Fewer or more bytes than the header claims.
    Size { claimed: usize, have: usize },
    TooLarge { size: usize, max: usize },
    Crc { claimed: u32, computed: u32 },
    Compression(UnknownCompression),
    /// zstd in a Produce request older than version 7.
    ZstdTooEarly,
    /// Clients number a batch's records from 0.
    BaseOffset { base_offset: Offset },
    /// A count of records that is not the span of offsets, or none.
    RecordCount { record_count: i32, last_offset_delta: i32 },
    Control,
    /// Producer id, epoch and sequence do not go together.
    Producer { header: Box<BatchHeader> },
}

impl ProducedBatch {
    /// Checks the one batch that a Produce request has for a partition.
    pub fn check(bytes: Bytes, limits: &BatchLimits) -> Result<ProducedBatch, BatchError> {
        if bytes.is_empty() {
            return Err(BatchError::Empty);
        }
        let header = BatchHeader::parse(&bytes)?;
        let size = header.size();
        if bytes.len() < size {
            return Err(BatchError::Size { claimed: size, have: bytes.len() });
        }
        if let Compression::Zstd = header.attributes.compression()?
            && !limits.zstd
        {
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
        let computed = crc32c(bytes.get(CRC_START..).unwrap_or_default());
        if computed != header.crc {
            return Err(BatchError::Crc { claimed: header.crc, computed });
        }
        if header.record_count == 0 || i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(BatchError::RecordCount {
                record_count: header.record_count,
                last_offset_delta: header.last_offset_delta,
            });
        }
        if header.attributes.is_control() {
            return Err(BatchError::Control);
        }
        let numbered = header.producer_epoch.0 >= 0 && header.base_sequence.0 >= 0;
        if header.has_producer_id() != numbered && (header.has_producer_id() || header.attributes.is_transactional()) {
            return Err(BatchError::Producer { header: Box::new(header) });
        }
        Ok(ProducedBatch { header, bytes })
    }

    /// The batches of a Produce request's partition, of which Kafka allows exactly one since Produce v3.
    pub fn split_all(records: Bytes, limits: &BatchLimits) -> Result<Vec<ProducedBatch>, BatchError> {
        ProducedBatch::check(records, limits).map(|batch| vec![batch])
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

impl BatchError {
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::Header(error) => error.code(),
            BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::Compression(_) | BatchError::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
            BatchError::Empty
            | BatchError::MoreThanOneBatch { .. }
            | BatchError::Size { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::RecordCount { .. }
            | BatchError::Control
            | BatchError::Producer { .. } => ErrorCode::InvalidRecord,
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
            BatchError::Producer { header } => write!(
                f,
                "producer id {}, epoch {}, sequence {} and transactional={} do not go together",
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.attributes.is_transactional()
            ),
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
