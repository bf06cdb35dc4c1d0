//! The 61 bytes in front of a batch's records.

use std::fmt;

use base_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Base offset and length: the bytes that `length` does not count.
pub const LOG_OVERHEAD: usize = 12;

/// The only format there is: Kafka 4 neither accepts nor stores the message formats 0 and 1 (KIP-724).
const MAGIC: u8 = 2;
const MAGIC_AT: usize = 16;
const LENGTH_MIN: i32 = (HEADER_LEN - LOG_OVERHEAD) as i32;
/// The smallest length that Kafka takes for a message of any format (`LegacyRecord.RECORD_OVERHEAD_V0`).
const LEGACY_LENGTH_MIN: i32 = 14;

/// A batch's header. Every value is possible that [`BatchHeader::parse`] does not refuse; what else must hold depends on
/// where the batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// As on the wire: the bytes after the length field, at least 49.
    pub length: i32,
    /// Of the leader that appended the batch; a produced batch has anything here.
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: Attributes,
    /// Never negative. Compaction keeps it when it removes the last records (KAFKA-5443).
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    /// Never negative, and at most `last_offset_delta + 1`.
    pub record_count: i32,
}

/// The flags of a batch.
///
/// ```text
///   0-2 compression   3 timestamp type   4 transactional   5 control   6 delete horizon (KIP-534)   7-15 unused
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// Who gave the records their timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    /// All records have the batch's max timestamp.
    LogAppendTime,
}

/// Bytes are not the header of a v2 batch. Definite: nothing was done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header has. At the end of a log: a torn write.
    Incomplete {
        have: usize,
    },
    /// A length that cannot hold a header.
    LengthTooSmall {
        length: i32,
    },
    /// A message of format 0 or 1.
    OldMagic {
        magic: i8,
    },
    UnknownMagic {
        magic: i8,
    },
    /// Offsets or record counts that no log could hold.
    OffsetRange {
        base_offset: Offset,
        last_offset_delta: i32,
        record_count: i32,
    },
}

/// A compression code that Kafka does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCompression {
    pub code: u8,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end anywhere behind it.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, HeaderError> {
        // Length and magic come first: a message of an old format may be shorter than our header and is refused by name.
        let incomplete = HeaderError::Incomplete { have: bytes.len() };
        let length = bytes.get(8..LOG_OVERHEAD).and_then(|b| b.first_chunk()).map(|b| i32::from_be_bytes(*b));
        let length = length.ok_or(incomplete)?;
        if length < LEGACY_LENGTH_MIN {
            return Err(HeaderError::LengthTooSmall { length });
        }
        match *bytes.get(MAGIC_AT).ok_or(incomplete)? {
            MAGIC => {}
            magic @ (0 | 1) => return Err(HeaderError::OldMagic { magic: magic as i8 }),
            magic => return Err(HeaderError::UnknownMagic { magic: magic as i8 }),
        }
        if length < LENGTH_MIN {
            return Err(HeaderError::LengthTooSmall { length });
        }
        let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(incomplete)?;
        let header = BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(head, 0))),
            length,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(head, 12))),
            crc: u32::from_be_bytes(field(head, 17)),
            attributes: Attributes(i16::from_be_bytes(field(head, 21))),
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(head, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(head, 35))),
            producer_id: ProducerId(i64::from_be_bytes(field(head, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(head, 51))),
            base_sequence: Sequence(i32::from_be_bytes(field(head, 53))),
            record_count: i32::from_be_bytes(field(head, 57)),
        };
        if header.has_possible_offsets() {
            Ok(header)
        } else {
            Err(HeaderError::OffsetRange {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
                record_count: header.record_count,
            })
        }
    }

    /// The whole batch in bytes, header and all.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.length as usize
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset of the batch that follows.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// The sequence of the last record; [`Sequence::NONE`] where there is none.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 { Sequence::NONE } else { self.base_sequence.plus(self.last_offset_delta) }
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// The inverse of [`BatchHeader::parse`].
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut head = [0; HEADER_LEN];
        put(&mut head, 0, self.base_offset.0.to_be_bytes());
        put(&mut head, 8, self.length.to_be_bytes());
        put(&mut head, 12, self.leader_epoch.0.to_be_bytes());
        put(&mut head, MAGIC_AT, [MAGIC]);
        put(&mut head, 17, self.crc.to_be_bytes());
        put(&mut head, 21, self.attributes.0.to_be_bytes());
        put(&mut head, 23, self.last_offset_delta.to_be_bytes());
        put(&mut head, 27, self.base_timestamp.0.to_be_bytes());
        put(&mut head, 35, self.max_timestamp.0.to_be_bytes());
        put(&mut head, 43, self.producer_id.0.to_be_bytes());
        put(&mut head, 51, self.producer_epoch.0.to_be_bytes());
        put(&mut head, 53, self.base_sequence.0.to_be_bytes());
        put(&mut head, 57, self.record_count.to_be_bytes());
        head
    }

    fn has_possible_offsets(&self) -> bool {
        let span = i64::from(self.last_offset_delta) + 1;
        self.base_offset.0 >= 0
            && self.last_offset_delta >= 0
            && self.base_offset.0.checked_add(span).is_some()
            && (0..=span).contains(&i64::from(self.record_count))
    }
}

fn field<const N: usize>(head: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&head[at..at + N]);
    field
}

fn put<const N: usize>(head: &mut [u8; HEADER_LEN], at: usize, field: [u8; N]) {
    head[at..at + N].copy_from_slice(&field);
}

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    pub fn new(compression: Compression) -> Attributes {
        Attributes(compression as i16)
    }

    pub fn compression(self) -> Result<Compression, UnknownCompression> {
        Compression::from_code((self.0 & Self::COMPRESSION) as u8)
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    pub fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Whether the records are markers for consumers and not data.
    pub fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp is instead the time at which the cleaner may drop tombstones (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with(Self::CONTROL, control)
    }

    fn has(self, flag: i16) -> bool {
        self.0 & flag != 0
    }

    fn with(self, flag: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | flag } else { self.0 & !flag })
    }
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    pub fn from_code(code: u8) -> Result<Compression, UnknownCompression> {
        Self::ALL.get(usize::from(code)).copied().ok_or(UnknownCompression { code })
    }

    /// The name in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl HeaderError {
    /// What Kafka 4.3 tells a producer that sends such bytes. Old formats are an invalid record (`ProduceRequest
    /// .validateRecords`), and so is a batch that is not all there: to Kafka it is none at all.
    pub fn code(&self) -> ErrorCode {
        match self {
            HeaderError::Incomplete { .. } | HeaderError::OldMagic { .. } | HeaderError::OffsetRange { .. } => {
                ErrorCode::InvalidRecord
            }
            HeaderError::LengthTooSmall { .. } | HeaderError::UnknownMagic { .. } => ErrorCode::CorruptMessage,
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Incomplete { have } => {
                write!(f, "{have} bytes are too few for the {HEADER_LEN} of a batch header")
            }
            HeaderError::LengthTooSmall { length } => {
                write!(f, "batch length {length} is smaller than the {LENGTH_MIN} that a header alone takes")
            }
            HeaderError::OldMagic { magic } => write!(f, "message format {magic} is not supported; the only one is 2"),
            HeaderError::UnknownMagic { magic } => write!(f, "there is no message format {magic}"),
            HeaderError::OffsetRange { base_offset, last_offset_delta, record_count } => write!(
                f,
                "impossible offsets: base {base_offset}, last offset delta {last_offset_delta}, {record_count} records"
            ),
        }
    }
}

impl std::error::Error for HeaderError {}

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no compression code {}", self.code)
    }
}

impl std::error::Error for UnknownCompression {}
