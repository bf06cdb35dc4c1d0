use base_types::{BrokerId, LeaderEpoch, PartitionEpoch};
use peer_api::controller::FromController;
use peer_api::metadata::{BrokerState, ConfigResource, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::Acks;
use storage_core::{ControllerStream, Event};

use crate::host::*;

fn snapshot(at: u64, records: Vec<Record>) -> FromController {
    FromController::Update(Update::Snapshot { at: MetadataOffset(at), records })
}

#[test]
fn partitions_of_this_broker_are_opened_and_others_are_not() {
    let mut host = Host::registered();
    let records = vec![topic(1), partition(tp(1, 0), 2, 3, &[2, 1]), partition(tp(1, 1), 2, 3, &[2, 3])];
    assert_eq!(host.updated(records), ["open 1-0"]);
    assert!(host.updated(vec![partition(tp(1, 0), 2, 4, &[2, 1])]).is_empty(), "one opening at a time");
}

#[test]
fn a_topic_deleted_while_it_is_opened_stays_deleted() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    assert_eq!(host.updated(vec![deleted(1)]), ["delete 1-0"]);
    assert!(host.opened(tp(1, 0), empty()).is_empty());
    assert!(host.node.replica(tp(1, 0)).is_none());
    assert!(host.step(Event::ReplicaOpenFailed { partition: tp(1, 0) }).is_empty());
    assert!(!host.after_ms(10_000).iter().any(|line| line.starts_with("open")));
}

#[test]
fn a_topic_made_again_under_its_name_is_another_one() {
    let mut host = Host::leading();
    let again = Record::TopicCreated { id: tp(2, 0).topic, name: "t1".to_owned() };
    let shown = host.updated(vec![deleted(1), again, partition(tp(2, 0), 1, 0, &[1])]);
    assert_eq!(shown, ["delete 1-0", "open 2-0"]);
    assert!(host.written(tp(1, 0), 1).is_empty());
    host.opened(tp(2, 0), empty());
    assert_eq!(host.asked(1, 7, append(Acks::All, 0, &[tp(2, 0)])), ["write 1 2-0: 1 at 0"]);
}

#[test]
fn a_snapshot_deletes_nothing_and_what_it_does_not_name_is_idle() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    let shown = host.said(snapshot(20, vec![broker(1, 5, BrokerState::Active)]));
    assert_eq!(shown, ["answer 1 #7: 1-0 LeaderChanged"]);
    assert_eq!(host.node.stats().replicas, 1);
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #8: 1-0 NotLeader"]);
}

#[test]
fn a_partition_given_to_other_brokers_is_deleted_and_begins_anew_when_it_comes_back() {
    let mut host = Host::leading();
    host.asked(1, 6, append(Acks::All, 3, &[tp(1, 0)]));
    host.asked(1, 7, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    let mut shown = host.updated(vec![partition(tp(1, 0), 2, 4, &[2, 3])]);
    shown.sort();
    assert_eq!(shown, ["answer 1 #6: 1-0 LeaderChanged", "answer 1 #7: 1-0 UnknownPartition", "delete 1-0"]);
    assert_eq!(host.node.stats().replicas, 0);
    assert_eq!(host.updated(vec![partition(tp(1, 0), 1, 5, &[1, 2])]), ["open 1-0"]);
    assert!(host.written(tp(1, 0), 1).is_empty(), "of the replica that is gone");
    host.opened(tp(1, 0), empty());
    let written = host.asked(1, 8, append(Acks::Leader, 5, &[tp(1, 0)]));
    assert_eq!(written, ["write 2 1-0: 1 at 0"], "no name is given twice");
    assert!(host.written(tp(1, 0), 1).is_empty(), "still of the replica that is gone");
    assert_eq!(host.written(tp(1, 0), 2), ["answer 1 #8: 1-0 @0"]);
}

#[test]
fn a_replica_given_away_while_it_is_opened_goes_once_it_is_open() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 2, 3, &[2, 1])]);
    assert!(host.updated(vec![partition(tp(1, 0), 2, 4, &[2, 3])]).is_empty());
    assert_eq!(host.opened(tp(1, 0), log(5, 2)), ["delete 1-0"]);
    assert_eq!(host.node.stats().replicas, 0);

    host.updated(vec![partition(tp(1, 0), 2, 5, &[2, 1])]);
    host.updated(vec![partition(tp(1, 0), 2, 6, &[2, 3])]);
    assert!(host.updated(vec![partition(tp(1, 0), 2, 7, &[2, 1])]).is_empty(), "one opening at a time");
    assert_eq!(host.opened(tp(1, 0), empty()), ["connect to 2 at node2:1 as of 5"]);

    host.updated(vec![partition(tp(1, 1), 2, 3, &[2, 1])]);
    host.updated(vec![partition(tp(1, 1), 2, 4, &[2, 3])]);
    assert_eq!(host.step(Event::ReplicaOpenFailed { partition: tp(1, 1) }), ["delete 1-1"]);
}

/// An older view may come before a newer one in which we were a replica again, with the data that is here.
#[test]
fn nothing_is_deleted_on_a_word_from_before_this_life_was_registered() {
    let mut host = Host::started_with(&[]);
    host.step(Event::ReplicasFound { partitions: vec![tp(1, 0), tp(1, 1), tp(2, 0)] });
    host.step(Event::ControllerConnected { stream: ControllerStream(1) });
    host.said(FromController::Welcome { controller: BrokerId(100), term: 1 });
    let others = [2, 3].map(|id| broker(id, 5, BrokerState::Active));
    let placed = [topic(1), partition(tp(1, 0), 2, 3, &[2, 3]), partition(tp(1, 1), 2, 3, &[2, 1])];
    let shown = host.said(snapshot(10, others.into_iter().chain(placed).collect()));
    assert_eq!(shown, ["open 1-1"]);
    host.opened(tp(1, 1), log(3, 1));
    host.at = 10;
    assert!(host.updated(vec![partition(tp(1, 1), 2, 4, &[2, 3])]).is_empty());
    let shown = host.updated(vec![broker(1, 12, BrokerState::Fenced)]);
    assert_eq!(shown, ["delete 1-1", "delete 1-0"], "2-0 may be a topic that we were never told of");
    assert!(host.updated(vec![broker(1, 13, BrokerState::Fenced)]).is_empty(), "once");
}

#[test]
fn a_partition_without_a_leader_is_served_by_nobody() {
    let mut host = Host::leading();
    let state = PartitionState {
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        leader: None,
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(40),
        ..PartitionState::default()
    };
    host.updated(vec![Record::PartitionChanged { partition: tp(1, 0), state }]);
    assert_eq!(host.asked(1, 7, append(Acks::All, 4, &[tp(1, 0)])), ["answer 1 #7: 1-0 NotLeader"]);
}

#[test]
fn a_gap_in_the_metadata_is_asked_for_again() {
    let mut host = Host::leading();
    let delta = Update::Delta { from: MetadataOffset(12), to: MetadataOffset(13), records: vec![deleted(1)] };
    assert_eq!(host.said(FromController::Update(delta)), ["leave controller 1 for anyone"]);
    assert_eq!(host.node.stats().replicas, 1);
    assert!(host.said(snapshot(20, Vec::new())).is_empty(), "the old stream says nothing to us");
    let hello = host.step(Event::ControllerConnected { stream: ControllerStream(2) });
    assert_eq!(hello, ["controller 2: hello from 11"]);
}

#[test]
fn the_view_never_goes_back() {
    let mut host = Host::leading();
    assert_eq!(host.said(snapshot(9, Vec::new())), ["leave controller 1 for anyone"]);
    assert_eq!(host.node.image().at(), MetadataOffset(11));
}

#[test]
fn only_settings_that_changed_are_passed_on() {
    let mut host = Host::leading();
    host.updated(vec![topic(2), partition(tp(2, 0), 1, 3, &[1])]);
    let set = |resource, name: &str, value: &str| Record::ConfigChanged {
        resource,
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let of_topic = |value| set(ConfigResource::Topic("t1".to_owned()), "max.message.bytes", value);
    assert_eq!(host.updated(vec![of_topic("50")]), ["settings of 1-0: max.message.bytes 50"]);
    assert!(host.updated(vec![of_topic("50")]).is_empty());
    let of_cluster = set(ConfigResource::Cluster, "message.max.bytes", "60");
    assert_eq!(host.updated(vec![of_cluster]), ["settings of 2-0: max.message.bytes 60"]);
    assert_eq!(host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #7: 1-0 MessageTooLarge"]);
    host.opened(tp(2, 0), empty());
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(2, 0)])), ["answer 1 #8: 2-0 MessageTooLarge"]);
}

/// Who is in sync with us.
fn in_sync(isr: &[i32], partition_epoch: i32) -> Record {
    led_with(tp(1, 0), isr, partition_epoch)
}

fn min_isr(value: &str) -> Record {
    setting(ConfigResource::Topic("t1".to_owned()), "min.insync.replicas", value)
}

/// An append to a partition that asks for so many in sync is durable here, and the follower is silent.
fn waiting_for_a_follower(min: &str) -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), min_isr(min), in_sync(&[1, 2], 1)]);
    host.opened(tp(1, 0), empty());
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert!(host.written(tp(1, 0), 1).is_empty());
    host
}

#[test]
fn a_smaller_minimum_in_sync_holds_only_with_the_state_that_comes_with_it() {
    // Alone in sync, too few: the next leader may be one that is in sync no more.
    let mut host = waiting_for_a_follower("2");
    assert!(host.updated(vec![in_sync(&[1], 2)]).is_empty());
    let elected = partition(tp(1, 0), 2, 4, &[1, 2]);
    let shown = host.updated(vec![elected, min_isr("1")]);
    assert!(shown.contains(&"answer 1 #7: 1-0 LeaderChanged".to_owned()), "{shown:?}");

    // Another life of this broker is registered, and the state is not for this one to take up.
    let mut host = waiting_for_a_follower("2");
    assert!(host.updated(vec![in_sync(&[1], 2)]).is_empty());
    let Record::BrokerRegistered(mut other) = broker(1, 6, BrokerState::Active) else { unreachable!() };
    other.incarnation.0[0] ^= 1;
    let shown = host.updated(vec![Record::BrokerRegistered(other), min_isr("1")]);
    assert!(!shown.iter().any(|line| line.starts_with("answer")), "{shown:?}");

    // Still the leader: then it does hold.
    let mut host = waiting_for_a_follower("2");
    assert!(host.updated(vec![in_sync(&[1], 2)]).is_empty());
    let shown = host.updated(vec![min_isr("1")]);
    assert!(shown.contains(&"answer 1 #7: 1-0 @0".to_owned()), "{shown:?}");
}

#[test]
fn a_greater_minimum_in_sync_holds_for_the_state_that_comes_with_it() {
    let mut host = waiting_for_a_follower("1");
    let shown = host.updated(vec![min_isr("2"), in_sync(&[1], 2)]);
    assert!(!shown.iter().any(|line| line.starts_with("answer")), "{shown:?}");
    let shown = host.updated(vec![min_isr("1")]);
    assert!(shown.contains(&"answer 1 #7: 1-0 @0".to_owned()), "{shown:?}");
}
