use base_types::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use peer_api::metadata::Record;
use peer_api::replication::FromLeader;
use peer_api::storage::{Acks, AppendPartition, AppendRequest, Request};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch, Producer};
use storage_core::{Event, OnDisk, WriteFailure, WriteId};

use crate::host::*;

#[test]
fn a_full_disk_is_tried_again_and_holds_producers_off() {
    let mut host = Host::leading();
    host.updated(vec![partition(tp(1, 1), 1, 3, &[1])]);
    host.opened(tp(1, 1), empty());
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert!(host.not_written(tp(1, 0), 1, WriteFailure::NoSpace).is_empty(), "no loop without a pause");
    let refused = host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0), tp(1, 1)]));
    assert_eq!(refused, ["answer 1 #8: 1-0 NoSpace, 1-1 NoSpace"]);
    assert_eq!(host.after_ms(100), ["write 2 1-0: 1 at 0"]);
    assert!(host.not_written(tp(1, 0), 2, WriteFailure::NoSpace).is_empty());
    assert_eq!(host.after_ms(100), ["write 3 1-0: 1 at 0"]);
    assert_eq!(host.written(tp(1, 0), 3), ["answer 1 #7: 1-0 @0"]);
    host.after_ms(400);
    assert_eq!(host.asked(1, 9, append(Acks::All, 3, &[tp(1, 1)])), ["write 1 1-1: 1 at 0"]);
}

fn numbered(producer_id: i64, sequence: i32) -> Request {
    let producer = Producer { id: ProducerId(producer_id), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) };
    let bytes = BatchBuilder::new(Compression::None)
        .producer(producer)
        .record(None, Some(b"value"), &[], Timestamp(1))
        .build()
        .unwrap();
    let batch = ProducedBatch::check(bytes, &BatchLimits::default()).unwrap();
    let partitions = vec![AppendPartition { partition: tp(1, 0), leader_epoch: LeaderEpoch(3), batch: Ok(batch) }];
    Request::Append(AppendRequest { acks: Acks::All, timeout_ms: 1_000, partitions })
}

/// P3.
#[test]
fn what_comes_behind_a_first_batch_that_found_no_space_is_out_of_order() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.not_written(tp(1, 0), 1, WriteFailure::NoSpace);
    assert_eq!(host.asked(1, 8, numbered(8, 0)), ["answer 1 #8: 1-0 NoSpace"]);
    host.after_ms(100);
    host.written(tp(1, 0), 2);
    host.after_ms(500);
    assert_eq!(host.asked(1, 9, numbered(8, 1)), ["answer 1 #9: 1-0 OutOfOrderSequence"]);
    assert_eq!(host.asked(1, 10, numbered(8, 0)), ["write 3 1-0: 1 at 1"]);
    assert_eq!(host.asked(1, 11, numbered(8, 1)), ["write 4 1-0: 1 at 2"]);
}

/// It is in the log, only not on the disk yet: "no space" would say that it never will be (P2, R17).
#[test]
fn a_retry_waits_for_the_full_disk_like_the_first_attempt() {
    let mut host = Host::leading();
    let attempt = || numbered(7, 0);
    host.asked(1, 7, attempt());
    host.not_written(tp(1, 0), 1, WriteFailure::NoSpace);
    assert!(host.asked(1, 8, attempt()).is_empty());
    assert_eq!(host.asked(1, 9, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #9: 1-0 NoSpace"]);
    host.after_ms(100);
    assert_eq!(host.written(tp(1, 0), 2), ["answer 1 #7: 1-0 @0", "answer 1 #8: 1-0 @0"]);
}

#[test]
fn consumers_are_served_while_the_disk_is_full() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    host.opened(tp(1, 0), log(4, 2));
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.not_written(tp(1, 0), 1, WriteFailure::NoSpace);
    assert_eq!(host.asked(1, 8, fetch(1, vec![fetch_from(tp(1, 0), 0)])), ["fetch 1: 1-0 0..4"]);
}

#[test]
fn a_failed_directory_acknowledges_nothing_and_asks_for_the_end() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::Leader, 3, &[tp(1, 0)]));
    let shown = host.not_written(tp(1, 0), 1, WriteFailure::Failed);
    assert_eq!(shown, ["answer 1 #7: 1-0 StorageFailed", "controller 1: #3 heartbeat 5 at 11, wants to stop"]);
    assert!(host.written(tp(1, 0), 1).is_empty());
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #8: 1-0 NotLeader"]);
}

#[test]
fn a_replica_that_cannot_be_opened_is_tried_again() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    assert!(host.step(Event::ReplicaOpenFailed { partition: tp(1, 0) }).is_empty());
    assert_eq!(host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #7: 1-0 UnknownPartition"]);
    let heartbeats_aside = |shown: Vec<String>| -> Vec<String> {
        shown.into_iter().filter(|line| !line.starts_with("controller") && !line.starts_with("leave")).collect()
    };
    assert!(heartbeats_aside(host.after_ms(4_999)).is_empty());
    assert_eq!(heartbeats_aside(host.after_ms(1)), ["open 1-0"]);
    host.opened(tp(1, 0), empty());
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["write 1 1-0: 1 at 0"]);
}

fn append_megabyte(host: &mut Host, id: u64) -> Vec<String> {
    let partitions =
        vec![AppendPartition { partition: tp(1, 0), leader_epoch: LeaderEpoch(3), batch: Ok(produced(1_000_000)) }];
    let request = AppendRequest { acks: Acks::All, timeout_ms: 60_000, partitions };
    host.asked(1, id, Request::Append(request))
}

#[test]
fn derived_state_is_kept_once_what_it_was_derived_from_is_durable() {
    let mut host = Host::leading();
    for write in 1..=17 {
        assert_eq!(append_megabyte(&mut host, write).len(), 1, "the write and nothing else");
    }
    for write in 1..=16 {
        assert_eq!(host.written(tp(1, 0), write).len(), 1, "the answer and nothing else");
    }
    let shown = host.written(tp(1, 0), 17);
    assert_eq!(shown, ["answer 1 #17: 1-0 @16", "checkpoint 1-0 as of 17, high watermark 17"]);
}

#[test]
fn derived_state_of_a_log_that_is_cut_is_not_kept() {
    let mut host = Host::leading();
    for write in 1..=17 {
        append_megabyte(&mut host, write);
    }
    // Another broker led meanwhile and has nothing of ours.
    host.updated(vec![partition(tp(1, 0), 2, 4, &[2, 1])]);
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    for write in 1..=16 {
        host.written(tp(1, 0), write);
    }
    assert_eq!(
        host.written(tp(1, 0), 17),
        ["leader 2: follow 1-0 in 4 from 17", "checkpoint 1-0 as of 17, high watermark 0"],
        "not cut yet"
    );

    let mut host = told_to_cut();
    host.step(Event::ShutdownRequested);
    assert_eq!(host.heartbeat_answered(3, true), ["stop"], "no checkpoint beyond the cut");

    let shown = cut_done(&mut host, 1, Ok(log(1, 2)));
    assert_eq!(shown, ["leader 2: follow 1-0 in 3 from 1"]);
}

fn cut_done(host: &mut Host, write: u64, result: Result<OnDisk, WriteFailure>) -> Vec<String> {
    host.step(Event::LogChanged { partition: tp(1, 0), write: WriteId(write), result })
}

/// Follows broker 2 in epoch 3, which has just said that only the first record of four is shared.
fn told_to_cut() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 2, 3, &[2, 1])]);
    host.opened(tp(1, 0), OnDisk { high_watermark: Offset(0), ..log(4, 2) });
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    let (leader_epoch, epoch) = (LeaderEpoch(3), LeaderEpoch(2));
    let diverged = FromLeader::Diverged { partition: tp(1, 0), leader_epoch, epoch, end_offset: Offset(1) };
    assert_eq!(host.step(Event::LeaderSaid { leader: BrokerId(2), message: diverged }), ["truncate 1 1-0 to 1"]);
    host
}

#[test]
fn a_cut_that_found_no_space_is_asked_for_again() {
    let mut host = told_to_cut();
    assert!(cut_done(&mut host, 1, Err(WriteFailure::NoSpace)).is_empty(), "no loop without a pause");
    assert_eq!(host.after_ms(100), ["truncate 2 1-0 to 1"]);
    assert!(cut_done(&mut host, 1, Ok(log(1, 2))).is_empty(), "an old word");
    // What the controller says meanwhile waits for the cut.
    assert!(host.updated(vec![partition(tp(1, 0), 1, 4, &[2, 1])]).is_empty());
    assert!(cut_done(&mut host, 2, Err(WriteFailure::NoSpace)).is_empty());
    assert_eq!(host.after_ms(100), ["truncate 3 1-0 to 1"]);
    cut_done(&mut host, 3, Ok(log(1, 2)));
    assert_eq!(host.asked(1, 7, append(Acks::Leader, 4, &[tp(1, 0)])), ["write 4 1-0: 1 at 1"]);
}

#[test]
fn a_cut_that_failed_is_the_end_of_the_replica_or_of_the_node() {
    let mut host = told_to_cut();
    assert!(cut_done(&mut host, 1, Err(WriteFailure::Corrupt)).is_empty(), "the node goes on");
    host.updated(vec![partition(tp(1, 0), 1, 4, &[2, 1])]);
    assert_eq!(host.asked(1, 7, append(Acks::Leader, 4, &[tp(1, 0)])), ["answer 1 #7: 1-0 NotLeader"]);

    let mut host = told_to_cut();
    let shown = cut_done(&mut host, 1, Err(WriteFailure::Failed));
    assert_eq!(shown, ["controller 1: #3 heartbeat 5 at 11, wants to stop"]);
}

/// Whoever runs the node hears of it. What is kept of the log from then on is no more than the log that is left.
#[test]
fn what_an_unclean_election_takes_from_a_replica_is_told() {
    let mut host = Host::registered();
    let Record::PartitionChanged { partition, mut state } = partition(tp(1, 0), 2, 3, &[2, 1]) else { unreachable!() };
    (state.isr, state.unclean_since) = (vec![BrokerId(2)], Some(LeaderEpoch(3)));
    host.updated(vec![topic(1), Record::PartitionChanged { partition, state }]);
    host.opened(tp(1, 0), log(4, 2));
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    let diverged = FromLeader::Diverged {
        partition: tp(1, 0),
        leader_epoch: LeaderEpoch(3),
        epoch: LeaderEpoch(2),
        end_offset: Offset(1),
    };
    let shown = host.step(Event::LeaderSaid { leader: BrokerId(2), message: diverged });
    assert_eq!(shown, ["lost 1-0 1..4: ends in 2, unclean since 3", "truncate 1 1-0 to 1"]);
    let shown = host.step(Event::LogChanged { partition: tp(1, 0), write: WriteId(1), result: Ok(log(1, 2)) });
    assert_eq!(shown, ["leader 2: follow 1-0 in 3 from 1"]);
    host.step(Event::ShutdownRequested);
    assert_eq!(host.heartbeat_answered(3, true), ["checkpoint 1-0 as of 1, high watermark 1", "stop"]);
}

#[test]
fn an_orderly_stop_keeps_what_is_settled_and_leaves_the_rest() {
    let mut host = Host::leading();
    host.updated(vec![partition(tp(1, 1), 1, 3, &[1])]);
    host.opened(tp(1, 1), empty());
    host.asked(1, 7, append(Acks::Leader, 3, &[tp(1, 0), tp(1, 1)]));
    host.written(tp(1, 0), 1);
    host.step(Event::ShutdownRequested);
    host.after_ms(100);
    assert_eq!(host.heartbeat_answered(3, true), ["checkpoint 1-0 as of 1, high watermark 1", "stop"]);
}
