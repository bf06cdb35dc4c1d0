//! What can be wrong with a frame (ours to refuse) and with a message (ours to fix).
//!
//! Neither is retriable: the same bytes fail again. A [`DecodeError`] on a connection means the two sides no longer agree
//! where messages begin, so the connection is closed. An [`EncodeError`] means the caller built a message which the version
//! it negotiated cannot express; nothing was sent.

use std::fmt;

/// A frame that is not a message of the version it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Position in the frame at which reading stopped.
    pub offset: usize,
    pub kind: DecodeErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The frame ends inside a field, or a length or count claims more than what is left of it.
    UnexpectedEnd {
        needed: usize,
        remaining: usize,
    },
    /// A null where the version allows none.
    UnexpectedNull,
    /// A string longer than the 32,767 bytes Kafka allows.
    StringTooLong {
        length: usize,
    },
    InvalidUtf8,
    /// A variable-length integer of more than 32 bits.
    VarintTooLong,
    /// A tagged field whose content is not as long as its size says.
    TaggedFieldSize {
        tag: u32,
        size: usize,
        read: usize,
    },
    UnknownApiKey {
        key: i16,
    },
    /// A version of this message that Kafka does not define.
    UnsupportedVersion {
        message: &'static str,
        version: i16,
    },
    /// The message ended before its frame did.
    TrailingBytes {
        count: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DecodeErrorKind::*;
        match self.kind {
            UnexpectedEnd { needed, remaining } => write!(f, "{needed} bytes claimed where {remaining} remain"),
            UnexpectedNull => write!(f, "null in a field that cannot be null"),
            StringTooLong { length } => write!(f, "string of {length} bytes"),
            InvalidUtf8 => write!(f, "string that is not UTF-8"),
            VarintTooLong => write!(f, "variable-length integer of more than 32 bits"),
            TaggedFieldSize { tag, size, read } => write!(f, "tagged field {tag} of size {size} held {read} bytes"),
            UnknownApiKey { key } => write!(f, "unknown API key {key}"),
            UnsupportedVersion { message, version } => write!(f, "{message} has no version {version}"),
            TrailingBytes { count } => write!(f, "{count} bytes after the end of the message"),
        }?;
        write!(f, " at byte {}", self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// A message that the requested version cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A version of this message that Kafka does not define.
    UnsupportedVersion { message: &'static str, version: i16 },
    /// A value other than the default in a field the version lacks and that may not be dropped.
    FieldNotInVersion { field: &'static str, version: i16 },
    /// A null where the version allows none.
    NullNotAllowed { field: &'static str, version: i16 },
    /// A string, byte field, array or frame longer than its length prefix can say.
    TooLong { length: usize },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion { message, version } => write!(f, "{message} has no version {version}"),
            Self::FieldNotInVersion { field, version } => write!(f, "{field} is set but version {version} lacks it"),
            Self::NullNotAllowed { field, version } => write!(f, "{field} is null, which version {version} forbids"),
            Self::TooLong { length } => write!(f, "length {length} does not fit its prefix"),
        }
    }
}

impl std::error::Error for EncodeError {}
