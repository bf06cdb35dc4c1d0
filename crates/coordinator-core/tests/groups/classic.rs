//! Dynamic members of the classic protocol.

use base_types::ErrorCode;
use bytes::Bytes;
use coordinator_core::{Event, Settings};
use peer_api::groups::{GroupRequest, GroupResponse, JoinGroup, SyncGroup};

use crate::world::{GROUP, World, consumer, protocol};

#[test]
fn a_member_joins_in_two_steps_and_is_assigned_by_itself() {
    let mut world = World::new();
    let first = world.join(JoinGroup { requires_known_member_id: true, ..consumer() });
    let refused = world.joined(first).expect_err("an id first");
    assert_eq!(refused.error, ErrorCode::MemberIdRequired);
    assert!(refused.member_id.starts_with("client-"), "{}", refused.member_id);
    assert_eq!(refused.member_id.len(), "client-".len() + 36);
    assert_eq!(world.state(), "Empty");

    let second = world.join(JoinGroup { member_id: refused.member_id.clone(), ..consumer() });
    world.pass(0);
    let joined = world.joined(second).expect("joined");
    assert_eq!((joined.generation_id, joined.protocol_name.as_deref()), (1, Some("range")));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!((&joined.leader, &joined.member_id), (&refused.member_id, &refused.member_id));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, protocol("range", "t").metadata);
    assert_eq!(world.state(), "CompletingRebalance");

    let sync = world.sync(&refused.member_id, 1, &[(&refused.member_id, "all")]);
    assert_eq!(world.synced(sync).expect("synced").assignment, Bytes::from_static(b"all"));
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.heartbeat(&refused.member_id, 1), Ok(()));
}

#[test]
fn old_clients_join_in_one_step() {
    let mut world = World::new();
    let request = world.join(consumer());
    world.pass(0);
    assert!(world.joined(request).expect("joined").member_id.starts_with("client-"));
}

#[test]
fn a_second_member_makes_the_first_one_join_again() {
    let mut world = World::new();
    let (first, generation) = world.stable_member();
    let (second, waits) = world.join_new(consumer());
    assert!(world.is_waiting(waits));
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.heartbeat(&first, generation), Err(ErrorCode::RebalanceInProgress));

    let again = world.join(JoinGroup { member_id: first.clone(), ..consumer() });
    let (leader, follower) = (world.joined(again).expect("leader"), world.joined(waits).expect("follower"));
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!((leader.leader.as_str(), follower.leader.as_str()), (first.as_str(), first.as_str()));

    // The follower syncs first and waits for the leader.
    let follower = world.sync(&second, 2, &[]);
    assert!(world.is_waiting(follower));
    let leader = world.sync(&first, 2, &[(&first, "one"), (&second, "two")]);
    assert_eq!(world.synced(leader).expect("leader").assignment, Bytes::from_static(b"one"));
    assert_eq!(world.synced(follower).expect("follower").assignment, Bytes::from_static(b"two"));
    // Who asks again in the same generation is told again.
    let again = world.sync(&second, 2, &[]);
    assert_eq!(world.synced(again).expect("again").assignment, Bytes::from_static(b"two"));
}

#[test]
fn an_assignment_is_told_only_once_it_is_in_the_log() {
    let mut world = World::new();
    let (member, request) = world.join_new(consumer());
    world.pass(0);
    world.joined(request).expect("joined");
    world.holding = true;
    let sync = world.sync(&member, 1, &[(&member, "all")]);
    assert!(world.is_waiting(sync));
    world.commit();
    world.synced(sync).expect("synced");
}

#[test]
fn who_is_not_named_by_the_leader_is_assigned_nothing() {
    let mut world = World::new();
    let (member, request) = world.join_new(consumer());
    world.pass(0);
    world.joined(request).expect("joined");
    let sync = world.sync(&member, 1, &[("somebody else", "all")]);
    assert_eq!(world.synced(sync).expect("synced").assignment, Bytes::new());
}

#[test]
fn the_first_rebalance_waits_and_waits_longer_while_members_come() {
    let mut world = World::with(Settings { group_initial_rebalance_delay_ms: 3_000, ..Settings::default() });
    let (_, first) = world.join_new(consumer());
    world.pass(2_000);
    let (_, second) = world.join_new(consumer());
    world.pass(1_500);
    assert!(world.is_waiting(first), "a member came during the delay, so there is another one");
    world.pass(2_500);
    assert_eq!(world.joined(first).expect("first").generation_id, 1);
    assert_eq!(world.joined(second).expect("second").generation_id, 1);
}

#[test]
fn the_first_rebalance_ends_with_the_rebalance_time_out_however_many_come() {
    let settings = Settings { group_initial_rebalance_delay_ms: 3_000, ..Settings::default() };
    let mut world = World::with(settings);
    let join = || JoinGroup { rebalance_timeout_ms: 7_000, session_timeout_ms: 30_000, ..consumer() };
    let (_, first) = world.join_new(join());
    let mut waited = 0;
    while world.is_waiting(first) {
        world.join_new(join());
        world.pass(500);
        waited += 500;
        assert!(waited <= 7_500, "still waiting after {waited} ms");
    }
    assert!(waited >= 6_500, "only {waited} ms");
}

/// A new member that waits is given up after five minutes.
#[test]
fn the_first_rebalance_is_no_shorter_for_a_member_that_goes_away_meanwhile() {
    let mut world = World::with(Settings { group_initial_rebalance_delay_ms: 400_000, ..Settings::default() });
    world.join_new(consumer());
    world.pass(200_000);
    let (_, late) = world.join_new(consumer());
    world.pass(199_000);
    assert!(world.is_waiting(late));
    world.pass(1_000);
    assert_eq!(world.joined(late).expect("late").members.len(), 1);
}

#[test]
fn the_protocol_is_voted_for_among_those_that_all_support() {
    let mut world = World::with(Settings { group_initial_rebalance_delay_ms: 1_000, ..Settings::default() });
    let prefer =
        |names: &[&str]| JoinGroup { protocols: names.iter().map(|name| protocol(name, "t")).collect(), ..consumer() };
    let (_, a) = world.join_new(prefer(&["mine", "range", "sticky"]));
    let (_, b) = world.join_new(prefer(&["sticky", "range"]));
    let (_, c) = world.join_new(prefer(&["sticky", "range"]));
    world.pass(5_000);
    for request in [a, b, c] {
        assert_eq!(world.joined(request).expect("joined").protocol_name.as_deref(), Some("sticky"));
    }
    // Whoever supports none of what all support is refused.
    let stranger = world.join(prefer(&["mine"]));
    assert_eq!(world.joined(stranger).expect_err("stranger").error, ErrorCode::InconsistentGroupProtocol);
    let other_type = world.join(JoinGroup { protocol_type: "connect".to_owned(), ..consumer() });
    assert_eq!(world.joined(other_type).expect_err("other type").error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn who_names_a_protocol_twice_votes_once() {
    let mut world = World::new();
    let (first, _) = world.stable_member();
    let protocols = vec![protocol("range", "t"), protocol("range", "t")];
    let (_, waits) = world.join_new(JoinGroup { protocols, ..consumer() });
    let again = world.join(JoinGroup { member_id: first, ..consumer() });
    assert_eq!(world.joined(again).expect("first").protocol_name.as_deref(), Some("range"));
    world.joined(waits).expect("second");
}

#[test]
fn any_protocol_type_is_coordinated() {
    let mut world = World::new();
    let connect = JoinGroup {
        protocol_type: "connect".to_owned(),
        protocols: vec![peer_api::groups::JoinProtocol {
            name: "sessioned".to_owned(),
            metadata: Bytes::from_static(b"\xff\xfeopaque"),
        }],
        ..consumer()
    };
    let (member, request) = world.join_new(connect);
    world.pass(0);
    let joined = world.joined(request).expect("joined");
    assert_eq!(joined.members[0].metadata, Bytes::from_static(b"\xff\xfeopaque"));
    let sync = world.sync(&member, 1, &[(&member, "task")]);
    assert_eq!(world.synced(sync).expect("synced").protocol_type.as_deref(), Some("connect"));
    // Without a type, or without a protocol, nobody can begin a group.
    world.fail_over();
    for join in [
        JoinGroup { group_id: "other".to_owned(), protocol_type: String::new(), ..consumer() },
        JoinGroup { group_id: "other".to_owned(), protocols: Vec::new(), ..consumer() },
    ] {
        let request = world.join(join);
        assert_eq!(world.joined(request).expect_err("refused").error, ErrorCode::InconsistentGroupProtocol);
    }
}

#[test]
fn bad_joins_are_refused_with_kafkas_codes() {
    let mut world = World::new();
    let cases = [
        (JoinGroup { group_id: String::new(), ..consumer() }, ErrorCode::InvalidGroupId),
        (JoinGroup { session_timeout_ms: 5_999, ..consumer() }, ErrorCode::InvalidSessionTimeout),
        (JoinGroup { session_timeout_ms: 1_800_001, ..consumer() }, ErrorCode::InvalidSessionTimeout),
        (JoinGroup { member_id: "ghost".to_owned(), ..consumer() }, ErrorCode::UnknownMemberId),
    ];
    for (join, error) in cases {
        let member_id = join.member_id.clone();
        let request = world.join(join);
        let refused = world.joined(request).expect_err("refused");
        assert_eq!((refused.error, refused.member_id), (error, member_id));
    }
    world.stable_member();
    let ghost = world.join(JoinGroup { member_id: "ghost".to_owned(), ..consumer() });
    assert_eq!(world.joined(ghost).expect_err("ghost").error, ErrorCode::UnknownMemberId);
}

#[test]
fn heartbeats_and_syncs_of_strangers_and_of_old_generations_are_refused() {
    let mut world = World::new();
    assert_eq!(world.heartbeat("ghost", 1), Err(ErrorCode::UnknownMemberId));
    let ghost = world.sync("ghost", 1, &[]);
    assert_eq!(world.synced(ghost), Err(ErrorCode::UnknownMemberId));
    let (member, generation) = world.stable_member();
    assert_eq!(world.heartbeat("ghost", generation), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.heartbeat(&member, generation + 1), Err(ErrorCode::IllegalGeneration));
    let old = world.sync(&member, generation - 1, &[]);
    assert_eq!(world.synced(old), Err(ErrorCode::IllegalGeneration));
    let sync = |protocol_type: Option<&str>, protocol_name: Option<&str>| SyncGroup {
        group_id: GROUP.to_owned(),
        generation_id: generation,
        member_id: member.clone(),
        protocol_type: protocol_type.map(str::to_owned),
        protocol_name: protocol_name.map(str::to_owned),
        ..SyncGroup::default()
    };
    for (sync, expected) in [
        (sync(Some("connect"), None), Some(ErrorCode::InconsistentGroupProtocol)),
        (sync(None, Some("sticky")), Some(ErrorCode::InconsistentGroupProtocol)),
        (sync(Some("consumer"), Some("range")), None),
    ] {
        let request = world.ask(GroupRequest::SyncGroup(sync));
        assert_eq!(world.synced(request).err(), expected);
    }
    for body in [
        GroupRequest::SyncGroup(SyncGroup::default()),
        GroupRequest::Heartbeat(peer_api::groups::Heartbeat::default()),
        GroupRequest::LeaveGroup(peer_api::groups::LeaveGroup::default()),
    ] {
        let request = world.ask(body);
        let code = match world.answer(request).expect("served") {
            GroupResponse::SyncGroup(result) => result.err(),
            GroupResponse::Heartbeat(result) => result.err(),
            GroupResponse::LeaveGroup(result) => result.err(),
            other => panic!("{other:?}"),
        };
        assert_eq!(code, Some(ErrorCode::InvalidGroupId));
    }
}

#[test]
fn a_member_that_is_not_heard_of_is_removed_and_the_others_rebalance() {
    let mut world = World::new();
    let (first, second) = world.two_joined();
    let sync = world.sync(&second, 2, &[]);
    let leader = world.sync(&first, 2, &[]);
    world.synced(leader).expect("first");
    world.synced(sync).expect("second");
    for _ in 0..3 {
        world.pass(4_000);
        let told = world.heartbeat(&second, 2);
        assert!(matches!(told, Ok(()) | Err(ErrorCode::RebalanceInProgress)), "{told:?}");
    }
    // The first was silent for 12 s of its 10 s session.
    assert_eq!(world.heartbeat(&first, 2), Err(ErrorCode::UnknownMemberId));
    let again = world.join(JoinGroup { member_id: second.clone(), ..consumer() });
    let joined = world.joined(again).expect("alone");
    assert_eq!((joined.leader, joined.generation_id), (second, 3));
}

#[test]
fn the_last_member_to_vanish_leaves_an_empty_group_of_the_next_generation() {
    let mut world = World::new();
    let (_, generation) = world.stable_member();
    world.pass(10_000);
    assert_eq!(world.state(), "Empty");
    let (_, next) = world.stable_member();
    assert_eq!(next, generation + 2);
}

#[test]
fn who_waits_for_others_lives() {
    let mut world = World::new();
    let (first, generation) = world.stable_member();
    let (_, waits) = world.join_new(consumer());
    // The first heartbeats and does not join: the second waits for the rebalance time-out, longer than its session.
    for _ in 0..14 {
        world.pass(4_000);
        assert_eq!(world.heartbeat(&first, generation), Err(ErrorCode::RebalanceInProgress));
        assert!(world.is_waiting(waits));
    }
    world.pass(5_000);
    let joined = world.joined(waits).expect("joined");
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    assert_eq!(world.heartbeat(&first, generation), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_new_member_waits_for_five_minutes_at_most() {
    let mut world = World::new();
    let patient = JoinGroup { rebalance_timeout_ms: 3_600_000, ..consumer() };
    let (first, request) = world.join_new(patient.clone());
    world.pass(0);
    world.joined(request).expect("joined");
    let sync = world.sync(&first, 1, &[]);
    world.synced(sync).expect("synced");
    let (_, waits) = world.join_new(patient);
    for _ in 0..75 {
        world.pass(4_000);
        let _ = world.heartbeat(&first, 1);
    }
    let refused = world.joined(waits).expect_err("given up");
    assert_eq!((refused.error, refused.member_id.as_str()), (ErrorCode::UnknownMemberId, ""));
}

#[test]
fn who_was_told_its_id_and_does_not_come_back_is_forgotten() {
    let mut world = World::new();
    let (first, generation) = world.stable_member();
    let pending = world.join(JoinGroup { requires_known_member_id: true, ..consumer() });
    let pending = world.joined(pending).expect_err("an id").member_id;
    // A rebalance waits for it as long as its session would last.
    let again = world.join(JoinGroup { member_id: first.clone(), ..consumer() });
    assert!(world.is_waiting(again));
    world.pass(9_999);
    assert!(world.is_waiting(again));
    world.pass(1);
    assert_eq!(world.joined(again).expect("alone").generation_id, generation + 1);
    let late = world.join(JoinGroup { member_id: pending, ..consumer() });
    assert_eq!(world.joined(late).expect_err("late").error, ErrorCode::UnknownMemberId);
}

#[test]
fn who_joined_and_does_not_sync_in_time_is_removed() {
    let mut world = World::new();
    let (first, second) = world.two_joined();
    let leader = world.sync(&first, 2, &[]);
    world.synced(leader).expect("first");
    // The second heartbeats all the time and never asks for its assignment.
    for _ in 0..14 {
        world.pass(4_000);
        assert_eq!(world.heartbeat(&second, 2), Ok(()));
        assert_eq!(world.heartbeat(&first, 2), Ok(()));
    }
    world.pass(4_000);
    assert_eq!(world.heartbeat(&second, 2), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.heartbeat(&first, 2), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_rebalance_in_the_middle_of_syncing_sends_everyone_back() {
    let mut world = World::new();
    let (first, second) = world.two_joined();
    let sync = world.sync(&second, 2, &[]);
    let (_, third) = world.join_new(consumer());
    assert_eq!(world.synced(sync), Err(ErrorCode::RebalanceInProgress));
    let sync = world.sync(&first, 2, &[]);
    assert_eq!(world.synced(sync), Err(ErrorCode::RebalanceInProgress));
    assert!(world.is_waiting(third));
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_what_is() {
    let mut world = World::new();
    let (first, second) = world.two_joined();
    // Between join and sync even the leader is: its answer may have been lost.
    let lost = world.join(JoinGroup { member_id: first.clone(), ..consumer() });
    assert_eq!(world.joined(lost).expect("as it is").members.len(), 2);
    let leader = world.sync(&first, 2, &[]);
    world.synced(leader).expect("first");
    let follower = world.sync(&second, 2, &[]);
    world.synced(follower).expect("second");

    let unchanged = world.join(JoinGroup { member_id: second.clone(), ..consumer() });
    let joined = world.joined(unchanged).expect("as it is");
    assert_eq!((joined.generation_id, joined.members.len()), (2, 0));
    assert_eq!(world.state(), "Stable");
    // With another subscription it wants another assignment.
    let protocols = vec![protocol("range", "u"), protocol("roundrobin", "u")];
    let changed = world.join(JoinGroup { member_id: second, protocols, ..consumer() });
    assert!(world.is_waiting(changed));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_leader_that_joins_again_begins_a_rebalance() {
    let mut world = World::new();
    let (leader, generation) = world.stable_member();
    let again = world.join(JoinGroup { member_id: leader, ..consumer() });
    assert_eq!(world.joined(again).expect("again").generation_id, generation + 1);
}

#[test]
fn a_group_has_no_more_members_than_it_may() {
    let mut world =
        World::with(Settings { group_size_max: 2, group_initial_rebalance_delay_ms: 0, ..Settings::default() });
    world.two_joined();
    let third = world.join(consumer());
    let refused = world.joined(third).expect_err("full");
    assert_eq!((refused.error, refused.member_id.as_str()), (ErrorCode::GroupMaxSizeReached, ""));
}

#[test]
fn a_join_that_is_asked_again_answers_the_first_asking() {
    let mut world = World::new();
    world.stable_member();
    let (second, waits) = world.join_new(consumer());
    let again = world.join(JoinGroup { member_id: second, ..consumer() });
    assert_eq!(world.joined(waits).expect_err("superseded").error, ErrorCode::RebalanceInProgress);
    assert!(world.is_waiting(again));
}

#[test]
fn members_leave_in_batches_each_with_its_own_answer() {
    let mut world = World::new();
    let left = world.leave(&[("ghost", None), ("", Some("nobody"))]).expect("served");
    assert!(left.iter().all(|member| member.error == ErrorCode::UnknownMemberId), "{left:?}");
    let (first, generation) = world.stable_member();
    let (second, waits) = world.join_new(consumer());
    let pending = world.join(JoinGroup { requires_known_member_id: true, ..consumer() });
    let pending = world.joined(pending).expect_err("an id").member_id;
    let left = world.leave(&[(&second, None), ("ghost", None), (&pending, None), ("", Some("nobody"))]);
    let codes: Vec<ErrorCode> = left.expect("served").iter().map(|member| member.error).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(world.joined(waits).expect_err("left").error, ErrorCode::UnknownMemberId);
    let again = world.join(JoinGroup { member_id: first.clone(), ..consumer() });
    assert_eq!(world.joined(again).expect("alone").generation_id, generation + 1);

    world.leave(&[(&first, None)]).expect("served");
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.heartbeat(&first, generation + 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_stable_group_survives_its_coordinator() {
    let mut world = World::new();
    let (member, generation) = world.stable_member();
    world.pass(9_000);
    world.fail_over();
    let group = world.describe().expect("known");
    assert_eq!((group.state.name(), group.protocol_name.as_str()), ("Stable", "range"));
    assert_eq!(group.members[0].assignment, Bytes::from_static(b"all"));
    assert_eq!(group.members[0].client_host, "/127.0.0.1");
    // The session begins anew with the new coordinator.
    world.pass(9_000);
    assert_eq!(world.heartbeat(&member, generation), Ok(()));
    world.pass(10_000);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_group_that_was_rebalancing_is_again_what_it_was_before() {
    let mut world = World::new();
    let (first, generation) = world.stable_member();
    let (_, waits) = world.join_new(consumer());
    world.fail_over();
    assert_eq!(world.answer(waits).expect_err("lost").code(), ErrorCode::NotCoordinator);
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.heartbeat(&first, generation), Ok(()));
}

#[test]
fn what_waits_when_the_leadership_goes_is_told_so() {
    let mut world = World::new();
    let (_, waits) = world.join_new(consumer());
    world.event(Event::Unloaded);
    assert_eq!(world.answer(waits).expect_err("lost").code(), ErrorCode::NotCoordinator);
    let late = world.join(consumer());
    assert!(world.answer(late).expect_err("refused").is_definite());
}
