//! Fetch (1): record batches from partitions, as stored.
//!
//! Versions 4–18.
//!
//! * v5: log start offset. v7: sessions (KIP-227, `session.rs`). v9: the client's leader epoch (KIP-320). v10: zstd.
//! * v11: preferred read replica (KIP-392), always none. v12: flexible, last fetched epoch and divergence (KIP-595).
//! * v13: topics by id (KIP-516). v15: replica state. v16: the leader with "not leader" (KIP-951), and never its address.
//! * v17, v18: followers' affairs; the fields are read and ignored.
//!
//! **How it waits.** Clients send a fetch to the broker that leads its partitions, so nearly always one storage node holds
//! them all: the wait and its minimum are passed through, and the node answers when there is enough. When leaders have just
//! moved and several nodes hold them, each is asked for its first byte, and whoever answers early is asked again for what is
//! still missing; once there is enough the others are cancelled, which makes them answer with what they have.
//!
//! When a leader moves under a waiting fetch, the client is told at once and refetches.
//!
//! Deviations from Kafka: see `deviations.md`. Follower fetches (replica id ≥ 0) are refused (W9).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, Tick, TopicPartition};
use kafka_wire::k01_fetch::{EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
use kafka_wire::{FetchRequest, FetchResponse, Records};
use peer_api::storage::{
    FetchPartition, FetchRequest as StorageFetch, Fetched, Isolation, ReadError, Request, RequestId, Response,
    TransportError,
};

use crate::api::error;
use crate::limits::{ANSWER_GRACE_MS, CANCEL_GRACE_MS, FETCH_BYTES_MIN, FETCH_WAIT_MS_MAX};
use crate::operation::{Answer, Begun, Context, Operation, Progress};
use crate::route;
use crate::session::{Key, Plan, Said, Wanted};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 4..=18;

struct Fetch {
    plan: Plan,
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: usize,
    wait_until: Tick,
    items: Vec<Item>,
    calls: BTreeMap<RequestId, Call>,
    /// Enough is known: what is still out has been cancelled.
    cancelled: bool,
    /// The first round went to several nodes.
    spread: bool,
}

struct Item {
    key: Key,
    wanted: Wanted,
    partition: TopicPartition,
    state: State,
}

enum State {
    /// Refused here. Does not cut the wait of the others short (as in Kafka).
    Refused(ErrorCode),
    Asked(BrokerId),
    Got(Fetched),
    Failed(ErrorCode),
    /// The stream to its node broke: whether the leader moved will be heard.
    Unreachable(BrokerId),
    Moved,
}

struct Call {
    node: BrokerId,
    items: Vec<usize>,
}

pub(crate) fn begin(cx: &mut Context<'_>, mut request: FetchRequest) -> Begun {
    let replica = if cx.version() >= 15 { request.replica_state.replica_id } else { request.replica_id };
    let (plan, wanted) = match cx.shared.sessions.open(cx.now.tick, cx.version(), &mut request) {
        Ok(opened) => opened,
        Err(code) => {
            let error_code = cx.code(code);
            return Begun::Answered(cx.respond(&FetchResponse { error_code, ..Default::default() }));
        }
    };
    let refused = if replica >= 0 {
        Some(ErrorCode::TopicAuthorizationFailed)
    } else if !matches!(request.isolation_level, 0 | 1) {
        Some(ErrorCode::InvalidRequest)
    } else {
        None
    };
    let items = wanted
        .into_iter()
        .map(|(key, wanted)| match refused.map_or_else(|| resolve(cx, &key), Err) {
            Ok((partition, node)) => Item { key, wanted, partition, state: State::Asked(node) },
            Err(code) => Item { key, wanted, partition: TopicPartition::default(), state: State::Refused(code) },
        })
        .collect();
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(FETCH_WAIT_MS_MAX);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(cx.shared.fetch_bytes_max);
    Begun::settle(
        Fetch {
            plan,
            isolation: if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            bytes_max,
            wait_until: cx.now.tick.plus_ms(wait_ms),
            items,
            calls: BTreeMap::new(),
            cancelled: false,
            spread: false,
        },
        cx,
    )
}

fn resolve(cx: &Context<'_>, key: &Key) -> Result<(TopicPartition, BrokerId), ErrorCode> {
    let topic = if cx.version() >= 13 {
        route::topic_by_wire_id(cx.image, key.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        cx.image.topic_named(&key.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let index = PartitionIndex(key.partition);
    let state = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let leader = state.leader.filter(|_| !cx.has_left()).ok_or(ErrorCode::NotLeaderOrFollower)?;
    Ok((TopicPartition { topic: topic.id, partition: index }, leader))
}

impl Operation for Fetch {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut by_node: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (index, item) in self.items.iter().enumerate() {
            if let State::Asked(node) = item.state {
                by_node.entry(node).or_default().push(index);
            }
        }
        if by_node.is_empty() {
            return self.finish(cx);
        }
        self.spread = by_node.len() > 1;
        let share = (self.bytes_max / by_node.len()).max(FETCH_BYTES_MIN.min(self.bytes_max));
        let bytes_min = if self.spread { self.bytes_min.min(1) } else { self.bytes_min };
        for (node, items) in by_node {
            self.ask(cx, node, items, bytes_min, share);
        }
        cx.wake_at(self.wait_until.plus_ms(ANSWER_GRACE_MS));
        Progress::Pending
    }

    fn storage_answered(
        &mut self,
        cx: &mut Context<'_>,
        call: RequestId,
        result: Result<Response, TransportError>,
    ) -> Progress {
        let Some(Call { node, items }) = self.calls.remove(&call) else { return Progress::Pending };
        match result {
            Ok(Response::Fetch(response)) if response.partitions.len() == items.len() => {
                for (&index, (_, result)) in items.iter().zip(response.partitions) {
                    let Some(item) = self.items.get_mut(index) else { continue };
                    item.state = match result {
                        Ok(fetched) => State::Got(fetched),
                        Err(ReadError::NotLeader { .. }) => State::Moved,
                        Err(error) => State::Failed(error::read(&error)),
                    };
                }
            }
            Ok(_) | Err(TransportError::NotSent | TransportError::Broken) => {
                for &index in &items {
                    let Some(item) = self.items.get_mut(index) else { continue };
                    let leads = cx.image.partition(item.partition).and_then(|state| state.leader) == Some(node);
                    item.state = if leads { State::Unreachable(node) } else { State::Moved };
                }
                return self.weigh(cx, None);
            }
        }
        self.weigh(cx, Some((node, items)))
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut moved = false;
        for item in &mut self.items {
            let (State::Asked(node) | State::Unreachable(node)) = item.state else { continue };
            if cx.image.partition(item.partition).and_then(|state| state.leader) != Some(node) {
                item.state = State::Moved;
                moved = true;
            }
        }
        if moved { self.weigh(cx, None) } else { Progress::Pending }
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.finish(cx)
    }

    fn abandoned(&mut self, cx: &mut Context<'_>) {
        self.cancel(cx);
    }
}

impl Fetch {
    fn ask(&mut self, cx: &mut Context<'_>, node: BrokerId, items: Vec<usize>, bytes_min: usize, bytes_max: usize) {
        let partitions = items
            .iter()
            .filter_map(|index| self.items.get(*index))
            .map(|item| FetchPartition {
                partition: item.partition,
                leader_epoch: LeaderEpoch(item.wanted.current_leader_epoch),
                fetch_offset: Offset(item.wanted.fetch_offset),
                last_fetched_epoch: LeaderEpoch(item.wanted.last_fetched_epoch),
                bytes_max: u32::try_from(item.wanted.bytes_max).unwrap_or(0),
            })
            .collect();
        let request = Request::Fetch(StorageFetch {
            wait_ms_max: self.wait_until.ms_since(cx.now.tick) as u32,
            bytes_min: bytes_min as u32,
            bytes_max: bytes_max as u32,
            isolation: self.isolation,
            partitions,
        });
        let id = cx.ask_storage(node, request);
        self.calls.insert(id, Call { node, items });
    }

    /// Something came in. `answered`: the node that may be asked for more, and for which items.
    fn weigh(&mut self, cx: &mut Context<'_>, answered: Option<(BrokerId, Vec<usize>)>) -> Progress {
        let size = self.size();
        let urgent = self.items.iter().any(|item| match &item.state {
            State::Failed(_) | State::Moved => true,
            State::Got(fetched) => fetched.diverging.is_some(),
            State::Refused(_) | State::Asked(_) | State::Unreachable(_) => false,
        });
        let enough = urgent || self.cancelled || size >= self.bytes_min || cx.now.tick >= self.wait_until;
        if enough {
            if self.calls.is_empty() {
                return self.finish(cx);
            }
            self.cancel(cx);
            return Progress::Pending;
        }
        match answered {
            // It has waited for us and found too little.
            Some(_) if !self.spread => self.finish(cx),
            Some((node, items)) => {
                let has: usize = items.iter().filter_map(|index| self.items.get(*index)).map(Item::size).sum();
                let bytes_max = self.bytes_max.saturating_sub(size - has);
                let bytes_min = (has + self.bytes_min - size).min(bytes_max);
                self.ask(cx, node, items, bytes_min, bytes_max);
                Progress::Pending
            }
            None => {
                if self.calls.is_empty() {
                    cx.wake_at(self.wait_until);
                }
                Progress::Pending
            }
        }
    }

    fn cancel(&mut self, cx: &mut Context<'_>) {
        if !std::mem::replace(&mut self.cancelled, true) {
            for (id, call) in &self.calls {
                cx.cancel_fetch(call.node, *id);
            }
            cx.wake_at(cx.now.tick.plus_ms(CANCEL_GRACE_MS));
        }
    }

    fn size(&self) -> usize {
        self.items.iter().map(Item::size).sum()
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Progress {
        self.cancel(cx);
        let mut left = self.bytes_max;
        let mut given = false;
        let mut told: Vec<(Key, Wanted, Said)> = Vec::with_capacity(self.items.len());
        let mut data: Vec<PartitionData> = Vec::with_capacity(self.items.len());
        for item in self.items.drain(..) {
            let Item { key, wanted, partition, mut state } = item;
            if let State::Got(fetched) = &mut state {
                // The answers of several nodes may be more than was asked for; the first is kept whatever its size (KIP-74).
                let size = fetched.size();
                if size > left && given {
                    fetched.records.clear();
                } else {
                    left = left.saturating_sub(size);
                    given |= size > 0;
                }
            }
            let answer = partition_data(cx, key.partition, partition, state, self.isolation);
            let said = Said {
                failed: answer.error_code != 0,
                has_records: answer.records.as_ref().is_some_and(|records| !records.is_empty()),
                has_news: answer.diverging_epoch != EpochEndOffset::default(),
                high_watermark: answer.high_watermark,
                log_start: answer.log_start_offset,
            };
            told.push((key, wanted, said));
            data.push(answer);
        }
        let (session_id, incremental) = match self.plan {
            Plan::Sessionless => (0, None),
            Plan::New => (cx.shared.sessions.begin(cx.now.tick, cx.version(), &told), None),
            Plan::Incremental { id, .. } => (id, Some(id)),
        };
        let mut response = FetchResponse { session_id, ..Default::default() };
        for ((key, _, said), answer) in told.into_iter().zip(data) {
            if let Some(id) = incremental
                && !cx.shared.sessions.include(id, &key, said)
            {
                continue;
            }
            match response.responses.last_mut() {
                Some(topic) if topic.topic == key.topic && topic.topic_id == key.topic_id => {
                    topic.partitions.push(answer);
                }
                _ => response.responses.push(FetchableTopicResponse {
                    topic: key.topic,
                    topic_id: key.topic_id,
                    partitions: vec![answer],
                }),
            }
        }
        let answer: Answer = cx.respond(&response);
        answer.into()
    }
}

impl Item {
    fn size(&self) -> usize {
        match &self.state {
            State::Got(fetched) => fetched.size(),
            _ => 0,
        }
    }
}

fn partition_data(
    cx: &mut Context<'_>,
    index: i32,
    partition: TopicPartition,
    state: State,
    isolation: Isolation,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: index,
        high_watermark: -1,
        aborted_transactions: None,
        records: Some(Records::default()),
        ..Default::default()
    };
    let code = match state {
        State::Got(fetched) => {
            data.high_watermark = fetched.high_watermark.0;
            data.last_stable_offset = fetched.last_stable_offset.0;
            data.log_start_offset = fetched.log_start.0;
            if isolation == Isolation::ReadCommitted {
                data.aborted_transactions = Some(Vec::new());
            }
            if let Some(end) = fetched.diverging {
                data.diverging_epoch = EpochEndOffset { epoch: end.epoch.0, end_offset: end.end_offset.0 };
            }
            data.records = Some(fetched.records.into_iter().collect());
            return data;
        }
        State::Refused(code) | State::Failed(code) => code,
        State::Asked(_) | State::Unreachable(_) | State::Moved => ErrorCode::NotLeaderOrFollower,
    };
    data.error_code = cx.code(code);
    if cx.version() >= 16
        && matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
        && let Some(view) = cx.image.partition(partition)
        && let Some(leader) = view.leader
    {
        // Without its address, which may have changed since the client was told: where one partition is told the new one and others of
        // this leader have the old one, the Java client takes them for two brokers with one fetch session (trap 68).
        data.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: view.leader_epoch.0 };
    }
    data
}

#[cfg(test)]
mod tests;
