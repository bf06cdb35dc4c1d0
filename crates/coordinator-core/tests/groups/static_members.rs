//! Members with an instance id of their own (KIP-345, KIP-814).

use base_types::ErrorCode;
use bytes::Bytes;
use peer_api::groups::{GroupRequest, JoinGroup, LeftMember, SyncGroup};

use crate::world::{GROUP, World, consumer, protocol};

fn instance(id: &str) -> JoinGroup {
    JoinGroup { group_instance_id: Some(id.to_owned()), requires_known_member_id: true, ..consumer() }
}

/// Two static members; the first leads.
fn stable_pair(world: &mut World) -> (String, String) {
    let first = world.join(instance("a"));
    world.pass(0);
    let first_id = world.joined(first).expect("first").member_id;
    let sync = world.sync_as(&first_id, "a", 1, &[(&first_id, "one")]);
    world.synced(sync).expect("first");
    let second = world.join(instance("b"));
    let again = world.join(JoinGroup { member_id: first_id.clone(), ..instance("a") });
    let second_id = world.joined(second).expect("second").member_id;
    world.joined(again).expect("first");
    let leader = world.sync_as(&first_id, "a", 2, &[(&first_id, "one"), (&second_id, "two")]);
    world.synced(leader).expect("first");
    let follower = world.sync_as(&second_id, "b", 2, &[]);
    world.synced(follower).expect("second");
    (first_id, second_id)
}

impl World {
    fn sync_as(
        &mut self,
        member_id: &str,
        instance: &str,
        generation_id: i32,
        assignments: &[(&str, &'static str)],
    ) -> coordinator_core::RequestKey {
        let assignments =
            assignments.iter().map(|(member, bytes)| ((*member).to_owned(), Bytes::from_static(bytes.as_bytes())));
        self.ask(GroupRequest::SyncGroup(SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id,
            member_id: member_id.to_owned(),
            group_instance_id: Some(instance.to_owned()),
            assignments: assignments.collect(),
            ..SyncGroup::default()
        }))
    }
}

#[test]
fn a_static_member_joins_in_one_step_under_its_own_name() {
    let mut world = World::new();
    let request = world.join(instance("a"));
    world.pass(0);
    let joined = world.joined(request).expect("joined");
    assert!(joined.member_id.starts_with("a-"), "{}", joined.member_id);
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("a"));
}

#[test]
fn a_follower_that_restarts_takes_its_old_place_without_a_rebalance() {
    let mut world = World::new();
    let (leader, old) = stable_pair(&mut world);
    let request = world.join(JoinGroup { supports_skip_assignment: true, ..instance("b") });
    let joined = world.joined(request).expect("joined");
    assert_ne!(joined.member_id, old);
    assert_eq!((joined.generation_id, joined.skip_assignment, joined.members.len()), (2, false, 0));
    assert_eq!(joined.leader, leader);
    let sync = world.sync_as(&joined.member_id, "b", 2, &[]);
    assert_eq!(world.synced(sync).expect("synced").assignment, Bytes::from_static(b"two"));
    assert_eq!(world.state(), "Stable");
    // Its old self is fenced wherever it turns up.
    assert_eq!(world.heartbeat_as(&old, Some("b"), 2), Err(ErrorCode::FencedInstanceId));
    let sync = world.sync_as(&old, "b", 2, &[]);
    assert_eq!(world.synced(sync), Err(ErrorCode::FencedInstanceId));
    let join = world.join(JoinGroup { member_id: old.clone(), ..instance("b") });
    assert_eq!(world.joined(join).expect_err("fenced").error, ErrorCode::FencedInstanceId);
    let left = world.leave(&[(&old, Some("b"))]).expect("served");
    assert_eq!(left[0].error, ErrorCode::FencedInstanceId);
    // The new self survives the coordinator.
    world.fail_over();
    assert_eq!(world.heartbeat_as(&joined.member_id, Some("b"), 2), Ok(()));
}

#[test]
fn a_leader_that_restarts_is_told_not_to_assign() {
    let mut world = World::new();
    let (old, _) = stable_pair(&mut world);
    let request = world.join(JoinGroup { supports_skip_assignment: true, ..instance("a") });
    let joined = world.joined(request).expect("joined");
    assert_eq!((joined.skip_assignment, joined.members.len()), (true, 2));
    assert_eq!(joined.leader, joined.member_id);
    // A client that does not know of that is not told that it leads.
    let request = world.join(instance("a"));
    let again = world.joined(request).expect("joined");
    assert_eq!((again.skip_assignment, again.members.len()), (false, 0));
    assert_eq!(again.leader, joined.member_id);
    assert_ne!(again.leader, old);
}

#[test]
fn a_restart_that_changes_the_vote_rebalances() {
    let mut world = World::new();
    let (leader, _) = stable_pair(&mut world);
    let request = world.join(JoinGroup { protocols: vec![protocol("roundrobin", "t")], ..instance("b") });
    assert!(world.is_waiting(request));
    assert_eq!(world.heartbeat_as(&leader, Some("a"), 2), Err(ErrorCode::RebalanceInProgress));
    let again = world.join(JoinGroup { member_id: leader, ..instance("a") });
    assert_eq!(world.joined(again).expect("leader").protocol_name.as_deref(), Some("roundrobin"));
    assert_eq!(world.joined(request).expect("restarted").generation_id, 3);
}

#[test]
fn two_processes_with_one_instance_id_fence_each_other() {
    let mut world = World::new();
    let (leader, _) = stable_pair(&mut world);
    // A rebalance: the first process waits, the second takes its place.
    let begun = world.join(JoinGroup { member_id: leader, ..instance("a") });
    let first = world.join(instance("b"));
    let first_id = world.joined(first);
    // The leader was the only one missing besides `b`, so the rebalance has completed with the first process.
    let first_id = first_id.expect("first process").member_id;
    world.joined(begun).expect("leader");
    let second = world.join(instance("b"));
    assert!(world.is_waiting(second), "in the middle of syncing a new self rebalances");
    let sync = world.sync_as(&first_id, "b", 3, &[]);
    assert_eq!(world.synced(sync), Err(ErrorCode::FencedInstanceId));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_until_its_session_ends() {
    let mut world = World::new();
    let (leader, away) = stable_pair(&mut world);
    let again = world.join(JoinGroup { member_id: leader.clone(), ..instance("a") });
    // The rebalance waits for the one that is away for its session, and then goes on without it.
    assert!(world.is_waiting(again));
    world.pass(9_000);
    assert!(world.is_waiting(again));
    world.pass(1_000);
    let joined = world.joined(again).expect("leader");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(world.heartbeat_as(&away, Some("b"), 3), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn an_operator_removes_static_members_by_their_instance_ids() {
    let mut world = World::new();
    let (_, second) = stable_pair(&mut world);
    let left = world.leave(&[("", Some("a")), ("", Some("nobody")), (&second, Some("b"))]).expect("served");
    let of = |member_id: &str, instance: &str, error| LeftMember {
        member_id: member_id.to_owned(),
        group_instance_id: Some(instance.to_owned()),
        error,
    };
    let expected =
        [of("", "a", ErrorCode::None), of("", "nobody", ErrorCode::UnknownMemberId), of(&second, "b", ErrorCode::None)];
    assert_eq!(left, expected);
    assert_eq!(world.state(), "Empty");
}
