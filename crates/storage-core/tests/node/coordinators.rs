use base_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};
use bytes::Bytes;
use peer_api::controller::FromController;
use peer_api::groups::{
    Caller, CommitPartition, DeleteGroups, FetchGroup, GROUPS_TOPIC, GroupKind, GroupRequest, GroupState, Heartbeat,
    JoinGroup, JoinProtocol, OffsetCommit, OffsetDelete, OffsetFetch, OffsetTopic, ToCoordinator,
};
use peer_api::metadata::{ConfigResource, MetadataOffset, Record, Update};
use peer_api::replication::{FromFollower, Hello};
use peer_api::storage::{Acks, Request};
use record_batch::{BatchBuilder, BatchLimits, Compression, EndTxnMarker, ProducedBatch, StampedBatch};
use storage_core::{Event, FetchKey, OnDisk, PeerStream, ReadFailure, WriteFailure};

use crate::host::*;

/// The only partition of the groups' topic in these tests.
fn groups() -> base_types::TopicPartition {
    tp(9, 0)
}

fn groups_topic() -> Record {
    Record::TopicCreated { id: groups().topic, name: GROUPS_TOPIC.to_owned() }
}

/// Leading the groups' partition alone in epoch 3, with nothing in its log.
fn coordinating() -> Host {
    coordinating_with(&[])
}

fn coordinating_with(statics: &[(&str, &str)]) -> Host {
    let mut host = Host::registered_with(statics);
    host.updated(vec![groups_topic(), topic(1), partition(groups(), 1, 3, &[1])]);
    host.opened(groups(), empty());
    host
}

/// Elected in `epoch` over what others have written.
fn elected_over(on_disk: OnDisk, epoch: i32) -> (Host, Vec<String>) {
    let mut host = Host::registered();
    host.updated(vec![groups_topic(), topic(1), partition(groups(), 1, epoch, &[1])]);
    let shown = host.opened(groups(), on_disk);
    (host, shown)
}

fn ask(host: &mut Host, stream: u64, id: u64, request: GroupRequest) -> Vec<String> {
    let asked = ToCoordinator { partition: PartitionIndex(0), caller: Caller::default(), request };
    host.asked(stream, id, Request::Coordinate(Box::new(asked)))
}

/// By nobody in particular, for partition 0 of topic 1.
fn commit_with(offset: i64, metadata: &str) -> GroupRequest {
    let partition = CommitPartition {
        partition: PartitionIndex(0),
        offset: Offset(offset),
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: Some(metadata.to_owned()),
    };
    GroupRequest::OffsetCommit(OffsetCommit {
        group_id: "g".to_owned(),
        generation_or_epoch: -1,
        topics: vec![OffsetTopic { id: TopicId([1; 16]), name: "t1".to_owned(), partitions: vec![partition] }],
        ..OffsetCommit::default()
    })
}

fn commit(offset: i64) -> GroupRequest {
    commit_with(offset, "")
}

fn fetch_offset() -> GroupRequest {
    let partitions = vec![PartitionIndex(0)];
    GroupRequest::OffsetFetch(OffsetFetch {
        groups: vec![FetchGroup {
            group_id: "g".to_owned(),
            member_epoch: -1,
            topics: Some(vec![OffsetTopic { id: TopicId([1; 16]), name: "t1".to_owned(), partitions }]),
            ..FetchGroup::default()
        }],
        require_stable: false,
    })
}

fn read(host: &mut Host, key: u64, batches: &[&StampedBatch]) -> Vec<String> {
    // As the disk gives them: whatever lies together in one piece.
    let piece: Bytes = batches.iter().flat_map(|batch| batch.to_bytes()).collect();
    host.step(Event::FetchRead { fetch: FetchKey(key), parts: vec![Ok(vec![piece])] })
}

fn read_failed(host: &mut Host, key: u64, failure: ReadFailure) -> Vec<String> {
    host.step(Event::FetchRead { fetch: FetchKey(key), parts: vec![Err(failure)] })
}

/// Commits each of these, durably, and gives the batches.
fn committed(offsets: &[i64]) -> Vec<StampedBatch> {
    let mut host = coordinating();
    for (write, &offset) in (1..).zip(offsets) {
        ask(&mut host, 1, write, commit(offset));
        assert_eq!(host.written(groups(), write), [format!("answer 1 #{write}: committed")]);
    }
    host.batches
}

fn answers(mut shown: Vec<String>) -> Vec<String> {
    shown.retain(|line| line.starts_with("answer"));
    shown
}

#[test]
fn only_the_leader_coordinates_and_only_of_the_groups_topic() {
    let mut host = Host::leading();
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: NotCoordinator"], "no such topic");
    host.updated(vec![groups_topic(), partition(groups(), 2, 3, &[2, 1])]);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: NotCoordinator"], "not opened");
    host.opened(groups(), empty());
    assert_eq!(ask(&mut host, 1, 3, fetch_offset()), ["answer 1 #3: NotCoordinator"], "another leads");
    host.updated(vec![partition(groups(), 1, 4, &[1])]);
    assert_eq!(ask(&mut host, 1, 4, fetch_offset()), ["answer 1 #4: -1"]);
    assert_eq!(host.node.stats().coordinators.coordinators, 1);
}

#[test]
fn a_commit_is_answered_when_it_is_durable() {
    let mut host = coordinating();
    assert_eq!(ask(&mut host, 1, 7, commit(42)), ["write 1 9-0: 1 at 0"]);
    assert_eq!(host.node.stats().coordinators.appends_waiting, 1);
    assert_eq!(host.node.stats().coordinators.requests_waiting, 1);
    assert_eq!(host.written(groups(), 1), ["answer 1 #7: committed"]);
    assert_eq!(ask(&mut host, 1, 8, fetch_offset()), ["answer 1 #8: 42"]);
    let batch = host.batches[0].header();
    assert_eq!(batch.base_timestamp, Timestamp(1_000_000), "by the wall clock");
    assert!(!batch.has_producer_id());
    let stats = host.node.stats().coordinators;
    assert_eq!((stats.requests_waiting, stats.appends_waiting, stats.offsets), (0, 0, 1));
    assert_eq!(stats.groups[&(GroupKind::Classic, GroupState::Empty)], 1);
}

#[test]
fn what_was_committed_before_an_election_is_known_after_it() {
    let batches = committed(&[10, 20, 30]);
    let (mut host, shown) = elected_over(log(3, 3), 4);
    assert_eq!(shown, ["fetch 1: 9-0 0..3"]);
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: LoadInProgress"]);
    assert_eq!(ask(&mut host, 1, 2, commit(40)), ["answer 1 #2: LoadInProgress"]);
    assert_eq!(host.node.stats().coordinators.loading, 1);
    host.now_ms += 70;
    assert!(read(&mut host, 1, &[&batches[0], &batches[1], &batches[2]]).is_empty());
    assert_eq!(ask(&mut host, 1, 3, fetch_offset()), ["answer 1 #3: 30"]);
    let stats = host.node.stats().coordinators;
    assert_eq!((stats.loading, stats.loads.count, stats.loads.ms_max), (0, 1, 70));
}

#[test]
fn a_log_is_read_in_portions() {
    let batches = committed(&[10, 20, 30]);
    let (mut host, _) = elected_over(log(3, 3), 4);
    assert_eq!(read(&mut host, 1, &[&batches[0]]), ["fetch 2: 9-0 1..3"]);
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: LoadInProgress"]);
    assert!(read(&mut host, 2, &[&batches[1], &batches[2]]).is_empty());
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: 30"]);
}

#[test]
fn nothing_is_served_before_all_that_the_leader_had_is_committed() {
    let batches = committed(&[10, 20]);
    let mut host = Host::registered();
    host.updated(vec![groups_topic(), partition(groups(), 1, 4, &[1, 2])]);
    let on_disk = OnDisk { high_watermark: Offset(1), ..log(2, 3) };
    assert_eq!(host.opened(groups(), on_disk), ["fetch 1: 9-0 0..1"]);
    assert!(read(&mut host, 1, &[&batches[0]]).is_empty(), "the rest is not committed");
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: LoadInProgress"]);
    let hello = Hello { follower: BrokerId(2), broker_epoch: BrokerEpoch(5) };
    host.step(Event::FollowerConnected { stream: PeerStream(1), hello });
    let (leader_epoch, last_epoch) = (LeaderEpoch(4), LeaderEpoch(3));
    let message = FromFollower::Follow {
        partition: groups(),
        leader_epoch,
        log_start: Offset::ZERO,
        log_end: Offset(2),
        last_epoch,
    };
    let shown = host.step(Event::FollowerSaid { stream: PeerStream(1), message });
    assert!(shown.contains(&"fetch 2: 9-0 1..2".to_owned()), "{shown:?}");
    read(&mut host, 2, &[&batches[1]]);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["follower 1: confirm 9-0 #1"]);
    let message = FromFollower::Confirmed { partition: groups(), leader_epoch, round: 1 };
    let shown = host.step(Event::FollowerSaid { stream: PeerStream(1), message });
    assert_eq!(shown, ["answer 1 #2: 20"]);
}

#[test]
fn batches_of_other_makers_are_read_and_markers_are_passed_over() {
    let ours = committed(&[10, 20]);
    let mut builder = BatchBuilder::new(Compression::Gzip);
    for batch in &ours {
        for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
            builder.push(record.key.as_deref(), record.value.as_deref(), &[], record.timestamp);
        }
    }
    builder.push(None, Some(b"a record of no key"), &[], Timestamp(1));
    builder.push(Some(b"\x00\x63what"), Some(b"later versions may write"), &[], Timestamp(1));
    let compressed = ProducedBatch::check(builder.build().unwrap(), &BatchLimits::default()).unwrap();
    let compressed = StampedBatch::stamp(&compressed, Offset(0), LeaderEpoch(3));
    let marker = EndTxnMarker { commit: true, coordinator_epoch: 0 };
    let marker = marker.batch(ProducerId(1), ProducerEpoch(0), Timestamp(1), Offset(4), LeaderEpoch(3));
    let (mut host, shown) = elected_over(log(5, 3), 4);
    assert_eq!(shown, ["fetch 1: 9-0 0..5"]);
    read(&mut host, 1, &[&compressed, &marker]);
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: 20"]);
    assert_eq!(host.node.stats().coordinators.records_skipped, 0);
}

#[test]
fn a_failed_read_is_tried_again_after_a_while() {
    let batches = committed(&[10, 20]);
    let (mut host, _) = elected_over(log(2, 3), 4);
    assert_eq!(read(&mut host, 1, &[&batches[0]]), ["fetch 2: 9-0 1..2"]);
    assert!(read_failed(&mut host, 2, ReadFailure::Corrupt).is_empty());
    assert!(!host.after_ms(499).iter().any(|line| line.starts_with("fetch")));
    assert!(host.after_ms(1).contains(&"fetch 3: 9-0 1..2".to_owned()));
    assert!(read(&mut host, 3, &[]).is_empty(), "nothing is not all");
    assert!(host.after_ms(500).contains(&"fetch 4: 9-0 1..2".to_owned()));
    let mut damaged = batches[1].to_bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    host.step(Event::FetchRead { fetch: FetchKey(4), parts: vec![Ok(vec![damaged.into()])] });
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: LoadInProgress"]);
    assert!(host.after_ms(500).contains(&"fetch 5: 9-0 1..2".to_owned()));
    read(&mut host, 5, &[&batches[1]]);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: 20"]);
}

#[test]
fn whoever_waits_hears_of_a_lost_leadership() {
    let mut host = coordinating();
    ask(&mut host, 1, 7, commit(42));
    let shown = host.updated(vec![partition(groups(), 2, 4, &[1, 2])]);
    assert_eq!(answers(shown), ["answer 1 #7: Lost"]);
    assert!(host.written(groups(), 1).is_empty());
    assert_eq!(ask(&mut host, 1, 8, commit(43)), ["answer 1 #8: NotCoordinator"]);
    let stats = host.node.stats().coordinators;
    assert_eq!((stats.coordinators, stats.requests_waiting, stats.appends_waiting), (0, 0, 0));
}

#[test]
fn the_same_leader_in_another_epoch_reads_its_log_anew() {
    let mut host = coordinating();
    ask(&mut host, 1, 7, commit(42));
    let shown = host.updated(vec![partition(groups(), 1, 4, &[1])]);
    assert_eq!(answers(shown), ["answer 1 #7: Lost"]);
    assert_eq!(ask(&mut host, 1, 8, fetch_offset()), ["answer 1 #8: LoadInProgress"]);
    assert_eq!(host.written(groups(), 1), ["fetch 1: 9-0 0..1"]);
    let batch = host.batches[0].clone();
    read(&mut host, 1, &[&batch]);
    assert_eq!(ask(&mut host, 1, 9, fetch_offset()), ["answer 1 #9: 42"], "it was lost, and it happened");
}

#[test]
fn what_a_load_has_asked_for_is_not_taken_for_that_of_the_next() {
    let batches = committed(&[10]);
    let (mut host, _) = elected_over(log(1, 3), 4);
    let shown = host.updated(vec![partition(groups(), 1, 5, &[1])]);
    assert_eq!(shown, ["fetch 2: 9-0 0..1"]);
    read(&mut host, 1, &[&batches[0]]);
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["answer 1 #1: LoadInProgress"]);
    read(&mut host, 2, &[&batches[0]]);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: 10"]);
}

#[test]
fn a_deleted_groups_topic_has_no_coordinator() {
    let mut host = coordinating();
    ask(&mut host, 1, 7, commit(42));
    assert_eq!(host.updated(vec![deleted(9)]), ["delete 9-0", "answer 1 #7: Lost"]);
    assert_eq!(ask(&mut host, 1, 8, fetch_offset()), ["answer 1 #8: NotCoordinator"]);
}

#[test]
fn a_gateway_that_is_gone_is_not_answered() {
    let mut host = coordinating();
    ask(&mut host, 1, 7, commit(42));
    ask(&mut host, 2, 7, commit(43));
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(host.written(groups(), 1).is_empty());
    assert_eq!(host.written(groups(), 2), ["answer 2 #7: committed"]);
    assert_eq!(host.node.stats().coordinators.requests_waiting, 0);
}

/// The groups' partition, which needs two in sync, in the hands of these.
fn in_sync(isr: &[i32], partition_epoch: i32) -> Record {
    led_with(groups(), isr, partition_epoch)
}

#[test]
fn without_enough_replicas_in_sync_nothing_is_written_and_no_offset_is_told() {
    let mut host = Host::registered();
    let min_isr = setting(ConfigResource::Topic(GROUPS_TOPIC.to_owned()), "min.insync.replicas", "2");
    host.updated(vec![groups_topic(), min_isr, in_sync(&[1], 30)]);
    host.opened(groups(), empty());
    assert_eq!(ask(&mut host, 1, 1, commit(42)), ["answer 1 #1: NotAvailable"]);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: NotAvailable"]);
    host.updated(vec![in_sync(&[1, 2], 31)]);
    assert_eq!(ask(&mut host, 1, 3, commit(42)), ["write 1 9-0: 1 at 0"]);
    host.updated(vec![in_sync(&[1], 32)]);
    assert_eq!(ask(&mut host, 1, 4, commit(43)), ["answer 1 #4: NotAvailable"]);
    assert!(host.written(groups(), 1).is_empty(), "durable here alone");
    assert!(answers(host.updated(vec![in_sync(&[1, 2], 33)])).is_empty());
}

#[test]
fn a_full_disk_holds_commits_off_until_it_may_have_room_again() {
    let mut host = coordinating();
    host.updated(vec![partition(tp(1, 0), 1, 3, &[1])]);
    host.opened(tp(1, 0), empty());
    host.asked(9, 1, append(Acks::All, 3, &[tp(1, 0)]));
    host.not_written(tp(1, 0), 1, WriteFailure::NoSpace);
    assert_eq!(ask(&mut host, 1, 1, commit(42)), ["answer 1 #1: NotAvailable"]);
    host.after_ms(500);
    assert_eq!(ask(&mut host, 1, 2, commit(42)), ["write 1 9-0: 1 at 0"]);
}

/// One offset is committed, and the log takes hardly anything any more.
fn with_small_batches() -> Host {
    let mut host = coordinating();
    ask(&mut host, 1, 1, commit(10));
    host.written(groups(), 1);
    host.updated(vec![setting(ConfigResource::Topic(GROUPS_TOPIC.to_owned()), "max.message.bytes", "80")]);
    host
}

#[test]
fn a_refused_record_has_the_log_read_again() {
    let mut host = with_small_batches();
    // A commit that is too large is refused before it is decided; the tombstones of offsets are not looked at.
    assert_eq!(ask(&mut host, 1, 2, commit(20)), ["answer 1 #2: WriteRefused"]);
    assert_eq!(ask(&mut host, 1, 3, fetch_offset()), ["answer 1 #3: 10"]);
    let topics = vec![OffsetTopic { id: TopicId([1; 16]), name: "t1".to_owned(), partitions: vec![PartitionIndex(0)] }];
    let delete = GroupRequest::OffsetDelete(OffsetDelete { group_id: "g".to_owned(), topics });
    assert_eq!(ask(&mut host, 1, 2, delete), ["answer 1 #2: WriteRefused"]);
    assert_eq!(ask(&mut host, 1, 3, fetch_offset()), ["answer 1 #3: LoadInProgress"]);
    assert!(host.after_ms(500).contains(&"fetch 1: 9-0 0..1".to_owned()));
    let batch = host.batches[0].clone();
    read(&mut host, 1, &[&batch]);
    assert_eq!(ask(&mut host, 1, 4, fetch_offset()), ["answer 1 #4: 10"]);
}

#[test]
fn after_a_refused_append_none_reaches_the_log_of_those_that_were_asked_for_with_it() {
    let mut host = with_small_batches();
    // The tombstone of the offset does not fit, the group's own would.
    let delete = GroupRequest::DeleteGroups(DeleteGroups { groups: vec!["g".to_owned()] });
    assert_eq!(ask(&mut host, 1, 2, delete), ["answer 1 #2: Lost"]);
}

#[test]
fn an_append_of_unknown_fate_is_judged_by_the_log() {
    let mut host = coordinating();
    ask(&mut host, 1, 1, commit(10));
    assert_eq!(answers(host.after_ms(5_000)), ["answer 1 #1: TimedOut"]);
    assert_eq!(ask(&mut host, 1, 2, commit(20)), ["write 2 9-0: 1 at 1"]);
    host.now_ms += u64::from(u32::MAX);
    assert_eq!(answers(host.step(Event::Ticked)), ["answer 1 #2: TimedOut"]);
    assert_eq!(ask(&mut host, 1, 3, fetch_offset()), ["answer 1 #3: LoadInProgress"]);
    host.written(groups(), 1);
    assert!(host.after_ms(500).contains(&"fetch 1: 9-0 0..1".to_owned()));
    let batches = host.batches.clone();
    read(&mut host, 1, &[&batches[0]]);
    assert_eq!(host.written(groups(), 2), ["fetch 2: 9-0 1..2"]);
    read(&mut host, 2, &[&batches[1]]);
    assert_eq!(ask(&mut host, 1, 4, fetch_offset()), ["answer 1 #4: 20"]);
}

#[test]
fn offsets_of_a_deleted_topic_are_taken_back() {
    let mut host = coordinating();
    ask(&mut host, 1, 1, commit(10));
    host.written(groups(), 1);
    assert_eq!(host.updated(vec![deleted(1)]), ["write 2 9-0: 1 at 1"]);
    host.written(groups(), 2);
    assert_eq!(ask(&mut host, 1, 2, fetch_offset()), ["answer 1 #2: -1"]);

    // And of one that a snapshot does not name any more.
    let mut host = coordinating();
    ask(&mut host, 1, 1, commit(10));
    host.written(groups(), 1);
    let brokers = [1, 2, 3].map(|id| broker(id, 5, peer_api::metadata::BrokerState::Active));
    let records = [&brokers[..], &[groups_topic(), partition(groups(), 1, 3, &[1])]].concat();
    let shown = host.said(FromController::Update(Update::Snapshot { at: MetadataOffset(100), records }));
    assert_eq!(shown, ["write 2 9-0: 1 at 1"]);
}

#[test]
fn settings_reach_coordinators_and_their_successors() {
    let mut host = coordinating();
    host.updated(vec![setting(ConfigResource::Broker(ME), "offset.metadata.max.bytes", "3")]);
    assert_eq!(ask(&mut host, 1, 1, commit_with(1, "four")), ["answer 1 #1: OffsetMetadataTooLarge"]);
    host.updated(vec![partition(groups(), 1, 4, &[1])]);
    assert_eq!(ask(&mut host, 1, 2, commit_with(1, "four")), ["answer 1 #2: OffsetMetadataTooLarge"]);
}

#[test]
fn what_the_node_was_started_with_holds_until_it_is_set_for_the_cluster() {
    let mut host = coordinating_with(&[("offset.metadata.max.bytes", "3")]);
    assert_eq!(ask(&mut host, 1, 1, commit_with(1, "four")), ["answer 1 #1: OffsetMetadataTooLarge"]);
    host.updated(vec![setting(ConfigResource::Cluster, "offset.metadata.max.bytes", "4")]);
    let shown = ask(&mut host, 1, 2, commit_with(1, "four"));
    assert!(shown.iter().all(|line| !line.contains("OffsetMetadataTooLarge")), "{shown:?}");
}

#[test]
fn members_that_wait_for_others_are_served_when_their_time_comes() {
    let mut host = coordinating();
    let join = GroupRequest::JoinGroup(JoinGroup {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinProtocol { name: "range".to_owned(), metadata: Bytes::new() }],
        ..JoinGroup::default()
    });
    assert_eq!(ask(&mut host, 1, 1, join), ["write 1 9-0: 1 at 0"], "a group begins in the log");
    assert!(host.written(groups(), 1).is_empty());
    assert!(answers(host.after_ms(2_999)).is_empty(), "more may come");
    let joined = answers(host.after_ms(1));
    assert!(joined[0].starts_with("answer 1 #1: JoinGroup(Ok("), "{joined:?}");
    let stats = host.node.stats().coordinators;
    assert_eq!(stats.groups[&(GroupKind::Classic, GroupState::CompletingRebalance)], 1);
}

#[test]
fn member_ids_of_two_lives_differ() {
    let id_of = |host: &mut Host| {
        let join = GroupRequest::JoinGroup(JoinGroup {
            group_id: "g".to_owned(),
            session_timeout_ms: 10_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinProtocol { name: "range".to_owned(), metadata: Bytes::new() }],
            requires_known_member_id: true,
            ..JoinGroup::default()
        });
        ask(host, 1, 1, join).pop().unwrap()
    };
    let mut host = coordinating();
    let first = id_of(&mut host);
    assert!(first.contains("MemberIdRequired"), "{first}");
    host.updated(vec![partition(groups(), 1, 4, &[1])]);
    assert_ne!(first, id_of(&mut host));
}

#[test]
fn a_heartbeat_during_the_load_is_no_reason_to_leave() {
    let (mut host, _) = elected_over(log(1, 3), 4);
    let heartbeat = GroupRequest::Heartbeat(Heartbeat { group_id: "g".to_owned(), ..Heartbeat::default() });
    assert_eq!(ask(&mut host, 1, 1, heartbeat), ["answer 1 #1: Heartbeat(Ok(()))"]);
}

/// Leads over one that follows; both are to be in sync for anything to be written.
fn followed() -> Host {
    let mut host = Host::registered();
    let min = setting(ConfigResource::Topic(GROUPS_TOPIC.to_owned()), "min.insync.replicas", "2");
    host.updated(vec![groups_topic(), topic(1), min, in_sync(&[1, 2], 1)]);
    host.opened(groups(), empty());
    let hello = Hello { follower: BrokerId(2), broker_epoch: BrokerEpoch(5) };
    host.step(Event::FollowerConnected { stream: PeerStream(1), hello });
    says(&mut host, |partition, leader_epoch| FromFollower::Follow {
        partition,
        leader_epoch,
        log_start: Offset::ZERO,
        log_end: Offset::ZERO,
        last_epoch: LeaderEpoch::UNKNOWN,
    });
    host
}

fn says(host: &mut Host, message: impl Fn(base_types::TopicPartition, LeaderEpoch) -> FromFollower) -> Vec<String> {
    host.step(Event::FollowerSaid { stream: PeerStream(1), message: message(groups(), LeaderEpoch(3)) })
}

fn confirms(host: &mut Host, round: u64) -> Vec<String> {
    says(host, |partition, leader_epoch| FromFollower::Confirmed { partition, leader_epoch, round })
}

#[test]
fn offsets_are_read_once_those_in_sync_have_confirmed_the_leader() {
    let mut host = followed();
    assert_eq!(ask(&mut host, 1, 1, fetch_offset()), ["follower 1: confirm 9-0 #1"]);
    assert!(ask(&mut host, 1, 2, fetch_offset()).is_empty(), "one question at a time");
    assert_eq!(confirms(&mut host, 1), ["follower 1: confirm 9-0 #2", "answer 1 #1: -1"]);
    assert_eq!(confirms(&mut host, 2), ["answer 1 #2: -1"]);
    // What is committed meanwhile is seen.
    ask(&mut host, 1, 3, fetch_offset());
    ask(&mut host, 1, 4, commit(42));
    host.written(groups(), 1);
    let durable = |partition, leader_epoch| FromFollower::Durable {
        partition,
        leader_epoch,
        log_start: Offset::ZERO,
        log_end: Offset(1),
    };
    assert_eq!(answers(says(&mut host, durable)), ["answer 1 #4: committed"]);
    assert_eq!(answers(confirms(&mut host, 3)), ["answer 1 #3: 42"]);
}

#[test]
fn whoever_waits_for_a_confirmation_is_told_that_there_is_none() {
    let mut host = followed();
    ask(&mut host, 1, 2, fetch_offset());
    assert_eq!(answers(host.updated(vec![in_sync(&[1], 2)])), ["answer 1 #2: NotAvailable"], "too few are in sync");
    host.updated(vec![in_sync(&[1, 2], 3)]);
    ask(&mut host, 1, 3, fetch_offset());
    let shown = host.updated(vec![partition(groups(), 2, 4, &[1, 2])]);
    assert_eq!(answers(shown), ["answer 1 #3: NotCoordinator"]);
    assert_eq!(host.node.stats().coordinators.requests_waiting, 0);

    let mut host = followed();
    ask(&mut host, 1, 1, fetch_offset());
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(answers(confirms(&mut host, 1)).is_empty(), "nobody is there to be told");

    let mut host = followed();
    ask(&mut host, 1, 1, fetch_offset());
    assert!(answers(host.after_ms(4_999)).is_empty());
    assert_eq!(answers(host.after_ms(1)), ["answer 1 #1: NotAvailable"], "the follower is silent");
}
