//! Produce (0): record batches for partitions.
//!
//! Versions 3–13. Below 3 are old message formats, gone since Kafka 4.0 (KIP-896); the table of versions still says 0,
//! because librdkafka stops compressing otherwise (KAFKA-18659, trap 3).
//!
//! * v3: one batch of format 2 per partition (KIP-98). v5: log start offset. v7: zstd (KIP-110).
//! * v8: record errors and a message (KIP-467). v9: flexible.
//! * v10: with `NOT_LEADER_OR_FOLLOWER` comes the current leader and its address (KIP-951).
//! * v12: transactions v2 (KIP-890). v13: topics by id (KIP-516).
//!
//! **What happens to a batch.** It is checked once (`record-batch`), goes to the leader under the epoch of our view, and is
//! stored as received. Produces of one connection follow each other without waiting:
//!
//! ```text
//!   Ready ──► Sent ──► Settled                 success, final error, or unknown outcome
//!     ▲         │
//!     └─ Stale ◄┘                              definite "not here": nothing was appended, so it may go again
//! ```
//!
//! While anything of a connection is stale, nothing new of it leaves; when everything in flight has an answer, the stale ones
//! leave again in the order of their requests, and then the rest (W1). A partition whose leader moved waits for the answers
//! of the old leader's epoch before it turns to the new one. An ambiguous failure makes a batch stale only if it has a
//! producer id, which makes a second delivery harmless (P1); any other is reported and never repeated (W2).
//!
//! A leader that does not know a producer takes any number as its first (P3). So until it has taken one in its epoch, the batches of that
//! producer go one at a time ([`refuse_behind`]): a node that learns between two of them that it leads would take the second for the first.
//!
//! A batch that is out of order because one in front of it was refused is told to come again like that one ([`refusals`]).
//!
//! Deviations from Kafka: that; a definite "not leader" is retried here for up to five seconds; unknown outcomes are
//! `REQUEST_TIMED_OUT` (see `error.rs`); the same partition twice in one request is served twice, where Kafka forgets one.

mod refusals;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base_types::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Tick, Timestamp,
    TopicPartition, invariant, planted,
};
use bytes::Bytes;
use kafka_wire::k00_produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_wire::{KafkaString, ProduceRequest, ProduceResponse, Uuid};
use peer_api::config::{Lookup, topic_config};
use peer_api::metadata::Image;
use peer_api::storage::{
    Acks, AppendError, AppendPartition, AppendRequest, Appended, Request, RequestId, Response, TransportError,
};
use record_batch::{BatchError, BatchLimits, ProducedBatch, TimestampLimits};

use crate::api::error;
use crate::connection::{Connection, Slot, Work};
use crate::effect::{CloseReason, Effect};
use crate::event::Trace;
use crate::gateway::Shared;
use crate::limits::{
    ANSWER_GRACE_MS, FRAME_SIZE_MAX, KNOWN_PRODUCERS_MAX, PRODUCE_RETRY_MS_MAX, PRODUCE_TIMEOUT_MS_MAX,
    RETRY_BACKOFF_MS,
};
use crate::operation::{Answer, Begun, Context, OperationId};
use crate::route;
use crate::stats::Stats;

pub(crate) use refusals::Refusals;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 3..=13;
/// What ApiVersions says instead; see the head.
pub(crate) const ADVERTISED_MIN: i16 = 0;

/// A produce in flight. Its partitions are flat, in the order of the request.
pub(crate) struct Produce {
    operation: OperationId,
    trace: Trace,
    acks: i16,
    timeout_ms: u64,
    begun: Tick,
    /// When a stale batch is given up.
    retry_until: Tick,
    /// When an answer that is still owed is given up; set with each sending.
    answer_by: Tick,
    topics: Vec<Topic>,
    batches: Vec<Batch>,
    /// Which batches each call carries, in its order.
    calls: BTreeMap<RequestId, Vec<usize>>,
}

struct Topic {
    name: KafkaString,
    id: Uuid,
    partitions: usize,
}

struct Batch {
    index: i32,
    partition: TopicPartition,
    batch: Option<ProducedBatch>,
    /// Who numbered it; within one of these the leader keeps the order by itself (P1, P3).
    producer: Option<(ProducerId, ProducerEpoch)>,
    sequence: Sequence,
    state: State,
    /// An earlier attempt may have been appended: no later error can be definite.
    ambiguous: bool,
}

#[derive(Clone, Debug)]
enum State {
    Ready,
    Sent {
        leader_epoch: LeaderEpoch,
        node: BrokerId,
    },
    /// Nothing was appended by anyone who led up to this epoch.
    Stale {
        refused: LeaderEpoch,
    },
    Settled(Result<Appended, Failure>),
}

#[derive(Clone, Debug)]
enum Failure {
    /// Refused before anything left. Definite.
    Refused(ErrorCode, Option<String>),
    Batch(BatchError),
    Append(AppendError),
    /// No leader took it while we were willing to wait. Definite.
    NoLeader,
    /// One in front of it was refused, and is to come again before it. Definite.
    Behind,
    /// Handed over, and nobody knows. Indeterminate.
    Unknown,
}

impl Failure {
    fn code(&self) -> ErrorCode {
        match self {
            Failure::Refused(code, _) => *code,
            Failure::Batch(error) => error.code(),
            Failure::Append(error) => error::append(error),
            Failure::NoLeader | Failure::Behind => ErrorCode::NotLeaderOrFollower,
            Failure::Unknown => ErrorCode::RequestTimedOut,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Failure::Refused(_, message) => message.clone(),
            Failure::Batch(error) => Some(error.to_string()),
            Failure::Append(error) => error::append_message(error),
            Failure::NoLeader | Failure::Behind => None,
            Failure::Unknown => Some(
                "the connection to the leader broke before it answered; the batch may or may not be kept".to_owned(),
            ),
        }
    }

    /// Which records are at fault, for versions that carry it (KIP-467).
    fn records(&self) -> &[i32] {
        match self {
            Failure::Batch(error) => error.records_at_fault(),
            _ => &[],
        }
    }

    fn is_definite(&self) -> bool {
        match self {
            Failure::Refused(..) | Failure::Batch(_) | Failure::NoLeader | Failure::Behind => true,
            Failure::Append(error) => error.is_definite(),
            Failure::Unknown => false,
        }
    }
}

pub(crate) fn begin(cx: &mut Context<'_>, request: ProduceRequest) -> Begun {
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0).min(PRODUCE_TIMEOUT_MS_MAX);
    let retry_until = cx.now.tick.plus_ms(timeout_ms.clamp(RETRY_BACKOFF_MS, PRODUCE_RETRY_MS_MAX));
    let mut produce = Produce {
        operation: cx.operation,
        trace: cx.request.info.stamp.trace,
        acks: request.acks,
        timeout_ms,
        begun: cx.now.tick,
        retry_until,
        answer_by: retry_until,
        topics: Vec::with_capacity(request.topic_data.len()),
        batches: Vec::new(),
        calls: BTreeMap::new(),
    };
    let asked = Asked { acks: request.acks, has_transactional_id: request.transactional_id.is_some() };
    for topic in request.topic_data {
        let known = if cx.version() >= 13 {
            route::topic_by_wire_id(cx.image, topic.topic_id).ok_or(ErrorCode::UnknownTopicId)
        } else {
            cx.image.topic_named(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        produce.topics.push(Topic { name: topic.name, id: topic.topic_id, partitions: topic.partition_data.len() });
        let limits = BatchLimits {
            // The topic's own limit is the storage node's to keep.
            max_message_bytes: FRAME_SIZE_MAX,
            zstd: cx.version() >= 7,
            ..known.map_or_else(|_| BatchLimits::default(), |topic| topic_limits(cx, &topic.name))
        };
        for data in topic.partition_data {
            let index = PartitionIndex(data.index);
            let admitted =
                if cx.has_left() { Err(Failure::NoLeader) } else { admit(&asked, known, index, data.records, &limits) };
            let partition = TopicPartition { topic: known.map(|topic| topic.id).unwrap_or_default(), partition: index };
            let (batch, state) = match admitted {
                Ok(batch) => (Some(batch), State::Ready),
                Err(refused) => (None, State::Settled(Err(refused))),
            };
            let producer = batch.as_ref().and_then(producer_of);
            let sequence = batch.as_ref().map_or(Sequence::NONE, |batch| batch.header().base_sequence);
            let index = data.index;
            produce.batches.push(Batch { index, partition, batch, producer, sequence, state, ambiguous: false });
        }
    }
    cx.wake_at(retry_until);
    Begun::Produce(Box::new(produce))
}

fn producer_of(batch: &ProducedBatch) -> Option<(ProducerId, ProducerEpoch)> {
    let header = batch.header();
    header.has_producer_id().then_some((header.producer_id, header.producer_epoch))
}

/// What the topic's configs demand of its records. The leader checks the times once more, by its own clock; here it can be
/// told which records are at fault.
fn topic_limits(cx: &Context<'_>, topic: &str) -> BatchLimits {
    let lookup = Lookup::new(cx.image);
    let value =
        |name| topic_config(name).and_then(|definition| lookup.topic_value(topic, definition)).unwrap_or_default();
    let timestamps = if value("message.timestamp.type") == "LogAppendTime" {
        TimestampLimits::LogAppendTime
    } else {
        let bound = |name| value(name).parse().unwrap_or(i64::MAX);
        TimestampLimits::CreateTime {
            earliest: Timestamp(cx.now.wall.0.saturating_sub(bound("message.timestamp.before.max.ms"))),
            latest: Timestamp(cx.now.wall.0.saturating_add(bound("message.timestamp.after.max.ms"))),
        }
    };
    let keys_required = value("cleanup.policy").split(',').any(|word| word.trim() == "compact");
    BatchLimits { timestamps, keys_required, ..BatchLimits::default() }
}

/// What the request says of all its batches.
struct Asked {
    acks: i16,
    has_transactional_id: bool,
}

/// The checks that need no storage node, in Kafka's order.
fn admit(
    asked: &Asked,
    topic: Result<&peer_api::metadata::Topic, ErrorCode>,
    index: PartitionIndex,
    records: Option<Bytes>,
    limits: &BatchLimits,
) -> Result<ProducedBatch, Failure> {
    let topic = topic.map_err(|code| Failure::Refused(code, None))?;
    if topic.partition(index).is_none() {
        return Err(Failure::Refused(ErrorCode::UnknownTopicOrPartition, None));
    }
    let batch = ProducedBatch::check(records.unwrap_or_default(), limits).map_err(Failure::Batch)?;
    if !matches!(asked.acks, -1..=1) {
        return Err(Failure::Refused(ErrorCode::InvalidRequiredAcks, None));
    }
    if route::is_internal(&topic.name) {
        let message = format!("cannot append to internal topic {}", topic.name);
        return Err(Failure::Refused(ErrorCode::InvalidTopicException, Some(message)));
    }
    if batch.header().attributes.is_transactional() {
        if !asked.has_transactional_id {
            return Err(Failure::Refused(ErrorCode::TransactionalIdAuthorizationFailed, None));
        }
        // What Kafka's coordinator says of a producer id that no transactional id was given; none is given yet.
        let message = "no transactional id holds this producer id".to_owned();
        return Err(Failure::Refused(ErrorCode::InvalidProducerIdMapping, Some(message)));
    }
    Ok(batch)
}

// - order -

/// Sends whatever order allows, and says when to look again if nothing else happens.
pub(crate) fn send(cx: &mut Context<'_>, connection: &mut Connection) {
    let stale = connection.produces().any(|produce| produce.has(|state| matches!(state, State::Stale { .. })));
    if stale {
        if connection.produces().any(|produce| produce.has(|state| matches!(state, State::Sent { .. }))) {
            connection.retry_at = None;
            return;
        }
        let retry_at = *connection.retry_at.get_or_insert_with(|| cx.now.tick.plus_ms(RETRY_BACKOFF_MS));
        if cx.now.tick < retry_at && !connection.produces().any(|produce| produce.has_news(cx.image)) {
            return;
        }
        make_ready(&mut connection.slots, &mut cx.shared.stats);
    }
    connection.retry_at = None;
    for index in 0..connection.slots.len() {
        let is_ready = |state: &State| matches!(state, State::Ready);
        if !produce_at(&connection.slots, index).is_some_and(|produce| produce.has(is_ready)) {
            continue;
        }
        refuse_behind(cx, connection, index);
        if !produce_at(&connection.slots, index).is_some_and(|produce| produce.has(is_ready)) {
            continue;
        }
        // Those for other partitions need not wait for it.
        if !may_send(cx, connection, index) {
            continue;
        }
        let Some(Work::Produce(produce)) = connection.slots.get_mut(index).map(|slot| &mut slot.work) else { continue };
        produce.send(cx, &mut connection.hopeless);
        if produce.has(|state| matches!(state, State::Stale { .. })) {
            connection.retry_at = Some(cx.now.tick.plus_ms(RETRY_BACKOFF_MS));
            return;
        }
    }
}

fn produce_at(slots: &std::collections::VecDeque<Slot>, index: usize) -> Option<&Produce> {
    match &slots.get(index)?.work {
        Work::Produce(produce) => Some(produce),
        _ => None,
    }
}

/// Whether no partition of this produce still has batches out that could be refused while what leaves now is taken, and would overtake
/// them: under another view of its leader (W1), or of the same producer, which that leader may not know (P3).
fn may_send(cx: &Context<'_>, connection: &Connection, index: usize) -> bool {
    let Some(produce) = produce_at(&connection.slots, index) else { return false };
    produce.batches.iter().filter(|batch| matches!(batch.state, State::Ready)).all(|batch| {
        let Some(view) = cx.image.partition(batch.partition) else { return true };
        let is_known = connection.knows(batch, view.leader_epoch);
        earlier(&connection.slots, index, batch.partition).all(|other| match other.state {
            State::Sent { leader_epoch, node } => {
                let is_same_view = leader_epoch == view.leader_epoch && Some(node) == view.leader;
                is_same_view && (is_known || other.producer != batch.producer)
            }
            State::Ready | State::Stale { .. } => false,
            State::Settled(_) => true,
        })
    })
}

/// The batches for a partition in the produces before one, the latest first.
fn earlier(
    slots: &std::collections::VecDeque<Slot>,
    index: usize,
    partition: TopicPartition,
) -> impl Iterator<Item = &Batch> {
    let produces = (0..index).rev().filter_map(|earlier| produce_at(slots, earlier));
    produces.flat_map(|produce| produce.batches.iter().rev()).filter(move |batch| batch.partition == partition)
}

/// Refuses what its client sent before it knew that one in front of it was refused, where the leader might take it for the first one of
/// its producer (P3).
fn refuse_behind(cx: &Context<'_>, connection: &mut Connection, index: usize) {
    let Some(produce) = produce_at(&connection.slots, index) else { return };
    let is_behind = |batch: &Batch| {
        let (State::Ready, Some(producer)) = (&batch.state, batch.producer) else { return false };
        let Some(view) = cx.image.partition(batch.partition) else { return false };
        if connection.knows(batch, view.leader_epoch) {
            return false;
        }
        let before = earlier(&connection.slots, index, batch.partition).find(|other| other.producer == Some(producer));
        match before.map(|other| &other.state) {
            Some(State::Settled(Err(failure))) => failure.code().is_retriable(),
            Some(_) => false,
            None => connection.refusals.precede(batch.partition, producer, batch.sequence, produce.begun),
        }
    };
    let are_behind: Vec<bool> = produce.batches.iter().map(is_behind).collect();
    let Some(Work::Produce(produce)) = connection.slots.get_mut(index).map(|slot| &mut slot.work) else { return };
    for (batch, is_behind) in produce.batches.iter_mut().zip(are_behind) {
        if is_behind {
            batch.settle(Err(Failure::Behind));
        }
    }
}

/// Everything in flight has an answer: what is stale may go again, unless something behind it got ahead.
fn make_ready(slots: &mut std::collections::VecDeque<Slot>, stats: &mut Stats) {
    for index in 0..slots.len() {
        let overtaken: Vec<bool> = match produce_at(slots, index) {
            None => continue,
            Some(produce) => produce
                .batches
                .iter()
                .enumerate()
                .map(|(place, batch)| {
                    let behind = produce.batches.iter().skip(place + 1);
                    let later = (index + 1..slots.len()).filter_map(|later| produce_at(slots, later));
                    matches!(batch.state, State::Stale { .. })
                        && behind.chain(later.flat_map(|produce| &produce.batches)).any(|other| {
                            other.partition == batch.partition
                                && (batch.producer.is_none() || other.producer != batch.producer)
                                && other.may_have_appended()
                        })
                })
                .collect(),
        };
        let Some(Work::Produce(produce)) = slots.get_mut(index).map(|slot| &mut slot.work) else { continue };
        for (batch, overtaken) in produce.batches.iter_mut().zip(overtaken) {
            if overtaken {
                batch.settle(Err(Failure::NoLeader));
            } else if matches!(batch.state, State::Stale { .. }) {
                stats.produce_retries += 1;
                batch.state = State::Ready;
            }
        }
    }
}

impl Produce {
    fn has(&self, is: impl Fn(&State) -> bool) -> bool {
        self.batches.iter().any(|batch| is(&batch.state))
    }

    /// Whether the metadata know more than they did when a batch became stale: another leader, or that the topic is gone.
    fn has_news(&self, image: &Image) -> bool {
        self.batches.iter().any(|batch| match (&batch.state, image.partition(batch.partition)) {
            (State::Stale { refused }, Some(view)) => view.leader.is_some() && view.leader_epoch > *refused,
            (State::Stale { .. }, None) => true,
            _ => false,
        })
    }

    pub fn is_settled(&self) -> bool {
        !self.has(|state| !matches!(state, State::Settled(_)))
    }

    /// Sends every ready batch to the leader in our view; those without a leader become stale.
    fn send(&mut self, cx: &mut Context<'_>, hopeless: &mut BTreeMap<TopicPartition, LeaderEpoch>) {
        let mut by_node: BTreeMap<BrokerId, (Vec<usize>, Vec<AppendPartition>)> = BTreeMap::new();
        for (index, batch) in self.batches.iter_mut().enumerate() {
            let (State::Ready, Some(produced)) = (&batch.state, &batch.batch) else { continue };
            let Some(view) = cx.image.partition(batch.partition) else {
                batch.settle(Err(Failure::Refused(ErrorCode::UnknownTopicOrPartition, None)));
                continue;
            };
            let Some(node) = view.leader else {
                let hopeless = hopeless.get(&batch.partition) == Some(&view.leader_epoch);
                batch.fail_stale(view.leader_epoch, hopeless);
                continue;
            };
            let append = AppendPartition {
                partition: batch.partition,
                leader_epoch: view.leader_epoch,
                batch: Ok(produced.clone()),
            };
            batch.state = State::Sent { leader_epoch: view.leader_epoch, node };
            let (indexes, appends) = by_node.entry(node).or_default();
            indexes.push(index);
            appends.push(append);
        }
        if by_node.is_empty() {
            return;
        }
        self.answer_by = cx.now.tick.plus_ms(self.timeout_ms + ANSWER_GRACE_MS);
        cx.shared.timers.set(self.operation, self.retry_until.min(self.answer_by));
        if self.retry_until <= cx.now.tick {
            cx.shared.timers.set(self.operation, self.answer_by);
        }
        for (node, (indexes, partitions)) in by_node {
            let request = Request::Append(AppendRequest {
                acks: if self.acks == -1 && !planted!(AllAnsweredAtAppend) { Acks::All } else { Acks::Leader },
                timeout_ms: self.timeout_ms as u32,
                partitions,
            });
            let id = cx.shared.calls.begin(node, self.operation);
            let message = peer_api::storage::ToStorage { id, request };
            cx.effects.push(Effect::ToStorage { node, message, trace: self.trace });
            self.calls.insert(id, indexes);
        }
    }
}

impl Connection {
    /// Whether a leader has taken a batch of this one's producer in this epoch.
    fn knows(&self, batch: &Batch, leader_epoch: LeaderEpoch) -> bool {
        batch.producer.is_none_or(|producer| self.known.get(&batch.partition) == Some(&(producer, leader_epoch)))
    }
}

impl Batch {
    fn may_have_appended(&self) -> bool {
        match &self.state {
            State::Settled(Ok(_)) | State::Sent { .. } => true,
            State::Settled(Err(failure)) => !failure.is_definite(),
            State::Ready | State::Stale { .. } => self.ambiguous,
        }
    }

    fn is_idempotent(&self) -> bool {
        self.producer.is_some()
    }

    /// The end of a batch, with the certainty that is left after all attempts.
    fn settle(&mut self, result: Result<Appended, Failure>) {
        let result = match result {
            Err(failure) if self.ambiguous && failure.is_definite() => Err(Failure::Unknown),
            result => result,
        };
        self.batch = None;
        self.state = State::Settled(result);
    }

    /// How it ended, beside how those before it on this connection did.
    fn compare(&mut self, now: Tick, begun: Tick, refusals: &mut Refusals) {
        let (Some(producer), State::Settled(result)) = (self.producer, &mut self.state) else { return };
        match result {
            Ok(_) => refusals.appended(self.partition),
            Err(Failure::Append(AppendError::OutOfOrderSequence { expected, .. }))
                if refusals.explain(self.partition, producer, *expected, begun) =>
            {
                *result = Err(Failure::Behind);
            }
            Err(Failure::Behind) => {}
            Err(failure) if failure.code().is_retriable() => {
                refusals.refused((begun, now), self.partition, producer, self.sequence);
            }
            Err(_) => {}
        }
    }

    fn fail_stale(&mut self, refused: LeaderEpoch, hopeless: bool) {
        if hopeless {
            self.settle(Err(Failure::NoLeader));
        } else {
            self.state = State::Stale { refused };
        }
    }
}

/// A storage node answered, or its stream failed.
pub(crate) fn answered(
    now: Tick,
    connection: &mut Connection,
    index: usize,
    call: RequestId,
    result: Result<Response, TransportError>,
    stats: &mut Stats,
) {
    // What an earlier produce that is not through may still change for a later one: the partitions concerned.
    let unfinished: Vec<TopicPartition> = (0..index)
        .filter_map(|earlier| produce_at(&connection.slots, earlier))
        .flat_map(|produce| &produce.batches)
        .filter(|batch| !matches!(batch.state, State::Settled(_)))
        .map(|batch| batch.partition)
        .collect();
    let Some(Work::Produce(produce)) = connection.slots.get_mut(index).map(|slot| &mut slot.work) else { return };
    let Some(indexes) = produce.calls.remove(&call) else { return };
    let results: Vec<Result<Appended, Failure>> = match result {
        Ok(Response::Append(response)) if response.partitions.len() == indexes.len() => {
            response.partitions.into_iter().map(|(_, result)| result.map_err(Failure::Append)).collect()
        }
        // An answer to another question: the node is not to be believed about this one.
        Ok(_) | Err(TransportError::Broken) => indexes.iter().map(|_| Err(Failure::Unknown)).collect(),
        Err(TransportError::NotSent) => indexes.iter().map(|_| Err(Failure::NoLeader)).collect(),
    };
    for (index, result) in indexes.into_iter().zip(results) {
        let Some(batch) = produce.batches.get_mut(index) else { continue };
        let State::Sent { leader_epoch, .. } = batch.state else { continue };
        let hopeless = connection.hopeless.get(&batch.partition) == Some(&leader_epoch);
        match result {
            Ok(appended) => {
                connection.hopeless.remove(&batch.partition);
                if let Some(producer) = batch.producer {
                    connection.known.insert(batch.partition, (producer, leader_epoch));
                    if connection.known.len() > KNOWN_PRODUCERS_MAX {
                        connection.known.pop_first();
                    }
                }
                batch.settle(Ok(appended));
            }
            Err(Failure::NoLeader | Failure::Append(AppendError::NotLeader { .. } | AppendError::UnknownPartition)) => {
                batch.fail_stale(leader_epoch, hopeless || now >= produce.retry_until)
            }
            Err(Failure::Append(AppendError::OutOfOrderSequence { .. }))
                if unfinished.contains(&batch.partition) && now < produce.retry_until =>
            {
                // The gap is an earlier batch of this very connection, which is not through yet.
                batch.state = State::Stale { refused: leader_epoch };
            }
            Err(Failure::Unknown | Failure::Append(AppendError::LeaderChanged { .. }))
                if (batch.is_idempotent() || planted!(UnknownSentAgain)) && now < produce.retry_until =>
            {
                batch.ambiguous = true;
                batch.state = State::Stale { refused: leader_epoch };
            }
            Err(failure) => {
                if !failure.is_definite() {
                    stats.produce_indeterminate += 1;
                }
                batch.settle(Err(failure));
            }
        }
        if matches!(batch.state, State::Stale { .. }) {
            connection.retry_at.get_or_insert_with(|| now.plus_ms(RETRY_BACKOFF_MS));
        }
    }
}

/// Time is over for what is stale, and later for answers that are owed.
pub(crate) fn expired(now: Tick, connection: &mut Connection, index: usize, image: &Image, shared: &mut Shared) {
    let Some(Work::Produce(produce)) = connection.slots.get_mut(index).map(|slot| &mut slot.work) else { return };
    let mut owed = false;
    for batch in &mut produce.batches {
        match batch.state {
            State::Stale { .. } | State::Ready if produce.retry_until <= now => {
                // One that waited for its turn says nothing of the leader.
                let has_asked = matches!(batch.state, State::Stale { .. });
                batch.settle(Err(Failure::NoLeader));
                if let Some(view) = image.partition(batch.partition)
                    && (has_asked || view.leader.is_none())
                {
                    connection.hopeless.insert(batch.partition, view.leader_epoch);
                }
            }
            State::Sent { .. } if produce.answer_by <= now => {
                shared.stats.produce_indeterminate += 1;
                batch.settle(Err(Failure::Unknown));
            }
            State::Sent { .. } => owed = true,
            State::Stale { .. } | State::Ready | State::Settled(_) => {}
        }
    }
    if owed {
        shared.timers.set(produce.operation, produce.answer_by);
    }
}

/// W1: whatever is out for a partition was sent under one view of its leader.
pub(crate) fn check_order(connection: &Connection) {
    let mut epochs: BTreeMap<TopicPartition, LeaderEpoch> = BTreeMap::new();
    for batch in connection.produces().flat_map(|produce| &produce.batches) {
        if let State::Sent { leader_epoch, .. } = batch.state {
            let first = *epochs.entry(batch.partition).or_insert(leader_epoch);
            invariant!(W1, first == leader_epoch, "{}: out in epochs {first} and {leader_epoch}", batch.partition);
        }
    }
}

// - the answer -

impl Produce {
    pub fn answer(mut self, cx: &mut Context<'_>, refusals: &mut Refusals) -> Answer {
        self.batches.iter_mut().for_each(|batch| batch.compare(cx.now.tick, self.begun, refusals));
        if self.acks == 0 {
            let failed = self.has(|state| matches!(state, State::Settled(Err(_))));
            return if failed { Answer::Close(CloseReason::ProduceWithoutAckFailed) } else { Answer::Silent };
        }
        let mut response = ProduceResponse::default();
        let mut leaders: Vec<BrokerId> = Vec::new();
        let mut batches = self.batches.into_iter();
        for topic in self.topics {
            let partition_responses = batches
                .by_ref()
                .take(topic.partitions)
                .map(|batch| partition_response(cx, batch, &mut leaders))
                .collect();
            response.responses.push(TopicProduceResponse { name: topic.name, topic_id: topic.id, partition_responses });
        }
        if cx.version() >= 10 {
            response.node_endpoints = endpoints(cx, leaders);
        }
        cx.respond(&response)
    }
}

fn partition_response(cx: &mut Context<'_>, batch: Batch, leaders: &mut Vec<BrokerId>) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse { index: batch.index, ..Default::default() };
    let failure = match batch.state {
        State::Settled(Ok(appended)) => {
            response.base_offset = appended.base_offset.0;
            response.log_append_time_ms = appended.log_append_time.0;
            response.log_start_offset = appended.log_start.0;
            return response;
        }
        State::Settled(Err(failure)) => failure,
        // Only settled produces are answered.
        State::Ready | State::Sent { .. } | State::Stale { .. } => Failure::Unknown,
    };
    let code = failure.code();
    response.error_code = cx.code(code);
    response.base_offset = Offset::UNKNOWN.0;
    response.log_append_time_ms = Timestamp::NONE.0;
    response.log_start_offset = Offset::UNKNOWN.0;
    if cx.version() >= 8 {
        response.error_message = failure.message().map(KafkaString::from);
        response.record_errors = failure
            .records()
            .iter()
            .map(|batch_index| BatchIndexAndErrorMessage {
                batch_index: *batch_index,
                batch_index_error_message: response.error_message.clone(),
            })
            .collect();
    }
    if code == ErrorCode::NotLeaderOrFollower
        && cx.version() >= 10
        && let Some(view) = cx.image.partition(batch.partition)
        && let Some(leader) = view.leader
    {
        response.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: view.leader_epoch.0 };
        leaders.push(leader);
    }
    response
}

fn endpoints(cx: &Context<'_>, mut leaders: Vec<BrokerId>) -> Vec<NodeEndpoint> {
    leaders.sort_unstable();
    leaders.dedup();
    leaders
        .into_iter()
        .filter_map(|leader| {
            let broker = cx.image.broker(leader)?;
            let (host, port) = route::address_of(cx.image, broker, cx.shared.controller.advertised());
            let rack = broker.rack.as_ref().map(KafkaString::from);
            Some(NodeEndpoint { node_id: leader.0, host, port, rack })
        })
        .collect()
}

#[cfg(test)]
mod tests;
