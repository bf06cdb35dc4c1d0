//! From batch to batch through a segment file, by header.
//!
//! Headers are believed here. What is wrong in one of them shows where the next batch does not fit, or when the batch itself is
//! read; a caller that passes over batches sees to that ([`crate::store`], read).

use base_types::{Offset, TopicPartition};
use record_batch::{BatchHeader, HEADER_LEN, HeaderError};
use store_api::VfsFile;

use super::index::Place;
use crate::{
    ReadError,
    error::{CorruptBatch, Damage},
};

/// Read at a time where batches are small: several of them.
const CHUNK_BYTES: usize = 32 << 10;
/// Read where they are large: a header and little else.
const HEAD_BYTES: usize = 512;

/// Yields `(position, header)` of the batches in `position..len`.
pub(crate) struct SegmentWalk<'a> {
    file: &'a dyn VfsFile,
    tp: TopicPartition,
    segment: Offset,
    position: u64,
    len: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    /// The size of the batch before.
    latest: usize,
    /// The least offset that the next batch may have.
    expected: Offset,
    /// It must have that one.
    is_exact: bool,
}

impl<'a> SegmentWalk<'a> {
    pub(crate) fn new(
        file: &'a dyn VfsFile,
        tp: TopicPartition,
        segment: Offset,
        from: Place,
        len: u64,
    ) -> SegmentWalk<'a> {
        let Place { position, base: expected, is_exact } = from;
        let (chunk, chunk_at, latest) = (Vec::new(), 0, 0);
        SegmentWalk { file, tp, segment, position, len, chunk, chunk_at, latest, expected, is_exact }
    }

    fn step(&mut self) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        if self.position >= self.len {
            return Ok(None);
        }
        let position = self.position;
        let wanted = HEADER_LEN.min((self.len - position) as usize);
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if position < self.chunk_at || position + wanted as u64 > chunk_end {
            let chunk = if self.latest > CHUNK_BYTES / 2 { HEAD_BYTES } else { CHUNK_BYTES };
            self.chunk.resize(chunk.min((self.len - position) as usize), 0);
            let have = self.file.read_at(position, &mut self.chunk)?;
            self.chunk.truncate(have);
            self.chunk_at = position;
        }
        let start = (position - self.chunk_at) as usize;
        let bytes = self.chunk.get(start..).unwrap_or_default();
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(HeaderError::Incomplete { have }) => {
                let damage = Damage::Short { wanted: HEADER_LEN as u64, have: have as u64 };
                return Err(self.corrupt(position, damage).into());
            }
            Err(error) => return Err(self.corrupt(position, Damage::Batch(error.into())).into()),
        };
        let (expected, found) = (self.expected, header.base_offset);
        if found < expected || self.is_exact && found != expected {
            return Err(self.corrupt(position, Damage::Misplaced { expected, found }).into());
        }
        let end = position + header.size() as u64;
        if end > self.len {
            let (wanted, have) = (header.size() as u64, self.len - position);
            return Err(self.corrupt(position, Damage::Short { wanted, have }).into());
        }
        self.position = end;
        self.latest = header.size();
        self.expected = header.next_offset();
        self.is_exact = false;
        Ok(Some((position, header)))
    }

    fn corrupt(&self, position: u64, damage: Damage) -> CorruptBatch {
        CorruptBatch { tp: self.tp, segment: self.segment, position, damage }
    }
}

impl Iterator for SegmentWalk<'_> {
    type Item = Result<(u64, BatchHeader), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if matches!(step, Some(Err(_))) {
            self.len = 0;
        }
        step
    }
}
