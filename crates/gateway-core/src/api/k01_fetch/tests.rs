use kafka_wire::Uuid;
use kafka_wire::k01_fetch::{FetchPartition as WirePartition, FetchTopic, ReplicaState};
use peer_api::storage::{EpochEnd, FetchResponse as StorageResponse};

use super::*;
use crate::testing::{C, World, tp};

fn fetch(topic: &str, partitions: &[i32], min_bytes: i32) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|&partition| WirePartition {
            partition,
            fetch_offset: 10,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        })
        .collect();
    FetchRequest {
        max_wait_ms: 500,
        min_bytes,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { topic: topic.into(), partitions, ..Default::default() }],
        ..Default::default()
    }
}

fn asked(world: &mut World) -> (BrokerId, RequestId, StorageFetch) {
    let (node, id, request) = world.next_request();
    match request {
        Request::Fetch(fetch) => (node, id, fetch),
        other => panic!("{other:?}"),
    }
}

fn fetched(high_watermark: i64, bytes: usize) -> Fetched {
    Fetched {
        high_watermark: Offset(high_watermark),
        last_stable_offset: Offset(high_watermark),
        log_start: Offset(0),
        diverging: None,
        records: if bytes > 0 { vec![vec![1; bytes].into()] } else { Vec::new() },
    }
}

fn give(
    world: &mut World,
    node: BrokerId,
    id: RequestId,
    fetch: &StorageFetch,
    results: Vec<Result<Fetched, ReadError>>,
) {
    let partitions = fetch.partitions.iter().map(|asked| asked.partition).zip(results).collect();
    world.storage_answers(node, id, Response::Fetch(StorageResponse { partitions }));
}

fn partitions(response: &FetchResponse) -> Vec<(i32, i16, usize)> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|data| (data.partition_index, data.error_code, data.records.as_ref().map_or(0, Records::len)))
        .collect()
}

#[test]
fn one_leader_is_asked_with_the_clients_own_wait_and_minimum() {
    for version in SUPPORTED {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1, 2]);
        let mut request = fetch("t", &[1], 1000);
        request.topics[0].topic_id = Uuid(topic.0);
        request.isolation_level = 1;
        let id = world.send(version, &request);
        let (node, call, storage) = asked(&mut world);
        assert_eq!((node, storage.wait_ms_max, storage.bytes_min), (BrokerId(2), 500, 1000));
        assert_eq!((storage.bytes_max, storage.isolation), (50 << 20, Isolation::ReadCommitted));
        assert_eq!((storage.partitions[0].partition, storage.partitions[0].fetch_offset), (tp(topic, 1), Offset(10)));
        assert_eq!(storage.partitions[0].leader_epoch, LeaderEpoch::UNKNOWN);
        give(&mut world, node, call, &storage, vec![Ok(fetched(20, 5000))]);
        let (answered, response) = world.answer::<FetchRequest>(version);
        assert_eq!((answered, partitions(&response)), (id, vec![(1, 0, 5000)]));
        let data = &response.responses[0].partitions[0];
        assert_eq!((data.high_watermark, data.last_stable_offset, data.preferred_read_replica), (20, 20, -1));
        assert_eq!(data.aborted_transactions, Some(Vec::new()));
        assert_eq!(response.responses[0].topic_id.is_zero(), version < 13);
    }
}

#[test]
fn a_gateway_that_has_left_sends_readers_elsewhere() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.step(crate::Event::ShutdownRequested);
    world.calls.clear();
    world.send(12, &fetch("t", &[0], 1));
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, ErrorCode::NotLeaderOrFollower.code(), 0)]);
    assert!(world.is_silent());
}

#[test]
fn records_are_passed_on_by_reference() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(12, &fetch("t", &[0], 1));
    let (node, call, storage) = asked(&mut world);
    let records = bytes::Bytes::from(vec![7; 100_000]);
    let found = Fetched { records: vec![records.clone()], ..fetched(20, 0) };
    let now = base_types::Now::default();
    let mut effects = crate::Effects::default();
    let partitions = vec![(storage.partitions[0].partition, Ok(found))];
    let message =
        peer_api::storage::FromStorage { id: call, response: Response::Fetch(StorageResponse { partitions }) };
    world.gateway.step(now, crate::Event::StorageResponded { node, message }, &mut effects);
    let sent = effects.drain().find_map(|effect| match effect {
        crate::Effect::Send { segments, .. } => Some(segments),
        _ => None,
    });
    assert!(sent.unwrap().iter().any(|segment| segment.as_ptr() == records.as_ptr()));
}

#[test]
fn several_leaders_are_asked_for_a_first_byte_and_the_rest_are_cancelled() {
    let mut world = World::new(2);
    world.topic("t", &[1, 2]);
    world.send(12, &fetch("t", &[0, 1], 1));
    let (first, first_call, first_asked) = asked(&mut world);
    let (second, second_call, second_asked) = asked(&mut world);
    assert_eq!((first_asked.bytes_min, second_asked.bytes_min), (1, 1));
    give(&mut world, first, first_call, &first_asked, vec![Ok(fetched(20, 100))]);
    let (node, _, request) = world.next_request();
    assert_eq!(node, second);
    assert!(matches!(request, Request::CancelFetch(id) if id == second_call));
    assert!(world.is_silent());
    give(&mut world, second, second_call, &second_asked, vec![Ok(fetched(9, 0))]);
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 0, 100), (1, 0, 0)]);
}

#[test]
fn with_several_leaders_too_little_is_asked_again_until_the_minimum() {
    let mut world = World::new(2);
    world.topic("t", &[1, 2]);
    world.send(12, &fetch("t", &[0, 1], 1000));
    let (first, first_call, first_asked) = asked(&mut world);
    let (second, second_call, second_asked) = asked(&mut world);
    give(&mut world, first, first_call, &first_asked, vec![Ok(fetched(20, 300))]);
    let (again, again_call, again_asked) = asked(&mut world);
    assert_eq!((again, again_asked.bytes_min), (first, 1000));
    give(&mut world, second, second_call, &second_asked, vec![Ok(fetched(9, 200))]);
    let (more, more_call, more_asked) = asked(&mut world);
    assert_eq!((more, more_asked.bytes_min), (second, 700));
    give(&mut world, again, again_call, &again_asked, vec![Ok(fetched(30, 900))]);
    assert!(matches!(world.next_request().2, Request::CancelFetch(id) if id == more_call));
    give(&mut world, more, more_call, &more_asked, vec![Ok(fetched(9, 200))]);
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 0, 900), (1, 0, 200)]);
}

/// Trap 38 (KIP-74), over several nodes.
#[test]
fn the_limit_holds_over_all_nodes_and_the_first_batch_is_kept_whatever_its_size() {
    let mut world = World::new(3);
    world.topic("t", &[1, 2, 3]);
    let mut request = fetch("t", &[0, 1, 2], 1);
    request.max_bytes = 1000;
    world.send(12, &request);
    let calls: Vec<_> = (0..3).map(|_| asked(&mut world)).collect();
    let sizes = [5000, 400, 700];
    for ((node, call, storage), size) in calls.iter().zip(sizes) {
        give(&mut world, *node, *call, storage, vec![Ok(fetched(20, size))]);
    }
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 0, 5000), (1, 0, 0), (2, 0, 0)]);
}

#[test]
fn errors_are_per_partition_and_do_not_hide_the_others() {
    let mut world = World::new(1);
    world.topic("t", &[1, 1]);
    world.send(12, &fetch("t", &[0, 9, 1], 1));
    let (node, call, storage) = asked(&mut world);
    assert_eq!(storage.partitions.len(), 2);
    let out_of_range = ReadError::OffsetOutOfRange { log_start: Offset(1), high_watermark: Offset(2) };
    give(&mut world, node, call, &storage, vec![Err(out_of_range), Ok(fetched(20, 50))]);
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 1, 0), (9, 3, 0), (1, 0, 50)]);
    let response = world.ask::<FetchRequest>(12, &fetch("nowhere", &[0], 1));
    assert_eq!(partitions(&response), [(0, 3, 0)]);
    assert_eq!(response.responses[0].partitions[0].high_watermark, -1);
}

/// Traps 20 and 21.
#[test]
fn an_unknown_topic_id_is_told_as_such() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let mut request = fetch("", &[0], 1);
    request.topics[0].topic_id = Uuid([77; 16]);
    assert_eq!(partitions(&world.ask::<FetchRequest>(13, &request)), [(0, 100, 0)]);
    request.topics[0].topic_id = Uuid::ZERO;
    assert_eq!(partitions(&world.ask::<FetchRequest>(13, &request)), [(0, 100, 0)]);
}

/// CVE-2018-1288, W9.
#[test]
fn a_follower_fetch_is_refused() {
    let mut world = World::new(1);
    let topic = world.topic("t", &[1]);
    let old = FetchRequest { replica_id: 1, ..fetch("t", &[0], 1) };
    assert_eq!(partitions(&world.ask::<FetchRequest>(12, &old)), [(0, 29, 0)]);
    let replica_state = ReplicaState { replica_id: 1, replica_epoch: 1 };
    let mut new = FetchRequest { replica_state, ..fetch("", &[0], 1) };
    new.topics[0].topic_id = Uuid(topic.0);
    assert_eq!(partitions(&world.ask::<FetchRequest>(16, &new)), [(0, 29, 0)]);
    assert!(world.to_storage.is_empty());
}

#[test]
fn a_leader_that_moves_under_a_waiting_fetch_ends_the_wait() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1, 1]);
    let mut request = fetch("", &[0, 1], 1);
    request.topics[0].topic_id = Uuid(topic.0);
    world.send(16, &request);
    let (node, call, storage) = asked(&mut world);
    world.lead(topic, 0, Some(2), 6);
    assert!(matches!(world.next_request().2, Request::CancelFetch(id) if id == call));
    let moved = ReadError::NotLeader { leader: BrokerId(2), leader_epoch: LeaderEpoch(6) };
    give(&mut world, node, call, &storage, vec![Err(moved), Ok(fetched(5, 0))]);
    let (_, response) = world.answer::<FetchRequest>(16);
    assert_eq!(partitions(&response), [(0, 6, 0), (1, 0, 0)]);
    let leader = &response.responses[0].partitions[0].current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (2, 6));
    assert_eq!(response.node_endpoints, [], "trap 68");
}

#[test]
fn a_dead_leader_is_waited_for_until_it_moves_or_the_wait_is_over() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    for moves in [true, false] {
        world.send(12, &fetch("t", &[0], 1));
        let (node, call, _) = asked(&mut world);
        world.storage_fails(node, call, TransportError::Broken);
        assert!(world.is_silent());
        if moves {
            world.lead(topic, 0, Some(2), 6);
        } else {
            world.pass(499);
            assert!(world.is_silent());
            world.pass(1);
        }
        assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 6, 0)]);
    }
}

#[test]
fn a_node_that_says_nothing_is_not_waited_for_for_ever() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(12, &fetch("t", &[0], 1));
    world.pass(500 + ANSWER_GRACE_MS);
    assert_eq!(partitions(&world.answer::<FetchRequest>(12).1), [(0, 6, 0)]);
}

#[test]
fn divergence_is_told() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(12, &fetch("t", &[0], 1));
    let (node, call, storage) = asked(&mut world);
    let diverging = Some(EpochEnd { epoch: LeaderEpoch(3), end_offset: Offset(8) });
    give(&mut world, node, call, &storage, vec![Ok(Fetched { diverging, ..fetched(20, 0) })]);
    let (_, response) = world.answer::<FetchRequest>(12);
    let told = &response.responses[0].partitions[0].diverging_epoch;
    assert_eq!((told.epoch, told.end_offset), (3, 8));
}

/// Trap 42.
#[test]
fn a_session_is_told_only_what_changed() {
    let mut world = World::new(1);
    world.topic("t", &[1, 1]);
    let first = FetchRequest { session_epoch: 0, ..fetch("t", &[0, 1], 1) };
    world.send(12, &first);
    let (node, call, storage) = asked(&mut world);
    give(&mut world, node, call, &storage, vec![Ok(fetched(10, 0)), Ok(fetched(10, 0))]);
    let (_, response) = world.answer::<FetchRequest>(12);
    assert_ne!(response.session_id, 0);
    assert_eq!(partitions(&response).len(), 2);
    let next = FetchRequest { session_id: response.session_id, session_epoch: 1, topics: Vec::new(), ..first };
    world.send(12, &next);
    let (node, call, storage) = asked(&mut world);
    assert_eq!(storage.partitions.len(), 2);
    give(&mut world, node, call, &storage, vec![Ok(fetched(10, 0)), Ok(fetched(12, 40))]);
    let (_, response) = world.answer::<FetchRequest>(12);
    assert_eq!(partitions(&response), [(1, 0, 40)]);
    let stale = FetchRequest { session_epoch: 1, ..next };
    assert_eq!(world.ask::<FetchRequest>(12, &stale).error_code, 71);
    let unknown = FetchRequest { session_id: 1, session_epoch: 5, ..stale };
    assert_eq!(world.ask::<FetchRequest>(12, &unknown).error_code, 70);
}

#[test]
fn a_client_that_leaves_frees_its_wait() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(12, &fetch("t", &[0], 1));
    let (_, call, _) = asked(&mut world);
    world.step(crate::Event::ConnectionClosed { connection: C });
    assert!(matches!(world.next_request().2, Request::CancelFetch(id) if id == call));
    assert!(world.gateway.is_idle());
}

/// W7: what a fetch asks for shrinks with the memory that is left.
#[test]
fn short_memory_makes_fetches_small() {
    let config = crate::Config { memory_max: 1 << 20, ..Default::default() };
    let mut world = World::with(1, config);
    world.topic("t", &[1]);
    world.send(12, &fetch("t", &[0], 1));
    let (_, _, storage) = asked(&mut world);
    assert!(storage.bytes_max <= 1 << 20, "{}", storage.bytes_max);
}
