//! A gateway with everything around it, for step tests: frames in, exact effects out.

use std::collections::VecDeque;

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Now, PartitionEpoch, PartitionIndex, ProducerEpoch, ProducerId,
    Sequence, Tick, Timestamp, TopicId, TopicPartition,
};
use bytes::Bytes;
use kafka_wire::{Request, decode_response, encode_request};
use peer_api::controller::{self, FromController, ToController};
use peer_api::groups::{CoordinatorError, GROUPS_TOPIC, GroupRequest, GroupResponse, ToCoordinator};
use peer_api::metadata::{Broker, BrokerState, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::{self, FromStorage, RequestId, ToStorage, TransportError};
use record_batch::{BatchBuilder, Compression, Producer};

use crate::{CloseReason, Config, ConnectionId, Effect, Effects, Event, Gateway, Stamp};

pub(crate) const C: ConnectionId = ConnectionId(1);

pub(crate) struct World {
    pub gateway: Gateway,
    pub now: u64,
    at: u64,
    topics: u8,
    correlation_id: i32,
    /// Effects that no test has looked at yet.
    pub sent: VecDeque<(ConnectionId, Bytes)>,
    pub completed: usize,
    pub closed: Vec<(ConnectionId, CloseReason)>,
    pub paused: Vec<(ConnectionId, bool)>,
    pub to_storage: VecDeque<(BrokerId, ToStorage)>,
    pub calls: VecDeque<(RequestId, controller::Request)>,
    pub located: Vec<(BrokerId, Option<String>)>,
    pub left: Vec<BrokerId>,
}

impl World {
    /// A cluster of storage nodes 1 to `brokers`, seen by gateway 100, with connection [`C`] open.
    pub fn new(brokers: i32) -> World {
        World::with(brokers, Config { id: BrokerId(100), advertised_host: "gw".into(), ..Config::default() })
    }

    pub fn with(brokers: i32, config: Config) -> World {
        let mut world = World {
            gateway: Gateway::new(config),
            now: 1_000,
            at: 0,
            topics: 0,
            correlation_id: 0,
            sent: VecDeque::new(),
            completed: 0,
            closed: Vec::new(),
            paused: Vec::new(),
            to_storage: VecDeque::new(),
            calls: VecDeque::new(),
            located: Vec::new(),
            left: Vec::new(),
        };
        world.step(Event::Ticked);
        world.step(Event::ControllerConnected);
        world.step(Event::ControllerMessage(FromController::Welcome { controller: BrokerId(1), term: 1 }));
        let mut records = vec![
            Record::ClusterNamed { cluster_id: "cluster".into() },
            Record::FeatureChanged { name: "metadata.version".into(), level: 30 },
            Record::FeatureChanged { name: "eligible.leader.replicas.version".into(), level: 1 },
            Record::FeatureChanged { name: "group.version".into(), level: 1 },
            Record::FeatureChanged { name: "transaction.version".into(), level: 2 },
        ];
        records.extend((1..=brokers).map(broker));
        world.at = 10;
        world.step(Event::ControllerMessage(FromController::Update(Update::Snapshot {
            at: MetadataOffset(10),
            records,
        })));
        world.calls.clear();
        world.step(Event::ConnectionOpened { connection: C, host: "/10.0.0.1".into() });
        world
    }

    pub fn step(&mut self, event: Event) {
        let mut effects = Effects::default();
        let now = Now { tick: Tick(self.now), wall: self.wall() };
        self.gateway.step(now, event, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Send { connection, segments, .. } => {
                    let whole = Bytes::from(segments.concat());
                    assert_eq!(whole[..4], (whole.len() as i32 - 4).to_be_bytes());
                    self.sent.push_back((connection, whole.slice(4..)));
                }
                Effect::Complete { .. } => self.completed += 1,
                Effect::Close { connection, reason } => self.closed.push((connection, reason)),
                Effect::PauseReading { connection } => self.paused.push((connection, true)),
                Effect::ResumeReading { connection } => self.paused.push((connection, false)),
                Effect::LocateStorage { node, address } => self.located.push((node, address)),
                Effect::LeaveStorage { node } => self.left.push(node),
                Effect::ToStorage { node, message, .. } => self.to_storage.push_back((node, message)),
                Effect::OpenController { .. } | Effect::ToController { message: ToController::Hello { .. }, .. } => {}
                Effect::ToController { message: ToController::Call { id, request }, .. } => {
                    self.calls.push_back((id, request));
                }
            }
        }
        self.gateway.check_invariants();
    }

    pub fn wall(&self) -> Timestamp {
        Timestamp(self.now as i64 + 1_700_000_000_000)
    }

    pub fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.step(Event::Ticked);
    }

    // - metadata -

    pub fn change(&mut self, records: Vec<Record>) {
        let from = MetadataOffset(self.at);
        self.at += 1;
        let update = Update::Delta { from, to: MetadataOffset(self.at), records };
        self.step(Event::ControllerMessage(FromController::Update(update)));
    }

    /// Makes a topic whose partitions are led by these nodes, in epoch 5.
    pub fn topic(&mut self, name: &str, leaders: &[i32]) -> TopicId {
        self.topics += 1;
        let id = TopicId([self.topics; 16]);
        let mut records = vec![Record::TopicCreated { id, name: name.into() }];
        records.extend(leaders.iter().enumerate().map(|(index, leader)| partition(id, index as i32, Some(*leader), 5)));
        self.change(records);
        id
    }

    /// Moves a partition; epochs must grow.
    pub fn lead(&mut self, topic: TopicId, index: i32, leader: Option<i32>, epoch: i32) {
        self.change(vec![partition(topic, index, leader, epoch)]);
    }

    pub fn metadata_at(&self) -> MetadataOffset {
        MetadataOffset(self.at)
    }

    // - clients -

    /// Sends a request; returns its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.send_on(C, version, request)
    }

    pub fn send_on<R: Request>(&mut self, connection: ConnectionId, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let segments = encode_request(self.correlation_id, Some("test".into()), version, request).unwrap();
        let frame = Bytes::from(segments.concat()).slice(4..);
        self.step(Event::FrameReceived { connection, frame, stamp: Stamp::default() });
        self.correlation_id
    }

    /// The next answer on any connection.
    pub fn answer<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let (connection, frame) = self.sent.pop_front().expect("an answer");
        let bytes = frame.len() + 4;
        let answer = decode_response::<R>(frame, version).unwrap();
        self.step(Event::BytesSent { connection, bytes });
        answer
    }

    /// Sends a request that is answered at once.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        let (answered, response) = self.answer::<R>(version);
        assert_eq!(id, answered);
        response
    }

    pub fn is_silent(&self) -> bool {
        self.sent.is_empty() && self.closed.is_empty() && self.completed == 0
    }

    // - the others -

    pub fn next_call(&mut self) -> (RequestId, controller::Request) {
        self.calls.pop_front().expect("a call to the controller")
    }

    pub fn controller_answers(&mut self, id: RequestId, result: Result<controller::Response, controller::Error>) {
        self.step(Event::ControllerMessage(FromController::Answer { id, result }));
    }

    pub fn next_request(&mut self) -> (BrokerId, RequestId, storage::Request) {
        let (node, message) = self.to_storage.pop_front().expect("a request to storage");
        (node, message.id, message.request)
    }

    pub fn storage_answers(&mut self, node: BrokerId, id: RequestId, response: storage::Response) {
        self.step(Event::StorageResponded { node, message: FromStorage { id, response } });
    }

    /// A cluster of storage nodes 1 to `brokers` where node 1 coordinates every group.
    pub fn with_groups(brokers: i32) -> World {
        let mut world = World::new(brokers);
        world.topic(GROUPS_TOPIC, &[1]);
        world
    }

    /// What a coordinator is asked next.
    pub fn next_question(&mut self) -> (BrokerId, RequestId, ToCoordinator) {
        match self.next_request() {
            (node, id, storage::Request::Coordinate(question)) => (node, id, *question),
            (_, _, other) => panic!("no question for a coordinator: {other:?}"),
        }
    }

    pub fn coordinator_answers(
        &mut self,
        node: BrokerId,
        id: RequestId,
        answer: Result<GroupResponse, CoordinatorError>,
    ) {
        self.storage_answers(node, id, storage::Response::Coordinate(Box::new(answer)));
    }

    /// Sends a request of one group, has its coordinator answer so, and returns what it was asked and what the client is told.
    pub fn coordinate<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        answer: Result<GroupResponse, CoordinatorError>,
    ) -> (GroupRequest, R::Response) {
        self.send(version, request);
        let (node, id, question) = self.next_question();
        self.coordinator_answers(node, id, answer);
        (question.request, self.answer::<R>(version).1)
    }

    pub fn storage_fails(&mut self, node: BrokerId, id: RequestId, error: TransportError) {
        self.step(Event::StorageFailed { node, ids: vec![id], error });
    }
}

pub(crate) fn broker(id: i32) -> Record {
    Record::BrokerRegistered(Broker {
        id: BrokerId(id),
        epoch: BrokerEpoch(1),
        incarnation: Incarnation::ZERO,
        rack: Some(format!("r{id}")),
        peer_address: format!("node{id}:1"),
        host: format!("host{id}"),
        state: BrokerState::Active,
    })
}

pub(crate) fn partition(topic: TopicId, index: i32, leader: Option<i32>, epoch: i32) -> Record {
    let replicas: Vec<BrokerId> = leader.into_iter().chain([7]).map(BrokerId).collect();
    Record::PartitionChanged {
        partition: tp(topic, index),
        state: PartitionState {
            isr: replicas.clone(),
            replicas,
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(epoch),
            ..Default::default()
        },
    }
}

pub(crate) fn tp(topic: TopicId, index: i32) -> TopicPartition {
    TopicPartition { topic, partition: PartitionIndex(index) }
}

pub(crate) fn batch(value: &str) -> Bytes {
    BatchBuilder::new(Compression::None).record(Some(b"k"), Some(value.as_bytes()), &[], Timestamp(1)).build().unwrap()
}

/// A batch of an idempotent producer, of one record.
pub(crate) fn numbered(sequence: i32) -> Bytes {
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) };
    BatchBuilder::new(Compression::None).producer(producer).record(None, Some(b"v"), &[], Timestamp(1)).build().unwrap()
}
