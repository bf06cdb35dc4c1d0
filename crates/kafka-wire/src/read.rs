//! A cursor over one received frame, and every defence against what may be in it.
//!
//! Each method reads one wire type. `flexible` chooses between the two length encodings: fixed width, or Kafka's compact
//! form (an unsigned varint holding length + 1, zero for null).
//!
//! Invariants: no method panics; nothing is allocated on the word of a length alone (see [`Reader::array`]); slices share
//! the frame.

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, KafkaString, Records, Uuid};

type Result<T> = std::result::Result<T, DecodeError>;

/// Longest string Kafka writes or reads, in either length encoding.
pub(crate) const STRING_LENGTH_MAX: usize = i16::MAX as usize;

#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    /// Always within the frame.
    offset: usize,
}

impl Reader {
    pub fn new(frame: Bytes) -> Self {
        Self { frame, offset: 0 }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.offset
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    /// For callers who want a frame to hold its message and nothing else. Kafka's brokers do not insist.
    pub fn expect_end(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(self.error(DecodeErrorKind::TrailingBytes { count })),
        }
    }

    pub(crate) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset: self.offset, kind }
    }

    pub(crate) fn unexpected_null(&self) -> DecodeError {
        self.error(DecodeErrorKind::UnexpectedNull)
    }

    /// Refuses versions outside of `valid` (inclusive).
    pub(crate) fn check_version(&self, message: &'static str, version: i16, valid: (i16, i16)) -> Result<()> {
        if version < valid.0 || version > valid.1 {
            return Err(self.error(DecodeErrorKind::UnsupportedVersion { message, version }));
        }
        Ok(())
    }

    // - fixed width -

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.frame.get(self.offset..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.offset += N;
                Ok(*bytes)
            }
            None => Err(self.error(DecodeErrorKind::UnexpectedEnd { needed: N, remaining: self.remaining() })),
        }
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn f64(&mut self) -> Result<f64> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        self.fixed().map(Uuid)
    }

    // - variable width -

    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeErrorKind::VarintTooLong))
    }

    fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Like Kafka, takes any negative length for null.
    fn short_length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible { self.compact_length() } else { Ok(usize::try_from(self.i16()?).ok()) }
    }

    fn length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible { self.compact_length() } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    fn slice(&mut self, length: usize) -> Result<Bytes> {
        if length > self.remaining() {
            return Err(self.error(DecodeErrorKind::UnexpectedEnd { needed: length, remaining: self.remaining() }));
        }
        let slice = self.frame.slice(self.offset..self.offset + length);
        self.offset += length;
        Ok(slice)
    }

    pub fn opt_string(&mut self, flexible: bool) -> Result<Option<KafkaString>> {
        let Some(length) = self.short_length(flexible)? else { return Ok(None) };
        if length > STRING_LENGTH_MAX {
            return Err(self.error(DecodeErrorKind::StringTooLong { length }));
        }
        match KafkaString::from_utf8(self.slice(length)?) {
            None => Err(self.error(DecodeErrorKind::InvalidUtf8)),
            text => Ok(text),
        }
    }

    pub fn string(&mut self, flexible: bool) -> Result<KafkaString> {
        self.opt_string(flexible)?.ok_or_else(|| self.unexpected_null())
    }

    pub fn opt_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        match self.length(flexible)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes> {
        self.opt_bytes(flexible)?.ok_or_else(|| self.unexpected_null())
    }

    pub fn opt_records(&mut self, flexible: bool) -> Result<Option<Records>> {
        Ok(self.opt_bytes(flexible)?.map(Records::from))
    }

    pub fn records(&mut self, flexible: bool) -> Result<Records> {
        self.bytes(flexible).map(Records::from)
    }

    // - composite -

    /// An array whose elements take at least `element_size_min` (≥ 1) bytes each on the wire.
    ///
    /// The count is first compared with the bytes that remain. Room for all elements at once is made only when that is no
    /// more than the bytes that remain; otherwise it doubles as elements are read. So a frame that claims a million elements
    /// and holds three costs memory for three.
    pub fn opt_array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        let needed = count.saturating_mul(element_size_min.max(1));
        if needed > self.remaining() {
            return Err(self.error(DecodeErrorKind::UnexpectedEnd { needed, remaining: self.remaining() }));
        }
        let affordable = self.remaining() / size_of::<T>().max(1);
        let mut elements = Vec::with_capacity(count.min(affordable));
        for done in 0..count {
            if done == elements.capacity() {
                elements.reserve_exact((count - done).min(done.max(1)));
            }
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.opt_array(flexible, element_size_min, read)?.ok_or_else(|| self.unexpected_null())
    }

    /// A struct preceded by a byte that is negative for null.
    pub fn opt_struct<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.i8()? < 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// The section that ends every flexible struct. `read` takes the content of the tags it knows and returns true; the
    /// content of all others is skipped.
    pub fn tagged_fields(&mut self, mut read: impl FnMut(&mut Self, u32) -> Result<bool>) -> Result<()> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            if size > self.remaining() {
                return Err(self.error(DecodeErrorKind::UnexpectedEnd { needed: size, remaining: self.remaining() }));
            }
            let start = self.offset;
            if !read(self, tag)? {
                self.offset = start + size;
            }
            let read = self.offset - start;
            if read != size {
                return Err(self.error(DecodeErrorKind::TaggedFieldSize { tag, size, read }));
            }
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<()> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn varint_of_more_than_32_bits_is_refused() {
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint(), Ok(u32::MAX));
        for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x10][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] {
            let kind = Reader::new(Bytes::from_static(bytes)).unsigned_varint().unwrap_err().kind;
            assert_eq!(kind, DecodeErrorKind::VarintTooLong);
        }
    }

    #[test]
    fn count_beyond_the_frame_is_refused_before_any_element_is_read() {
        let mut r = reader(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let kind = r.array(false, 4, |_| -> Result<i32> { unreachable!() }).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::UnexpectedEnd { needed: 4 * 0x7fff_ffff, remaining: 4 });
    }

    #[test]
    fn null_is_refused_where_it_is_not_allowed() {
        assert_eq!(reader(&[0xff, 0xff]).opt_string(false), Ok(None));
        assert_eq!(reader(&[0xff, 0xff]).string(false).unwrap_err().kind, DecodeErrorKind::UnexpectedNull);
        assert_eq!(reader(&[0]).bytes(true).unwrap_err().kind, DecodeErrorKind::UnexpectedNull);
    }

    #[test]
    fn unknown_tagged_field_is_skipped_and_known_one_must_fill_its_size() {
        let mut r = reader(&[2, 9, 3, 1, 2, 3, 0, 2, 0x12, 0x34, 0x77]);
        let mut seen = None;
        r.tagged_fields(|r, tag| {
            if tag == 0 {
                seen = Some(r.i16()?);
            }
            Ok(tag == 0)
        })
        .unwrap();
        assert_eq!((seen, r.remaining()), (Some(0x1234), 1));

        let kind = reader(&[1, 0, 2, 0x12, 0x34]).tagged_fields(|r, _| r.i8().map(|_| true)).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::TaggedFieldSize { tag: 0, size: 2, read: 1 });
    }

    #[test]
    fn byte_fields_share_the_memory_of_their_frame() {
        let frame = Bytes::from(vec![0, 0, 0, 2, 7, 8]);
        let field = Reader::new(frame.clone()).bytes(false).unwrap();
        assert_eq!(field.as_ptr(), frame.slice(4..).as_ptr());
    }
}
