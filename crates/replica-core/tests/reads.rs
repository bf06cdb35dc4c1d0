//! What a replica answers without changing: fetches, offsets, ends of epochs.

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Now, Offset, PartitionEpoch, TopicPartition};
use peer_api::storage::{
    EpochEnd, EpochEndPartition, FetchPartition, Isolation, ListOffsetsPartition, OffsetSpec, ReadError,
};
use replica_core::{Assignment, Effects, Event, FetchPlan, OnDisk, Replica, Settings};

const PARTITION: TopicPartition =
    TopicPartition { topic: base_types::TopicId::ZERO, partition: base_types::PartitionIndex(0) };
const UNKNOWN: LeaderEpoch = LeaderEpoch::UNKNOWN;

/// Offsets 10 to 30, of epoch 2 and from 20 on of epoch 4; all below 15 is known to be committed. It is told of epoch 6.
fn replica(leader: i32) -> Replica {
    let on_disk = OnDisk {
        log_start: Offset(10),
        log_end: Offset(30),
        leader_epochs: vec![(LeaderEpoch(2), Offset(10)), (LeaderEpoch(4), Offset(20))],
        high_watermark: Offset(15),
        ..OnDisk::default()
    };
    let settings = Settings { min_insync_replicas: 2, ..Settings::default() };
    let mut replica = Replica::new(BrokerId(1), PARTITION, settings, on_disk);
    let assignment = Assignment {
        leader_epoch: LeaderEpoch(6),
        partition_epoch: PartitionEpoch(8),
        leader: Some(BrokerId(leader)),
        replicas: vec![BrokerId(1), BrokerId(2)],
        isr: vec![BrokerId(1), BrokerId(2)],
        broker_epochs: vec![(BrokerId(1), BrokerEpoch(1)), (BrokerId(2), BrokerEpoch(2))],
        unclean_since: None,
    };
    replica.step(Now::default(), Event::MetadataChanged(assignment), &mut Effects::default());
    replica
}

fn plan(leader_epoch: LeaderEpoch, fetch_offset: i64, last_fetched_epoch: i32) -> Result<FetchPlan, ReadError> {
    let fetch = FetchPartition {
        partition: PARTITION,
        leader_epoch,
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: LeaderEpoch(last_fetched_epoch),
        bytes_max: 1,
    };
    replica(1).plan_fetch(&fetch, Isolation::ReadUncommitted)
}

fn range(fetch_offset: i64) -> Option<(i64, i64)> {
    plan(UNKNOWN, fetch_offset, -1).ok().map(|plan| (plan.from.0, plan.below.0))
}

#[test]
fn a_fetch_is_given_what_is_committed_and_from_beyond_it_nothing_yet() {
    assert_eq!(range(10), Some((10, 15)));
    assert_eq!(range(15), Some((15, 15)));
    assert_eq!(range(22), Some((22, 22)), "the log goes on to 30");
    assert_eq!(range(30), Some((30, 30)));
    let out_of_range = ReadError::OffsetOutOfRange { log_start: Offset(10), high_watermark: Offset(15) };
    assert_eq!(plan(UNKNOWN, 9, -1), Err(out_of_range.clone()));
    assert_eq!(plan(UNKNOWN, 31, -1), Err(out_of_range));
}

#[test]
fn only_a_leader_of_the_epoch_that_the_client_knows_answers() {
    assert_eq!(plan(LeaderEpoch(5), 10, -1), Err(ReadError::FencedLeaderEpoch));
    assert_eq!(plan(LeaderEpoch(7), 10, -1), Err(ReadError::UnknownLeaderEpoch));
    assert!(plan(LeaderEpoch(6), 10, -1).is_ok());
    let not_leader = ReadError::NotLeader { leader: BrokerId(2), leader_epoch: LeaderEpoch(6) };
    assert_eq!(replica(2).require_leader(UNKNOWN), Err(not_leader));
}

#[test]
fn a_client_with_another_history_is_told_where_they_part() {
    let diverging = |offset, epoch| plan(UNKNOWN, offset, epoch).map(|plan| plan.diverging);
    let end = |epoch, offset| Ok(Some(EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(offset) }));
    assert_eq!(diverging(20, 2), Ok(None));
    assert_eq!(diverging(21, 2), end(2, 20));
    assert_eq!(diverging(21, 3), end(2, 20), "nobody wrote in epoch 3");
    assert_eq!(diverging(25, 4), Ok(None));
    assert_eq!(diverging(31, 4), end(4, 30));
    assert!(matches!(diverging(15, 1), Err(ReadError::OffsetOutOfRange { .. })), "no epoch that old is left");
}

#[test]
fn the_latest_offset_is_not_known_before_the_new_leader_has_committed_what_it_found() {
    let ask = ListOffsetsPartition {
        partition: PARTITION,
        leader_epoch: UNKNOWN,
        isolation: Isolation::ReadCommitted,
        at: OffsetSpec::Latest,
    };
    assert_eq!(replica(1).latest_offset(&ask), Err(ReadError::OffsetNotAvailable));
    assert_eq!(replica(1).earliest_offset(&ask), Ok((Offset(10), LeaderEpoch(2))));
}

#[test]
fn an_epoch_ends_where_the_next_one_begins_and_the_present_one_at_the_end() {
    let end = |leader_epoch| {
        let ask = EpochEndPartition {
            partition: PARTITION,
            current_leader_epoch: UNKNOWN,
            leader_epoch: LeaderEpoch(leader_epoch),
        };
        replica(1).epoch_end(&ask).map(|end| (end.epoch.0, end.end_offset.0))
    };
    assert_eq!([end(1), end(2), end(3), end(5)], [Ok((-1, -1)), Ok((2, 20)), Ok((2, 20)), Ok((4, 30))]);
    assert_eq!([end(6), end(7)], [Ok((6, 30)), Ok((-1, -1))]);
}
