//! Committing, fetching, deleting and expiring offsets.

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use coordinator_core::{Event, Settings};
use peer_api::groups::{
    CommitPartition, GroupRequest, GroupResponse, JoinGroup, OffsetCommit, OffsetDelete, OffsetTopic,
};

use crate::world::{GROUP, World, commit, consumer, protocol};

const MINUTE_MS: u64 = 60_000;
const RETENTION_MS: u64 = 120 * MINUTE_MS;

/// A world that forgets sooner than Kafka's week.
fn forgetful() -> World {
    World::with(Settings {
        offsets_retention_ms: RETENTION_MS as i64,
        group_initial_rebalance_delay_ms: 0,
        ..Settings::default()
    })
}

fn of_member(member_id: &str, generation: i32, offset: i64) -> OffsetCommit {
    OffsetCommit { member_id: member_id.to_owned(), generation_or_epoch: generation, ..commit(offset) }
}

impl World {
    fn commit_by(&mut self, commit: OffsetCommit) -> Result<ErrorCode, ErrorCode> {
        let request = self.ask(GroupRequest::OffsetCommit(commit));
        self.committed(request)
    }

    fn delete_offset(&mut self, topic: &str) -> Result<ErrorCode, ErrorCode> {
        let request = self.ask(GroupRequest::OffsetDelete(OffsetDelete {
            group_id: GROUP.to_owned(),
            topics: vec![OffsetTopic {
                id: TopicId::ZERO,
                name: topic.to_owned(),
                partitions: vec![PartitionIndex(0)],
            }],
        }));
        match self.answer(request) {
            Ok(GroupResponse::OffsetDelete(result)) => result.map(|topics| topics[0].partitions[0].error),
            other => panic!("{other:?}"),
        }
    }

    fn offset(&mut self) -> i64 {
        self.fetch("t", 0).offset.0
    }
}

#[test]
fn what_was_committed_is_fetched_with_all_that_belongs_to_it() {
    let mut world = World::new();
    assert_eq!(world.commit_offset(42), Ok(ErrorCode::None));
    let fetched = world.fetch("t", 0);
    assert_eq!((fetched.offset, fetched.leader_epoch), (Offset(42), LeaderEpoch(3)));
    assert_eq!((fetched.metadata.as_str(), fetched.error), ("note", ErrorCode::None));
    let none = world.fetch("t", 1);
    assert_eq!((none.offset, none.leader_epoch), (Offset(-1), LeaderEpoch(-1)));
    assert_eq!((none.metadata.as_str(), none.error), ("", ErrorCode::None));
    world.fail_over();
    assert_eq!(world.fetch("t", 0), fetched);
}

#[test]
fn every_partition_asked_for_is_answered_and_no_other() {
    let mut world = World::new();
    world.commit_offset(42).expect("committed");
    let asked = |name: &str, partitions: &[i32]| OffsetTopic {
        id: TopicId::ZERO,
        name: name.to_owned(),
        partitions: partitions.iter().map(|index| PartitionIndex(*index)).collect(),
    };
    let fetched = world.fetch_group(Some(vec![asked("u", &[1, 0]), asked("t", &[5])]));
    let answered: Vec<(String, Vec<i32>)> = fetched
        .iter()
        .map(|topic| (topic.name.clone(), topic.partitions.iter().map(|partition| partition.partition.0).collect()))
        .collect();
    assert_eq!(answered, [("u".to_owned(), vec![1, 0]), ("t".to_owned(), vec![5])]);
    let all = world.fetch_group(None);
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].name.as_str(), all[0].id, all[0].partitions.len()), ("t", TopicId([7; 16]), 1));
    assert_eq!(world.fetch_group(Some(Vec::new())), []);
}

#[test]
fn an_offset_in_flight_is_not_fetched_and_not_acknowledged() {
    let mut world = World::new();
    world.commit_offset(1).expect("committed");
    world.holding = true;
    let second = world.ask(GroupRequest::OffsetCommit(commit(2)));
    let third = world.ask(GroupRequest::OffsetCommit(commit(3)));
    assert_eq!(world.offset(), 1);
    assert!(world.is_waiting(second));
    world.commit_one();
    assert_eq!(world.offset(), 2);
    world.committed(second).expect("second");
    assert!(world.is_waiting(third));
    // The third is lost with its coordinator.
    world.fail_over();
    assert_eq!(world.offset(), 2);
    assert!(!world.answer(third).expect_err("lost").is_definite());
}

#[test]
fn only_the_current_generation_commits() {
    let mut world = World::new();
    assert_eq!(world.commit_by(of_member("ghost", 1, 1)), Err(ErrorCode::IllegalGeneration));
    let newer = OffsetCommit { knows_member_epochs: true, ..of_member("ghost", 1, 1) };
    assert_eq!(world.commit_by(newer), Err(ErrorCode::GroupIdNotFound));

    let (member, generation) = world.stable_member();
    assert_eq!(world.commit_by(of_member(&member, generation, 5)), Ok(ErrorCode::None));
    assert_eq!(world.commit_by(of_member(&member, generation - 1, 6)), Err(ErrorCode::IllegalGeneration));
    assert_eq!(world.commit_by(of_member("ghost", generation, 6)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.commit_by(commit(6)), Err(ErrorCode::UnknownMemberId), "the group has members");
    let instance = OffsetCommit { group_instance_id: Some("i".to_owned()), ..of_member(&member, generation, 6) };
    assert_eq!(world.commit_by(instance), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.offset(), 5);

    // While others join, the old generation may still commit; once the next has begun and is not assigned, nobody may.
    let (_, waits) = world.join_new(consumer());
    assert_eq!(world.commit_by(of_member(&member, generation, 7)), Ok(ErrorCode::None));
    let again = world.join(JoinGroup { member_id: member.clone(), ..consumer() });
    world.joined(again).expect("first");
    world.joined(waits).expect("second");
    assert_eq!(world.commit_by(of_member(&member, generation, 8)), Err(ErrorCode::IllegalGeneration));
    assert_eq!(world.commit_by(of_member(&member, generation + 1, 8)), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(world.offset(), 7);
}

#[test]
fn an_empty_group_takes_the_offsets_of_operators() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    world.commit_by(of_member(&member, generation, 5)).expect("committed");
    assert_eq!(world.commit_by(commit(9)), Err(ErrorCode::UnknownMemberId));
    world.leave(&[(&member, None)]).expect("left");
    assert_eq!(world.commit_by(commit(9)), Ok(ErrorCode::None));
    assert_eq!(world.offset(), 9);
    assert_eq!(world.commit_by(of_member(&member, generation, 10)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_commit_keeps_the_session() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    for offset in 0..5 {
        world.pass(9_000);
        assert_eq!(world.commit_by(of_member(&member, generation, offset)), Ok(ErrorCode::None));
    }
    assert_eq!(world.heartbeat(&member, generation), Ok(()));
}

#[test]
fn metadata_that_is_too_long_is_refused_for_its_partition_alone() {
    let mut world = World::new();
    let partition = |index: i32, metadata: String| CommitPartition {
        partition: PartitionIndex(index),
        offset: Offset(1),
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: Some(metadata),
    };
    let mut commit = commit(1);
    // The limit counts what Java counts: a character outside of the basic plane is two.
    commit.topics[0].partitions = vec![
        partition(0, "x".repeat(4_097)),
        partition(1, "\u{e4}".repeat(4_096)),
        partition(2, "\u{1F600}".repeat(2_049)),
    ];
    let request = world.ask(GroupRequest::OffsetCommit(commit));
    let Ok(GroupResponse::OffsetCommit(Ok(topics))) = world.answer(request) else { panic!("not served") };
    let codes: Vec<ErrorCode> = topics[0].partitions.iter().map(|partition| partition.error).collect();
    assert_eq!(codes, [ErrorCode::OffsetMetadataTooLarge, ErrorCode::None, ErrorCode::OffsetMetadataTooLarge]);
    assert_eq!((world.fetch("t", 0).offset.0, world.fetch("t", 1).offset.0), (-1, 1));
    assert_eq!(world.fetch("t", 1).metadata, "\u{e4}".repeat(4_096));
}

#[test]
fn a_commit_of_nothing_makes_no_group() {
    let mut world = World::new();
    let empty = OffsetCommit { topics: Vec::new(), ..commit(1) };
    let request = world.ask(GroupRequest::OffsetCommit(empty));
    assert_eq!(world.answer(request), Ok(GroupResponse::OffsetCommit(Ok(Vec::new()))));
    assert_eq!(world.describe(), None);
}

#[test]
fn an_offset_of_a_topic_that_was_made_anew_is_none() {
    let mut world = World::new();
    world.commit_offset(42).expect("committed");
    let of = |id: TopicId| Some(vec![OffsetTopic { id, name: "t".to_owned(), partitions: vec![PartitionIndex(0)] }]);
    assert_eq!(world.fetch_group(of(TopicId([7; 16])))[0].partitions[0].offset, Offset(42));
    assert_eq!(world.fetch_group(of(TopicId([8; 16])))[0].partitions[0].offset, Offset(-1));
}

#[test]
fn deleting_a_topic_deletes_its_offsets_and_only_those() {
    let mut world = World::new();
    world.commit_offset(42).expect("committed");
    let mut other = commit(7);
    other.topics[0].name = "u".to_owned();
    world.commit_by(other).expect("committed");
    world.event(Event::MetadataChanged { removed: vec![(TopicId([8; 16]), "t".to_owned())] });
    assert_eq!(world.offset(), 42, "another topic of that name");
    world.event(Event::MetadataChanged { removed: vec![(TopicId([7; 16]), "t".to_owned())] });
    assert_eq!((world.offset(), world.fetch("u", 0).offset.0), (-1, 7));
    world.fail_over();
    assert_eq!((world.offset(), world.fetch("u", 0).offset.0), (-1, 7));
}

#[test]
fn a_topic_that_goes_while_nothing_can_be_written_loses_its_offsets_later() {
    let mut world = World::new();
    world.commit_offset(42).expect("committed");
    world.event(Event::WritableChanged(false));
    world.event(Event::MetadataChanged { removed: vec![(TopicId([7; 16]), "t".to_owned())] });
    assert_eq!(world.offset(), 42);
    world.event(Event::WritableChanged(true));
    assert_eq!(world.offset(), -1);
}

#[test]
fn offsets_are_deleted_where_nobody_consumes() {
    let mut world = World::new();
    assert_eq!(world.delete_offset("t"), Err(ErrorCode::GroupIdNotFound));
    let (member, generation) = world.stable_member();
    world.commit_by(of_member(&member, generation, 5)).expect("committed");
    let mut other = of_member(&member, generation, 7);
    other.topics[0].name = "u".to_owned();
    world.commit_by(other).expect("committed");
    assert_eq!(world.delete_offset("t"), Ok(ErrorCode::GroupSubscribedToTopic));
    assert_eq!(world.delete_offset("u"), Ok(ErrorCode::None));
    assert_eq!(world.delete_offset("never committed"), Ok(ErrorCode::None));
    assert_eq!((world.offset(), world.fetch("u", 0).offset.0), (5, -1));
    world.leave(&[(&member, None)]).expect("left");
    assert_eq!(world.delete_offset("t"), Ok(ErrorCode::None));
    assert_eq!(world.offset(), -1);
}

#[test]
fn offsets_of_a_group_whose_subscriptions_are_opaque_are_not_deleted_under_it() {
    let mut world = World::new();
    let (member, request) = world.join_new(JoinGroup { protocol_type: "connect".to_owned(), ..consumer() });
    world.pass(0);
    world.joined(request).expect("joined");
    assert_eq!(world.delete_offset("t"), Err(ErrorCode::NonEmptyGroup));
    world.leave(&[(&member, None)]).expect("left");
    assert_eq!(world.delete_offset("t"), Ok(ErrorCode::None));
}

#[test]
fn offsets_nobody_belongs_to_expire_with_their_own_age() {
    let mut world = forgetful();
    world.commit_offset(1).expect("committed");
    world.pass(RETENTION_MS - MINUTE_MS);
    assert_eq!(world.offset(), 1);
    world.pass(11 * MINUTE_MS);
    assert_eq!(world.offset(), -1);
    assert_eq!(world.describe(), None, "a group without offsets and members goes with them");
    world.fail_over();
    assert_eq!(world.offset(), -1);
}

#[test]
fn offsets_of_an_empty_group_expire_with_the_time_since_it_is_empty() {
    let mut world = forgetful();
    let (member, generation) = world.stable_member();
    world.commit_by(of_member(&member, generation, 5)).expect("committed");
    for _ in 0..3 {
        // Kept alive, however old the commit.
        keep_alive(&mut world, &member, generation, RETENTION_MS / 2);
    }
    assert_eq!(world.offset(), 5);
    world.leave(&[(&member, None)]).expect("left");
    world.pass(RETENTION_MS - MINUTE_MS);
    assert_eq!(world.offset(), 5);
    world.fail_over();
    world.pass(11 * MINUTE_MS);
    assert_eq!(world.offset(), -1);
    assert_eq!(world.describe(), None);
}

#[test]
fn in_a_group_with_members_only_what_they_do_not_consume_expires() {
    let mut world = forgetful();
    let (member, generation) = world.stable_member();
    world.commit_by(of_member(&member, generation, 5)).expect("committed");
    let mut other = of_member(&member, generation, 7);
    other.topics[0].name = "u".to_owned();
    world.commit_by(other).expect("committed");
    keep_alive(&mut world, &member, generation, RETENTION_MS + 11 * MINUTE_MS);
    assert_eq!((world.offset(), world.fetch("u", 0).offset.0), (5, -1));
    // Where subscriptions cannot be read, nothing does.
    let mut world = forgetful();
    let opaque = JoinGroup { protocol_type: "connect".to_owned(), ..consumer() };
    let (member, request) = world.join_new(opaque);
    world.pass(0);
    let generation = world.joined(request).expect("joined").generation_id;
    let sync = world.sync(&member, generation, &[]);
    world.synced(sync).expect("synced");
    world.commit_by(of_member(&member, generation, 5)).expect("committed");
    keep_alive(&mut world, &member, generation, RETENTION_MS + 11 * MINUTE_MS);
    assert_eq!(world.offset(), 5);
}

fn keep_alive(world: &mut World, member: &str, generation: i32, ms: u64) {
    let end = world.now.tick.plus_ms(ms);
    while world.now.tick < end {
        world.pass(9_000);
        assert_eq!(world.heartbeat(member, generation), Ok(()));
    }
}

#[test]
fn a_client_may_say_itself_how_long_an_offset_is_kept() {
    let mut world = World::new();
    let short = OffsetCommit { retention_ms: Some(60_000), ..commit(3) };
    world.commit_by(short).expect("committed");
    assert_eq!(world.fetch("t", 0).leader_epoch, LeaderEpoch(3));
    world.fail_over();
    // The old format of the record has no room for the epoch.
    assert_eq!((world.offset(), world.fetch("t", 0).leader_epoch), (3, LeaderEpoch(-1)));
    world.pass(11 * MINUTE_MS);
    assert_eq!(world.offset(), -1);
}

#[test]
fn a_fresh_commit_in_flight_is_not_expired() {
    let mut world = forgetful();
    world.commit_offset(1).expect("committed");
    world.pass(RETENTION_MS - MINUTE_MS);
    world.holding = true;
    let request = world.ask(GroupRequest::OffsetCommit(commit(2)));
    world.now.wall = Timestamp(world.now.wall.0 + 2 * MINUTE_MS as i64);
    world.pass(10 * MINUTE_MS);
    world.holding = false;
    world.commit();
    assert_eq!(world.offset(), 2);
    // The answer did not wait that long.
    assert_eq!(world.answer(request).expect_err("late").code(), ErrorCode::CoordinatorNotAvailable);
}

#[test]
fn many_groups_are_looked_through_in_portions() {
    let mut world = World::with(Settings { offsets_retention_ms: 1_000, ..Settings::default() });
    for group in 0..2_500 {
        let commit = OffsetCommit { group_id: format!("group-{group}"), ..commit(1) };
        world.commit_by(commit).expect("committed");
    }
    assert_eq!(world.coordinator.size(), (2_500, 2_500));
    world.pass(11 * MINUTE_MS);
    assert_eq!(world.coordinator.size(), (0, 0));
    world.fail_over();
    assert_eq!(world.coordinator.size(), (0, 0));
}

#[test]
fn a_subscription_that_changes_changes_what_is_kept() {
    let mut world = World::new();
    let (member, _) = world.stable_member();
    let protocols = vec![protocol("range", "u")];
    let again = world.join(JoinGroup { member_id: member.clone(), protocols, ..consumer() });
    let generation = world.joined(again).expect("again").generation_id;
    let sync = world.sync(&member, generation, &[]);
    world.synced(sync).expect("synced");
    assert_eq!(world.delete_offset("t"), Ok(ErrorCode::None));
    assert_eq!(world.delete_offset("u"), Ok(ErrorCode::GroupSubscribedToTopic));
    world.fail_over();
    assert_eq!(world.delete_offset("u"), Ok(ErrorCode::GroupSubscribedToTopic));
}
