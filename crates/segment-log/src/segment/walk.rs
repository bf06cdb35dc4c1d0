//! From batch to batch through a segment file, by header.

use base_types::{Offset, TopicPartition};
use record_batch::{BatchHeader, HEADER_LEN, HeaderError};
use store_api::VfsFile;

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
    /// The offset the next batch must have, once known.
    expected: Option<Offset>,
}

impl<'a> SegmentWalk<'a> {
    pub(crate) fn new(
        file: &'a dyn VfsFile,
        tp: TopicPartition,
        segment: Offset,
        position: u64,
        len: u64,
    ) -> SegmentWalk<'a> {
        SegmentWalk { file, tp, segment, position, len, chunk: Vec::new(), chunk_at: 0, latest: 0, expected: None }
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
                return Err(self.corrupt(position, Damage::Short { wanted: HEADER_LEN, have }).into());
            }
            Err(error) => return Err(self.corrupt(position, Damage::Batch(error.into())).into()),
        };
        if let Some(expected) = self.expected.filter(|expected| *expected > header.base_offset) {
            return Err(self.corrupt(position, Damage::Misplaced { expected, found: header.base_offset }).into());
        }
        let end = position + header.size() as u64;
        if end > self.len {
            let have = (self.len - position) as usize;
            return Err(self.corrupt(position, Damage::Short { wanted: header.size(), have }).into());
        }
        self.position = end;
        self.latest = header.size();
        self.expected = Some(header.next_offset());
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
