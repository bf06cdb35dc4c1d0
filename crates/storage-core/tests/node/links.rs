use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, TopicPartition};
use peer_api::controller::{Error, Refusal, Response};
use peer_api::metadata::BrokerState;
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::Acks;
use storage_core::{Event, PeerStream};

use crate::host::*;

fn durable(host: &mut Host, stream: u64, partition: TopicPartition, log_end: i64) -> Vec<String> {
    let message = FromFollower::Durable {
        partition,
        leader_epoch: LeaderEpoch(3),
        log_start: Offset::ZERO,
        log_end: Offset(log_end),
    };
    host.step(Event::FollowerSaid { stream: PeerStream(stream), message })
}

fn following() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 2, 3, &[2, 1])]);
    host
}

fn leading_with_a_follower() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1, 2])]);
    host.opened(tp(1, 0), empty());
    follower_connected(&mut host, 1, 2, 5);
    follow(&mut host, 1, tp(1, 0), 0);
    host
}

#[test]
fn a_follower_connects_when_it_is_opened_and_follows_when_it_is_connected() {
    let mut host = following();
    assert_eq!(host.opened(tp(1, 0), empty()), ["connect to 2 at node2:1 as of 5"]);
    let connected = host.step(Event::LeaderConnected { leader: BrokerId(2) });
    assert_eq!(connected, ["leader 2: follow 1-0 in 3 from 0"]);
    host.updated(vec![partition(tp(1, 1), 2, 3, &[2, 1])]);
    assert_eq!(host.opened(tp(1, 1), empty()), ["leader 2: follow 1-1 in 3 from 0"], "over the same link");
}

#[test]
fn a_follower_follows_again_over_a_new_link() {
    let mut host = following();
    host.opened(tp(1, 0), empty());
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    host.step(Event::LeaderLost { leader: BrokerId(2) });
    let connected = host.step(Event::LeaderConnected { leader: BrokerId(2) });
    assert_eq!(connected, ["leader 2: follow 1-0 in 3 from 0"]);
}

#[test]
fn links_go_where_the_leader_goes() {
    let mut host = following();
    host.opened(tp(1, 0), empty());
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    let moved = host.updated(vec![partition(tp(1, 0), 3, 4, &[2, 1, 3])]);
    assert_eq!(moved, ["disconnect from 2", "connect to 3 at node3:1 as of 5"]);
    let late =
        FromLeader::Refused { partition: tp(1, 0), leader_epoch: LeaderEpoch(4), code: ErrorCode::NotLeaderOrFollower };
    assert!(host.step(Event::LeaderSaid { leader: BrokerId(2), message: late }).is_empty());
    assert_eq!(host.updated(vec![deleted(1)]), ["delete 1-0", "disconnect from 3"]);
    assert!(host.step(Event::LeaderConnected { leader: BrokerId(3) }).is_empty());
    assert!(host.step(Event::LeaderLost { leader: BrokerId(3) }).is_empty());
}

#[test]
fn a_leader_at_another_address_is_dialled_anew() {
    let mut host = following();
    host.opened(tp(1, 0), empty());
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    let peer_api::metadata::Record::BrokerRegistered(mut moved) = broker(2, 9, BrokerState::Active) else {
        unreachable!()
    };
    moved.peer_address = "elsewhere:1".to_owned();
    let shown = host.updated(vec![peer_api::metadata::Record::BrokerRegistered(moved)]);
    assert_eq!(shown, ["connect to 2 at elsewhere:1 as of 5"]);
    let connected = host.step(Event::LeaderConnected { leader: BrokerId(2) });
    assert_eq!(connected, ["leader 2: follow 1-0 in 3 from 0"]);
}

#[test]
fn links_are_opened_anew_under_a_new_registration() {
    let mut host = following();
    host.opened(tp(1, 0), empty());
    host.after_ms(300);
    let refusal = Refusal { code: ErrorCode::StaleBrokerEpoch, message: String::new() };
    host.answered(3, Err(Error::Refused(refusal)));
    host.answered(4, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(8) }));
    let shown = host.remembered(8, Ok(()));
    assert_eq!(shown, ["controller 1: #5 heartbeat 8 at 11", "connect to 2 at node2:1 as of 8"]);
}

#[test]
fn appends_are_pushed_and_wait_for_the_follower() {
    let mut host = leading_with_a_follower();
    let shown = host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert_eq!(shown, ["write 1 1-0: 1 at 0", "follower 1: push 1-0 1 at 0, high watermark 0"]);
    assert!(host.written(tp(1, 0), 1).is_empty());
    assert_eq!(durable(&mut host, 1, tp(1, 0), 1), ["answer 1 #7: 1-0 @0"]);
    assert_eq!(host.after_ms(20), ["follower 1: advanced 1-0 to 1"]);
}

#[test]
fn a_newer_stream_of_a_follower_replaces_the_older() {
    let mut host = leading_with_a_follower();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.written(tp(1, 0), 1);
    assert_eq!(follower_connected(&mut host, 2, 2, 5), ["close follower 1"]);
    assert!(durable(&mut host, 1, tp(1, 0), 1).is_empty(), "the old stream says nothing to us");
    host.step(Event::FollowerLost { stream: PeerStream(1) });
    let pushed = follow(&mut host, 2, tp(1, 0), 0);
    assert!(pushed.iter().any(|line| line.starts_with("read 1 1-0: 0..1")), "{pushed:?}");
}

#[test]
fn an_earlier_life_of_a_follower_is_turned_away() {
    let mut host = leading_with_a_follower();
    assert_eq!(follower_connected(&mut host, 2, 2, 4), ["close follower 2"]);
    assert!(follow(&mut host, 2, tp(1, 0), 0).is_empty());
    host.step(Event::FollowerLost { stream: PeerStream(2) });
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.written(tp(1, 0), 1);
    assert_eq!(durable(&mut host, 1, tp(1, 0), 1), ["answer 1 #7: 1-0 @0"], "the standing one is still heard");
}

#[test]
fn a_partition_that_is_not_open_is_refused_to_its_follower() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1, 2])]);
    follower_connected(&mut host, 1, 2, 5);
    assert_eq!(follow(&mut host, 1, tp(1, 0), 0), ["follower 1: refused 1-0: UnknownTopicOrPartition"]);
}

#[test]
fn the_proposals_of_a_step_are_one_call() {
    let mut host = Host::registered();
    let partitions = [tp(1, 0), tp(1, 1)];
    host.updated(vec![topic(1), partition(partitions[0], 1, 3, &[1, 2]), partition(partitions[1], 1, 3, &[1, 2])]);
    for partition in partitions {
        host.opened(partition, empty());
    }
    follower_connected(&mut host, 1, 2, 5);
    let mut shown = Vec::new();
    for beat in 3.. {
        shown.extend(host.after_ms(300).into_iter().filter(|line| line.contains("isr")));
        host.heartbeat_answered(beat, false);
        if !shown.is_empty() {
            break;
        }
    }
    assert_eq!(shown.len(), 1);
    assert!(shown[0].ends_with("isr 1-0 [1] 1-1 [1]"), "{shown:?}");
}
