//! Output of one frame: small fields copied into one buffer, large slices kept by reference.
//!
//! Mirrors [`crate::Reader`] method by method. Lengths that their prefix cannot express are errors, never truncated.

use bytes::{BufMut, Bytes, BytesMut};

use crate::read::STRING_LENGTH_MAX;
use crate::{EncodeError, KafkaString, Records, Uuid};

type Result<T> = std::result::Result<T, EncodeError>;

/// From this length on, a slice goes out by reference: below it, copying is cheaper than one more entry in the vectored
/// write.
pub const BY_REFERENCE_LENGTH_MIN: usize = 4096;

/// Collects the parts of a frame; [`Writer::finish`] hands them over as slices in order.
#[derive(Debug, Default)]
pub struct Writer {
    copied: BytesMut,
    /// Slices by reference, each with the length of `copied` at its place.
    shared: Vec<(usize, Bytes)>,
    shared_length: usize,
}

impl Writer {
    /// A writer with room for `capacity` bytes of copied fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { copied: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Bytes written so far, by copy or by reference.
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_length
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The output as slices in order, none empty, for a vectored write. Copied parts share one allocation.
    pub fn finish(self) -> Vec<Bytes> {
        let copied = self.copied.freeze();
        let mut segments = Vec::with_capacity(self.shared.len() * 2 + 1);
        let mut done = 0;
        for (at, slice) in self.shared {
            if at > done {
                segments.push(copied.slice(done..at));
            }
            segments.push(slice);
            done = at;
        }
        if copied.len() > done {
            segments.push(copied.slice(done..));
        }
        segments
    }

    /// Like [`Writer::finish`], with the first four bytes, which must have been written as a placeholder, replaced by the
    /// length of what follows them.
    pub(crate) fn finish_frame(mut self) -> Result<Vec<Bytes>> {
        let length = self.len().saturating_sub(4);
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?.to_be_bytes();
        if let Some(placeholder) = self.copied.first_chunk_mut() {
            *placeholder = prefix;
        }
        Ok(self.finish())
    }

    fn append(&mut self, other: Writer) {
        let base = self.copied.len();
        self.copied.extend_from_slice(&other.copied);
        self.shared.extend(other.shared.into_iter().map(|(at, slice)| (base + at, slice)));
        self.shared_length += other.shared_length;
    }

    /// Refuses versions outside of `valid` (inclusive).
    pub(crate) fn check_version(&self, message: &'static str, version: i16, valid: (i16, i16)) -> Result<()> {
        if version < valid.0 || version > valid.1 {
            return Err(EncodeError::UnsupportedVersion { message, version });
        }
        Ok(())
    }

    // - fixed width -

    pub fn bool(&mut self, value: bool) {
        self.copied.put_u8(value.into());
    }

    pub fn i8(&mut self, value: i8) {
        self.copied.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.copied.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.copied.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.copied.put_i32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.copied.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.copied.put_f64(value);
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.copied.put_slice(&value.0);
    }

    // - variable width -

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.copied.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.copied.put_u8(value as u8);
    }

    fn length(&mut self, flexible: bool, length: usize) -> Result<()> {
        let fixed = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        if flexible {
            self.unsigned_varint(fixed as u32 + 1)
        } else {
            self.i32(fixed)
        }
        Ok(())
    }

    fn null(&mut self, flexible: bool) {
        if flexible { self.unsigned_varint(0) } else { self.i32(-1) }
    }

    pub fn string(&mut self, flexible: bool, value: &KafkaString) -> Result<()> {
        let length = value.len();
        if length > STRING_LENGTH_MAX {
            return Err(EncodeError::TooLong { length });
        }
        if flexible {
            self.unsigned_varint(length as u32 + 1)
        } else {
            self.i16(length as i16)
        }
        self.copied.put_slice(value.as_bytes());
        Ok(())
    }

    pub fn opt_string(&mut self, flexible: bool, value: &Option<KafkaString>) -> Result<()> {
        match value {
            Some(value) => return self.string(flexible, value),
            None if flexible => self.unsigned_varint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    fn slice(&mut self, value: &Bytes) {
        if value.len() >= BY_REFERENCE_LENGTH_MIN {
            self.shared.push((self.copied.len(), value.clone()));
            self.shared_length += value.len();
        } else {
            self.copied.put_slice(value);
        }
    }

    pub fn bytes(&mut self, flexible: bool, value: &Bytes) -> Result<()> {
        self.length(flexible, value.len())?;
        self.slice(value);
        Ok(())
    }

    pub fn opt_bytes(&mut self, flexible: bool, value: &Option<Bytes>) -> Result<()> {
        match value {
            Some(value) => self.bytes(flexible, value)?,
            None => self.null(flexible),
        }
        Ok(())
    }

    pub fn records(&mut self, flexible: bool, value: &Records) -> Result<()> {
        self.length(flexible, value.len())?;
        value.pieces().for_each(|piece| self.slice(piece));
        Ok(())
    }

    pub fn opt_records(&mut self, flexible: bool, value: &Option<Records>) -> Result<()> {
        match value {
            Some(value) => self.records(flexible, value)?,
            None => self.null(flexible),
        }
        Ok(())
    }

    // - composite -

    pub fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        self.length(flexible, elements.len())?;
        elements.iter().try_for_each(|element| write(self, element))
    }

    pub fn opt_array<T>(
        &mut self,
        flexible: bool,
        elements: &Option<Vec<T>>,
        write: impl FnMut(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        match elements {
            Some(elements) => self.array(flexible, elements, write),
            None => {
                self.null(flexible);
                Ok(())
            }
        }
    }

    /// A struct preceded by a byte: 1, or −1 for null.
    pub fn opt_struct<T>(&mut self, value: &Option<T>, write: impl FnOnce(&mut Self, &T) -> Result<()>) -> Result<()> {
        self.i8(if value.is_some() { 1 } else { -1 });
        value.as_ref().map_or(Ok(()), |value| write(self, value))
    }

    /// Ends a flexible struct.
    pub fn tagged_fields(&mut self, fields: TaggedFields) {
        self.unsigned_varint(fields.count);
        self.append(fields.fields);
    }

    /// Ends a flexible struct that has no tagged fields.
    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }
}

/// The tagged fields of one struct, collected before their count is known. Add them in the order of their tags.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    fields: Writer,
}

impl TaggedFields {
    pub fn add(&mut self, tag: u32, write: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        let mut content = Writer::default();
        write(&mut content)?;
        let size = u32::try_from(content.len()).map_err(|_| EncodeError::TooLong { length: content.len() })?;
        self.count += 1;
        self.fields.unsigned_varint(tag);
        self.fields.unsigned_varint(size);
        self.fields.append(content);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_slices_leave_by_reference_and_small_ones_by_copy() {
        let small = Bytes::from(vec![1; BY_REFERENCE_LENGTH_MIN - 1]);
        let large = Bytes::from(vec![2; BY_REFERENCE_LENGTH_MIN]);
        let mut w = Writer::default();
        w.opt_records(true, &Some([small.clone(), large.clone(), large.clone(), small.clone()].into_iter().collect()))
            .unwrap();
        let length = w.len();
        let segments = w.finish();
        let pointers: Vec<_> = segments.iter().map(|segment| segment.as_ptr()).collect();
        assert_eq!(segments.len(), 4);
        assert_eq!(pointers[1], large.as_ptr());
        assert_eq!(pointers[2], large.as_ptr());
        assert_eq!(segments.iter().map(Bytes::len).sum::<usize>(), length);
        assert_eq!(segments.concat()[2..], [&small[..], &large, &large, &small].concat());
    }

    #[test]
    fn tagged_fields_keep_slices_by_reference() {
        let large = Bytes::from(vec![3; BY_REFERENCE_LENGTH_MIN]);
        let mut tags = TaggedFields::default();
        tags.add(0, |w| w.bytes(true, &large)).unwrap();
        tags.add(5, |w| w.string(true, &"x".into())).unwrap();
        let mut w = Writer::default();
        w.i8(9);
        w.tagged_fields(tags);
        let segments = w.finish();
        assert_eq!(segments[1].as_ptr(), large.as_ptr());
        assert_eq!(&segments[0][..], [9, 2, 0, 0x82, 0x20, 0x81, 0x20]);
        assert_eq!(&segments[2][..], [5, 2, 2, b'x']);
    }

    #[test]
    fn string_beyond_kafkas_limit_is_refused() {
        let text = KafkaString::from("x".repeat(STRING_LENGTH_MAX + 1));
        assert_eq!(Writer::default().string(true, &text), Err(EncodeError::TooLong { length: 32768 }));
    }
}
