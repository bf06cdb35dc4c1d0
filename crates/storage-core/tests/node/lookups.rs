use base_types::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicPartition};
use peer_api::storage::{EpochEndPartition, Isolation, ListOffsetsPartition, LogDir, OffsetSpec, ReplicaSize, Request};
use storage_core::{Event, FetchKey, LookupKey, ReadFailure, TimestampHit};

use crate::host::*;

fn list(at: &[(TopicPartition, OffsetSpec)]) -> Request {
    let ask = |&(partition, at): &(TopicPartition, OffsetSpec)| ListOffsetsPartition {
        partition,
        leader_epoch: LeaderEpoch::UNKNOWN,
        isolation: Isolation::ReadUncommitted,
        at,
    };
    Request::ListOffsets(at.iter().map(ask).collect())
}

fn found(host: &mut Host, lookup: u64, hit: Result<Option<i64>, ReadFailure>) -> Vec<String> {
    let told = |offset| TimestampHit { offset: Offset(offset), timestamp: Timestamp(1), leader_epoch: LeaderEpoch(3) };
    host.step(Event::TimestampFound { lookup: LookupKey(lookup), hit: hit.map(|hit| hit.map(told)) })
}

fn leading_a_log() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    host.opened(tp(1, 0), log(4, 2));
    host
}

#[test]
fn edges_are_known_and_times_are_asked_of_the_disk() {
    let mut host = leading_a_log();
    let edges = [(tp(1, 0), OffsetSpec::Latest), (tp(1, 0), OffsetSpec::Earliest), (tp(9, 0), OffsetSpec::Latest)];
    assert_eq!(host.asked(1, 7, list(&edges)), ["answer 1 #7: 1-0 4, 1-0 0, 9-0 UnknownPartition"]);

    let times = [(tp(1, 0), OffsetSpec::At(Timestamp(1))), (tp(1, 0), OffsetSpec::MaxTimestamp), edges[0]];
    assert_eq!(host.asked(1, 8, list(&times)), ["find 1 in 1-0 below 4", "find 2 in 1-0 below 4"]);
    assert!(found(&mut host, 2, Ok(None)).is_empty());
    assert!(found(&mut host, 2, Ok(None)).is_empty(), "said twice, counted once");
    assert_eq!(found(&mut host, 1, Ok(Some(2))), ["answer 1 #8: 1-0 2, 1-0 -1, 1-0 4"]);
}

#[test]
fn a_failed_look_up_is_said() {
    let mut host = leading_a_log();
    host.asked(1, 7, list(&[(tp(1, 0), OffsetSpec::MaxTimestamp)]));
    assert_eq!(found(&mut host, 1, Err(ReadFailure::Failed)), ["answer 1 #7: 1-0 StorageFailed"]);
}

#[test]
fn nothing_is_told_of_the_end_before_the_high_watermark_is_final() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1, 2])]);
    host.opened(tp(1, 0), storage_core::OnDisk { high_watermark: Offset(2), ..log(4, 2) });
    let asks = [(tp(1, 0), OffsetSpec::Latest), (tp(1, 0), OffsetSpec::At(Timestamp(1)))];
    assert_eq!(host.asked(1, 7, list(&asks)), ["answer 1 #7: 1-0 OffsetNotAvailable, 1-0 OffsetNotAvailable"]);
}

#[test]
fn the_age_of_a_record_is_read_from_its_batch() {
    let mut host = leading_a_log();
    let ages = [(tp(1, 0), OffsetSpec::TimeOf(Offset(2))), (tp(1, 0), OffsetSpec::TimeOf(Offset(4)))];
    assert_eq!(host.asked(1, 7, list(&ages)), ["fetch 1: 1-0 2..4"]);
    let read = |host: &mut Host, key, part| host.step(Event::FetchRead { fetch: FetchKey(key), parts: vec![part] });
    assert_eq!(read(&mut host, 1, Ok(vec![stored(2, 3)])), ["answer 1 #7: 1-0 2, 1-0 -1"]);
    assert!(read(&mut host, 1, Ok(vec![])).is_empty(), "said twice");

    host.asked(1, 8, list(&ages[..1]));
    assert_eq!(read(&mut host, 2, Err(ReadFailure::Failed)), ["answer 1 #8: 1-0 StorageFailed"]);
    host.asked(1, 9, list(&ages[..1]));
    assert_eq!(read(&mut host, 3, Ok(vec![bytes::Bytes::from_static(b"no batch")])), ["answer 1 #9: 1-0 Corrupt"]);
    host.asked(1, 10, list(&ages[..1]));
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(read(&mut host, 4, Ok(vec![stored(2, 3)])).is_empty());
}

#[test]
fn look_ups_for_a_gateway_that_is_gone_find_nobody() {
    let mut host = leading_a_log();
    host.asked(1, 7, list(&[(tp(1, 0), OffsetSpec::MaxTimestamp)]));
    host.asked(1, 8, Request::DescribeLogDirs);
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(found(&mut host, 2, Ok(None)).is_empty());
    assert!(described(&mut host, 3).is_empty());
}

#[test]
fn ends_of_epochs_and_producers_are_told_by_the_leader() {
    let mut host = leading_a_log();
    let ask = |partition, epoch| EpochEndPartition {
        partition,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        leader_epoch: LeaderEpoch(epoch),
    };
    let ends = Request::EpochEnds(vec![ask(tp(1, 0), 2), ask(tp(1, 0), 1), ask(tp(9, 0), 1)]);
    assert_eq!(host.asked(1, 7, ends), ["answer 1 #7: 1-0 2 ends at 4, 1-0 -1 ends at -1, 9-0 UnknownPartition"]);
    let producers = Request::DescribeProducers(vec![tp(1, 0), tp(9, 0)]);
    assert_eq!(host.asked(1, 8, producers), ["answer 1 #8: 1-0 0 producers, 9-0 UnknownPartition"]);
}

fn described(host: &mut Host, lookup: u64) -> Vec<String> {
    let log_dir = LogDir {
        broker: BrokerId(1),
        error: None,
        path: "/data".to_owned(),
        bytes_total: 9,
        bytes_usable: 5,
        replicas: vec![ReplicaSize { partition: tp(1, 0), bytes: 400, offset_lag: 0 }],
    };
    host.step(Event::LogDirDescribed { lookup: LookupKey(lookup), log_dir })
}

#[test]
fn log_dirs_are_described_by_the_disk() {
    let mut host = leading_a_log();
    assert_eq!(host.asked(1, 7, Request::DescribeLogDirs), ["describe 1"]);
    assert_eq!(described(&mut host, 1), ["answer 1 #7: 1-0 400 bytes, lag 0"]);
    assert!(described(&mut host, 1).is_empty());
}
