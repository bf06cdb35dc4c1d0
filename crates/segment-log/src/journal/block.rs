//! One commit in the journal: a header, a table of entries, and the batches they speak of. `docs/formats/journal.md`.
//!
//! ```text
//!   header 64 │ entries │ batches │ zeros up to 4 KiB
//! ```
//!
//! Batches of one partition lie side by side, so that a reader of the tail gets them as one piece. Those that are many bytes have a
//! gap before them, so that they lie in the block's pages as they will lie in those of their segment, and need not be copied again
//! where much is moved at once.

use base_types::{Incarnation, planted};
use bytes::{BufMut, Bytes, BytesMut};
use record_batch::{StampedBatch, joined_crc32c};
use store_api::BLOCK_BYTES;

use super::entry::Entry;
use crate::{codec::Fields, crc::crc32c};

const MAGIC: u32 = 0x5477_4a31; // "TwJ1"
/// Of what is written. Version 1, which knows no gaps, and version 2, which has no checksum of its head, are still read.
pub(crate) const VERSION: u16 = 3;
const HEAD_CRC_SINCE: u16 = 3;
pub(crate) const HEADER_BYTES: usize = 64;
const HEAD_CRC_AT: usize = 48;
const CRC_AT: usize = 60;
/// From here on it costs less to join the CRC of a batch than to read its bytes.
const JOINED_BYTES_MIN: usize = 16 << 10;

/// The first 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    pub(crate) version: u16,
    /// Counts the blocks of a journal for ever, from 1 on.
    pub(crate) seq: u64,
    pub(crate) incarnation: Incarnation,
    /// The CRC of the block before: a stale block of an earlier round in the same file never fits.
    pub(crate) previous_crc: u32,
    entry_count: u32,
    table_bytes: u32,
    payload_bytes: u32,
    /// Of what is before it and the entry table: where only the payload is damaged, it is known whose.
    head_crc: u32,
    pub(crate) crc: u32,
}

/// A block read back.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: BlockHeader,
    pub(crate) entries: Vec<Entry>,
    /// The batches and the gaps before them, in the order of the `Batch` entries.
    pub(crate) payload: Bytes,
    /// Whether the payload is as it was written.
    pub(crate) is_whole: bool,
}

impl BlockHeader {
    /// What claims to be a header; `None` when it does not.
    pub(crate) fn parse(bytes: &[u8]) -> Option<BlockHeader> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        if fields.u32()? != MAGIC {
            return None;
        }
        let version = fields.u16()?;
        let _flags = fields.u16()?;
        let header = BlockHeader {
            version,
            seq: fields.u64()?,
            incarnation: Incarnation(fields.id()?),
            previous_crc: fields.u32()?,
            entry_count: fields.u32()?,
            table_bytes: fields.u32()?,
            payload_bytes: fields.u32()?,
            head_crc: fields.u32()?,
            crc: u32::from_be_bytes(*bytes.get(CRC_AT..)?.first_chunk()?),
        };
        Some(header)
    }

    /// Header, table and payload.
    pub(crate) fn used_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.table_bytes) + u64::from(self.payload_bytes)
    }

    /// What the block takes in the file.
    pub(crate) fn size(&self) -> u64 {
        self.used_bytes().next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Whether `bytes`, which start with this header, are the block that was written.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        match bytes.get(HEADER_BYTES..self.used_bytes() as usize) {
            Some(rest) => crc32c(&[&bytes[..CRC_AT], rest]) == self.crc || planted!(BlockCrcIgnored),
            None => false,
        }
    }

    /// Whether header and table are as they were written, whatever became of the payload.
    pub(crate) fn matches_head(&self, bytes: &[u8]) -> bool {
        let table = bytes.get(HEADER_BYTES..HEADER_BYTES + self.table_bytes as usize);
        let head = bytes.get(..HEAD_CRC_AT);
        let (Some(head), Some(table)) = (head, table) else { return false };
        self.version >= HEAD_CRC_SINCE && crc32c(&[head, table]) == self.head_crc
    }
}

impl Block {
    /// Reads a block whose CRC was found right, or that of its head. `None` when it says nothing that this version understands.
    pub(crate) fn parse(header: BlockHeader, bytes: &Bytes, is_whole: bool) -> Option<Block> {
        let table_end = HEADER_BYTES + header.table_bytes as usize;
        let mut fields = Fields(bytes.get(HEADER_BYTES..table_end)?);
        let mut entries = Vec::with_capacity((header.entry_count as usize).min(fields.0.len()));
        for _ in 0..header.entry_count {
            entries.push(Entry::decode(&mut fields)?);
        }
        fields.end()?;
        let payload = bytes.slice(table_end..header.used_bytes() as usize);
        let claimed: u64 = entries
            .iter()
            .map(|e| if let Entry::Batch { len, gap, .. } = e { u64::from(*len) + u64::from(*gap) } else { 0 })
            .sum();
        (claimed == payload.len() as u64).then_some(Block { header, entries, payload, is_whole })
    }
}

/// Fills a block. Entries first, then the batches, each exactly as long as its entry says.
pub(crate) struct BlockBuilder {
    bytes: BytesMut,
    entry_count: u32,
    table_bytes: usize,
    /// Where batches lie whose CRC is known.
    known: Vec<(std::ops::Range<usize>, u32)>,
}

impl BlockBuilder {
    pub(crate) fn new(mut bytes: BytesMut) -> BlockBuilder {
        debug_assert!(bytes.is_empty());
        bytes.put_bytes(0, HEADER_BYTES);
        BlockBuilder { bytes, entry_count: 0, table_bytes: 0, known: Vec::new() }
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        entry.encode(&mut self.bytes);
        self.entry_count += 1;
        self.table_bytes = self.bytes.len() - HEADER_BYTES;
    }

    /// Where the payload begins if entries of so many bytes are still to come.
    pub(crate) fn payload_start(&self, entry_bytes: usize) -> usize {
        self.bytes.len() + entry_bytes
    }

    /// Leaves so many bytes out, as the entry of the next batch says.
    pub(crate) fn gap(&mut self, bytes: usize) {
        self.bytes.put_bytes(0, bytes);
    }

    /// Returns where in the block it lies.
    pub(crate) fn batch(&mut self, batch: &StampedBatch) -> std::ops::Range<usize> {
        let (head, body) = batch.pieces();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(body);
        let end = self.bytes.len();
        if end - start >= JOINED_BYTES_MIN {
            self.known.push((start..end, batch.crc32c_of_all()));
        }
        start..end
    }

    /// Of all but itself. The bytes of large batches are not read once more: their CRC was found right when they came.
    fn crc(&self) -> u32 {
        let mut crc = crc32c(&[&self.bytes[..CRC_AT]]);
        let mut at = HEADER_BYTES;
        for (range, known) in &self.known {
            let between = &self.bytes[at..range.start];
            crc = joined_crc32c(crc, crc32c(&[between]), between.len());
            crc = joined_crc32c(crc, *known, range.len());
            at = range.end;
        }
        let rest = &self.bytes[at..];
        joined_crc32c(crc, crc32c(&[rest]), rest.len())
    }

    /// Closes the block with its place in the chain. Returns it with its CRC.
    pub(crate) fn finish(mut self, seq: u64, incarnation: Incarnation, previous_crc: u32) -> (Bytes, u32) {
        let used = self.bytes.len();
        let mut head = &mut self.bytes[..HEADER_BYTES];
        head.put_u32(MAGIC);
        head.put_u16(VERSION);
        head.put_u16(0);
        head.put_u64(seq);
        head.put_slice(&incarnation.0);
        head.put_u32(previous_crc);
        head.put_u32(self.entry_count);
        head.put_u32(self.table_bytes as u32);
        head.put_u32((used - HEADER_BYTES - self.table_bytes) as u32);
        let head_crc =
            crc32c(&[&self.bytes[..HEAD_CRC_AT], &self.bytes[HEADER_BYTES..HEADER_BYTES + self.table_bytes]]);
        self.bytes[HEAD_CRC_AT..HEAD_CRC_AT + 4].copy_from_slice(&head_crc.to_be_bytes());
        let crc = self.crc();
        self.bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        let padding = used.next_multiple_of(BLOCK_BYTES) - used;
        self.bytes.put_bytes(0, padding);
        (self.bytes.freeze(), crc)
    }
}

#[cfg(test)]
mod tests {
    use base_types::{Offset, Timestamp, TopicPartition};
    use record_batch::{BatchBuilder, Compression};

    use super::*;

    fn batch(bytes: usize) -> StampedBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(None, Some(&vec![7; bytes]), &[], Timestamp(1));
        StampedBatch::from_stored(builder.build().unwrap()).unwrap()
    }

    /// Whatever its entry says, the gap is three bytes.
    fn block_with(gap: u16, batches: &[StampedBatch]) -> Bytes {
        let mut builder = BlockBuilder::new(BytesMut::new());
        let tp = TopicPartition::default();
        builder.entry(&Entry::LogStart { tp, to: Offset(4), first_segment: None });
        for batch in batches {
            builder.entry(&Entry::Batch { tp, base: Offset(4), len: batch.size() as u32, gap });
        }
        for batch in batches {
            builder.gap(3);
            assert_eq!(builder.batch(batch).len(), batch.size());
        }
        builder.finish(7, Incarnation([3; 16]), 99).0
    }

    /// With batches that are read for the block's CRC, and with such that are not.
    #[test]
    fn a_block_reads_back() {
        for sizes in [&[10][..], &[20_000], &[10, 20_000, 20_001, 10, 100_000]] {
            let batches: Vec<StampedBatch> = sizes.iter().map(|&bytes| batch(bytes)).collect();
            let bytes = block_with(3, &batches);
            let header = BlockHeader::parse(&bytes).unwrap();
            assert_eq!((header.seq, header.previous_crc, header.incarnation), (7, 99, Incarnation([3; 16])));
            assert_eq!(bytes.len() as u64, header.size());
            assert!(header.matches(&bytes), "{sizes:?}");
            let block = Block::parse(header, &bytes, true).unwrap();
            assert_eq!(block.entries.len(), 1 + batches.len());
            let expected: Vec<u8> =
                batches.iter().flat_map(|batch| [vec![0; 3], batch.to_bytes().to_vec()].concat()).collect();
            assert_eq!(block.payload, expected);
        }
    }

    #[test]
    fn a_gap_that_is_not_as_its_entry_says_is_no_block() {
        for gap in [0, 2, 4, u16::MAX] {
            let bytes = block_with(gap, &[batch(10)]);
            let header = BlockHeader::parse(&bytes).unwrap();
            assert!(header.matches(&bytes) && Block::parse(header, &bytes, true).is_none(), "{gap}");
        }
    }

    #[test]
    fn every_flipped_bit_of_what_counts_is_noticed() {
        let bytes = block_with(3, &[batch(10)]);
        let used = BlockHeader::parse(&bytes).unwrap().used_bytes() as usize;
        for bit in 0..used * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let header = BlockHeader::parse(&damaged);
            assert!(!header.is_some_and(|header| header.matches(&damaged)), "bit {bit}");
            // The head is good exactly where the damage is outside it.
            let head_end = HEADER_BYTES + header.map_or(0, |header| header.table_bytes as usize);
            let in_head = bit / 8 < HEAD_CRC_AT + 4 || (HEADER_BYTES..head_end).contains(&(bit / 8));
            assert_eq!(header.is_some_and(|header| header.matches_head(&damaged)), !in_head, "bit {bit}");
        }
    }
}
