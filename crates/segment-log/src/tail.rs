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
        while held.bytes > self.bytes_max {
            let Some(block) = held.blocks.front() else { break };
            for owner in &block.owners {
                let mut state = owner.state();
                let placed_end = state.placed_end;
                while state.tail.front().is_some_and(|batch| batch.seq <= block.seq && batch.next <= placed_end) {
                    state.tail.pop_front();
                }
                if state.tail.front().is_some_and(|batch| batch.seq <= block.seq) {
                    return;
                }
                if state.tail.is_empty() {
                    state.tail.shrink_to_fit();
                }
            }
            held.bytes -= block.bytes;
            held.blocks.pop_front();
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
