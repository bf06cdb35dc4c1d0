//! W1, W2, W3, P3, R17: random leader moves, lost streams and late answers against a storage twin that fences by epoch.
//!
//! The twin is dumb: one log per partition, nodes that learn of leadership late, streams that break with any prefix of what
//! they carried taken up. A history is judged when everything has healed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, Incarnation, LeaderEpoch, Now, Offset, PartitionEpoch, PartitionIndex,
    ProducerEpoch, ProducerId, Random, Sequence, Tick, Timestamp, TopicId, TopicPartition,
};
use bytes::Bytes;
use gateway_core::{Config, ConnectionId, Effect, Effects, Event, Gateway, Stamp};
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::{ProduceRequest, Uuid, decode_response, encode_request};
use peer_api::controller::FromController;
use peer_api::metadata::{Broker, BrokerState, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::{
    AppendError, AppendRequest, AppendResponse, Appended, FromStorage, Request, RequestId, Response, ToStorage,
    TransportError,
};
use record_batch::{BatchBuilder, Compression, Producer};

const TOPIC: TopicId = TopicId([3; 16]);
const PARTITIONS: i32 = 2;
const NODES: i32 = 3;
const CLIENTS: u64 = 3;
const VERSION: i16 = 9;

/// One record that a client sent: who, where, and its place among those of that client and partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    client: u64,
    partition: i32,
    number: u64,
    idempotent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Offset(i64),
    Error(ErrorCode),
}

#[derive(Default)]
struct Client {
    /// Correlation id, and the records it carried by partition.
    unanswered: VecDeque<(i32, Vec<Bytes>)>,
    numbers: BTreeMap<i32, u64>,
    producer: i64,
    sequences: BTreeMap<i32, i32>,
}

struct Node {
    /// What is on its way to the node, in order.
    queue: VecDeque<ToStorage>,
    /// What it has taken up and not answered.
    answers: Vec<FromStorage>,
    /// Whom it believes to lead, in which epoch.
    view: BTreeMap<i32, (i32, i32)>,
}

struct World {
    random: Random,
    gateway: Gateway,
    now: u64,
    metadata: u64,
    /// Updates on their way to the gateway.
    updates: VecDeque<Update>,
    truth: BTreeMap<i32, (i32, i32)>,
    fenced: BTreeSet<i32>,
    /// How often the gateway has left a node.
    left: usize,
    nodes: BTreeMap<i32, Node>,
    logs: BTreeMap<i32, Vec<Bytes>>,
    producers: BTreeMap<(i32, i64), Vec<(i32, i64)>>,
    ids: BTreeMap<Bytes, Id>,
    /// How often a batch was taken up with no definite refusal.
    deliveries: BTreeMap<Bytes, u32>,
    told: BTreeMap<Bytes, Told>,
    clients: BTreeMap<u64, Client>,
    correlation_id: i32,
    next_producer: i64,
}

fn state_of((leader, epoch): (i32, i32)) -> PartitionState {
    PartitionState {
        replicas: (1..=NODES).map(BrokerId).collect(),
        isr: vec![BrokerId(leader)],
        leader: Some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
        ..Default::default()
    }
}

fn place(index: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionIndex(index) }
}

impl World {
    fn new(seed: u64) -> World {
        let truth: BTreeMap<i32, (i32, i32)> = (0..PARTITIONS).map(|index| (index, (index % NODES + 1, 1))).collect();
        let nodes = (1..=NODES)
            .map(|id| (id, Node { queue: VecDeque::new(), answers: Vec::new(), view: truth.clone() }))
            .collect();
        let mut world = World {
            random: Random::new(seed),
            gateway: Gateway::new(Config::default()),
            now: 0,
            metadata: 1,
            updates: VecDeque::new(),
            nodes,
            logs: BTreeMap::new(),
            producers: BTreeMap::new(),
            ids: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            told: BTreeMap::new(),
            clients: BTreeMap::new(),
            correlation_id: 0,
            next_producer: 0,
            truth: truth.clone(),
            fenced: BTreeSet::new(),
            left: 0,
        };
        world.step(Event::Ticked);
        world.step(Event::ControllerConnected);
        world.step(Event::ControllerMessage(FromController::Welcome { controller: BrokerId(1), term: 1 }));
        let mut records: Vec<Record> = (1..=NODES)
            .map(|id| {
                Record::BrokerRegistered(Broker {
                    id: BrokerId(id),
                    epoch: BrokerEpoch(1),
                    incarnation: Incarnation::ZERO,
                    rack: None,
                    peer_address: format!("node{id}:1"),
                    host: String::new(),
                    state: BrokerState::Active,
                })
            })
            .collect();
        records.push(Record::TopicCreated { id: TOPIC, name: "t".into() });
        records.extend(truth.iter().map(|(index, (leader, epoch))| Record::PartitionChanged {
            partition: place(*index),
            state: state_of((*leader, *epoch)),
        }));
        let snapshot = Update::Snapshot { at: MetadataOffset(1), records };
        world.step(Event::ControllerMessage(FromController::Update(snapshot)));
        for client in 1..=CLIENTS {
            world.step(Event::ConnectionOpened { connection: ConnectionId(client), host: String::new() });
            world.next_producer += 1;
            world.clients.insert(client, Client { producer: world.next_producer, ..Client::default() });
        }
        world
    }

    fn step(&mut self, event: Event) {
        let mut effects = Effects::default();
        let now = Now { tick: Tick(self.now), wall: Timestamp(0) };
        self.gateway.step(now, event, &mut effects);
        self.gateway.check_invariants();
        for effect in effects.drain() {
            match effect {
                Effect::ToStorage { node, message, .. } => {
                    self.nodes.get_mut(&node.0).unwrap().queue.push_back(message)
                }
                Effect::Send { connection, segments, .. } => {
                    let whole = Bytes::from(segments.concat());
                    self.answered(connection, whole.slice(4..));
                    self.step(Event::BytesSent { connection, bytes: whole.len() });
                }
                // A node that stands still: what was on its stream may be taken up later, by a leader of the past.
                Effect::LeaveStorage { node } => {
                    self.left += 1;
                    self.break_stream(node.0);
                }
                Effect::Close { connection, reason } => panic!("{connection:?} closed: {reason:?}"),
                _ => {}
            }
        }
    }

    // - clients -

    fn produce(&mut self) {
        let id = 1 + self.random.below(CLIENTS);
        // The first two clients are idempotent, the others not.
        let idempotent = id <= 2;
        let mut client = self.clients.remove(&id).unwrap();
        if client.unanswered.len() < 8 {
            let mut batches = Vec::new();
            let mut partition_data = Vec::new();
            for index in 0..PARTITIONS {
                if self.random.chance(300) {
                    continue;
                }
                let number = client.numbers.entry(index).or_default();
                let sequence = client.sequences.entry(index).or_default();
                let value = [id.to_be_bytes(), (index as u64).to_be_bytes(), number.to_be_bytes()].concat();
                let producer = Producer {
                    id: ProducerId(client.producer),
                    epoch: ProducerEpoch(0),
                    base_sequence: Sequence(*sequence),
                };
                let producer = if idempotent { producer } else { Producer::NONE };
                let batch = BatchBuilder::new(Compression::None)
                    .producer(producer)
                    .record(None, Some(&value), &[], Timestamp(1))
                    .build()
                    .unwrap();
                self.ids.insert(batch.clone(), Id { client: id, partition: index, number: *number, idempotent });
                *number += 1;
                *sequence += 1;
                partition_data.push(PartitionProduceData { index, records: Some(batch.clone()) });
                batches.push(batch);
            }
            if !batches.is_empty() {
                self.correlation_id += 1;
                client.unanswered.push_back((self.correlation_id, batches));
                let request = ProduceRequest {
                    acks: -1,
                    timeout_ms: 2_000,
                    topic_data: vec![TopicProduceData { name: "t".into(), topic_id: Uuid::ZERO, partition_data }],
                    transactional_id: None,
                };
                self.clients.insert(id, client);
                let frame = encode_request(self.correlation_id, None, VERSION, &request).unwrap().concat();
                let frame = Bytes::from(frame).slice(4..);
                return self.step(Event::FrameReceived {
                    connection: ConnectionId(id),
                    frame,
                    stamp: Stamp::default(),
                });
            }
        }
        self.clients.insert(id, client);
    }

    fn answered(&mut self, connection: ConnectionId, frame: Bytes) {
        let (correlation_id, response) = decode_response::<ProduceRequest>(frame, VERSION).unwrap();
        let client = self.clients.get_mut(&connection.0).unwrap();
        let (expected, batches) = client.unanswered.pop_front().expect("a request without answer");
        assert_eq!(expected, correlation_id, "W1: answers out of order on {connection:?}");
        let partitions = &response.responses[0].partition_responses;
        assert_eq!(partitions.len(), batches.len());
        let mut failed = false;
        for (batch, partition) in batches.into_iter().zip(partitions) {
            assert_eq!(self.ids[&batch].partition, partition.index);
            let told = match ErrorCode::from_code(partition.error_code).unwrap() {
                ErrorCode::None => Told::Offset(partition.base_offset),
                code => Told::Error(code),
            };
            // The numbers of each producer are without a gap, and begun anew after an error.
            assert_ne!(told, Told::Error(ErrorCode::OutOfOrderSequenceNumber));
            failed |= told != Told::Offset(partition.base_offset);
            assert!(self.told.insert(batch, told).is_none(), "answered twice");
        }
        if failed {
            // As a real client would: a fresh producer id after an error.
            self.next_producer += 1;
            client.producer = self.next_producer;
            client.sequences.clear();
        }
    }

    // - storage -

    fn take_up(&mut self, node: i32) {
        let Some(ToStorage { id, request }) = self.nodes.get_mut(&node).unwrap().queue.pop_front() else { return };
        let Request::Append(append) = request else { panic!("only produces are sent here") };
        let response = self.append(node, append);
        self.nodes.get_mut(&node).unwrap().answers.push(FromStorage { id, response });
    }

    fn append(&mut self, node: i32, append: AppendRequest) -> Response {
        let mut partitions = Vec::new();
        for asked in append.partitions {
            let index = asked.partition.partition.0;
            let batch = asked.batch.unwrap();
            let bytes = batch.bytes().clone();
            let result = self.append_one(node, index, asked.leader_epoch.0, &batch);
            if !matches!(&result, Err(error) if error.is_definite()) {
                *self.deliveries.entry(bytes).or_default() += 1;
            }
            partitions.push((asked.partition, result));
        }
        Response::Append(AppendResponse { partitions })
    }

    fn append_one(
        &mut self,
        node: i32,
        index: i32,
        epoch: i32,
        batch: &record_batch::ProducedBatch,
    ) -> Result<Appended, AppendError> {
        let (leader, leader_epoch) = self.nodes[&node].view[&index];
        let newest = AppendError::NotLeader { leader: BrokerId(leader), leader_epoch: LeaderEpoch(leader_epoch) };
        if leader != node || leader_epoch != epoch {
            return Err(newest);
        }
        if self.truth[&index] != (node, epoch) {
            // A leader of the past takes it and will never commit it.
            let (leader, epoch) = self.truth[&index];
            let (leader, leader_epoch) = (BrokerId(leader), LeaderEpoch(epoch));
            return Err(AppendError::LeaderChanged { leader, leader_epoch });
        }
        if self.random.chance(20) {
            return Err(AppendError::NotEnoughReplicas);
        }
        let log = self.logs.entry(index).or_default();
        let header = batch.header();
        let appended = |offset: i64| {
            Ok(Appended { base_offset: Offset(offset), log_append_time: Timestamp::NONE, log_start: Offset::ZERO })
        };
        if header.has_producer_id() {
            let known = self.producers.entry((index, header.producer_id.0)).or_default();
            let sequence = header.base_sequence.0;
            if let Some((_, offset)) = known.iter().find(|(seen, _)| *seen == sequence) {
                return appended(*offset);
            }
            // Of whom it does not know it takes any number as the first, as the leader does.
            let expected = known.last().map_or(sequence, |(last, _)| last + 1);
            if sequence != expected {
                return Err(AppendError::OutOfOrderSequence { expected: Sequence(expected), got: Sequence(sequence) });
            }
            known.push((sequence, log.len() as i64));
        }
        log.push(batch.bytes().clone());
        let offset = log.len() as i64 - 1;
        // Appended, but who asked is not told.
        if self.random.chance(20) { Err(AppendError::TimedOut) } else { appended(offset) }
    }

    /// One answer, not necessarily the oldest, reaches the gateway.
    fn reply(&mut self, node: i32) {
        let count = self.nodes[&node].answers.len() as u64;
        if count > 0 {
            let index = self.random.below(count) as usize;
            let message = self.nodes.get_mut(&node).unwrap().answers.remove(index);
            self.step(Event::StorageResponded { node: BrokerId(node), message });
        }
    }

    /// The stream ends: a prefix of what was on it is taken up, a suffix was never handed over, answers are lost.
    fn break_stream(&mut self, node: i32) {
        let on_the_way = self.nodes[&node].queue.len() as u64;
        let sent = self.random.between(0, on_the_way);
        let taken = self.random.between(0, sent);
        let state = self.nodes.get_mut(&node).unwrap();
        let not_sent: Vec<RequestId> = state.queue.iter().skip(sent as usize).map(|message| message.id).collect();
        state.queue.truncate(sent as usize);
        for _ in 0..taken {
            self.take_up(node);
        }
        let state = self.nodes.get_mut(&node).unwrap();
        let mut broken: Vec<RequestId> = state.answers.drain(..).map(|answer| answer.id).collect();
        broken.extend(state.queue.drain(..).map(|message| message.id));
        let node = BrokerId(node);
        self.step(Event::StorageFailed { node, ids: broken, error: TransportError::Broken });
        self.step(Event::StorageFailed { node, ids: not_sent, error: TransportError::NotSent });
    }

    // - metadata -

    fn move_leader(&mut self) {
        let index = self.random.below(PARTITIONS as u64) as i32;
        let leader = 1 + self.random.below(NODES as u64) as i32;
        let epoch = self.truth[&index].1 + 1;
        self.truth.insert(index, (leader, epoch));
        let (from, to) = (MetadataOffset(self.metadata), MetadataOffset(self.metadata + 1));
        self.metadata += 1;
        let record = Record::PartitionChanged { partition: place(index), state: state_of((leader, epoch)) };
        self.updates.push_back(Update::Delta { from, to, records: vec![record] });
    }

    /// Fences a node that leads something, which is then led by others; or unfences it.
    fn fence(&mut self, node: i32) {
        let fenced = !self.fenced.remove(&node) && self.fenced.is_empty();
        let state = if fenced { BrokerState::Fenced } else { BrokerState::Active };
        let record = Record::BrokerStateChanged { broker: BrokerId(node), broker_epoch: BrokerEpoch(1), state };
        let mut records = vec![record];
        if fenced {
            self.fenced.insert(node);
            for index in 0..PARTITIONS {
                let (leader, epoch) = self.truth[&index];
                if leader == node {
                    let elected = (leader % NODES + 1, epoch + 1);
                    self.truth.insert(index, elected);
                    let state = state_of(elected);
                    records.push(Record::PartitionChanged { partition: place(index), state });
                }
            }
        }
        let (from, to) = (MetadataOffset(self.metadata), MetadataOffset(self.metadata + 1));
        self.metadata += 1;
        self.updates.push_back(Update::Delta { from, to, records });
    }

    fn learn(&mut self, node: i32) {
        let truth = self.truth.clone();
        self.nodes.get_mut(&node).unwrap().view = truth;
    }

    fn update(&mut self) {
        if let Some(update) = self.updates.pop_front() {
            self.step(Event::ControllerMessage(FromController::Update(update)));
        }
    }

    fn act(&mut self) {
        let node = 1 + self.random.below(NODES as u64) as i32;
        match self.random.below(1000) {
            0..300 => self.produce(),
            300..550 => self.take_up(node),
            550..800 => self.reply(node),
            800..815 => self.break_stream(node),
            815..835 => self.move_leader(),
            835..865 => self.update(),
            865..880 => self.fence(node),
            880..915 => self.learn(node),
            _ => {
                self.now += self.random.below(60);
                self.step(Event::Ticked);
            }
        }
    }

    /// Everything on its way arrives, everybody learns everything.
    fn heal(&mut self) {
        for _ in 0..400 {
            while !self.updates.is_empty() {
                self.update();
            }
            for node in 1..=NODES {
                self.learn(node);
                while !self.nodes[&node].queue.is_empty() {
                    self.take_up(node);
                }
                while !self.nodes[&node].answers.is_empty() {
                    self.reply(node);
                }
            }
            self.now += 50;
            self.step(Event::Ticked);
        }
    }

    fn judge(&self) {
        for (id, client) in &self.clients {
            assert!(client.unanswered.is_empty(), "client {id} waits for {} answers", client.unanswered.len());
        }
        assert!(self.gateway.is_idle());
        for (index, log) in &self.logs {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for batch in log {
                let id = self.ids[batch];
                assert_eq!(id.partition, *index);
                if let Some(before) = last.insert(id.client, id.number) {
                    assert!(before < id.number, "W1: {id:?} after {before} in partition {index}");
                }
            }
        }
        for (batch, told) in &self.told {
            let id = self.ids[batch];
            let log = self.logs.get(&id.partition).map(Vec::as_slice).unwrap_or_default();
            match told {
                Told::Offset(offset) => {
                    assert_eq!(log.get(*offset as usize), Some(batch), "W3: {id:?} told {offset}");
                }
                Told::Error(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) => {}
                Told::Error(code) => assert!(!log.contains(batch), "R17: {id:?} told {code} and is there"),
            }
            let deliveries = self.deliveries.get(batch).copied().unwrap_or_default();
            assert!(id.idempotent || deliveries <= 1, "W2: {id:?} delivered {deliveries} times");
        }
    }
}

#[test]
fn order_is_kept_and_nothing_is_delivered_twice_whatever_happens() {
    let (mut appended, mut retries, mut unknown, mut refused, mut left) = (0, 0, 0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.act();
        }
        world.heal();
        world.judge();
        let stats = world.gateway.stats();
        appended += world.logs.values().map(Vec::len).sum::<usize>();
        retries += stats.produce_retries;
        left += world.left;
        unknown += stats.produce_indeterminate;
        refused +=
            world.told.values().filter(|told| matches!(told, Told::Error(ErrorCode::NotLeaderOrFollower))).count();
    }
    // The faults are really there.
    assert!(appended > 10_000 && retries > 1_000 && unknown > 1_000, "{appended} {retries} {unknown} {refused}");
    assert!(left > 100, "{left}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = || {
        let mut world = World::new(77);
        (0..600).for_each(|_| world.act());
        world.heal();
        (world.logs, world.told.into_iter().map(|(batch, told)| (batch, format!("{told:?}"))).collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}
