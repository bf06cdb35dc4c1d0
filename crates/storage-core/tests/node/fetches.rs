use base_types::{BrokerId, LeaderEpoch, Offset};
use bytes::Bytes;
use peer_api::replication::FromLeader;
use peer_api::storage::{Acks, Request, RequestId};
use storage_core::{Event, FetchKey, ReadFailure, WriteId};

use crate::host::*;

fn read(host: &mut Host, key: u64, parts: Vec<Result<Vec<Bytes>, ReadFailure>>) -> Vec<String> {
    host.step(Event::FetchRead { fetch: FetchKey(key), parts })
}

/// Appends one record, durable at once.
fn append_one(host: &mut Host, write: u64) -> Vec<String> {
    host.asked(9, write, append(Acks::Leader, 3, &[tp(1, 0)]));
    let mut shown = host.written(tp(1, 0), write);
    shown.retain(|line| !line.starts_with("answer 9"));
    shown
}

#[test]
fn what_is_there_is_read_and_given() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    assert_eq!(host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)])), ["fetch 1: 1-0 0..1"]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 1 below 1"]);
    assert!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]).is_empty(), "said twice, answered once");
}

#[test]
fn a_fetch_at_the_end_waits_until_the_high_watermark_moves() {
    let mut host = Host::leading();
    assert!(host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)])).is_empty());
    host.asked(9, 1, append(Acks::Leader, 3, &[tp(1, 0)]));
    assert_eq!(host.written(tp(1, 0), 1), ["answer 9 #1: 1-0 @0", "fetch 1: 1-0 0..1"]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 1 below 1"]);
}

#[test]
fn a_fetch_that_finds_nothing_is_answered_at_its_deadline() {
    let mut host = Host::leading();
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    assert!(!host.after_ms(499).iter().any(|line| line.starts_with("answer")));
    assert_eq!(host.after_ms(1), ["answer 1 #7: 1-0 0 below 0"]);
    assert_eq!(host.node.stats().fetches_waiting, 0);
}

#[test]
fn too_little_is_read_again_only_when_there_is_more() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    assert_eq!(host.asked(1, 7, fetch(100_000, vec![fetch_from(tp(1, 0), 0)])), ["fetch 1: 1-0 0..1"]);
    assert!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]).is_empty(), "waits");
    assert!(host.after_ms(200).is_empty(), "and is not read again");
    assert_eq!(append_one(&mut host, 2), ["fetch 1: 1-0 0..2"]);
    assert!(append_one(&mut host, 3).is_empty(), "one read at a time");
    let both = || vec![Ok(vec![stored(0, 3), stored(1, 3)])];
    assert_eq!(read(&mut host, 1, both()), ["fetch 1: 1-0 0..3"], "there was more meanwhile");
    assert!(read(&mut host, 1, both()).is_empty());
    assert_eq!(host.after_ms(300).last().unwrap(), "fetch 1: 1-0 0..3", "the deadline brings what there is");
    assert_eq!(read(&mut host, 1, both()), ["answer 1 #7: 1-0 2 below 3"]);
}

#[test]
fn a_deadline_during_the_read_is_kept_by_its_end() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    host.asked(1, 7, fetch(100_000, vec![fetch_from(tp(1, 0), 0)]));
    assert!(!host.after_ms(600).iter().any(|line| line.starts_with("fetch") || line.starts_with("answer")));
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 1 below 1"]);
}

#[test]
fn a_cancelled_fetch_is_answered_with_what_there_is() {
    let mut host = Host::leading();
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    assert_eq!(host.asked(1, 8, Request::CancelFetch(RequestId(7))), ["answer 1 #7: 1-0 0 below 0"]);
    assert!(host.asked(1, 9, Request::CancelFetch(RequestId(7))).is_empty());

    append_one(&mut host, 1);
    host.asked(1, 10, fetch(100_000, vec![fetch_from(tp(1, 0), 0)]));
    assert!(host.asked(1, 11, Request::CancelFetch(RequestId(10))).is_empty(), "it is being read");
    assert!(host.asked(2, 12, Request::CancelFetch(RequestId(10))).is_empty(), "another stream's fetch is not ours");
    assert_eq!(read(&mut host, 2, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #10: 1-0 1 below 1"]);
}

#[test]
fn leadership_lost_during_the_read_is_said_instead_of_records() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    host.updated(vec![partition(tp(1, 0), 2, 4, &[1, 2])]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 NotLeader"]);
}

#[test]
fn parked_fetches_hear_of_a_lost_leadership_and_of_a_deleted_topic() {
    let mut host = Host::leading();
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    let shown = host.updated(vec![partition(tp(1, 0), 2, 4, &[1, 2])]);
    assert_eq!(shown, ["connect to 2 at node2:1 as of 5", "answer 1 #7: 1-0 NotLeader"]);

    let mut host = Host::leading();
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    assert_eq!(host.updated(vec![deleted(1)]), ["delete 1-0", "answer 1 #7: 1-0 UnknownPartition"]);
}

#[test]
fn a_topic_deleted_during_the_read_is_said_instead_of_records() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    host.updated(vec![deleted(1)]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 UnknownPartition"]);
}

#[test]
fn nobody_waits_after_the_gateway_is_gone() {
    let mut host = Host::leading();
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    append_one(&mut host, 1);
    host.asked(1, 8, fetch(1, vec![fetch_from(tp(1, 0), 1)]));
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]).is_empty());
    assert_eq!(host.node.stats().fetches_waiting, 0);
    assert!(append_one(&mut host, 2).is_empty());
}

#[test]
fn errors_and_empty_requests_do_not_wait() {
    let mut host = Host::leading();
    assert_eq!(host.asked(1, 7, fetch(1, vec![])), ["answer 1 #7: "]);
    let beyond = vec![fetch_from(tp(1, 0), 0), fetch_from(tp(1, 0), 5), fetch_from(tp(9, 0), 0)];
    assert_eq!(
        host.asked(1, 8, fetch(1, beyond)),
        ["answer 1 #8: 1-0 0 below 0, 1-0 OffsetOutOfRange, 9-0 UnknownPartition"]
    );
}

#[test]
fn diverging_history_is_told_at_once_and_without_records() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    let mut other_history = fetch_from(tp(1, 0), 1);
    other_history.last_fetched_epoch = LeaderEpoch(2);
    let asked = host.asked(1, 7, fetch(100_000, vec![other_history, fetch_from(tp(1, 0), 0)]));
    // Epoch 2 is older than all that is here.
    assert_eq!(asked, ["fetch 1: 1-0 0..1"]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 OffsetOutOfRange, 1-0 1 below 1"]);

    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    host.opened(tp(1, 0), log(4, 2));
    append_one(&mut host, 1);
    let mut beyond = fetch_from(tp(1, 0), 5);
    beyond.last_fetched_epoch = LeaderEpoch(2);
    assert_eq!(host.asked(1, 7, fetch(100_000, vec![beyond])), ["answer 1 #7: 1-0 diverging"]);
    assert_eq!(host.asked(1, 8, fetch(100_000, vec![beyond, fetch_from(tp(1, 0), 4)])), ["fetch 2: 1-0 4..5"]);
    let answer = read(&mut host, 2, vec![Ok(vec![stored(4, 3)])]);
    assert_eq!(answer, ["answer 1 #8: 1-0 diverging, 1-0 1 below 5"]);
}

#[test]
fn records_are_not_shown_once_the_history_asked_for_is_gone() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1, 2])]);
    host.opened(tp(1, 0), log(2, 2));
    append_one(&mut host, 1);
    let mut claims_epoch_3 = fetch_from(tp(1, 0), 0);
    claims_epoch_3.last_fetched_epoch = LeaderEpoch(3);
    assert_eq!(host.asked(1, 7, fetch(1, vec![claims_epoch_3])), ["fetch 1: 1-0 0..2"]);

    // Another leads, has nothing of epoch 3, and hands back.
    host.updated(vec![partition(tp(1, 0), 2, 4, &[1, 2])]);
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    let message = FromLeader::Diverged {
        partition: tp(1, 0),
        leader_epoch: LeaderEpoch(4),
        epoch: LeaderEpoch(2),
        end_offset: Offset(2),
    };
    let cut = host.step(Event::LeaderSaid { leader: BrokerId(2), message });
    assert_eq!(cut, ["truncate 2 1-0 to 2"]);
    host.step(Event::LogChanged { partition: tp(1, 0), write: WriteId(2), result: Ok(log(2, 2)) });
    host.updated(vec![partition(tp(1, 0), 1, 5, &[1, 2])]);
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 2)])]), ["answer 1 #7: 1-0 diverging"]);
}

#[test]
fn a_minimum_beyond_the_maximum_is_no_reason_to_wait() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    let Request::Fetch(mut request) = fetch(100_000, vec![fetch_from(tp(1, 0), 0)]) else { unreachable!() };
    request.bytes_max = 10;
    host.asked(1, 7, Request::Fetch(request));
    assert_eq!(read(&mut host, 1, vec![Ok(vec![stored(0, 3)])]), ["answer 1 #7: 1-0 1 below 1"]);
}

#[test]
fn the_first_batch_is_given_however_large_and_no_other_beyond_the_limit() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    append_one(&mut host, 2);
    let Request::Fetch(mut request) = fetch(1, vec![fetch_from(tp(1, 0), 0), fetch_from(tp(1, 0), 1)]) else {
        unreachable!()
    };
    request.bytes_max = 10;
    host.asked(1, 7, Request::Fetch(request));
    let parts = vec![Ok(vec![stored(0, 3), stored(1, 3)]), Ok(vec![stored(1, 3)])];
    assert_eq!(read(&mut host, 1, parts), ["answer 1 #7: 1-0 1 below 2, 1-0 0 below 2"]);
}

#[test]
fn a_failed_read_is_said_for_its_partition_alone() {
    let mut host = Host::leading();
    append_one(&mut host, 1);
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0), fetch_from(tp(1, 0), 0)]));
    let parts = vec![Err(ReadFailure::Corrupt), Ok(vec![stored(0, 3)])];
    assert_eq!(read(&mut host, 1, parts), ["answer 1 #7: 1-0 Corrupt, 1-0 1 below 1"]);
}
