//! Append requests: one request may name many partitions, and is answered when the last of them is settled.

use std::collections::BTreeMap;

use base_types::{Now, TopicPartition};
use peer_api::storage::{AppendError, AppendRequest, AppendResponse, Appended, RequestId, Response};
use replica_core::RequestKey;

use super::{StorageNode, answer};
use crate::effect::Effects;
use crate::event::GatewayStream;

/// The low bits of a [`RequestKey`] are the place of the partition in its request.
const PLACE_BITS: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Appends {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    stream: GatewayStream,
    id: RequestId,
    results: Vec<(TopicPartition, Option<Result<Appended, AppendError>>)>,
    unsettled: usize,
}

impl Appends {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The gateway is gone: what was appended stays, but nobody is there to be told.
    pub(super) fn forget(&mut self, stream: GatewayStream) {
        self.waiting.retain(|_, waiting| waiting.stream != stream);
    }

    pub(super) fn settle(&mut self, key: RequestKey, result: Result<Appended, AppendError>, effects: &mut Effects) {
        let (request, place) = (key.0 >> PLACE_BITS, key.0 & ((1 << PLACE_BITS) - 1));
        let Some(waiting) = self.waiting.get_mut(&request) else { return };
        let Some((_, slot @ None)) = waiting.results.get_mut(place as usize) else { return };
        *slot = Some(result);
        waiting.unsettled -= 1;
        if waiting.unsettled == 0
            && let Some(settled) = self.waiting.remove(&request)
        {
            let partitions =
                settled.results.into_iter().filter_map(|(partition, result)| Some((partition, result?))).collect();
            effects.push(answer(settled.stream, settled.id, Response::Append(AppendResponse { partitions })));
        }
    }
}

impl StorageNode {
    pub(super) fn append(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        request: AppendRequest,
        effects: &mut Effects,
    ) {
        let results: Vec<_> = request.partitions.iter().map(|append| (append.partition, None)).collect();
        if results.is_empty() || results.len() >= 1 << PLACE_BITS {
            let partitions = results.into_iter().map(|(partition, _)| (partition, Err(AppendError::UnknownPartition)));
            let response = AppendResponse { partitions: partitions.collect() };
            return effects.push(answer(stream, id, Response::Append(response)));
        }
        self.appends.last += 1;
        let key = self.appends.last;
        let unsettled = results.len();
        self.appends.waiting.insert(key, Waiting { stream, id, results, unsettled });
        let deadline = now.tick.plus_ms(u64::from(request.timeout_ms));
        for (place, append) in request.partitions.into_iter().enumerate() {
            let request_key = RequestKey((key << PLACE_BITS) | place as u64);
            let refusal = match (&append.batch, self.replica(append.partition)) {
                (Err(_), _) => Some(AppendError::Corrupt),
                (Ok(_), None) => Some(AppendError::UnknownPartition),
                (Ok(_), Some(_)) => (now.tick < self.disk_full_until).then_some(AppendError::NoSpace),
            };
            match (refusal, append.batch) {
                (None, Ok(batch)) => {
                    let event = replica_core::Event::AppendRequested {
                        request: request_key,
                        acks: request.acks,
                        deadline,
                        leader_epoch: append.leader_epoch,
                        batch,
                    };
                    self.replica_step(now, append.partition, event, effects);
                }
                (refusal, _) => {
                    let error = refusal.unwrap_or(AppendError::Corrupt);
                    self.appends.settle(request_key, Err(error), effects);
                }
            }
        }
    }
}
