use base_types::{Offset, TopicPartition};
use peer_api::storage::{Acks, Request, TrimPartition, TrimRequest};
use storage_core::{Event, WriteFailure, WriteId};

use crate::host::*;

pub fn trim(asks: &[(TopicPartition, Option<i64>)]) -> Request {
    let ask = |&(partition, to): &(TopicPartition, Option<i64>)| TrimPartition { partition, to: to.map(Offset) };
    Request::Trim(TrimRequest { timeout_ms: 500, partitions: asks.iter().map(ask).collect() })
}

fn trimmed(host: &mut Host, partition: TopicPartition, write: u64, result: Result<i64, WriteFailure>) -> Vec<String> {
    host.step(Event::TrimCompleted { partition, write: WriteId(write), result: result.map(Offset) })
}

fn leading_a_log() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1]), partition(tp(1, 1), 2, 3, &[1, 2])]);
    host.opened(tp(1, 0), log(4, 2));
    host.opened(tp(1, 1), log(4, 2));
    host
}

/// What is derived from the records that go is kept before they go.
#[test]
fn records_are_gone_when_the_disk_says_so_and_every_partition_is_answered() {
    let mut host = leading_a_log();
    let asks = [(tp(1, 0), Some(3)), (tp(9, 0), None), (tp(1, 1), None), (tp(1, 0), Some(5))];
    let kept = ["checkpoint 1-0 as of 4, high watermark 4", "trim 1 1-0 to 3"];
    assert_eq!(host.asked(1, 7, trim(&asks)), kept);
    assert_eq!(host.node.replica(tp(1, 0)).map(|replica| replica.log_start()), Some(Offset(0)));
    let answer = ["answer 1 #7: 1-0 from 3, 9-0 UnknownPartition, 1-1 NotLeader, 1-0 OutOfRange"];
    assert_eq!(trimmed(&mut host, tp(1, 0), 1, Ok(2)), answer);
    assert_eq!(host.node.replica(tp(1, 0)).map(|replica| replica.log_start()), Some(Offset(3)));
}

/// They cannot be looked at again, once they are gone.
#[test]
fn records_stay_until_what_is_derived_from_them_can_be_kept() {
    let mut host = leading_a_log();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert!(host.asked(1, 8, trim(&[(tp(1, 0), Some(3))])).is_empty());
    let kept = ["answer 1 #7: 1-0 @4", "checkpoint 1-0 as of 5, high watermark 5", "trim 2 1-0 to 3"];
    assert_eq!(host.written(tp(1, 0), 1), kept);
    assert_eq!(trimmed(&mut host, tp(1, 0), 2, Ok(3)), ["answer 1 #8: 1-0 from 3"]);
}

/// They may be what fills it.
#[test]
fn records_go_from_a_full_disk_whatever_is_kept() {
    let mut host = leading_a_log();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.asked(1, 8, trim(&[(tp(1, 0), Some(3))]));
    assert_eq!(host.not_written(tp(1, 0), 1, WriteFailure::NoSpace), ["trim 2 1-0 to 3"]);
    assert_eq!(trimmed(&mut host, tp(1, 0), 2, Ok(3)), ["answer 1 #8: 1-0 from 3"]);
}

#[test]
fn a_replica_that_is_not_there_yet_is_waited_for_as_long_as_was_said() {
    let mut host = leading_a_log();
    host.updated(vec![partition(tp(1, 0), 1, 4, &[1, 2])]);
    host.asked(1, 7, trim(&[(tp(1, 0), None)]));
    assert!(trimmed(&mut host, tp(1, 0), 1, Ok(4)).iter().all(|line| !line.starts_with("answer")));
    let late = host.after_ms(600);
    assert!(late.contains(&"answer 1 #7: 1-0 TimedOut".to_owned()), "{late:?}");
}

#[test]
fn nobody_is_told_after_the_gateway_is_gone() {
    let mut host = leading_a_log();
    host.asked(1, 7, trim(&[(tp(1, 0), None)]));
    host.step(Event::GatewayLost { stream: gateway(1) });
    assert!(trimmed(&mut host, tp(1, 0), 1, Ok(4)).is_empty());
}

/// S6.
#[test]
fn a_directory_that_fails_ends_the_node() {
    let mut host = leading_a_log();
    host.asked(1, 7, trim(&[(tp(1, 0), None)]));
    let shown = trimmed(&mut host, tp(1, 0), 1, Err(WriteFailure::Failed));
    assert!(shown.contains(&"answer 1 #7: 1-0 StorageFailed".to_owned()), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("wants to stop")), "{shown:?}");
}
