//! What may be served when: loading, writes that wait, are refused or never end, the end of the leadership.

use base_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, TopicId};
use bytes::Bytes;
use coordinator_core::{Event, LogRecord, Settings};
use peer_api::groups::{
    CommitPartition, ConsumerGroupHeartbeat, CoordinatorError, DeleteGroups, GroupRequest, GroupResponse, Heartbeat,
    JoinGroup, JoinProtocol, ListGroups, OffsetDelete, OffsetFetch, OffsetTopic,
};
use peer_api::storage::AppendError;

use crate::world::{GROUP, World, commit, consumer};

#[test]
fn nothing_is_served_before_everything_is_read() {
    let mut world = World::unloaded(Settings::default());
    for body in [
        GroupRequest::JoinGroup(consumer()),
        GroupRequest::OffsetFetch(OffsetFetch::default()),
        GroupRequest::ListGroups(ListGroups::default()),
        GroupRequest::OffsetCommit(commit(1)),
    ] {
        let request = world.ask(body);
        assert_eq!(world.answer(request), Err(CoordinatorError::LoadInProgress));
    }
    // A member is kept in the belief that all is well.
    let heartbeat = Heartbeat { group_id: GROUP.to_owned(), ..Heartbeat::default() };
    let request = world.ask(GroupRequest::Heartbeat(heartbeat));
    assert_eq!(world.answer(request), Ok(GroupResponse::Heartbeat(Ok(()))));
    assert_eq!(world.coordinator.next_deadline(), None);
}

#[test]
fn records_that_cannot_be_read_and_those_of_other_groups_are_passed_over() {
    let mut world = World::new();
    world.commit_offset(5).expect("committed");
    let offset = world.log[0].clone();
    let damaged = LogRecord { key: offset.key.clone(), value: Some(Bytes::from_static(b"\0\x04\0")) };
    let share_group = LogRecord { key: Bytes::from_static(b"\0\x0b\0\x01g"), value: None };
    let no_key = LogRecord { key: Bytes::new(), value: None };
    world.log.extend([damaged, share_group, no_key]);
    world.fail_over();
    assert_eq!(world.fetch("t", 0).offset.0, 5);
    assert_eq!(world.coordinator.records_skipped(), 2);
}

#[test]
fn offsets_are_found_whatever_compaction_left_of_their_group() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    let mut by_member = commit(5);
    (by_member.member_id, by_member.generation_or_epoch) = (member, generation);
    world.ask(GroupRequest::OffsetCommit(by_member));
    let log = world.log.clone();
    let is_group = |record: &LogRecord| record.key[1] == 2;
    // The group's record after its offsets, and none at all.
    let (mut groups, mut offsets): (Vec<_>, Vec<_>) = log.into_iter().partition(is_group);
    offsets.append(&mut groups);
    world.log = offsets;
    world.fail_over();
    assert_eq!((world.state(), world.fetch("t", 0).offset.0), ("Stable", 5));
    world.log.retain(|record| !is_group(record));
    world.fail_over();
    assert_eq!((world.state(), world.fetch("t", 0).offset.0), ("Empty", 5));
}

#[test]
fn an_answer_waits_for_its_write_and_not_for_ever() {
    let mut world = World::new();
    world.holding = true;
    let request = world.ask(GroupRequest::OffsetCommit(commit(1)));
    world.pass(4_999);
    assert!(world.is_waiting(request));
    world.pass(1);
    let error = world.answer(request).expect_err("late");
    assert_eq!((error.code(), error.is_definite()), (ErrorCode::CoordinatorNotAvailable, false));
    // The write may still come true, and then it is.
    assert_eq!(world.fetch("t", 0).offset.0, -1);
    world.commit();
    assert_eq!(world.fetch("t", 0).offset.0, 1);
}

#[test]
fn a_refused_write_is_answered_for_what_it_was_and_nothing_is_kept() {
    let not_leader = AppendError::NotLeader { leader: BrokerId(2), leader_epoch: LeaderEpoch(9) };
    let too_large = AppendError::MessageTooLarge { size: 2, max: 1 };
    for (error, code) in [
        (not_leader, ErrorCode::NotCoordinator),
        (AppendError::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (too_large, ErrorCode::UnknownServerError),
    ] {
        let mut world = World::new();
        world.commit_offset(1).expect("committed");
        let (_, joins) = world.join_new(JoinGroup { group_id: "other".to_owned(), ..consumer() });
        world.holding = true;
        let refused = world.ask(GroupRequest::OffsetCommit(commit(2)));
        let behind = world.ask(GroupRequest::OffsetCommit(commit(3)));
        world.refuse(error);
        assert_eq!(world.reloads, 1);
        let told = world.answer(refused).expect_err("refused");
        assert_eq!((told.code(), told.is_definite()), (code, true));
        // What came after it may or may not be in the log, and who waited for others waits in vain.
        for request in [behind, joins] {
            assert_eq!(world.answer(request), Err(CoordinatorError::Lost));
        }
        let late = world.ask(GroupRequest::OffsetCommit(commit(4)));
        assert_eq!(world.answer(late), Err(CoordinatorError::LoadInProgress));
        world.fail_over();
        assert_eq!(world.fetch("t", 0).offset.0, 1);
    }
}

#[test]
fn what_the_log_would_not_take_is_refused_before_it_ends_the_coordinator() {
    let settings = Settings { append_bytes_max: 10_000, group_initial_rebalance_delay_ms: 0, ..Settings::default() };
    let mut world = World::with(settings);
    let (member, generation) = world.stable_member();
    let mut large = commit(1);
    large.topics[0].partitions[0].metadata = Some("x".repeat(10_000));
    let mut endless = commit(1);
    endless.topics[0].partitions = vec![endless.topics[0].partitions[0].clone(); 400];
    let join = JoinGroup {
        protocols: vec![JoinProtocol { name: "range".to_owned(), metadata: Bytes::from(vec![0; 10_000]) }],
        ..consumer()
    };
    let heartbeat = ConsumerGroupHeartbeat {
        group_id: "other".to_owned(),
        subscribed_topic_names: Some(vec!["x".repeat(10_000)]),
        ..ConsumerGroupHeartbeat::default()
    };
    for body in [
        GroupRequest::OffsetCommit(large),
        GroupRequest::OffsetCommit(endless),
        GroupRequest::JoinGroup(join),
        GroupRequest::ConsumerGroupHeartbeat(heartbeat),
    ] {
        let request = world.ask(body);
        assert_eq!(world.answer(request), Err(CoordinatorError::WriteRefused));
    }
    // What only the whole group makes too large is refused when it would be written.
    let again = world.join(JoinGroup { member_id: member.clone(), ..consumer() });
    world.joined(again).expect("again");
    let assignment: &'static str = "x".repeat(10_000).leak();
    let sync = world.sync(&member, generation + 1, &[(&member, assignment)]);
    assert_eq!(world.synced(sync), Err(ErrorCode::UnknownServerError));
    assert_eq!(world.state(), "PreparingRebalance");
    let again = world.join(JoinGroup { member_id: member.clone(), ..consumer() });
    world.joined(again).expect("again");
    let sync = world.sync(&member, generation + 2, &[(&member, "small")]);
    world.synced(sync).expect("synced");
    assert_eq!(world.reloads, 0);
}

/// One refused append would take all groups of the partition with it.
#[test]
fn what_one_batch_does_not_hold_is_written_in_several_and_answered_after_the_last() {
    let mut world = World::with(Settings { append_bytes_max: 10_000, ..Settings::default() });
    world.holding = true;
    let mut large = commit(7);
    large.topics[0].partitions[0].metadata = Some("x".repeat(4_000));
    let first = large.topics[0].partitions[0].clone();
    let partition = |partition| CommitPartition { partition: PartitionIndex(partition), ..first.clone() };
    large.topics[0].partitions = (0..7).map(partition).collect();
    let committing = world.ask(GroupRequest::OffsetCommit(large));
    assert_eq!(world.in_flight.len(), 4);
    for _ in 0..4 {
        assert!(world.is_waiting(committing));
        world.commit_one();
    }
    assert_eq!(world.committed(committing), Ok(ErrorCode::None));
    assert_eq!(world.fetch("t", 6).offset.0, 7);

    // Named a thousand times, deleted once.
    let topic =
        OffsetTopic { name: "t".to_owned(), id: TopicId::default(), partitions: vec![PartitionIndex(0); 1_000] };
    let delete = OffsetDelete { group_id: GROUP.to_owned(), topics: vec![topic] };
    world.ask(GroupRequest::OffsetDelete(delete));
    assert_eq!(world.in_flight.iter().map(|(_, records)| records.len()).sum::<usize>(), 1);
    world.commit();

    // The tombstones of a group with so long a name that a few of them fill a batch.
    let name = "g".repeat(3_000);
    let mut many = commit(9);
    many.group_id.clone_from(&name);
    many.topics[0].partitions = (0..6)
        .map(|p| CommitPartition { partition: PartitionIndex(p), ..commit(9).topics[0].partitions[0].clone() })
        .collect();
    world.ask(GroupRequest::OffsetCommit(many));
    world.commit();
    let deleting = world.ask(GroupRequest::DeleteGroups(DeleteGroups { groups: vec![name.clone()] }));
    assert!(world.in_flight.len() > 1);
    world.commit();
    let answer = world.answer(deleting).expect("served");
    assert_eq!(answer, GroupResponse::DeleteGroups(vec![(name, ErrorCode::None)]));
    assert_eq!(world.reloads, 0);
}

#[test]
fn while_nothing_can_be_written_what_needs_no_write_is_served() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    let mut by_member = commit(5);
    (by_member.member_id, by_member.generation_or_epoch) = (member.clone(), generation);
    world.ask(GroupRequest::OffsetCommit(by_member.clone()));
    world.event(Event::WritableChanged(false));
    let request = world.ask(GroupRequest::OffsetCommit(by_member));
    assert_eq!(world.answer(request), Err(CoordinatorError::NotAvailable));
    let request = world.join(consumer());
    assert_eq!(world.answer(request), Err(CoordinatorError::NotAvailable));
    assert_eq!(world.heartbeat(&member, generation), Ok(()));
    assert_eq!((world.fetch("t", 0).offset.0, world.state()), (5, "Stable"));

    // A session that ends meanwhile ends later: its end could not be written.
    world.pass(60_000);
    assert_eq!(world.state(), "Stable");
    world.event(Event::WritableChanged(true));
    world.pass(9_999);
    assert_eq!(world.state(), "Stable");
    world.pass(1);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn the_same_events_give_the_same_ids_and_other_lives_give_others() {
    let id = |world: &mut World| world.stable_member().0;
    assert_eq!(id(&mut World::new()), id(&mut World::new()));
    let mut world = World::new();
    let first = id(&mut world);
    world.log.clear();
    world.fail_over();
    assert_ne!(first, id(&mut world));
}

#[test]
fn a_thousand_members_join_one_group() {
    let mut world = World::with(Settings { group_initial_rebalance_delay_ms: 3_000, ..Settings::default() });
    let requests: Vec<_> = (0..1_000).map(|_| world.join_new(consumer())).collect();
    world.pass(6_000);
    let mut leaders = 0;
    let ids: Vec<String> = requests.iter().map(|(id, _)| id.clone()).collect();
    let mut leader = String::new();
    for (_, request) in &requests {
        let joined = world.joined(*request).expect("joined");
        leaders += usize::from(joined.members.len() == 1_000);
        leader = joined.leader;
    }
    assert_eq!(leaders, 1);
    let syncs: Vec<_> = ids.iter().filter(|id| **id != leader).map(|id| world.sync(id, 1, &[])).collect();
    let assignments: Vec<(&str, &'static str)> = ids.iter().map(|id| (id.as_str(), "part")).collect();
    let request = world.sync(&leader, 1, &assignments);
    for request in syncs.into_iter().chain([request]) {
        assert_eq!(world.synced(request).expect("synced").assignment, Bytes::from_static(b"part"));
    }
}
