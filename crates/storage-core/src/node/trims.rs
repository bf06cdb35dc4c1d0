//! Requests to delete records: what each partition's replica says is gathered in [`super::gathering`].

use base_types::{Now, Offset, TopicPartition};
use peer_api::storage::{RequestId, Response, TrimError, TrimRequest};
use replica_core::{RequestKey, WriteFailure, WriteId};

use super::disk::Checkpoint;
use super::gathering::{Gathered, Gathering};
use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::GatewayStream;

pub(super) type Trims = Gathering<Result<Offset, TrimError>>;

impl StorageNode {
    pub(super) fn trim(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        request: TrimRequest,
        effects: &mut Effects,
    ) {
        let partitions = request.partitions.iter().map(|asked| asked.partition);
        let keys = match self.trims.begin(stream, id, partitions, Err(TrimError::UnknownPartition)) {
            Ok(keys) => keys,
            Err(refused) => return effects.push(answered(refused)),
        };
        let deadline = now.tick.plus_ms(u64::from(request.timeout_ms));
        for (key, asked) in keys.zip(request.partitions) {
            if self.replica(asked.partition).is_some() {
                let event = replica_core::Event::TrimRequested { request: key, deadline, to: asked.to };
                self.replica_step(now, asked.partition, event, effects);
            } else {
                self.trim_settled(key, Err(TrimError::UnknownPartition), effects);
            }
        }
    }

    pub(super) fn trim_settled(&mut self, key: RequestKey, result: Result<Offset, TrimError>, effects: &mut Effects) {
        if let Some(gathered) = self.trims.settle(key, result) {
            effects.push(answered(gathered));
        }
    }

    /// What is derived from the records that go is kept first: they cannot be looked at again.
    pub(super) fn trim_log(&mut self, partition: TopicPartition, write: WriteId, to: Offset, effects: &mut Effects) {
        if let Some(slot) = self.slots.get_mut(&partition)
            && let Some(replica) = &slot.replica
        {
            let producer_state = replica.producers().encode();
            slot.checkpoint.get_or_insert(Checkpoint { as_of: replica.log_end(), producer_state });
            slot.trim = Some((write, to));
        }
        self.keep_checkpoint(partition, effects);
    }

    /// The checkpoint is kept, or whatever it waits for will not come soon.
    pub(super) fn trim_waits_no_more(&mut self, partition: TopicPartition, effects: &mut Effects) {
        if let Some((write, to)) = self.slots.get_mut(&partition).and_then(|slot| slot.trim.take()) {
            effects.push(Effect::Trim { partition, write, to });
        }
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

fn answered(gathered: Gathered<Result<Offset, TrimError>>) -> Effect {
    answer(gathered.stream, gathered.id, Response::Trim(gathered.results))
}
