//! Which blocks of memory hold recent batches, oldest first, and when they are let go.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::replica::Replica;

/// Bounds the memory that the replicas' tails hold on to.
pub(crate) struct TailCache {
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    blocks: VecDeque<HeldBlock>,
    bytes: u64,
}

struct HeldBlock {
    seq: u64,
    bytes: u64,
    owners: Vec<Arc<Replica>>,
}

impl HeldBlock {
    /// Takes its batches out of the tails; `false` when one of them is in no segment yet.
    fn let_go(&self) -> bool {
        for owner in &self.owners {
            let mut state = owner.state();
            let placed_end = state.placed_end;
            while state.tail.front().is_some_and(|batch| batch.seq <= self.seq && batch.next <= placed_end) {
                state.tail.pop_front();
            }
            if state.tail.front().is_some_and(|batch| batch.seq <= self.seq) {
                return false;
            }
            if state.tail.is_empty() {
                state.tail.shrink_to_fit();
            }
        }
        true
    }
}

impl TailCache {
    pub(crate) fn new(bytes_max: u64) -> TailCache {
        TailCache { bytes_max, held: Mutex::default() }
    }

    /// Counts a block whose batches were just appended to the tails of `owners`.
    pub(crate) fn add(&self, seq: u64, bytes: u64, owners: Vec<Arc<Replica>>) {
        let mut held = self.lock();
        held.bytes += bytes;
        held.blocks.push_back(HeldBlock { seq, bytes, owners });
    }

    /// Lets go of the oldest blocks until the bound is met. A batch that is not in a segment yet keeps its block.
    pub(crate) fn evict(&self) {
        let mut held = self.lock();
        while held.bytes > self.bytes_max && held.blocks.front().is_some_and(HeldBlock::let_go) {
            held.bytes -= held.blocks.pop_front().map_or(0, |block| block.bytes);
        }
    }

    /// The same, and a block that is kept does not keep those behind it: for a replay, where some replicas are not placed for long.
    pub(crate) fn evict_all_that_can_go(&self) {
        let mut held = self.lock();
        let Held { blocks, bytes } = &mut *held;
        blocks.retain(|block| {
            let stays = *bytes <= self.bytes_max || !block.let_go();
            *bytes -= if stays { 0 } else { block.bytes };
            stays
        });
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
    use bytes::Bytes;

    use super::*;
    use crate::{
        options::ReplicaOptions,
        replica::{State, TailBatch},
    };

    /// With one batch in block `seq`.
    fn replica(partition: i32, seq: u64) -> Arc<Replica> {
        let tp = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(partition) };
        let replica = Replica::new(tp, State::empty(ReplicaOptions::default(), Offset::ZERO, seq));
        replica.state().append(TailBatch {
            base: Offset::ZERO,
            next: Offset(1),
            max_timestamp: Timestamp(0),
            epoch: LeaderEpoch(0),
            seq,
            bytes: Bytes::from_static(&[7; 100]),
        });
        Arc::new(replica)
    }

    #[test]
    fn a_block_that_waits_keeps_those_behind_it_unless_all_that_can_go_shall_go() {
        let (waits, placed) = (replica(0, 1), replica(1, 2));
        placed.state().placed_end = Offset(1);
        let cache = TailCache::new(50);
        cache.add(1, 100, vec![Arc::clone(&waits)]);
        cache.add(2, 100, vec![Arc::clone(&placed)]);
        cache.evict();
        assert_eq!((cache.bytes(), placed.state().tail.len()), (200, 1));
        cache.evict_all_that_can_go();
        assert_eq!((cache.bytes(), placed.state().tail.len(), waits.state().tail.len()), (100, 0, 1));
        waits.state().placed_end = Offset(1);
        cache.evict();
        assert_eq!((cache.bytes(), waits.state().tail.len()), (0, 0));
    }
}
