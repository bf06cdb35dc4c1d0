//! Groups that change between the protocols while they live.

use base_types::{ErrorCode, PartitionIndex, TopicId, TopicPartition};
use bytes::Bytes;
use coordinator_core::Settings;
use peer_api::groups::{GroupKind, GroupRequest, GroupResponse, GroupState, JoinProtocol, ListedGroup};

use super::classic::{ClassicClient, Stage};
use super::world::{Client, Owned, World};

fn settings() -> Settings {
    Settings { consumer_assignment_interval_ms: 0, group_initial_rebalance_delay_ms: 0, ..Settings::default() }
}

fn world_with(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.add_topic("orders", 6);
    world
}

fn orders(count: i32) -> Owned {
    let topic = TopicId([1; 16]);
    (0..count).map(|index| TopicPartition { topic, partition: PartitionIndex(index) }).collect()
}

fn listed(world: &mut World) -> ListedGroup {
    world.listed().expect("the group is there")
}

/// Everyone has a few turns, as in a life of heartbeats. No partition has two owners on the way.
fn settle(world: &mut World, classic: &mut [ClassicClient], modern: &mut [Client]) {
    for _ in 0..8 {
        for chosen in 0..classic.len() {
            if classic[chosen].stage == Stage::Stable {
                let _ = classic[chosen].heartbeat(world);
            }
            classic[chosen].go_on(world);
            check(classic, modern);
        }
        for chosen in 0..modern.len() {
            match world.heartbeat(modern[chosen].to_say()) {
                Ok(answer) => modern[chosen].hear(&answer),
                Err(refused) => modern[chosen].be_refused(&refused),
            }
            check(classic, modern);
        }
        world.pass(500);
    }
}

fn check(classic: &[ClassicClient], modern: &[Client]) {
    let all: Vec<&Owned> =
        classic.iter().map(|client| &client.owned).chain(modern.iter().map(|client| &client.owned)).collect();
    let together: Owned = all.iter().flat_map(|owned| owned.iter().copied()).collect();
    assert_eq!(together.len(), all.iter().map(|owned| owned.len()).sum::<usize>(), "G1: {all:?}");
}

fn everything(classic: &[ClassicClient], modern: &[Client]) -> Owned {
    let classic = classic.iter().flat_map(|client| client.owned.iter().copied());
    classic.chain(modern.iter().flat_map(|client| client.owned.iter().copied())).collect()
}

fn two_classic(world: &mut World, is_cooperative: bool) -> Vec<ClassicClient> {
    let client = ClassicClient { is_cooperative, ..ClassicClient::new(&["orders"]) };
    let mut classic = vec![client.clone(), client];
    settle(world, &mut classic, &mut []);
    assert_eq!((listed(world).kind, listed(world).state), (GroupKind::Classic, GroupState::Stable));
    assert_eq!(everything(&classic, &[]), orders(6));
    classic
}

#[test]
fn a_group_goes_over_with_the_first_member_of_the_new_protocol_and_back_with_the_last() {
    for is_cooperative in [false, true] {
        let mut world = world_with(settings());
        let mut classic = two_classic(&mut world, is_cooperative);
        let generation = classic[0].generation;

        let mut modern = vec![Client::new("new", &["orders"])];
        settle(&mut world, &mut classic, &mut modern);
        assert_eq!((listed(&mut world).kind, listed(&mut world).state), (GroupKind::Consumer, GroupState::Stable));
        assert_eq!(everything(&classic, &modern), orders(6));
        assert!(classic.iter().all(|client| client.owned.len() == 2 && client.generation > generation));
        assert_eq!(modern[0].owned.len(), 2);
        let group = world.describe().expect("the group is there");
        assert_eq!(group.members.iter().filter(|member| member.is_classic).count(), 2);

        let mut last = modern.remove(0).to_say();
        last.member_epoch = -1;
        world.heartbeat(last).expect("it may leave");
        assert_eq!(listed(&mut world).kind, GroupKind::Classic);
        assert_eq!(classic[0].heartbeat(&mut world), Err(ErrorCode::RebalanceInProgress), "nobody is thrown out");
        settle(&mut world, &mut classic, &mut []);
        assert_eq!(listed(&mut world).state, GroupState::Stable);
        assert_eq!(everything(&classic, &[]), orders(6));
        assert!(classic.iter().all(|client| client.owned.len() == 3));
    }
}

#[test]
fn the_log_has_the_group_in_the_protocol_it_has_come_to() {
    let mut world = world_with(settings());
    let mut classic = two_classic(&mut world, true);
    let mut modern = vec![Client::new("new", &["orders"])];
    let answer = world.heartbeat(modern[0].to_say()).expect("it is taken");
    modern[0].hear(&answer);
    let before = world.describe();
    world.reload();
    assert_eq!(world.describe(), before);
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(everything(&classic, &modern), orders(6));

    let mut last = modern.remove(0).to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    world.reload();
    assert_eq!(listed(&mut world).kind, GroupKind::Classic);
    settle(&mut world, &mut classic, &mut []);
    assert_eq!(everything(&classic, &[]), orders(6), "the rebalance that was begun is not forgotten");
}

#[test]
fn a_rebalance_in_which_the_group_goes_over_is_told_to_those_who_wait_and_nothing_is_owned_twice() {
    let mut world = world_with(settings());
    let mut classic = two_classic(&mut world, true);
    // One joins again and waits for the other.
    classic[0].names.push("bills".to_owned());
    classic[0].stage = Stage::MustJoin;
    classic[0].go_on(&mut world);
    assert!(matches!(classic[0].stage, Stage::Joins(_)));
    let mut modern = vec![Client::new("new", &["orders"])];
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(everything(&classic, &modern), orders(6));
}

#[test]
fn what_cooperative_members_hold_while_they_join_is_not_given_to_others() {
    let mut world = world_with(settings());
    let mut classic = two_classic(&mut world, true);
    // Everyone has joined, nobody has synced, and then one joins with something else: the last assignment is forgotten.
    for client in &mut classic {
        client.names.push("bills".to_owned());
        client.stage = Stage::MustJoin;
        client.join(&mut world);
    }
    classic[0].names.push("letters".to_owned());
    classic[0].join(&mut world);
    assert_eq!(everything(&classic, &[]), orders(6), "they hold what they had");
    let mut modern = vec![Client::new("new", &["orders"])];
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(everything(&classic, &modern), orders(6));
}

#[test]
fn a_group_that_may_not_or_cannot_go_over_stays() {
    let mut world = world_with(Settings { consumer_migration_policy: "downgrade".to_owned(), ..settings() });
    let mut classic = two_classic(&mut world, false);
    let refused = world.heartbeat(Client::new("new", &["orders"]).to_say()).expect_err("it is refused");
    assert_eq!(refused.error, ErrorCode::GroupIdNotFound);
    assert_eq!(classic[0].heartbeat(&mut world), Ok(()), "the group is not troubled");

    // Connect's workers join groups, too.
    let mut world = world_with(settings());
    let mut join = ClassicClient::new(&[]).to_join();
    join.protocol_type = "connect".to_owned();
    world.send(GroupRequest::JoinGroup(join));
    let refused = world.heartbeat(Client::new("new", &["orders"]).to_say()).expect_err("it is refused");
    assert_eq!(refused.error, ErrorCode::GroupIdNotFound);

    // Says it is a consumer, and is none.
    let mut world = world_with(settings());
    let mut join = ClassicClient::new(&[]).to_join();
    join.protocols = vec![JoinProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"nonsense") }];
    world.send(GroupRequest::JoinGroup(join));
    let refused = world.heartbeat(Client::new("new", &["orders"]).to_say()).expect_err("it is refused");
    assert_eq!(refused.error, ErrorCode::GroupIdNotFound);
    assert_eq!(listed(&mut world).kind, GroupKind::Classic);
}

#[test]
fn a_group_that_may_not_go_back_stays_with_its_classic_members() {
    let mut world = world_with(Settings { consumer_migration_policy: "upgrade".to_owned(), ..settings() });
    let mut classic = two_classic(&mut world, false);
    let mut modern = vec![Client::new("new", &["orders"])];
    settle(&mut world, &mut classic, &mut modern);
    let mut last = modern.remove(0).to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    assert_eq!(listed(&mut world).kind, GroupKind::Consumer);
}

/// A group of the consumer protocol with one member of each.
fn mixed(world: &mut World) -> (ClassicClient, Client) {
    let mut modern = vec![Client::new("new", &["orders"])];
    settle(world, &mut [], &mut modern);
    let mut classic = vec![ClassicClient::new(&["orders"])];
    settle(world, &mut classic, &mut modern);
    assert_eq!((classic[0].owned.len(), modern[0].owned.len()), (3, 3));
    (classic.remove(0), modern.remove(0))
}

#[test]
fn a_classic_member_joins_a_group_of_the_new_protocol_by_its_own_rules() {
    let mut world = world_with(settings());
    let (mut classic, _modern) = mixed(&mut world);
    let refusal = |world: &mut World, join| match world.ask(GroupRequest::JoinGroup(join)) {
        GroupResponse::JoinGroup(Err(refused)) => (refused.error, refused.member_id),
        other => panic!("{other:?}"),
    };
    let mut join = ClassicClient::new(&["orders"]).to_join();
    join.requires_known_member_id = true;
    join.protocols[0].metadata = super::classic::subscription(&["orders".to_owned()], &Owned::new(), &world.image);
    let (error, member_id) = refusal(&mut world, join.clone());
    assert_eq!((error, member_id.len()), (ErrorCode::MemberIdRequired, 22));
    let mut other = join.clone();
    other.protocols[0].name = "sticky".to_owned();
    assert_eq!(refusal(&mut world, other).0, ErrorCode::InconsistentGroupProtocol);
    let mut other = join.clone();
    other.protocol_type = "connect".to_owned();
    assert_eq!(refusal(&mut world, other), (ErrorCode::InconsistentGroupProtocol, String::new()));
    let mut other = join;
    other.protocols[0].metadata = Bytes::from_static(b"nonsense");
    other.member_id = member_id;
    assert_eq!(refusal(&mut world, other).0, ErrorCode::InconsistentGroupProtocol);

    classic.generation -= 1;
    assert_eq!(classic.heartbeat(&mut world), Err(ErrorCode::IllegalGeneration));
    classic.member_id = "somebody".to_owned();
    assert_eq!(classic.heartbeat(&mut world), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_classic_member_that_is_not_heard_of_is_put_out_after_its_own_session_time_out() {
    let mut world = world_with(settings());
    let (_, mut modern) = mixed(&mut world);
    for _ in 0..3 {
        world.pass(4_000);
        let answer = world.heartbeat(modern.to_say()).expect("it is heard of");
        modern.hear(&answer);
    }
    assert_eq!(modern.owned, orders(6));
}

#[test]
fn a_classic_member_that_is_told_to_join_again_and_only_heartbeats_is_put_out() {
    let mut world = world_with(settings());
    let (mut classic, mut modern) = mixed(&mut world);
    classic.rebalance_timeout_ms = 20_000;
    classic.stage = Stage::MustJoin;
    classic.go_on(&mut world);
    settle(&mut world, std::slice::from_mut(&mut classic), std::slice::from_mut(&mut modern));
    world.heartbeat(Client::new("third", &["orders"]).to_say()).expect("it is taken");
    for _ in 0..5 {
        assert_eq!(classic.heartbeat(&mut world), Err(ErrorCode::RebalanceInProgress));
        world.pass(4_000);
    }
    assert_eq!(classic.heartbeat(&mut world), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_classic_member_that_joins_and_never_syncs_is_put_out() {
    let mut world = world_with(settings());
    let (mut classic, _modern) = mixed(&mut world);
    classic.rebalance_timeout_ms = 20_000;
    let mut join = classic.to_join();
    join.protocols[0].metadata = super::classic::subscription(&classic.names, &Owned::new(), &world.image);
    let GroupResponse::JoinGroup(Ok(joined)) = world.ask(GroupRequest::JoinGroup(join)) else { panic!() };
    classic.generation = joined.generation_id;
    for _ in 0..5 {
        assert_eq!(classic.heartbeat(&mut world), Ok(()));
        world.pass(4_000);
    }
    assert_eq!(classic.heartbeat(&mut world), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_static_member_that_changes_its_protocol_finds_what_its_old_self_had() {
    let mut world = world_with(settings());
    let mut classic = vec![ClassicClient::new(&["orders"]), ClassicClient::new(&["orders"])];
    classic[0].instance_id = Some("desk".to_owned());
    settle(&mut world, &mut classic, &mut []);
    let old = classic.remove(0);
    let mut modern = vec![Client { instance_id: Some("desk".to_owned()), ..Client::new("new", &["orders"]) }];
    let answer = world.heartbeat(modern[0].to_say()).expect("it takes the place of its old self");
    modern[0].hear(&answer);
    assert_eq!(modern[0].owned, old.owned);
    settle(&mut world, &mut classic, &mut modern);
    assert_eq!(everything(&classic, &modern), orders(6));

    // And back again.
    let gone = modern.remove(0);
    let back = ClassicClient { instance_id: Some("desk".to_owned()), ..ClassicClient::new(&["orders"]) };
    classic.push(back);
    settle(&mut world, &mut classic, &mut []);
    assert_eq!(listed(&mut world).kind, GroupKind::Classic);
    assert_eq!(everything(&classic, &[]), orders(6));
    let refused = world.heartbeat(gone.to_say()).expect_err("its time is over");
    assert_eq!(refused.error, ErrorCode::GroupIdNotFound);
}
