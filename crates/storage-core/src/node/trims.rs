//! Requests to delete records: one request may name many partitions, and is answered when the last of them is settled.

use std::collections::BTreeMap;

use base_types::{Now, Offset, TopicPartition};
use peer_api::storage::{RequestId, Response, TrimError, TrimRequest};
use replica_core::{RequestKey, WriteFailure, WriteId};

use super::disk::Checkpoint;
use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::GatewayStream;

/// The low bits of a [`RequestKey`] are the place of the partition in its request.
const PLACE_BITS: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Trims {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    stream: GatewayStream,
    id: RequestId,
    results: Vec<(TopicPartition, Option<Result<Offset, TrimError>>)>,
}

impl Trims {
    pub(super) fn forget(&mut self, stream: GatewayStream) {
        self.waiting.retain(|_, waiting| waiting.stream != stream);
    }

    pub(super) fn settle(&mut self, key: RequestKey, result: Result<Offset, TrimError>, effects: &mut Effects) {
        let (request, place) = (key.0 >> PLACE_BITS, key.0 & ((1 << PLACE_BITS) - 1));
        let Some(waiting) = self.waiting.get_mut(&request) else { return };
        let Some((_, slot @ None)) = waiting.results.get_mut(place as usize) else { return };
        *slot = Some(result);
        if waiting.results.iter().all(|(_, result)| result.is_some())
            && let Some(settled) = self.waiting.remove(&request)
        {
            let results =
                settled.results.into_iter().filter_map(|(partition, result)| Some((partition, result?))).collect();
            effects.push(answer(settled.stream, settled.id, Response::Trim(results)));
        }
    }
}

impl StorageNode {
    pub(super) fn trim(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        request: TrimRequest,
        effects: &mut Effects,
    ) {
        let results: Vec<_> = request.partitions.iter().map(|asked| (asked.partition, None)).collect();
        if results.is_empty() || results.len() >= 1 << PLACE_BITS {
            let refused = results.into_iter().map(|(partition, _)| (partition, Err(TrimError::UnknownPartition)));
            return effects.push(answer(stream, id, Response::Trim(refused.collect())));
        }
        self.trims.last += 1;
        let key = self.trims.last;
        self.trims.waiting.insert(key, Waiting { stream, id, results });
        let deadline = now.tick.plus_ms(u64::from(request.timeout_ms));
        for (place, asked) in request.partitions.into_iter().enumerate() {
            let request = RequestKey((key << PLACE_BITS) | place as u64);
            if self.replica(asked.partition).is_some() {
                let event = replica_core::Event::TrimRequested { request, deadline, to: asked.to };
                self.replica_step(now, asked.partition, event, effects);
            } else {
                self.trims.settle(request, Err(TrimError::UnknownPartition), effects);
            }
        }
    }

    /// What is derived from the records that go is kept first, as far as it can be: they cannot be looked at again.
    pub(super) fn trim_log(&mut self, partition: TopicPartition, write: WriteId, to: Offset, effects: &mut Effects) {
        if let Some(slot) = self.slots.get_mut(&partition)
            && let Some(replica) = &slot.replica
        {
            let producer_state = replica.producers().encode();
            slot.checkpoint.get_or_insert(Checkpoint { as_of: replica.log_end(), producer_state });
        }
        self.keep_checkpoint(partition, effects);
        effects.push(Effect::Trim { partition, write, to });
    }

    pub(super) fn trim_completed(
        &mut self,
        now: Now,
        partition: TopicPartition,
        write: WriteId,
        result: Result<Offset, WriteFailure>,
        effects: &mut Effects,
    ) {
        self.replica_step(now, partition, replica_core::Event::TrimCompleted { write, result }, effects);
        // As for a write that failed: without its directory the node can only hand over (S6).
        if result == Err(WriteFailure::Failed) {
            self.shutdown_requested(now, effects);
        }
    }
}
