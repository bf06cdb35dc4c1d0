//! A message as protobuf: a small header, and a payload that is never copied on its way out.
//!
//! Every message of a stream has its payload in field 15, its last. The header is encoded as protobuf does it; key and length
//! of the payload follow, and then the payload's pieces as they are. The result is byte for byte what a plain encoder makes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

use crate::chunks::Chunks;
use crate::limits;

/// Number of the payload field in every message that has one.
const PAYLOAD_FIELD: u32 = 15;

/// A message that can cross a connection.
pub(crate) trait Wire: Sized + Send + 'static {
    /// The generated protobuf message; its payload field is left empty.
    type Header: Message + Default;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> Self::Header;

    /// The message and its trace context, which is empty when it has none.
    fn decode(header: Self::Header, payload: Payload) -> Result<(Self, String), Malformed>;
}

/// The payload of a message to be sent: pieces by reference.
#[derive(Default)]
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
}

/// The payload of a received message: cut off piece by piece, as the header says.
#[derive(Default)]
pub(crate) struct Payload(Chunks);

/// Bytes that are not the message they should be.
#[derive(Debug)]
pub(crate) enum Malformed {
    Protobuf(prost::DecodeError),
    /// A compressed message: nobody was told that they may.
    Compressed,
    TooLarge {
        size: usize,
        max: usize,
    },
    Missing(&'static str),
    Unknown {
        field: &'static str,
        value: i64,
    },
    OutOfRange {
        field: &'static str,
        value: i64,
    },
    /// The lengths in the header do not add up to the payload.
    Payload {
        claimed: usize,
        left: usize,
    },
    Batch(record_batch::BatchError),
    Records(peer_api::metadata::codec::DecodeError),
    Metadata(&'static str),
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push(piece);
    }
}

impl Payload {
    pub(crate) fn take(&mut self, len: u32) -> Result<Bytes, Malformed> {
        let left = self.0.len();
        let taken = self.0.cut(len as usize).ok_or(Malformed::Payload { claimed: len as usize, left })?;
        Ok(taken.into_bytes())
    }

    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0).into_bytes()
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.0.len() == 0 { Ok(()) } else { Err(Malformed::Payload { claimed: 0, left: self.0.len() }) }
    }
}

/// Where encoded bytes go: gathered while small, by reference when large.
pub(crate) trait Sink {
    /// Where to write next, with room for `len` bytes.
    fn buffer(&mut self, len: usize) -> &mut BytesMut;
    fn piece(&mut self, piece: Bytes);
}

/// Writes one gRPC message: flag, length, header, payload. `pieces` is scratch space and left empty.
pub(crate) fn encode<T: Wire>(
    message: T,
    traceparent: Option<Box<str>>,
    pieces: &mut Pieces,
    sink: &mut impl Sink,
) -> Result<(), Malformed> {
    let header = message.encode(traceparent.map(String::from).unwrap_or_default(), pieces);
    let header_len = header.encoded_len();
    let mut size = header_len;
    if pieces.len > 0 {
        size += encoding::key_len(PAYLOAD_FIELD) + encoding::encoded_len_varint(pieces.len as u64) + pieces.len;
    }
    if size > limits::MESSAGE_BYTES_MAX || header_len > limits::HEADER_BYTES_MAX {
        *pieces = Pieces::default();
        return Err(Malformed::TooLarge { size, max: limits::MESSAGE_BYTES_MAX });
    }
    // Prefix, header, key and length of the payload.
    let buffer = sink.buffer(5 + header_len + 16);
    buffer.put_u8(0);
    buffer.put_u32(size as u32);
    header.encode_raw(buffer);
    if pieces.len > 0 {
        encoding::encode_key(PAYLOAD_FIELD, WireType::LengthDelimited, buffer);
        encoding::encode_varint(pieces.len as u64, buffer);
    }
    pieces.pieces.drain(..).for_each(|piece| sink.piece(piece));
    pieces.len = 0;
    Ok(())
}

/// Cuts the next gRPC message off what was received and decodes it; `None` while it is not all there.
pub(crate) fn decode<T: Wire>(received: &mut Chunks) -> Result<Option<(T, String)>, Malformed> {
    let Some([flag, length @ ..]) = received.peek::<5>() else { return Ok(None) };
    if flag != 0 {
        return Err(Malformed::Compressed);
    }
    let size = u32::from_be_bytes(length) as usize;
    if size > limits::MESSAGE_BYTES_MAX {
        return Err(Malformed::TooLarge { size, max: limits::MESSAGE_BYTES_MAX });
    }
    if received.len() - 5 < size {
        return Ok(None);
    }
    received.advance(5);
    let message = received.cut(size).unwrap_or_default();
    let (header, payload) = split(message)?;
    T::decode(T::Header::decode(header)?, Payload(payload)).map(Some)
}

/// Parts the payload from the rest. Protobuf allows fields in any order and more than once (the last one counts).
fn split(message: Chunks) -> Result<(Bytes, Chunks), Malformed> {
    let mut raw = message.clone();
    let mut ahead = message;
    let mut header: Option<Bytes> = None;
    let mut payload = Chunks::default();
    loop {
        let start = ahead.len();
        let mut header_end = start;
        let mut found = None;
        while ahead.has_remaining() {
            header_end = ahead.len();
            let (field, wire_type) = encoding::decode_key(&mut ahead)?;
            if field == PAYLOAD_FIELD && wire_type == WireType::LengthDelimited {
                let length = encoding::decode_varint(&mut ahead)?;
                found = Some((ahead.len(), length));
                break;
            }
            encoding::skip_field(wire_type, field, &mut ahead, DecodeContext::default())?;
            header_end = ahead.len();
        }
        let run = raw.cut(start - header_end).unwrap_or_default();
        let size = header.as_ref().map_or(0, Bytes::len) + run.len();
        if size > limits::HEADER_BYTES_MAX {
            return Err(Malformed::TooLarge { size, max: limits::HEADER_BYTES_MAX });
        }
        header = Some(match header {
            Some(first) if run.len() > 0 => [&first[..], &run.into_bytes()].concat().into(),
            Some(first) => first,
            None => run.into_bytes(),
        });
        let Some((left, length)) = found else { return Ok((header.unwrap_or_default(), payload)) };
        raw.advance(header_end - left);
        let claimed = usize::try_from(length).unwrap_or(usize::MAX);
        payload = raw.cut(claimed).ok_or(Malformed::Payload { claimed, left })?;
        ahead.advance(claimed);
    }
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Malformed {
        Malformed::Protobuf(error)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Protobuf(error) => error.fmt(f),
            Malformed::Compressed => f.write_str("a compressed message, which was not offered"),
            Malformed::TooLarge { size, max } => write!(f, "a message of {size} bytes, where {max} are allowed"),
            Malformed::Missing(field) => write!(f, "{field} is missing"),
            Malformed::Unknown { field, value } => write!(f, "{field} has the unknown value {value}"),
            Malformed::OutOfRange { field, value } => write!(f, "{field} is out of range: {value}"),
            Malformed::Payload { claimed, left } => {
                write!(f, "the header claims {claimed} bytes of payload where {left} are left")
            }
            Malformed::Batch(error) => error.fmt(f),
            Malformed::Records(error) => error.fmt(f),
            Malformed::Metadata(key) => write!(f, "the call's metadata lacks a number under {key:?}"),
        }
    }
}

impl std::error::Error for Malformed {}
