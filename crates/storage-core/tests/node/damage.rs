use base_types::{BrokerId, LeaderEpoch, PartitionEpoch};
use peer_api::metadata::{PartitionState, Record};
use peer_api::storage::Acks;
use storage_core::{Event, FetchKey, ReadFailure};

use crate::host::*;

fn state(leader: Option<i32>, epoch: i32, isr: &[i32], elr: &[i32]) -> Record {
    let ids = |ids: &[i32]| ids.iter().map(|&id| BrokerId(id)).collect::<Vec<_>>();
    let state = PartitionState {
        replicas: ids(&[1, 2, 3]),
        isr: ids(isr),
        elr: ids(elr),
        leader: leader.map(BrokerId),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(10 * epoch + 3 - isr.len() as i32),
        ..PartitionState::default()
    };
    Record::PartitionChanged { partition: tp(1, 0), state }
}

fn following() -> Host {
    let mut host = Host::registered();
    host.updated(vec![topic(1), state(Some(2), 3, &[1, 2, 3], &[])]);
    host.opened(tp(1, 0), log(4, 3));
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    host
}

/// The controller is heard all the time.
fn until_tried_again(host: &mut Host) -> Vec<String> {
    let mut shown = Vec::new();
    for call in 4..9 {
        shown.extend(host.after_ms(1_000));
        shown.extend(host.heartbeat_answered(call, false));
    }
    shown
}

fn damaged(host: &mut Host) -> Vec<String> {
    host.step(Event::ReplicaDamaged { partition: tp(1, 0) })
}

#[test]
fn a_damaged_follower_is_named_until_it_is_out_and_begins_anew_under_the_next_epoch() {
    let mut host = following();
    assert_eq!(damaged(&mut host), ["controller 1: #3 heartbeat 5 at 11, damaged 1-0 in 3"]);
    assert!(damaged(&mut host).is_empty(), "it is known");
    assert_eq!(host.node.stats().damaged, 1);
    host.heartbeat_answered(3, false);
    // Out, but in the epoch in which it has reported what it had: the leader may bring it in again.
    assert!(host.updated(vec![state(Some(2), 3, &[2, 3], &[])]).is_empty());
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 12, damaged 1-0 in 3"]);
    assert!(host.given_up(4, 4).is_empty(), "not before the metadata say so too");
    // It was all that came from that leader.
    let shown = host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    assert_eq!(shown, ["set aside 1-0", "disconnect from 2"]);
    assert_eq!(host.opened(tp(1, 0), empty()), ["connect to 2 at node2:1 as of 5"]);
    assert_eq!(host.step(Event::LeaderConnected { leader: BrokerId(2) }), ["leader 2: follow 1-0 in 4 from 0"]);
    assert_eq!(host.node.stats().damaged, 0);
    assert_eq!(host.after_ms(300), ["controller 1: #5 heartbeat 5 at 13"]);
}

#[test]
fn who_still_counts_keeps_what_it_has_and_asks_again_in_the_epoch_that_is() {
    for (leader, isr, elr) in
        [(Some(2), &[1, 2][..], &[][..]), (Some(2), &[2], &[1]), (None, &[], &[2]), (Some(1), &[1], &[])]
    {
        let mut host = following();
        damaged(&mut host);
        host.given_up(3, 4);
        let shown = host.updated(vec![state(leader, 4, isr, elr)]);
        assert!(!shown.iter().any(|line| line.starts_with("set aside")), "{shown:?}");
        assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 12, damaged 1-0 in 4"]);
    }
}

/// After an ordinary election it may be the only one in which some record is sound, though nobody counts on it.
#[test]
fn an_election_alone_takes_nothing() {
    let mut host = following();
    damaged(&mut host);
    host.heartbeat_answered(3, false);
    for (leader, epoch) in [(None, 4), (Some(2), 5)] {
        let shown = host.updated(vec![state(leader, epoch, &[2], &[])]);
        assert!(!shown.iter().any(|line| line.starts_with("set aside")), "{shown:?}");
    }
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 13, damaged 1-0 in 5"]);
    // Given up in one epoch, it does not go in another: who was sound then may be damaged now.
    host.given_up(4, 6);
    let shown = host.updated(vec![state(Some(3), 7, &[3], &[])]);
    assert!(!shown.iter().any(|line| line.starts_with("set aside")), "{shown:?}");
}

#[test]
fn an_answer_that_comes_after_its_epoch_is_too_late_and_the_replica_is_named_again() {
    let mut host = following();
    damaged(&mut host);
    let shown = host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    assert_eq!(shown, ["leader 2: follow 1-0 in 4 from 4"], "it has spoken in this epoch");
    assert!(host.given_up(3, 4).is_empty());
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 12, damaged 1-0 in 4"]);
    host.given_up(4, 5);
    assert_eq!(host.updated(vec![state(Some(2), 5, &[2, 3], &[])])[0], "set aside 1-0");
}

/// Nobody has seen what is in it: the controller gives no other up for it.
#[test]
fn one_that_is_not_open_is_said_to_be_so_until_it_is() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), state(Some(2), 3, &[1, 2, 3], &[])]);
    assert_eq!(host.after_ms(300), ["controller 1: #3 heartbeat 5 at 11, not open 1-0"]);
    host.step(Event::ReplicaOpenFailed { partition: tp(1, 0) });
    host.heartbeat_answered(3, false);
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 11, not open 1-0"]);
    host.heartbeat_answered(4, false);
    host.opened(tp(1, 0), log(4, 3));
    assert_eq!(host.after_ms(300), ["controller 1: #5 heartbeat 5 at 11"]);
}

#[test]
fn more_than_a_heartbeat_can_name_are_said_to_be_more() {
    let mut host = Host::registered();
    let many = (0..10_001).map(|index| partition(tp(1, index), 2, 3, &[1, 2])).collect::<Vec<_>>();
    host.updated([vec![topic(1)], many].concat());
    assert!(host.after_ms(300)[0].ends_with(", not open 1-9999, and more"));
    host.heartbeat_answered(3, false);
    host.opened(tp(1, 0), empty());
    assert!(host.after_ms(300).iter().any(|line| line.ends_with(", not open 1-10000")));
}

#[test]
fn a_damaged_leader_answers_what_it_can_until_another_leads() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), state(Some(1), 3, &[1, 2, 3], &[])]);
    host.opened(tp(1, 0), log(4, 2));
    assert_eq!(damaged(&mut host), ["controller 1: #3 heartbeat 5 at 11, damaged 1-0 in 3"]);
    assert_eq!(host.asked(1, 7, append(Acks::Leader, 3, &[tp(1, 0)])), ["write 1 1-0: 1 at 4"]);
    host.given_up(3, 4);
    let shown = host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    assert_eq!(shown[0].split(": ").next(), Some("answer 1 #7"), "{shown:?}");
    assert!(shown.contains(&"set aside 1-0".to_owned()), "{shown:?}");
    // What the disk still says of the former one is not taken for the new one's.
    host.opened(tp(1, 0), empty());
    assert!(host.written(tp(1, 0), 1).is_empty());
}

#[test]
fn the_only_copy_says_that_its_storage_failed_where_it_cannot_be_opened() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    host.step(Event::ReplicaOpenFailed { partition: tp(1, 0) });
    damaged(&mut host);
    let asked = host.asked(1, 8, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    assert_eq!(asked, ["answer 1 #8: 1-0 StorageFailed"]);
    // One that can be opened refuses what is damaged, and nothing else.
    let mut host = Host::registered();
    host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
    host.opened(tp(1, 0), log(4, 2));
    damaged(&mut host);
    host.asked(1, 8, fetch(1, vec![fetch_from(tp(1, 0), 0)]));
    let parts = vec![Err(ReadFailure::Corrupt)];
    assert_eq!(host.step(Event::FetchRead { fetch: FetchKey(1), parts }), ["answer 1 #8: 1-0 Corrupt"]);
}

/// What is on its way back from the disk is the log that was to go: taken for the one that begins anew, it would be caught up at once.
#[test]
fn one_that_is_being_opened_is_not_set_aside_before_it_is_open() {
    let mut host = Host::registered();
    host.updated(vec![topic(1), state(Some(2), 3, &[1, 2, 3], &[])]);
    host.step(Event::ReplicaOpenFailed { partition: tp(1, 0) });
    damaged(&mut host);
    host.heartbeat_answered(3, false);
    let shown = until_tried_again(&mut host);
    assert!(shown.contains(&"open 1-0".to_owned()), "{shown:?}");
    host.after_ms(300);
    host.given_up(9, 4);
    let shown = host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    assert!(!shown.iter().any(|line| line.starts_with("set aside")), "{shown:?}");
    // Open, it has spoken in this epoch, and goes under the next one.
    host.opened(tp(1, 0), log(4, 3));
    host.after_ms(300);
    host.given_up(10, 5);
    let shown = host.updated(vec![state(Some(2), 5, &[2, 3], &[])]);
    assert_eq!(shown[0], "set aside 1-0", "{shown:?}");
}

#[test]
fn what_was_found_in_the_one_that_went_is_not_held_against_the_one_that_begins_anew() {
    let mut host = following();
    damaged(&mut host);
    host.given_up(3, 4);
    host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    assert!(damaged(&mut host).is_empty(), "late news of the former one");
    host.opened(tp(1, 0), empty());
    assert_eq!(host.node.stats().damaged, 0);
}

#[test]
fn one_that_could_not_be_moved_aside_is_tried_again_in_the_same_epoch_and_not_opened() {
    let mut host = following();
    damaged(&mut host);
    host.given_up(3, 4);
    assert_eq!(host.updated(vec![state(Some(2), 4, &[2, 3], &[])])[0], "set aside 1-0");
    for _ in 0..2 {
        host.step(Event::ReplicaNotSetAside { partition: tp(1, 0) });
        let shown = host.after_ms(6_000);
        assert!(shown.contains(&"set aside 1-0".to_owned()), "{shown:?}");
        assert!(!shown.contains(&"open 1-0".to_owned()), "{shown:?}");
        assert_eq!(host.node.stats().damaged, 1, "it is still there");
    }
    host.opened(tp(1, 0), empty());
    assert_eq!(host.node.stats().damaged, 0);
}

#[test]
fn one_that_could_not_be_moved_aside_in_its_epoch_goes_on_as_it_is_in_the_next() {
    let mut host = following();
    damaged(&mut host);
    host.given_up(3, 4);
    host.updated(vec![state(Some(2), 4, &[2, 3], &[])]);
    host.step(Event::ReplicaNotSetAside { partition: tp(1, 0) });
    host.updated(vec![state(Some(3), 5, &[3], &[])]);
    let shown = host.after_ms(6_000);
    assert!(shown.contains(&"open 1-0".to_owned()) && !shown.contains(&"set aside 1-0".to_owned()), "{shown:?}");
    host.opened(tp(1, 0), log(4, 3));
    assert!(damaged(&mut host).iter().all(|line| !line.starts_with("set aside")));
    assert_eq!(host.node.stats().damaged, 1);
}
