use base_types::{BrokerEpoch, Sequence};
use kafka_wire::MetadataRequest;
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use peer_api::metadata::{BrokerState, ConfigResource, Record};
use peer_api::storage::AppendResponse;
use record_batch::{BatchBuilder, Compression, StampedBatch};

use super::*;
use crate::testing::{C, World, batch, broker, numbered, partition, tp};

const OK: i16 = 0;

fn produce(topic: &str, acks: i16, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    let partition_data = partitions
        .iter()
        .map(|(index, records)| PartitionProduceData { index: *index, records: Some(records.clone()) })
        .collect();
    let topic_data = vec![TopicProduceData { name: topic.into(), topic_id: Uuid::ZERO, partition_data }];
    ProduceRequest { transactional_id: None, acks, timeout_ms: 30_000, topic_data }
}

fn by_id(id: base_types::TopicId, batch: Bytes) -> ProduceRequest {
    let mut request = produce("", -1, &[(0, batch)]);
    request.topic_data[0].topic_id = Uuid(id.0);
    request
}

/// The next append: node, call, and (partition, epoch, first bytes) of each batch.
fn append(world: &mut World) -> (BrokerId, RequestId, AppendRequest) {
    let (node, id, request) = world.next_request();
    match request {
        Request::Append(append) => (node, id, append),
        other => panic!("{other:?}"),
    }
}

fn settle(world: &mut World, node: BrokerId, id: RequestId, append: &AppendRequest, result: Result<i64, AppendError>) {
    let result = result.map(|offset| Appended {
        base_offset: Offset(offset),
        log_append_time: Timestamp::NONE,
        log_start: Offset(0),
    });
    let partitions = append.partitions.iter().map(|asked| (asked.partition, result.clone())).collect();
    world.storage_answers(node, id, Response::Append(AppendResponse { partitions }));
}

fn codes(response: &ProduceResponse) -> Vec<i16> {
    response.responses.iter().flat_map(|topic| &topic.partition_responses).map(|p| p.error_code).collect()
}

/// The leader takes the first batch of the producer that numbers, and knows it from there on.
fn introduce(world: &mut World) {
    world.send(9, &produce("t", -1, &[(0, numbered(0))]));
    let (node, call, asked) = append(world);
    settle(world, node, call, &asked, Ok(0));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
}

fn sequence_of(asked: &AppendRequest) -> i32 {
    asked.partitions[0].batch.as_ref().unwrap().header().base_sequence.0
}

fn not_leader() -> AppendError {
    AppendError::NotLeader { leader: BrokerId(2), leader_epoch: LeaderEpoch(6) }
}

#[test]
fn a_batch_goes_to_its_leader_under_our_epoch_and_its_offset_comes_back() {
    for version in SUPPORTED {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1, 2]);
        let sent = batch("v");
        let mut request = produce("t", -1, &[(1, sent.clone())]);
        request.topic_data[0].topic_id = Uuid(topic.0);
        let id = world.send(version, &request);
        let (node, call, asked) = append(&mut world);
        assert_eq!((node, asked.acks, asked.timeout_ms), (BrokerId(2), Acks::All, 30_000));
        assert_eq!((asked.partitions[0].partition, asked.partitions[0].leader_epoch), (tp(topic, 1), LeaderEpoch(5)));
        assert_eq!(asked.partitions[0].batch.as_ref().unwrap().bytes(), &sent);
        settle(&mut world, node, call, &asked, Ok(42));
        let (answered, response) = world.answer::<ProduceRequest>(version);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((answered, partition.index, partition.error_code, partition.base_offset), (id, 1, OK, 42));
        assert_eq!(partition.log_append_time_ms, -1);
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, Uuid(topic.0));
        } else {
            assert_eq!(response.responses[0].name, "t");
        }
    }
}

/// What was sent before is answered as ever; in order, so that a producer repeats only what was refused.
#[test]
fn a_gateway_that_has_left_takes_nothing_new() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, numbered(0))]));
    let (node, call, asked) = append(&mut world);
    world.step(crate::Event::ShutdownRequested);
    world.calls.clear();
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    assert!(world.is_silent());
    settle(&mut world, node, call, &asked, Ok(42));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [ErrorCode::NotLeaderOrFollower.code()]);
    world.pass(49);
    assert!(world.is_silent() && world.closed.is_empty());
    world.pass(1);
    assert_eq!(world.closed, [(C, CloseReason::GatewayStopped)]);
}

#[test]
fn one_request_is_split_by_leader_and_answered_when_all_have_answered() {
    let mut world = World::new(2);
    world.topic("t", &[1, 2, 1]);
    world.send(9, &produce("t", 1, &[(0, batch("a")), (1, batch("b")), (2, batch("c"))]));
    let (first, first_call, first_asked) = append(&mut world);
    let (second, second_call, second_asked) = append(&mut world);
    assert_eq!((first, first_asked.partitions.len(), first_asked.acks), (BrokerId(1), 2, Acks::Leader));
    assert_eq!((second, second_asked.partitions.len()), (BrokerId(2), 1));
    settle(&mut world, second, second_call, &second_asked, Ok(7));
    assert!(world.is_silent());
    settle(&mut world, first, first_call, &first_asked, Err(AppendError::NoSpace));
    let (_, response) = world.answer::<ProduceRequest>(9);
    assert_eq!(codes(&response), [56, OK, 56]);
}

/// Trap 10, W1: produces follow each other without waiting; answers wait for each other.
#[test]
fn pipelined_produces_leave_at_once_and_are_answered_in_order() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let ids: Vec<i32> = (0..5).map(|i| world.send(9, &produce("t", -1, &[(0, batch(&i.to_string()))]))).collect();
    let asked: Vec<_> = (0..5).map(|_| append(&mut world)).collect();
    for (offset, (node, call, request)) in asked.iter().enumerate().rev() {
        assert!(world.sent.is_empty());
        settle(&mut world, *node, *call, request, Ok(offset as i64));
    }
    for (offset, id) in ids.into_iter().enumerate() {
        let (answered, response) = world.answer::<ProduceRequest>(9);
        assert_eq!((answered, response.responses[0].partition_responses[0].base_offset), (id, offset as i64));
    }
}

#[test]
fn another_request_waits_for_produces_and_produces_wait_for_it() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let asked = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    world.send(9, &asked);
    world.send(9, &produce("t", -1, &[(0, batch("b"))]));
    let (node, call, first) = append(&mut world);
    assert!(world.to_storage.is_empty() && world.is_silent());
    settle(&mut world, node, call, &first, Ok(0));
    world.answer::<ProduceRequest>(9);
    world.answer::<MetadataRequest>(9);
    let (node, call, second) = append(&mut world);
    settle(&mut world, node, call, &second, Ok(1));
    world.answer::<ProduceRequest>(9);
}

/// Trap 30.
#[test]
fn acks_0_is_answered_with_nothing_and_an_error_closes() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(7, &produce("t", 0, &[(0, batch("a"))]));
    let (node, call, asked) = append(&mut world);
    assert_eq!(asked.acks, Acks::Leader);
    settle(&mut world, node, call, &asked, Ok(0));
    assert_eq!((world.completed, world.sent.len(), world.closed.len()), (1, 0, 0));
    world.send(7, &produce("nowhere", 0, &[(0, batch("a"))]));
    assert_eq!(world.closed, [(C, CloseReason::ProduceWithoutAckFailed)]);
    assert!(world.sent.is_empty());
}

#[test]
fn what_is_wrong_with_a_request_is_said_per_partition_and_nothing_leaves() {
    let mut world = World::new(1);
    let topic = world.topic("t", &[1]);
    world.topic("__consumer_offsets", &[1]);
    let mut code = |version, request: &ProduceRequest| {
        let response = world.ask::<ProduceRequest>(version, request);
        assert!(world.to_storage.is_empty());
        codes(&response)
    };
    let good = batch("v");
    assert_eq!(code(9, &produce("nowhere", -1, &[(0, good.clone())])), [3]);
    assert_eq!(code(9, &produce("t", -1, &[(9, good.clone()), (-1, good.clone())])), [3, 3]);
    assert_eq!(code(9, &produce("t", 2, &[(0, good.clone())])), [21]);
    assert_eq!(code(9, &produce("__consumer_offsets", -1, &[(0, good.clone())])), [17]);
    assert_eq!(code(13, &by_id(base_types::TopicId([99; 16]), good.clone())), [100]);
    let mut flipped = good.to_vec();
    flipped[good.len() - 1] ^= 1;
    assert_eq!(code(9, &produce("t", -1, &[(0, flipped.into())])), [2]);
    assert_eq!(code(9, &produce("t", -1, &[(0, Bytes::new())])), [87]);
    let two = [&good[..], &good[..]].concat();
    assert_eq!(code(9, &produce("t", -1, &[(0, two.into())])), [87]);
    let zstd = BatchBuilder::new(Compression::Zstd).record(None, Some(b"v"), &[], Timestamp(1)).build().unwrap();
    assert_eq!(code(6, &produce("t", -1, &[(0, zstd)])), [76]);
    let transactional = BatchBuilder::new(Compression::None)
        .transactional()
        .producer(record_batch::Producer {
            id: base_types::ProducerId(1),
            epoch: base_types::ProducerEpoch(0),
            base_sequence: Sequence(0),
        })
        .record(None, Some(b"v"), &[], Timestamp(1))
        .build()
        .unwrap();
    let mut named = produce("t", -1, &[(0, transactional.clone())]);
    assert_eq!(code(9, &named), [53]);
    named.transactional_id = Some("tx".into());
    assert_eq!(code(9, &named), [49]);
    assert_eq!(world.send(13, &by_id(topic, good)), 12);
    assert_eq!(world.to_storage.len(), 1);
}

/// Trap 32.
#[test]
fn a_record_without_key_on_a_compacted_topic_is_named() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.change(vec![Record::ConfigChanged {
        resource: ConfigResource::Topic("t".into()),
        name: "cleanup.policy".into(),
        value: Some("compact,delete".into()),
    }]);
    let records = BatchBuilder::new(Compression::None)
        .record(Some(b"k"), Some(b"v"), &[], Timestamp(1))
        .record(None, Some(b"v"), &[], Timestamp(1))
        .build()
        .unwrap();
    let response = world.ask::<ProduceRequest>(8, &produce("t", -1, &[(0, records)]));
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 87);
    assert_eq!(partition.record_errors.iter().map(|record| record.batch_index).collect::<Vec<_>>(), [1]);
    assert!(partition.error_message.is_some());
}

#[test]
fn a_record_with_a_time_out_of_bounds_is_named() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let set = |world: &mut World, name: &str, value: &str| {
        let (name, value) = (name.to_owned(), Some(value.to_owned()));
        world.change(vec![Record::ConfigChanged { resource: ConfigResource::Topic("t".into()), name, value }]);
    };
    let now = 1_700_000_000_000 + world.now as i64;
    let records = |times: [i64; 3]| {
        let builder = BatchBuilder::new(Compression::None);
        times.into_iter().fold(builder, |b, time| b.record(None, None, &[], Timestamp(time))).build().unwrap()
    };
    let at_fault = |world: &mut World, times| -> (i16, Vec<i32>) {
        let response = world.ask::<ProduceRequest>(8, &produce("t", -1, &[(0, records(times))]));
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.record_errors.iter().map(|record| record.batch_index).collect())
    };
    assert_eq!(at_fault(&mut world, [now, now + 3_700_000, now]), (32, vec![1]));
    set(&mut world, "message.timestamp.before.max.ms", "1000");
    assert_eq!(at_fault(&mut world, [now - 1_001, -1, now - 1_002]), (32, vec![0, 2]));
    assert!(world.to_storage.is_empty());
    set(&mut world, "message.timestamp.type", "LogAppendTime");
    world.send(8, &produce("t", -1, &[(0, records([0, 0, 0]))]));
    assert_eq!(world.to_storage.len(), 1, "the time that the broker gives is always in time");
}

/// A client must not claim the broker's part, where the broker has one.
#[test]
fn a_claim_of_log_append_time_is_refused_where_the_broker_gives_the_time() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let plain = ProducedBatch::check(batch("v"), &BatchLimits::default()).unwrap();
    let claim = StampedBatch::stamp_with_log_append_time(&plain, Offset(0), LeaderEpoch(0), Timestamp(1));
    let claim = claim.to_bytes();
    world.send(9, &produce("t", -1, &[(0, claim.clone())]));
    assert_eq!(world.to_storage.len(), 1);
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Ok(0));
    world.answer::<ProduceRequest>(9);
    world.change(vec![Record::ConfigChanged {
        resource: ConfigResource::Cluster,
        name: "log.message.timestamp.type".into(),
        value: Some("LogAppendTime".into()),
    }]);
    assert_eq!(codes(&world.ask::<ProduceRequest>(9, &produce("t", -1, &[(0, claim)]))), [32]);
}

#[test]
fn a_definite_not_leader_is_retried_when_the_metadata_has_moved() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(not_leader()));
    assert!(world.is_silent() && world.to_storage.is_empty());
    world.lead(topic, 0, Some(2), 6);
    let (node, call, asked) = append(&mut world);
    assert_eq!((node, asked.partitions[0].leader_epoch), (BrokerId(2), LeaderEpoch(6)));
    settle(&mut world, node, call, &asked, Ok(3));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
    assert_eq!(world.gateway.stats().produce_retries, 1);
}

#[test]
fn without_news_it_is_retried_after_a_pause() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, _) = append(&mut world);
    world.storage_fails(node, call, TransportError::NotSent);
    world.pass(RETRY_BACKOFF_MS - 1);
    assert!(world.to_storage.is_empty());
    assert_eq!(world.gateway.next_deadline(), Some(Tick(world.now + 1)));
    world.pass(1);
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Ok(3));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
}

/// A node stands still with batches on its stream. When it is fenced they are not waited for, and not a moment passes before what may go
/// again is with the new leader (W2).
#[test]
fn what_a_fenced_node_was_asked_goes_to_the_new_leader_at_once_if_it_may() {
    let fence = |topic, world: &mut World| {
        let state = BrokerState::Fenced;
        let fenced = Record::BrokerStateChanged { broker: BrokerId(1), broker_epoch: BrokerEpoch(1), state };
        world.change(vec![fenced, partition(topic, 0, Some(2), 6)]);
        assert_eq!(world.left, [BrokerId(1)]);
        assert!(world.to_storage.is_empty(), "the old leader has not answered");
    };
    for (records, error, goes) in [
        (numbered(0), TransportError::Broken, true),
        (batch("a"), TransportError::NotSent, true),
        (batch("a"), TransportError::Broken, false),
    ] {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1]);
        world.send(9, &produce("t", -1, &[(0, records)]));
        let (node, call, _) = append(&mut world);
        fence(topic, &mut world);
        world.storage_fails(node, call, error);
        if goes {
            let (node, call, asked) = append(&mut world);
            assert_eq!((node, asked.partitions[0].leader_epoch), (BrokerId(2), LeaderEpoch(6)));
            settle(&mut world, node, call, &asked, Ok(3));
            assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
        } else {
            assert!(world.to_storage.is_empty());
            assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [ErrorCode::RequestTimedOut.code()]);
        }
    }
}

/// W1: nothing new leaves while something is stale, and the stale leave first.
#[test]
fn stale_produces_leave_again_in_order_before_anything_new() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    let batches: Vec<Bytes> = ["a", "b", "c"].into_iter().map(batch).collect();
    world.send(9, &produce("t", -1, &[(0, batches[0].clone())]));
    world.send(9, &produce("t", -1, &[(0, batches[1].clone())]));
    let (node, first, first_asked) = append(&mut world);
    let (_, second, second_asked) = append(&mut world);
    settle(&mut world, node, first, &first_asked, Err(not_leader()));
    world.send(9, &produce("t", -1, &[(0, batches[2].clone())]));
    world.lead(topic, 0, Some(2), 6);
    // The second has no answer yet: all wait.
    assert!(world.to_storage.is_empty());
    settle(&mut world, node, second, &second_asked, Err(not_leader()));
    world.pass(RETRY_BACKOFF_MS);
    let again: Vec<Bytes> = (0..3)
        .map(|_| {
            let (node, _, asked) = append(&mut world);
            assert_eq!(node, BrokerId(2));
            asked.partitions[0].batch.as_ref().unwrap().bytes().clone()
        })
        .collect();
    assert_eq!(again, batches);
}

/// W1: what is sent to a new leader must not overtake what the old one may still refuse.
#[test]
fn a_partition_does_not_turn_to_a_new_leader_before_the_old_one_has_answered() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, asked) = append(&mut world);
    world.lead(topic, 0, Some(2), 6);
    world.send(9, &produce("t", -1, &[(0, batch("b"))]));
    assert!(world.to_storage.is_empty());
    settle(&mut world, node, call, &asked, Ok(0));
    let (node, _, asked) = append(&mut world);
    assert_eq!((node, asked.partitions[0].leader_epoch), (BrokerId(2), LeaderEpoch(6)));
}

/// W1: a batch that a later one has overtaken is reported, not repeated.
#[test]
fn a_refused_batch_behind_which_another_got_in_is_reported() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    world.send(9, &produce("t", -1, &[(0, batch("b"))]));
    let (node, first, first_asked) = append(&mut world);
    let (_, second, second_asked) = append(&mut world);
    // The node learned of its leadership in between.
    settle(&mut world, node, first, &first_asked, Err(not_leader()));
    settle(&mut world, node, second, &second_asked, Ok(0));
    world.pass(RETRY_BACKOFF_MS);
    assert!(world.to_storage.is_empty());
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [6]);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
}

/// W1: a sequence keeps the order within one producer id, and says nothing about another.
#[test]
fn a_refused_batch_behind_which_another_producer_got_in_is_reported() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let other = record_batch::Producer { id: ProducerId(10), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
    let other = BatchBuilder::new(Compression::None).producer(other).record(None, Some(b"v"), &[], Timestamp(1));
    world.send(9, &produce("t", -1, &[(0, numbered(0))]));
    world.send(9, &produce("t", -1, &[(0, other.build().unwrap())]));
    let (node, first, first_asked) = append(&mut world);
    let (_, second, second_asked) = append(&mut world);
    settle(&mut world, node, first, &first_asked, Err(not_leader()));
    settle(&mut world, node, second, &second_asked, Ok(0));
    world.pass(RETRY_BACKOFF_MS);
    assert!(world.to_storage.is_empty());
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [6]);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
}

/// P3: a node that learns between two of them that it leads would take the second for the first of its producer.
#[test]
fn batches_of_a_producer_go_one_at_a_time_until_the_leader_has_taken_one_in_its_epoch() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    (0..3).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(sequence))])));
    for result in [Err(AppendError::UnknownPartition), Err(not_leader()), Ok(0)] {
        let (node, call, asked) = append(&mut world);
        assert_eq!((sequence_of(&asked), world.to_storage.len()), (0, 0));
        settle(&mut world, node, call, &asked, result);
        world.pass(RETRY_BACKOFF_MS);
    }
    let both: Vec<_> = (1..3).map(|_| append(&mut world)).collect();
    both.iter().for_each(|(node, call, asked)| settle(&mut world, *node, *call, asked, Ok(1)));
    (0..3).for_each(|_| assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]));
    // Another leader may not have what this one had.
    world.lead(topic, 0, Some(2), 6);
    (3..5).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(sequence))])));
    let (node, call, asked) = append(&mut world);
    assert_eq!((node, sequence_of(&asked), world.to_storage.len()), (BrokerId(2), 3, 0));
    // What another producer numbers, or nobody, does not wait.
    let other = record_batch::Producer { id: ProducerId(10), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
    settle(&mut world, node, call, &asked, Ok(3));
    append(&mut world);
    let other = BatchBuilder::new(Compression::None).producer(other).record(None, Some(b"v"), &[], Timestamp(1));
    world.send(9, &produce("t", -1, &[(0, other.build().unwrap())]));
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    append(&mut world);
    append(&mut world);
}

/// P3, of batches that were under way when their client was told of the refusal: another leader, or a later moment, might take them.
#[test]
fn behind_a_refused_batch_nothing_leaves_that_may_be_taken_for_the_first_of_its_producer() {
    let refused = [AppendError::NotEnoughReplicas, AppendError::NoSpace, AppendError::TimedOut];
    for (refused, code) in refused.into_iter().zip([19, 56, 7]) {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1]);
        (0..2).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(sequence))])));
        let (node, call, asked) = append(&mut world);
        settle(&mut world, node, call, &asked, Err(refused));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [code]);
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [6]);
        world.lead(topic, 0, Some(2), 6);
        assert_eq!(codes(&world.ask::<ProduceRequest>(9, &produce("t", -1, &[(0, numbered(2))]))), [6]);
        assert!(world.to_storage.is_empty());
        // They come again, in order.
        (0..3).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(sequence))])));
        for sequence in 0..3 {
            let (node, call, asked) = append(&mut world);
            assert_eq!(sequence_of(&asked), sequence);
            settle(&mut world, node, call, &asked, Ok(i64::from(sequence)));
            assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
        }
    }
}

#[test]
fn what_waits_for_the_first_of_its_producer_holds_up_no_other_partition_and_says_nothing_of_the_leader() {
    let mut world = World::new(1);
    world.topic("t", &[1, 1]);
    (0..2).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(sequence))])));
    world.send(9, &produce("t", -1, &[(1, numbered(0))]));
    let (node, first, asked) = append(&mut world);
    let (_, other, other_asked) = append(&mut world);
    assert_eq!(other_asked.partitions[0].partition.partition, PartitionIndex(1));
    assert!(world.to_storage.is_empty());
    settle(&mut world, node, other, &other_asked, Ok(7));
    // The first is slow, so the second is told to come again.
    world.pass(PRODUCE_RETRY_MS_MAX);
    settle(&mut world, node, first, &asked, Ok(0));
    let told: Vec<_> = (0..3).map(|_| codes(&world.answer::<ProduceRequest>(9).1)[0]).collect();
    assert_eq!(told, [OK, 6, OK]);
    // The leader is there: when it does not take one for a moment, it is asked again.
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(not_leader()));
    world.pass(RETRY_BACKOFF_MS);
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Ok(1));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
}

#[test]
fn what_was_refused_long_ago_and_repeated_elsewhere_holds_nothing_up() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let refuse = |world: &mut World, sequence| {
        world.send(9, &produce("t", -1, &[(0, numbered(sequence))]));
        let (node, call, asked) = append(world);
        settle(world, node, call, &asked, Err(AppendError::NotEnoughReplicas));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [19]);
    };
    refuse(&mut world, 0);
    // Its client repeats it over another connection, and comes back later.
    world.pass(5_001);
    refuse(&mut world, 1);
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    assert_eq!(sequence_of(&append(&mut world).2), 1);
}

#[test]
fn of_so_many_partitions_is_the_producer_known() {
    let mut world = World::new(1);
    let leaders = vec![1; KNOWN_PRODUCERS_MAX + 1];
    world.topic("t", &leaders);
    for partition in 0..leaders.len() as i32 {
        world.send(9, &produce("t", -1, &[(partition, numbered(0))]));
        let (node, call, asked) = append(&mut world);
        settle(&mut world, node, call, &asked, Ok(0));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
    }
    let (last, first) = (leaders.len() as i32 - 1, 0);
    for (partition, together) in [(last, 2), (first, 1)] {
        (1..3).for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(partition, numbered(sequence))])));
        assert_eq!(world.to_storage.len(), together);
        while !world.to_storage.is_empty() {
            let (node, call, asked) = append(&mut world);
            settle(&mut world, node, call, &asked, Ok(1));
        }
        (1..3).for_each(|_| assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]));
    }
}

#[test]
fn a_client_that_has_heard_of_a_refusal_may_go_on_without_what_was_refused() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let refuse = |world: &mut World, sequence, error| {
        world.send(9, &produce("t", -1, &[(0, numbered(sequence))]));
        let (node, call, asked) = append(world);
        settle(world, node, call, &asked, Err(error));
        world.answer::<ProduceRequest>(9);
    };
    // For good.
    refuse(&mut world, 0, AppendError::MessageTooLarge { size: 2, max: 1 });
    refuse(&mut world, 1, AppendError::NotEnoughReplicas);
    // It tries in vain, which does not put off when it has heard.
    for _ in 0..5 {
        assert_eq!(codes(&world.ask::<ProduceRequest>(9, &produce("t", -1, &[(0, numbered(2))]))), [6]);
        world.pass(1_000);
    }
    world.pass(1);
    world.send(9, &produce("t", -1, &[(0, numbered(2))]));
    assert_eq!(sequence_of(&append(&mut world).2), 2);
}

/// W2.
#[test]
fn an_ambiguous_failure_without_producer_id_is_reported_and_never_repeated() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let ambiguous = [
        AppendError::TimedOut,
        AppendError::StorageFailed,
        AppendError::LeaderChanged { leader: BrokerId(2), leader_epoch: LeaderEpoch(6) },
    ];
    for error in ambiguous {
        world.send(9, &produce("t", -1, &[(0, batch("a"))]));
        let (node, call, asked) = append(&mut world);
        settle(&mut world, node, call, &asked, Err(error));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [7]);
    }
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, _) = append(&mut world);
    world.storage_fails(node, call, TransportError::Broken);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [7]);
    world.pass(10_000);
    assert!(world.to_storage.is_empty());
    assert_eq!(world.gateway.stats().produce_indeterminate, 4);
}

#[test]
fn an_ambiguous_failure_with_producer_id_is_repeated_with_the_same_sequence() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    introduce(&mut world);
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    world.send(9, &produce("t", -1, &[(0, numbered(2))]));
    let (node, first, _) = append(&mut world);
    let (_, second, _) = append(&mut world);
    world.storage_fails(node, first, TransportError::Broken);
    world.storage_fails(node, second, TransportError::Broken);
    world.pass(RETRY_BACKOFF_MS);
    for (sequence, offset) in [(1, 10), (2, 11)] {
        let (node, call, asked) = append(&mut world);
        assert_eq!(sequence_of(&asked), sequence);
        settle(&mut world, node, call, &asked, Ok(offset));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
    }
}

/// R17: after an attempt that may have been appended no error is definite.
#[test]
fn after_an_ambiguous_attempt_a_definite_error_is_told_as_unknown() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, numbered(0))]));
    let (node, call, _) = append(&mut world);
    world.storage_fails(node, call, TransportError::Broken);
    world.pass(RETRY_BACKOFF_MS);
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(AppendError::NotEnoughReplicas));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [7]);
}

/// A gap that is only an earlier batch of ours on its way is no gap.
#[test]
fn a_sequence_gap_left_by_a_stale_batch_is_retried_behind_it() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    introduce(&mut world);
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    world.send(9, &produce("t", -1, &[(0, numbered(2))]));
    let (node, first, first_asked) = append(&mut world);
    let (_, second, second_asked) = append(&mut world);
    settle(&mut world, node, second, &second_asked, Err(gap(1, 2)));
    settle(&mut world, node, first, &first_asked, Err(not_leader()));
    world.lead(topic, 0, Some(2), 6);
    for offset in 0..2 {
        let (node, call, asked) = append(&mut world);
        assert_eq!(node, BrokerId(2));
        settle(&mut world, node, call, &asked, Ok(offset));
        assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [OK]);
    }
    // A gap with nothing before it is the client's own.
    world.send(9, &produce("t", -1, &[(0, numbered(5))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(gap(3, 5)));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [45]);
}

/// Two batches under way, and what the leader says to each, one after the other: the codes that their client is told.
fn told(world: &mut World, sequences: [i32; 2], answers: [AppendError; 2]) -> [i16; 2] {
    sequences.iter().for_each(|sequence| _ = world.send(9, &produce("t", -1, &[(0, numbered(*sequence))])));
    let asked: Vec<_> = sequences.iter().map(|_| append(world)).collect();
    let codes = asked.iter().zip(answers).map(|((node, call, asked), answer)| {
        settle(world, *node, *call, asked, Err(answer));
        codes(&world.answer::<ProduceRequest>(9).1)[0]
    });
    codes.collect::<Vec<_>>().try_into().unwrap()
}

fn gap(expected: i32, got: i32) -> AppendError {
    AppendError::OutOfOrderSequence { expected: Sequence(expected), got: Sequence(got) }
}

/// Out of order, said of any one partition, has librdkafka send again what is in the log of another: its issue 4953.
#[test]
fn behind_a_refused_batch_nothing_is_out_of_order() {
    let refused = [AppendError::NotEnoughReplicas, AppendError::NoSpace, AppendError::TimedOut];
    for (refused, code) in refused.into_iter().zip([19, 56, 7]) {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        introduce(&mut world);
        // Between the two the leader came to take batches again.
        assert_eq!(told(&mut world, [1, 2], [refused.clone(), gap(1, 2)]), [code, 6]);
        // Both come again, and again between the two.
        assert_eq!(told(&mut world, [1, 2], [refused.clone(), gap(1, 2)]), [code, 6]);
        // The first was kept, as its client did not hear; the second is missing then, and not the first.
        assert_eq!(told(&mut world, [2, 3], [refused, gap(2, 3)]), [code, 6]);
    }
}

#[test]
fn a_gap_that_no_refusal_explains_is_told() {
    let refused = || AppendError::NotEnoughReplicas;
    let mut world = World::new(1);
    world.topic("t", &[1]);
    introduce(&mut world);
    // What is missing is not what was refused.
    assert_eq!(told(&mut world, [3, 4], [refused(), gap(1, 4)]), [19, 45]);
    // It was refused for good, and will not come again.
    let for_good = AppendError::MessageTooLarge { size: 2, max: 1 };
    assert_eq!(told(&mut world, [5, 6], [for_good, gap(5, 6)]), [10, 45]);
    // It is the other's of another producer.
    let other = record_batch::Producer { id: ProducerId(10), epoch: ProducerEpoch(0), base_sequence: Sequence(4) };
    let other = BatchBuilder::new(Compression::None).producer(other).record(None, Some(b"v"), &[], Timestamp(1));
    world.send(9, &produce("t", -1, &[(0, other.build().unwrap())]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(gap(3, 4)));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [45]);
    // The client has heard long ago, and goes on without it.
    world.pass(5_001);
    assert_eq!(told(&mut world, [4, 5], [gap(3, 4), gap(3, 5)]), [45, 45]);
}

/// Trap 31 (KIP-951).
#[test]
fn a_leader_that_does_not_come_is_given_up_with_its_name_and_address() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    world.send(10, &produce("t", -1, &[(0, batch("a"))]));
    let mut attempts = 0;
    while world.sent.is_empty() {
        while !world.to_storage.is_empty() {
            attempts += 1;
            let (node, call, asked) = append(&mut world);
            settle(&mut world, node, call, &asked, Err(not_leader()));
        }
        world.pass(RETRY_BACKOFF_MS);
    }
    let attempts_max = (PRODUCE_RETRY_MS_MAX / RETRY_BACKOFF_MS) as usize + 1;
    assert!((attempts_max * 9 / 10..=attempts_max).contains(&attempts), "{attempts} attempts in five seconds");
    let (_, response) = world.answer::<ProduceRequest>(10);
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.base_offset), (6, -1));
    assert_eq!(partition.current_leader, LeaderIdAndEpoch { leader_id: 1, leader_epoch: 5 });
    assert_eq!(response.node_endpoints.len(), 1);
    assert_eq!((response.node_endpoints[0].node_id, &*response.node_endpoints[0].host), (1, "gw"));
    // The next one does not wait for the same epoch again, until there is a new one.
    world.send(10, &produce("t", -1, &[(0, batch("b"))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(not_leader()));
    assert_eq!(codes(&world.answer::<ProduceRequest>(10).1), [6]);
    world.lead(topic, 0, None, 6);
    world.send(10, &produce("t", -1, &[(0, batch("c"))]));
    assert!(world.is_silent() && world.to_storage.is_empty());
    world.lead(topic, 0, Some(2), 7);
    assert_eq!(append(&mut world).0, BrokerId(2));
}

/// The second would be taken for the first of its producer by a leader that appears a moment after the first was given up.
#[test]
fn what_waits_behind_a_batch_that_is_given_up_is_given_up_with_it() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    world.lead(topic, 0, None, 6);
    world.send(9, &produce("t", -1, &[(0, numbered(0))]));
    world.pass(1_000);
    world.send(9, &produce("t", -1, &[(0, numbered(1))]));
    world.pass(PRODUCE_RETRY_MS_MAX - 1_000);
    world.lead(topic, 0, Some(2), 7);
    assert!(world.to_storage.is_empty());
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [6]);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [6]);
}

#[test]
fn an_answer_that_is_owed_is_given_up_as_unknown() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    let mut request = produce("t", -1, &[(0, batch("a"))]);
    request.timeout_ms = 1_000;
    world.send(9, &request);
    world.pass(1_000 + ANSWER_GRACE_MS - 1);
    assert!(world.is_silent());
    world.pass(1);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [7]);
    // Too late to matter, and no harm.
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Ok(0));
    assert!(world.is_silent());
}

#[test]
fn a_topic_deleted_under_a_stale_batch_is_unknown_and_never_its_successor() {
    let mut world = World::new(1);
    let topic = world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(AppendError::UnknownPartition));
    world.change(vec![Record::TopicRemoved { id: topic }]);
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [3]);
    world.topic("t", &[1]);
    world.pass(1_000);
    assert!(world.to_storage.is_empty());
}

#[test]
fn an_answer_to_another_question_is_not_believed() {
    let mut world = World::new(1);
    world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, _) = append(&mut world);
    world.storage_answers(node, call, Response::DescribeLogDirs(Vec::new()));
    assert_eq!(codes(&world.answer::<ProduceRequest>(9).1), [7]);
}

#[test]
fn a_client_that_leaves_takes_its_stale_produces_with_it() {
    let mut world = World::new(2);
    let topic = world.topic("t", &[1]);
    world.send(9, &produce("t", -1, &[(0, batch("a"))]));
    let (node, call, asked) = append(&mut world);
    settle(&mut world, node, call, &asked, Err(not_leader()));
    world.step(crate::Event::ConnectionClosed { connection: C });
    world.lead(topic, 0, Some(2), 6);
    world.pass(10_000);
    assert!(world.to_storage.is_empty() && world.is_silent());
    world.change(vec![broker(8)]);
    assert!(world.gateway.is_idle());
}
