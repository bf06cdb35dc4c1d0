use base_types::LeaderEpoch;
use peer_api::storage::{Acks, AppendPartition, AppendRequest, Damaged, Request};
use storage_core::{Event, WriteFailure};

use crate::host::*;

#[test]
fn an_append_is_answered_when_it_is_durable() {
    let mut host = Host::leading();
    assert_eq!(host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)])), ["write 1 1-0: 1 at 0"]);
    assert_eq!(host.written(tp(1, 0), 1), ["answer 1 #7: 1-0 @0"]);
}

#[test]
fn a_request_for_many_partitions_is_answered_once_and_in_the_order_asked() {
    let mut host = Host::leading();
    host.updated(vec![partition(tp(1, 1), 1, 3, &[1]), partition(tp(1, 2), 2, 3, &[1, 2])]);
    host.opened(tp(1, 1), empty());
    let Request::Append(mut request) = append(Acks::Leader, 3, &[tp(1, 1), tp(9, 0), tp(1, 0), tp(1, 1)]) else {
        unreachable!()
    };
    request.partitions.push(AppendPartition { partition: tp(1, 0), leader_epoch: LeaderEpoch(3), batch: Err(Damaged) });
    let writes = host.asked(1, 7, Request::Append(request));
    assert_eq!(writes, ["write 1 1-1: 1 at 0", "write 1 1-0: 1 at 0", "write 2 1-1: 1 at 1"]);
    assert!(host.written(tp(1, 0), 1).is_empty());
    assert!(host.written(tp(1, 1), 1).is_empty());
    let answer = host.written(tp(1, 1), 2);
    assert_eq!(answer, ["answer 1 #7: 1-1 @0, 9-0 UnknownPartition, 1-0 @0, 1-1 @1, 1-0 Corrupt"]);
}

#[test]
fn an_empty_append_is_answered_at_once() {
    let mut host = Host::leading();
    let empty = AppendRequest { acks: Acks::All, timeout_ms: 0, partitions: Vec::new() };
    assert_eq!(host.asked(1, 7, Request::Append(empty)), ["answer 1 #7: "]);
}

#[test]
fn an_append_under_another_epoch_is_refused() {
    let mut host = Host::leading();
    assert_eq!(host.asked(1, 7, append(Acks::All, 2, &[tp(1, 0)])), ["answer 1 #7: 1-0 NotLeader"]);
    assert_eq!(host.asked(1, 8, append(Acks::All, 4, &[tp(1, 0)])), ["answer 1 #8: 1-0 NotLeader"]);
}

#[test]
fn an_append_that_is_not_replicated_in_time_is_answered_once() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1, 2])]);
    host.opened(tp(1, 0), empty());
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.written(tp(1, 0), 1);
    let shown = host.after_ms(2_000);
    assert_eq!(
        shown.iter().filter(|line| line.starts_with("answer")).collect::<Vec<_>>(),
        ["answer 1 #7: 1-0 TimedOut"]
    );
}

#[test]
fn appends_of_a_deleted_topic_are_answered_and_late_writes_find_nobody() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert_eq!(host.updated(vec![deleted(1)]), ["answer 1 #7: 1-0 LeaderChanged", "delete 1-0"]);
    assert!(host.written(tp(1, 0), 1).is_empty());
    assert!(host.not_written(tp(1, 0), 2, WriteFailure::NoSpace).is_empty());
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #8: 1-0 UnknownPartition"]);
}

#[test]
fn appends_wait_no_more_when_the_partition_goes_to_other_brokers() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    let shown = host.updated(vec![partition(tp(1, 0), 2, 4, &[2, 3])]);
    assert_eq!(shown, ["answer 1 #7: 1-0 LeaderChanged", "delete 1-0"]);
    assert_eq!(host.asked(1, 8, append(Acks::All, 4, &[tp(1, 0)])), ["answer 1 #8: 1-0 UnknownPartition"]);
}

#[test]
fn nobody_is_told_after_the_gateway_is_gone() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(host.written(tp(1, 0), 1).is_empty());
    assert_eq!(host.node.stats().appends_waiting, 0);
}
