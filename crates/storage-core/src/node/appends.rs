//! Append requests: what each partition's replica says is gathered in [`super::gathering`].

use base_types::Now;
use peer_api::storage::{AppendError, AppendRequest, AppendResponse, Appended, RequestId, Response};
use replica_core::RequestKey;

use super::gathering::{Gathered, Gathering};
use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::GatewayStream;

pub(super) type Appends = Gathering<Result<Appended, AppendError>>;

impl StorageNode {
    pub(super) fn append(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        request: AppendRequest,
        effects: &mut Effects,
    ) {
        let partitions = request.partitions.iter().map(|append| append.partition);
        let keys = match self.appends.begin(stream, id, partitions, Err(AppendError::UnknownPartition)) {
            Ok(keys) => keys,
            Err(refused) => return effects.push(answered(refused)),
        };
        let deadline = now.tick.plus_ms(u64::from(request.timeout_ms));
        for (key, append) in keys.zip(request.partitions) {
            let refusal = match (&append.batch, self.replica(append.partition)) {
                (Err(_), _) => Some(AppendError::Corrupt),
                (Ok(_), None) => Some(AppendError::UnknownPartition),
                // What is in the log is acknowledged as it would have been: the next would say that it is not there.
                (Ok(batch), Some(replica)) if replica.has(batch.header()) => None,
                // Definite, so that the gateway holds it until there is another leader.
                (Ok(_), Some(replica)) if self.session.holds_off(now.tick) => {
                    Some(AppendError::NotLeader { leader: self.me.broker, leader_epoch: replica.leader_epoch() })
                }
                (Ok(_), Some(_)) => None,
            };
            match (refusal, append.batch) {
                (None, Ok(batch)) => {
                    let event = replica_core::Event::AppendRequested {
                        request: key,
                        acks: request.acks,
                        deadline,
                        leader_epoch: append.leader_epoch,
                        batch,
                        has_space: now.tick >= self.disk_full_until,
                    };
                    self.replica_step(now, append.partition, event, effects);
                }
                (refusal, _) => {
                    let error = refusal.unwrap_or(AppendError::Corrupt);
                    self.append_settled(key, Err(error), effects);
                }
            }
        }
    }

    pub(super) fn append_settled(
        &mut self,
        key: RequestKey,
        result: Result<Appended, AppendError>,
        effects: &mut Effects,
    ) {
        if let Some(gathered) = self.appends.settle(key, result) {
            effects.push(answered(gathered));
        }
    }
}

fn answered(gathered: Gathered<Result<Appended, AppendError>>) -> Effect {
    let response = AppendResponse { partitions: gathered.results };
    answer(gathered.stream, gathered.id, Response::Append(response))
}
