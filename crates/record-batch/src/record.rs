//! One record: bytes and back.
//!
//! ```text
//!   length varint | attributes 1 | timestamp delta varlong | offset delta varint
//!   | key length varint, key | value length varint, value | header count varint
//!   | ( key length varint, key | value length varint, value )*          lengths of -1 stand for null
//! ```

use std::fmt;

use base_types::{Offset, Timestamp};
use bytes::Bytes;

use crate::varint::{put_varint, put_varlong, take_varint, take_varlong};

/// A record with its place in the log. Key, value and headers refer to the batch's bytes (or to the decompressed block)
/// and keep them alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the order and with the repetitions that the client gave them.
    pub headers: Vec<RecordHeader>,
}

/// UTF-8 is expected of a key, and not checked: Kafka's own client replaces what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What is wrong with the bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordDamage {
    /// The bytes end inside the record.
    Truncated,
    /// A length or number that is no varint, or is out of range.
    Number,
    /// The fields take fewer bytes than the record's length says.
    Unused { bytes: usize },
}

/// A record by reference, with everything relative to its batch. What it refers to was checked to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: usize,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Takes one record off the front.
    #[inline(always)]
    pub fn take(bytes: &mut &'a [u8]) -> Result<RawRecord<'a>, RecordDamage> {
        let length = take_varint(bytes).ok_or(RecordDamage::Number)?;
        let length = usize::try_from(length).map_err(|_| RecordDamage::Number)?;
        let (mut record, behind) = bytes.split_at_checked(length).ok_or(RecordDamage::Truncated)?;
        let rest = &mut record;
        let (_attributes, fields) = rest.split_first().ok_or(RecordDamage::Truncated)?;
        *rest = fields;
        let timestamp_delta = take_varlong(rest).ok_or(RecordDamage::Number)?;
        let offset_delta = take_varint(rest).ok_or(RecordDamage::Number)?;
        let key = take_nullable(rest)?;
        let value = take_nullable(rest)?;
        let header_count = take_varint(rest).and_then(|n| usize::try_from(n).ok()).ok_or(RecordDamage::Number)?;
        let headers = *rest;
        for _ in 0..header_count {
            take_header(rest)?;
        }
        if !rest.is_empty() {
            return Err(RecordDamage::Unused { bytes: rest.len() });
        }
        *bytes = behind;
        Ok(RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers })
    }

    /// The headers; `owner` must be the bytes that the record was taken from.
    pub fn headers(&self, owner: &Bytes) -> Vec<RecordHeader> {
        let mut rest = self.headers;
        // Walked once already, so that the count is known to be true.
        let mut headers = Vec::with_capacity(self.header_count);
        while let Ok((key, value)) = take_header(&mut rest) {
            headers.push(RecordHeader { key: owner.slice_ref(key), value: value.map(|value| owner.slice_ref(value)) });
        }
        headers
    }
}

/// Appends a record in its encoded form.
pub(crate) fn put_record(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) {
    let mut fields = vec![0];
    put_varlong(&mut fields, timestamp_delta);
    put_varint(&mut fields, offset_delta);
    put_nullable(&mut fields, key);
    put_nullable(&mut fields, value);
    put_varlong(&mut fields, headers.len() as i64);
    for (key, value) in headers {
        put_nullable(&mut fields, Some(key.as_bytes()));
        put_nullable(&mut fields, *value);
    }
    put_varlong(out, fields.len() as i64);
    out.extend_from_slice(&fields);
}

#[inline(always)]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordDamage> {
    let length = take_varint(bytes).ok_or(RecordDamage::Number)?;
    // As in Kafka, every negative length is a null.
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let (field, rest) = bytes.split_at_checked(length).ok_or(RecordDamage::Truncated)?;
    *bytes = rest;
    Ok(Some(field))
}

#[inline]
fn take_header<'a>(bytes: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), RecordDamage> {
    let key = take_nullable(bytes)?.ok_or(RecordDamage::Number)?;
    Ok((key, take_nullable(bytes)?))
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(field) => {
            put_varlong(out, field.len() as i64);
            out.extend_from_slice(field);
        }
    }
}

impl fmt::Display for RecordDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordDamage::Truncated => f.write_str("it ends too early"),
            RecordDamage::Number => f.write_str("a number in it is malformed or out of range"),
            RecordDamage::Unused { bytes } => write!(f, "{bytes} of its bytes belong to no field"),
        }
    }
}
