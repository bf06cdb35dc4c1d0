//! Describing, listing and deleting groups.

use base_types::ErrorCode;
use coordinator_core::Settings;
use peer_api::groups::{
    ConsumerGroupDescribe, DeleteGroups, DescribeGroups, GroupKind, GroupRequest, GroupResponse, GroupState, JoinGroup,
    ListGroups, ListedGroup, OffsetCommit,
};

use crate::world::{GROUP, World, commit, consumer};

impl World {
    fn list(&mut self, states: &[&str], types: &[&str]) -> Vec<ListedGroup> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let list = ListGroups { states: words(states), types: words(types) };
        let request = self.ask(GroupRequest::ListGroups(list));
        match self.answer(request) {
            Ok(GroupResponse::ListGroups(groups)) => groups,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, groups: &[&str]) -> Vec<ErrorCode> {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let request = self.ask(GroupRequest::DeleteGroups(DeleteGroups { groups }));
        match self.answer(request) {
            Ok(GroupResponse::DeleteGroups(results)) => results.into_iter().map(|(_, error)| error).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_group_is_described_with_what_its_members_said() {
    let mut world = World::new();
    let (member, _) = world.stable_member();
    let group = world.describe().expect("known");
    assert_eq!((group.state, group.protocol_type.as_str()), (GroupState::Stable, "consumer"));
    assert_eq!(group.protocol_name, "range");
    let described = &group.members[0];
    assert_eq!((described.member_id.as_str(), described.client_id.as_str()), (member.as_str(), "client"));
    assert_eq!(described.client_host, "/127.0.0.1");
    assert_eq!((described.metadata.len(), described.assignment.as_ref()), (13, b"all".as_ref()));
    // While it rebalances, what belongs to a generation is left out.
    world.join_new(consumer());
    let group = world.describe().expect("known");
    assert_eq!((group.state, group.protocol_name.as_str()), (GroupState::PreparingRebalance, ""));
    assert_eq!(group.members.len(), 2);
    assert!(group.members.iter().all(|member| member.metadata.is_empty() && member.assignment.is_empty()));
}

#[test]
fn groups_that_are_not_there_are_said_not_to_be() {
    let mut world = World::new();
    world.stable_member();
    let groups = vec!["nobody".to_owned(), GROUP.to_owned()];
    let request = world.ask(GroupRequest::DescribeGroups(DescribeGroups { groups: groups.clone() }));
    let Ok(GroupResponse::DescribeGroups(described)) = world.answer(request) else { panic!("not served") };
    assert_eq!(described[0].1.as_ref().expect_err("unknown").message, "Group nobody not found.");
    assert!(described[1].1.is_ok());
    let request = world.ask(GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups }));
    let Ok(GroupResponse::ConsumerGroupDescribe(described)) = world.answer(request) else { panic!("not served") };
    let messages: Vec<String> = described.into_iter().map(|(_, result)| result.expect_err("none").message).collect();
    assert_eq!(messages, ["Group nobody not found.", "Group group is not a consumer group."]);
}

#[test]
fn groups_are_listed_by_state_and_type_in_any_case() {
    let mut world = World::new();
    world.stable_member();
    let simple = OffsetCommit { group_id: "simple".to_owned(), ..commit(1) };
    world.ask(GroupRequest::OffsetCommit(simple));
    let of = |group_id: &str, protocol_type: &str, state| ListedGroup {
        group_id: group_id.to_owned(),
        protocol_type: protocol_type.to_owned(),
        state,
        kind: GroupKind::Classic,
    };
    let (stable, empty) = (of(GROUP, "consumer", GroupState::Stable), of("simple", "", GroupState::Empty));
    assert_eq!(world.list(&[], &[]), [stable.clone(), empty.clone()]);
    assert_eq!(world.list(&["stable", "DEAD"], &[]), [stable]);
    assert_eq!(world.list(&["Empty"], &["Classic"]), [empty]);
    assert_eq!(world.list(&[], &["consumer"]), []);
    assert_eq!(world.list(&["no such state"], &[]), []);
}

#[test]
fn only_groups_without_members_are_deleted_with_their_offsets() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    let by_member = OffsetCommit { member_id: member.clone(), generation_or_epoch: generation, ..commit(1) };
    world.ask(GroupRequest::OffsetCommit(by_member));
    assert_eq!(world.delete(&["nobody", GROUP]), [ErrorCode::GroupIdNotFound, ErrorCode::NonEmptyGroup]);
    world.leave(&[(&member, None)]).expect("left");
    assert_eq!(world.delete(&[GROUP, GROUP]), [ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert_eq!((world.describe(), world.fetch("t", 0).offset.0), (None, -1));
    world.fail_over();
    assert_eq!((world.describe(), world.fetch("t", 0).offset.0), (None, -1));
    assert_eq!(world.coordinator.size(), (0, 0));
}

#[test]
fn a_deletion_is_answered_when_it_is_in_the_log() {
    let mut world = World::new();
    world.commit_offset(1).expect("committed");
    world.holding = true;
    let request = world.ask(GroupRequest::DeleteGroups(DeleteGroups { groups: vec![GROUP.to_owned()] }));
    assert!(world.is_waiting(request));
    assert_eq!(world.fetch("t", 0).offset.0, 1, "it may yet come to nothing");
    world.commit();
    world.answer(request).expect("deleted");
    assert_eq!(world.fetch("t", 0).offset.0, -1);
}

#[test]
fn a_large_group_is_deleted_in_several_appends_and_answered_after_the_last() {
    let mut world = World::with(Settings { append_bytes_max: 110_000, ..Settings::default() });
    let mut large = commit(1);
    let partition = large.topics[0].partitions[0].clone();
    large.topics[0].partitions = (0..2_500)
        .map(|index| {
            let mut partition = partition.clone();
            partition.partition.0 = index;
            partition
        })
        .collect();
    world.ask(GroupRequest::OffsetCommit(large));
    world.holding = true;
    let request = world.ask(GroupRequest::DeleteGroups(DeleteGroups { groups: vec![GROUP.to_owned()] }));
    assert_eq!(world.in_flight.len(), 3);
    world.commit_one();
    world.commit_one();
    assert!(world.is_waiting(request));
    // Half deleted it is still a group.
    world.fail_over();
    assert!(world.describe().is_some());
    world.holding = false;
    assert_eq!(world.delete(&[GROUP]), [ErrorCode::None]);
    assert_eq!(world.coordinator.size(), (0, 0));
}

#[test]
fn an_empty_group_that_was_deleted_begins_anew() {
    let mut world = World::new();
    let (member, _) = world.stable_member();
    world.leave(&[(&member, None)]).expect("left");
    world.delete(&[GROUP]);
    let request = world.join(JoinGroup { ..consumer() });
    world.pass(0);
    assert_eq!(world.joined(request).expect("joined").generation_id, 1);
}
