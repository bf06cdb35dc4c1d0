use kafka_wire::{ApiVersionsRequest, EndTxnRequest, FetchRequest, MetadataRequest, encode_request};
use peer_api::metadata::Record;

use super::*;
use crate::Stamp;
use crate::limits::{BACKLOG_MAX, END_MS, MOVE_MS};
use crate::testing::{C, World, broker};

fn frame(world: &mut World, bytes: &[u8]) {
    world.step(Event::FrameReceived { connection: C, frame: Bytes::copy_from_slice(bytes), stamp: Stamp::default() });
}

fn raw<R: kafka_wire::Request>(version: i16, request: &R) -> Vec<u8> {
    encode_request(1, None, version, request).unwrap().concat()[4..].to_vec()
}

#[test]
fn frames_that_are_no_requests_close_their_connection() {
    let mut truncated = raw(12, &FetchRequest::default());
    truncated.truncate(truncated.len() - 3);
    let cases: [(&[u8], CloseReason); 5] = [
        (&[0, 3, 0, 1], CloseReason::Malformed),
        (b"GET / HTTP/1.1", CloseReason::Malformed),
        (&[0, 99, 0, 0, 0, 0, 0, 0, 0xff, 0xff], CloseReason::Malformed),
        (&truncated, CloseReason::Malformed),
        (&raw(12, &FetchRequest { rack_id: "x".into(), ..Default::default() })[..14], CloseReason::Malformed),
    ];
    for (bytes, reason) in cases {
        let mut world = World::new(1);
        frame(&mut world, bytes);
        assert_eq!(world.closed, [(C, reason)], "{bytes:?}");
        // What still arrives is for nobody.
        frame(&mut world, &raw(0, &ApiVersionsRequest::default()));
        assert!(world.sent.is_empty());
        assert_eq!(world.gateway.stats().bytes_held, 0);
    }
}

/// Trap 5, W9.
#[test]
fn what_is_not_advertised_is_not_served() {
    let mut unserved = vec![raw(0, &EndTxnRequest::default())];
    // Produce 0 is advertised for librdkafka's sake and gone since Kafka 4.0.
    unserved.push(vec![0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0]);
    // Internal APIs: a follower's and a controller's.
    unserved.extend([[0u8, 56], [0, 62], [0, 63], [0, 52], [0, 27]].map(|key| [&key[..], &[0; 20]].concat()));
    for bytes in unserved {
        let mut world = World::new(1);
        frame(&mut world, &bytes);
        assert_eq!(world.closed, [(C, CloseReason::NotServed)], "{bytes:?}");
    }
}

/// Trap 12.
#[test]
fn a_null_client_id_and_unknown_tagged_fields_are_fine() {
    let mut world = World::new(1);
    let mut bytes = raw(9, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
    // The tagged fields of the header follow key, version, correlation id and client id.
    bytes.splice(10..11, [1, 42, 3, 7, 7, 7]);
    frame(&mut world, &bytes);
    assert_eq!(world.sent.len(), 1);
    assert!(world.closed.is_empty());
}

#[test]
fn a_client_that_floods_is_not_read_and_loses_nothing() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    // A fetch that waits, and a flood behind it.
    let partitions = vec![kafka_wire::k01_fetch::FetchPartition { partition_max_bytes: 1, ..Default::default() }];
    let topics = vec![kafka_wire::k01_fetch::FetchTopic { topic: "t".into(), partitions, ..Default::default() }];
    world.send(12, &FetchRequest { topics, max_wait_ms: 500, min_bytes: 1, ..Default::default() });
    let count = BACKLOG_MAX + 5;
    for _ in 0..count {
        world.send(0, &ApiVersionsRequest::default());
    }
    assert_eq!(world.paused, [(C, true)]);
    world.pass(5_000);
    assert_eq!(world.paused, [(C, true), (C, false)]);
    assert_eq!(world.sent.len(), count + 1);
}

#[test]
fn a_client_that_does_not_read_is_given_a_bounded_amount() {
    let mut world = World::new(1);
    world.change((0..2_000).map(|id| broker(100 + id)).collect());
    let mut sent = 0;
    while world.paused.is_empty() {
        frame(&mut world, &raw(1, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() }));
        sent += 1;
    }
    let stats = world.gateway.stats();
    assert!(stats.bytes_unsent < 2 * crate::limits::UNSENT_BYTES_MAX, "{}", stats.bytes_unsent);
    while let Some((connection, frame)) = world.sent.pop_front() {
        sent -= 1;
        world.step(Event::BytesSent { connection, bytes: frame.len() + 4 });
    }
    assert_eq!(sent, 0);
    assert_eq!((world.gateway.stats().bytes_unsent, world.paused.last()), (0, Some(&(C, false))));
}

/// W7: over all connections.
#[test]
fn short_memory_stops_reading_until_there_is_room() {
    let mut world = World::with(1, Config { memory_max: 4_000, ..Config::default() });
    world.topic("t", &[1]);
    let partitions = vec![kafka_wire::k01_fetch::FetchPartition { partition_max_bytes: 1, ..Default::default() }; 50];
    let topics = vec![kafka_wire::k01_fetch::FetchTopic { topic: "t".into(), partitions, ..Default::default() }];
    let request = FetchRequest { topics, max_wait_ms: 500, min_bytes: 1, ..Default::default() };
    let others: Vec<ConnectionId> = (2..20).map(ConnectionId).collect();
    for connection in &others {
        world.step(Event::ConnectionOpened { connection: *connection, host: String::new() });
        world.send_on(*connection, 4, &request);
    }
    assert!(world.paused.len() >= 3, "{:?}", world.paused);
    world.pass(5_000);
    while let Some((connection, frame)) = world.sent.pop_front() {
        world.step(Event::BytesSent { connection, bytes: frame.len() + 4 });
    }
    let last: BTreeMap<ConnectionId, bool> = world.paused.iter().copied().collect();
    assert!(last.values().all(|paused| !paused), "{last:?}");
}

#[test]
fn the_shell_is_told_where_nodes_are_when_it_changes() {
    let mut world = World::new(2);
    assert_eq!(world.located, [(BrokerId(1), Some("node1:1".into())), (BrokerId(2), Some("node2:1".into()))]);
    world.located.clear();
    world.change(vec![Record::BrokerUnregistered { broker: BrokerId(1) }, broker(3)]);
    assert_eq!(world.located, [(BrokerId(1), None), (BrokerId(3), Some("node3:1".into()))]);
}

#[test]
fn a_node_is_left_each_time_that_it_is_fenced() {
    let mut world = World::new(2);
    let set = |state| {
        vec![Record::BrokerStateChanged { broker: BrokerId(1), broker_epoch: base_types::BrokerEpoch(1), state }]
    };
    world.change(set(BrokerState::ShuttingDown));
    assert_eq!(world.left, [], "it still answers");
    world.change(set(BrokerState::Fenced));
    assert_eq!(world.left, [BrokerId(1)]);
    world.change(vec![broker(3)]);
    assert_eq!(world.left, [BrokerId(1)]);
    world.located.clear();
    world.change(set(BrokerState::Active));
    let back: Vec<BrokerId> = world.located.iter().map(|(node, _)| *node).collect();
    assert_eq!(back, [BrokerId(1)], "a stream can be there before it is needed");
    world.change(set(BrokerState::Fenced));
    assert_eq!(world.left, [BrokerId(1), BrokerId(1)]);
}

/// It goes on sending what must be refused to whatever it is connected to, until that ends.
#[test]
fn who_has_asked_where_to_go_is_let_go_at_once_on_all_connections() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let other = ConnectionId(77);
    world.step(Event::ConnectionOpened { connection: other, host: "/10.0.0.1".into() });
    let refused = |world: &mut World, connection| {
        world.send_on(connection, 12, &FetchRequest::default());
        world.answer::<FetchRequest>(12);
    };
    let elsewhere = ConnectionId(78);
    world.step(Event::ConnectionOpened { connection: elsewhere, host: "/10.0.0.2".into() });
    for connection in [other, elsewhere] {
        world.send_on(connection, 12, &MetadataRequest::default());
        world.answer::<MetadataRequest>(12);
    }
    world.step(Event::ShutdownRequested);
    refused(&mut world, C);
    refused(&mut world, elsewhere);
    world.pass(5);
    world.send(12, &MetadataRequest::default());
    world.answer::<MetadataRequest>(12);
    refused(&mut world, other);
    world.pass(END_MS - 1);
    assert!(world.closed.is_empty());
    world.pass(1);
    assert_eq!(world.closed, [(C, CloseReason::GatewayStopped), (other, CloseReason::GatewayStopped)]);
    world.pass(MOVE_MS - 5 - END_MS);
    assert_eq!(world.closed.last(), Some(&(elsewhere, CloseReason::GatewayStopped)), "it has not asked");
}

#[test]
fn errors_and_requests_are_counted() {
    let mut world = World::new(1);
    let topics =
        vec![kafka_wire::k03_metadata::MetadataRequestTopic { name: Some("a b".into()), ..Default::default() }];
    world.ask::<MetadataRequest>(9, &MetadataRequest { topics: Some(topics), ..Default::default() });
    let stats = world.gateway.stats();
    assert_eq!(stats.errors.get(&base_types::ErrorCode::InvalidTopicException), Some(&1));
    assert_eq!((stats.requests.get(&ApiKey::Metadata), stats.connections), (Some(&1), 1));
    assert!(stats.bytes_in > 0 && stats.bytes_out > 0);
}
