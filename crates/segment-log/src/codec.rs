//! Big-endian fields of our own formats. Reading checks every length; nothing is allocated for a claim the bytes do not hold.

use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use bytes::BufMut;

pub(crate) fn put_partition(into: &mut impl BufMut, tp: TopicPartition) {
    into.put_slice(&tp.topic.0);
    into.put_i32(tp.partition.0);
}

/// Takes fields off the front. `None` when there are too few bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn id(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    pub(crate) fn offset(&mut self) -> Option<Offset> {
        self.i64().map(Offset)
    }

    pub(crate) fn epoch(&mut self) -> Option<LeaderEpoch> {
        self.i32().map(LeaderEpoch)
    }

    pub(crate) fn timestamp(&mut self) -> Option<Timestamp> {
        self.i64().map(Timestamp)
    }

    pub(crate) fn partition(&mut self) -> Option<TopicPartition> {
        Some(TopicPartition { topic: TopicId(self.id()?), partition: PartitionIndex(self.i32()?) })
    }

    /// As many items as the count in front says, each at least `item_bytes_min` long.
    pub(crate) fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        if count.checked_mul(item_bytes_min)? > self.0.len() {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// `Some` when nothing is left.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
