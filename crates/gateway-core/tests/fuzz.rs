//! Hostile frames against the whole core: nothing panics, everything is answered or closed, memory is what was received.

use std::collections::BTreeMap;

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Now, PartitionEpoch, PartitionIndex, Random, Tick, Timestamp,
    TopicId, TopicPartition,
};
use bytes::Bytes;
use gateway_core::{Config, ConnectionId, Effect, Effects, Event, Gateway, Stamp};
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::{ApiKey, FetchRequest, ProduceRequest, Request as WireRequest, Uuid, encode_request};
use peer_api::controller::{Error, FromController, ToController};
use peer_api::metadata::{Broker, BrokerState, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::{Request, RequestId, TransportError};
use record_batch::{BatchBuilder, Compression};

const TOPIC: TopicId = TopicId([3; 16]);
const GROUPS: TopicId = TopicId([4; 16]);
/// In `make test`; `make fuzz` sends ten million.
const FRAMES: usize = 100_000;

#[expect(clippy::disallowed_methods, reason = "a test asks how long it may be")]
fn frame_count() -> usize {
    std::env::var("FUZZ_FRAMES").map_or(FRAMES, |frames| frames.parse().expect("FUZZ_FRAMES is a number"))
}

fn gateway() -> (Gateway, Effects) {
    let (mut gateway, mut effects) = (Gateway::new(Config::default()), Effects::default());
    let state = PartitionState {
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        ..Default::default()
    };
    let records = vec![
        Record::BrokerRegistered(Broker {
            id: BrokerId(1),
            epoch: BrokerEpoch(1),
            incarnation: Incarnation::ZERO,
            rack: None,
            peer_address: "node1:1".into(),
            host: String::new(),
            state: BrokerState::Active,
        }),
        Record::TopicCreated { id: TOPIC, name: "t".into() },
        Record::PartitionChanged {
            partition: TopicPartition { topic: TOPIC, partition: PartitionIndex(0) },
            state: state.clone(),
        },
        Record::TopicCreated { id: GROUPS, name: "__consumer_offsets".into() },
        Record::PartitionChanged { partition: TopicPartition { topic: GROUPS, partition: PartitionIndex(0) }, state },
    ];
    let events = [
        Event::Ticked,
        Event::ControllerConnected,
        Event::ControllerMessage(FromController::Welcome { controller: BrokerId(1), term: 1 }),
        Event::ControllerMessage(FromController::Update(Update::Snapshot { at: MetadataOffset(1), records })),
    ];
    for event in events {
        gateway.step(Now::default(), event, &mut effects);
    }
    effects.drain().for_each(drop);
    (gateway, effects)
}

fn corpus() -> Vec<Bytes> {
    fn add<R: WireRequest + Default>(frames: &mut Vec<Bytes>) {
        for version in R::API_KEY.valid_versions().unwrap() {
            add_one(frames, version, &R::default());
        }
    }
    fn add_one<R: WireRequest>(frames: &mut Vec<Bytes>, version: i16, request: &R) {
        if let Ok(segments) = encode_request(7, Some("fuzz".into()), version, request) {
            frames.push(Bytes::from(segments.concat()).slice(4..));
        }
    }
    let mut frames = Vec::new();
    macro_rules! add_all {
        ($($key:ident $request:ident $response:ident;)*) => { $(add::<kafka_wire::$request>(&mut frames);)* };
    }
    kafka_wire::for_each_api!(add_all);
    let records =
        BatchBuilder::new(Compression::None).record(Some(b"k"), Some(&[1; 200]), &[], Timestamp(1)).build().unwrap();
    for version in 3..=13 {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(records.clone()) }; 3];
        let topic_data = vec![TopicProduceData { name: "t".into(), topic_id: Uuid(TOPIC.0), partition_data }];
        let request = ProduceRequest { acks: -1, timeout_ms: 100, topic_data, transactional_id: None };
        add_one(&mut frames, version, &request);
    }
    for version in 4..=18 {
        let partitions = vec![FetchPartition { partition_max_bytes: 1000, ..Default::default() }; 3];
        let topics = vec![FetchTopic { topic: "t".into(), topic_id: Uuid(TOPIC.0), partitions }];
        let request = FetchRequest { max_wait_ms: 50, min_bytes: 1, topics, session_epoch: 0, ..Default::default() };
        add_one(&mut frames, version, &request);
    }
    frames
}

fn mutated(random: &mut Random, frames: &[Bytes]) -> Bytes {
    let mut frame = frames[random.below(frames.len() as u64) as usize].to_vec();
    for _ in 0..random.between(0, 6) {
        let at = random.below(frame.len().max(1) as u64) as usize;
        match random.below(8) {
            0 if !frame.is_empty() => frame[at] ^= 1 << random.below(8),
            1 if !frame.is_empty() => frame[at] = random.next_u64() as u8,
            2 => frame.truncate(at),
            3 => frame.extend((0..random.below(40)).map(|_| random.next_u64() as u8)),
            4 => {
                let value = [0, 1, i32::MAX, i32::MIN, -1, 0x0100_0000][random.below(6) as usize];
                let end = (at + 4).min(frame.len());
                frame[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
            }
            5 => {
                let other = &frames[random.below(frames.len() as u64) as usize];
                frame.truncate(at);
                frame.extend_from_slice(&other[other.len().min(at)..]);
            }
            6 => drop(frame.splice(at..at, [0xff; 5])),
            _ => {}
        }
    }
    frame.into()
}

#[test]
fn hostile_frames_are_answered_or_close_and_leave_nothing_behind() {
    let (mut gateway, mut effects) = gateway();
    let (mut random, frames) = (Random::new(5), corpus());
    let (mut now, mut last) = (0, 0);
    let mut connections: BTreeMap<ConnectionId, u64> = BTreeMap::new();
    let (mut received, mut answered, mut closed) = (0usize, 0usize, 0usize);
    let mut calls: Vec<RequestId> = Vec::new();
    let mut questions: Vec<RequestId> = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..frame_count() {
        if connections.len() < 20 {
            last += 1;
            connections.insert(ConnectionId(last), 0);
            events.push(Event::ConnectionOpened { connection: ConnectionId(last), host: String::new() });
        }
        let index = random.below(connections.len() as u64) as usize;
        let connection = *connections.keys().nth(index).unwrap();
        let frame = mutated(&mut random, &frames);
        received += frame.len();
        events.push(Event::FrameReceived { connection, frame, stamp: Stamp::default() });
        match random.below(50) {
            0 => {
                connections.remove(&connection);
                events.push(Event::ConnectionClosed { connection });
            }
            1..10 => {
                let ids = std::mem::take(&mut calls);
                let error = if random.chance(500) { TransportError::Broken } else { TransportError::NotSent };
                events.push(Event::StorageFailed { node: BrokerId(1), ids, error });
            }
            10..15 => events.extend(
                questions
                    .drain(..)
                    .map(|id| Event::ControllerMessage(FromController::Answer { id, result: Err(Error::TimedOut) })),
            ),
            15..30 => {
                now += random.below(200);
                events.push(Event::Ticked);
            }
            _ => {}
        }
        while !events.is_empty() {
            for event in std::mem::take(&mut events) {
                gateway.step(Now { tick: Tick(now), wall: Timestamp(0) }, event, &mut effects);
            }
            for effect in effects.drain() {
                match effect {
                    Effect::Send { connection, segments, .. } => {
                        answered += 1;
                        let bytes = segments.iter().map(Bytes::len).sum();
                        events.push(Event::BytesSent { connection, bytes });
                    }
                    Effect::Close { connection, .. } => {
                        closed += 1;
                        connections.remove(&connection);
                    }
                    Effect::ToStorage { message, .. } if !matches!(message.request, Request::CancelFetch(_)) => {
                        calls.push(message.id);
                    }
                    Effect::ToController { message: ToController::Call { id, .. }, .. } => questions.push(id),
                    _ => {}
                }
            }
        }
        let stats = gateway.stats();
        assert!(stats.bytes_held <= received, "W7");
        if random.chance(20) {
            gateway.check_invariants();
        }
    }
    let stats = gateway.stats();
    println!("{} frames: {answered} answered, {closed} connections closed", frame_count());
    // Both halves are reached: the decoder's refusals and the handlers behind it.
    assert!(answered > 5_000 && closed > 20_000, "{answered} answered, {closed} closed");
    assert!(stats.requests.len() > 30 && stats.errors.len() > 8, "{:?} {:?}", stats.requests, stats.errors);
    assert!(stats.requests.contains_key(&ApiKey::Produce));
    // With everybody gone nothing is left.
    for connection in connections.into_keys() {
        gateway.step(Now { tick: Tick(now), wall: Timestamp(0) }, Event::ConnectionClosed { connection }, &mut effects);
    }
    gateway.check_invariants();
    assert!(gateway.is_idle());
    assert_eq!((gateway.stats().bytes_held, gateway.stats().bytes_unsent), (0, 0));
}
