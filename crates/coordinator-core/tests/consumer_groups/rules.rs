//! What the protocol says, rule by rule.

use base_types::{ErrorCode, PartitionIndex, TopicId, TopicPartition};
use coordinator_core::Settings;
use peer_api::groups::{ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupState, OffsetCommit};

use super::world::{Client, GROUP, Owned, World, from_topics, to_topics};

/// No waiting between two targets.
fn settings() -> Settings {
    Settings { consumer_assignment_interval_ms: 0, ..Settings::default() }
}

fn world() -> World {
    let mut world = World::new(settings());
    world.add_topic("orders", 4);
    world
}

/// One heartbeat, heard by the client. Its answer.
fn beat(world: &mut World, client: &mut Client) -> ConsumerGroupHeartbeatAnswer {
    let answer = world.heartbeat(client.to_say()).unwrap_or_else(|refused| panic!("{refused:?}"));
    client.hear(&answer);
    answer
}

fn refusal(world: &mut World, heartbeat: ConsumerGroupHeartbeat) -> ErrorCode {
    world.heartbeat(heartbeat).expect_err("it is refused").error
}

fn orders(partitions: &[i32]) -> Owned {
    let topic = TopicId([1; 16]);
    partitions.iter().map(|&index| TopicPartition { topic, partition: PartitionIndex(index) }).collect()
}

/// A group with these members, each of whom has what is meant for it.
fn settled(world: &mut World, ids: &[&str]) -> Vec<Client> {
    let mut clients: Vec<Client> = ids.iter().map(|id| Client::new(id, &["orders"])).collect();
    for _ in 0..4 {
        clients.iter_mut().for_each(|client| drop(beat(world, client)));
    }
    assert_eq!(world.describe().expect("the group is there").state, GroupState::Stable);
    clients
}

// - joining -

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut world = world();
    let mut client = Client::new("one", &["orders"]);
    let answer = beat(&mut world, &mut client);
    assert_eq!((answer.member_id.as_deref(), answer.member_epoch), (Some("one"), 2));
    assert_eq!(client.owned, orders(&[0, 1, 2, 3]));
    let group = world.describe().expect("the group is there");
    assert_eq!((group.state, group.group_epoch, group.assignment_epoch), (GroupState::Stable, 2, 2));
    assert_eq!(group.assignor_name, "uniform");
    let member = &group.members[0];
    assert_eq!((member.client_id.as_str(), member.client_host.as_str()), ("client", "/10.0.0.1"));
    assert_eq!((member.assignment.len(), member.target_assignment.len(), member.is_classic), (1, 1, false));
}

#[test]
fn a_first_heartbeat_must_say_everything() {
    let mut world = world();
    let whole = Client::new("one", &["orders"]).to_say();
    let broken: [fn(&mut ConsumerGroupHeartbeat); 12] = [
        |heartbeat| heartbeat.group_id = String::new(),
        |heartbeat| heartbeat.group_id = " ".to_owned(),
        |heartbeat| heartbeat.member_id = String::new(),
        |heartbeat| heartbeat.instance_id = Some(String::new()),
        |heartbeat| heartbeat.rack_id = Some(" ".to_owned()),
        |heartbeat| heartbeat.rebalance_timeout_ms = -1,
        |heartbeat| heartbeat.topic_partitions = None,
        |heartbeat| heartbeat.topic_partitions = Some(to_topics(&orders(&[0]))),
        |heartbeat| (heartbeat.subscribed_topic_names, heartbeat.subscribed_topic_regex) = (None, None),
        |heartbeat| heartbeat.member_epoch = -3,
        |heartbeat| heartbeat.member_epoch = -2,
        |heartbeat| (heartbeat.member_epoch, heartbeat.member_id) = (-1, String::new()),
    ];
    for (number, spoil) in broken.iter().enumerate() {
        let mut heartbeat = whole.clone();
        spoil(&mut heartbeat);
        assert_eq!(refusal(&mut world, heartbeat), ErrorCode::InvalidRequest, "case {number}");
    }
    assert_eq!(world.describe(), None, "nothing is left of what was refused");
    assert!(world.log.is_empty());
    world.heartbeat(whole).expect("the whole one is taken");
}

#[test]
fn version_0_lets_the_coordinator_make_the_member_id() {
    let mut world = world();
    let mut heartbeat = Client::new("", &["orders"]).to_say();
    heartbeat.requires_member_id = false;
    let answer = world.heartbeat(heartbeat).expect("it is taken");
    assert_eq!(answer.member_id.map(|id| id.len()), Some(22));
}

#[test]
fn an_assignor_that_is_not_offered_is_refused_and_the_majority_chooses() {
    let mut world = world();
    let mut client = Client::new("one", &["orders"]);
    client.assignor = Some("cooperative-sticky".to_owned());
    assert_eq!(refusal(&mut world, client.to_say()), ErrorCode::UnsupportedAssignor);
    client.assignor = Some("range".to_owned());
    beat(&mut world, &mut client);
    assert_eq!(world.describe().expect("the group is there").assignor_name, "range");
    for id in ["two", "three"] {
        let mut other = Client::new(id, &["orders"]);
        other.assignor = Some("uniform".to_owned());
        beat(&mut world, &mut other);
    }
    assert_eq!(world.describe().expect("the group is there").assignor_name, "uniform");
}

#[test]
fn a_full_group_takes_nobody_but_its_own() {
    let mut world = World::new(Settings { consumer_group_size_max: 2, ..settings() });
    world.add_topic("orders", 4);
    let mut clients = settled(&mut world, &["one", "two"]);
    assert_eq!(refusal(&mut world, Client::new("three", &["orders"]).to_say()), ErrorCode::GroupMaxSizeReached);
    clients[0].epoch = 0;
    clients[0].owned.clear();
    beat(&mut world, &mut clients[0]);
}

#[test]
fn heartbeats_of_nobody_are_refused() {
    let mut world = world();
    let mut heartbeat = Client { epoch: 1, ..Client::new("one", &["orders"]) }.to_say();
    assert_eq!(refusal(&mut world, heartbeat.clone()), ErrorCode::GroupIdNotFound);
    settled(&mut world, &["two"]);
    assert_eq!(refusal(&mut world, heartbeat.clone()), ErrorCode::UnknownMemberId);
    heartbeat.member_epoch = -1;
    assert_eq!(refusal(&mut world, heartbeat.clone()), ErrorCode::UnknownMemberId);
    heartbeat.group_id = "other".to_owned();
    assert_eq!(refusal(&mut world, heartbeat), ErrorCode::GroupIdNotFound);
}

// - epochs -

#[test]
fn a_member_in_another_epoch_is_fenced() {
    let mut world = world();
    let client = settled(&mut world, &["one", "two"]).remove(0);
    let mut ahead = client.to_say();
    ahead.member_epoch += 1;
    assert_eq!(refusal(&mut world, ahead), ErrorCode::FencedMemberEpoch);
    let mut behind = client.to_say();
    behind.member_epoch -= 1;
    behind.topic_partitions = Some(to_topics(&orders(&[0, 1, 2, 3])));
    assert_eq!(refusal(&mut world, behind), ErrorCode::FencedMemberEpoch);
}

#[test]
fn a_member_may_be_one_epoch_behind_while_it_owns_only_what_it_was_given() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one"]);
    let before = clients[0].clone();
    // The group moves on, the member is heard, and does not hear.
    beat(&mut world, &mut Client::new("two", &["orders"]));
    let mut given_up = before.clone();
    world.heartbeat(given_up.to_say()).expect("it is told to give up two");
    given_up.owned = orders(&[0, 1]);
    let answer = world.heartbeat(given_up.to_say()).expect("it has");
    assert_eq!(answer.member_epoch, 3);

    assert_eq!(refusal(&mut world, before.to_say()), ErrorCode::FencedMemberEpoch, "it owns what is others'");
    let mut silent = given_up.to_say();
    silent.topic_partitions = None;
    assert_eq!(refusal(&mut world, silent), ErrorCode::FencedMemberEpoch, "it does not say what it owns");
    assert_eq!(world.heartbeat(given_up.to_say()).expect("one behind").member_epoch, 3);
    clients.clear();
}

#[test]
fn a_member_may_always_begin_anew() {
    let mut world = world();
    let mut client = settled(&mut world, &["one", "two"]).remove(0);
    let (epoch, owned) = (client.epoch, client.owned.clone());
    client.epoch = 0;
    client.owned.clear();
    let answer = beat(&mut world, &mut client);
    assert_eq!((answer.member_epoch, client.owned), (epoch, owned), "it gets what it had, in the epoch it had");
}

// - handing on -

#[test]
fn a_partition_goes_over_only_when_its_owner_has_said_that_it_owns_it_no_more() {
    let mut world = world();
    let mut one = settled(&mut world, &["one"]).remove(0);
    let mut two = Client::new("two", &["orders"]);
    let answer = beat(&mut world, &mut two);
    assert_eq!((answer.member_epoch, two.owned.len()), (3, 0), "everything is with the other");
    assert_eq!(world.describe().expect("the group is there").state, GroupState::Reconciling);

    one.slowness = 2;
    let answer = beat(&mut world, &mut one);
    assert_eq!(answer.member_epoch, 2, "it stays in its epoch while it has to give up something");
    let keeps = from_topics(&answer.assignment.expect("it is told what it may keep"));
    assert_eq!((keeps.len(), one.owned.len()), (2, 4));
    for _ in 0..3 {
        assert_eq!(beat(&mut world, &mut two).assignment, None, "nothing is free yet");
    }
    assert_eq!(beat(&mut world, &mut one).assignment, None, "it was told already");
    one.follow();
    assert_eq!(one.owned, keeps);
    assert_eq!(beat(&mut world, &mut one).member_epoch, 3);
    let answer = beat(&mut world, &mut two);
    assert_eq!(from_topics(&answer.assignment.expect("it is told")).len(), 2);
    assert!(one.owned.is_disjoint(&two.owned));
    assert_eq!(world.describe().expect("the group is there").state, GroupState::Stable);
}

#[test]
fn the_assignment_is_told_when_it_changes_or_when_the_member_says_everything() {
    let mut world = world();
    let mut client = settled(&mut world, &["one"]).remove(0);
    assert_eq!(beat(&mut world, &mut client).assignment, None);
    client.must_say_all = true;
    assert_eq!(beat(&mut world, &mut client).assignment, Some(to_topics(&client.owned)));
    assert_eq!(beat(&mut world, &mut client).assignment, None);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one", "two"]);
    let written = world.log.len();
    for _ in 0..10 {
        clients.iter_mut().for_each(|client| drop(beat(&mut world, client)));
        world.pass(5_000);
    }
    assert_eq!(world.log.len(), written);
}

#[test]
fn members_that_come_together_get_one_target_together() {
    let mut world = World::new(Settings { consumer_assignment_interval_ms: 1_000, ..Settings::default() });
    world.add_topic("orders", 4);
    let mut clients: Vec<Client> = ["one", "two", "three"].map(|id| Client::new(id, &["orders"])).into();
    clients.iter_mut().for_each(|client| drop(beat(&mut world, client)));
    let group = world.describe().expect("the group is there");
    assert_eq!((group.state, group.group_epoch, group.assignment_epoch), (GroupState::Assigning, 4, 2));
    world.pass(1_000);
    beat(&mut world, &mut clients[0]);
    let group = world.describe().expect("the group is there");
    assert_eq!((group.group_epoch, group.assignment_epoch), (4, 4));
}

#[test]
fn members_are_asked_to_come_soon_while_the_group_settles() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one", "two"]);
    assert!(beat(&mut world, &mut clients[0]).heartbeat_interval_ms < 500);
    world.pass(5_000);
    assert_eq!(beat(&mut world, &mut clients[0]).heartbeat_interval_ms, 5_000);
    beat(&mut world, &mut Client::new("three", &["orders"]));
    assert!(beat(&mut world, &mut clients[0]).heartbeat_interval_ms < 500);
}

/// The figure the design promises, in the world's own time: members come when they are asked to, and at once when they have
/// given up something.
#[test]
fn ten_members_share_900_partitions_within_a_second() {
    let mut world = World::new(Settings::default());
    for number in 0..9 {
        world.add_topic(&format!("t{number}"), 100);
    }
    let names: Vec<String> = (0..9).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut clients: Vec<(u64, Client)> =
        (0..10).map(|number| (world.now + number * 10, Client::new(&format!("m{number}"), &names))).collect();
    let start = world.now;
    while clients.iter().any(|(_, client)| client.owned.len() != 90) {
        let (due, client) = clients.iter_mut().min_by_key(|(due, _)| *due).expect("ten");
        let wait = due.saturating_sub(world.now);
        world.pass(wait);
        let had = client.owned.clone();
        let answer = beat(&mut world, client);
        let gave_up = !had.is_subset(&client.owned);
        *due = world.now + if gave_up { 1 } else { answer.heartbeat_interval_ms as u64 };
        assert!(world.now - start <= 1_000, "after {} ms", world.now - start);
    }
    println!("10 members, 900 partitions: {} ms", world.now - start);
}

// - leaving -

#[test]
fn what_a_member_had_is_free_when_it_leaves() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one", "two"]);
    let mut last = clients[1].to_say();
    last.member_epoch = -1;
    let answer = world.heartbeat(last).expect("it may leave");
    assert_eq!((answer.member_epoch, answer.assignment), (-1, None));
    beat(&mut world, &mut clients[0]);
    assert_eq!(clients[0].owned, orders(&[0, 1, 2, 3]));
}

#[test]
fn a_group_whose_members_have_all_left_is_empty() {
    let mut world = world();
    let client = settled(&mut world, &["one"]).remove(0);
    let mut last = client.to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    let group = world.describe().expect("the group is there");
    assert_eq!((group.state, group.group_epoch, group.members.len()), (GroupState::Empty, 3, 0));
    world.reload();
    assert_eq!(world.describe(), Some(group));
}

#[test]
fn a_member_that_is_not_heard_of_is_put_out() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one", "two"]);
    for _ in 0..9 {
        world.pass(5_000);
        beat(&mut world, &mut clients[0]);
    }
    world.pass(1);
    assert_eq!(world.describe().expect("the group is there").members.len(), 1);
    assert_eq!(refusal(&mut world, clients[1].to_say()), ErrorCode::UnknownMemberId);
    beat(&mut world, &mut clients[0]);
    assert_eq!(clients[0].owned, orders(&[0, 1, 2, 3]));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_put_out_though_it_is_heard_of() {
    let mut world = world();
    let mut one = Client::new("one", &["orders"]);
    one.rebalance_timeout_ms = 10_000;
    beat(&mut world, &mut one);
    let mut two = Client::new("two", &["orders"]);
    beat(&mut world, &mut two);
    one.slowness = u64::MAX;
    beat(&mut world, &mut one);
    world.pass(9_999);
    beat(&mut world, &mut one);
    beat(&mut world, &mut two);
    assert!(two.owned.is_empty());
    world.pass(1);
    assert_eq!(refusal(&mut world, one.to_say()), ErrorCode::UnknownMemberId);
    beat(&mut world, &mut two);
    assert_eq!(two.owned, orders(&[0, 1, 2, 3]));
}

#[test]
fn sessions_and_times_to_give_up_begin_again_when_the_log_was_read() {
    let mut world = world();
    let mut one = Client { rebalance_timeout_ms: 10_000, ..Client::new("one", &["orders"]) };
    beat(&mut world, &mut one);
    beat(&mut world, &mut Client::new("two", &["orders"]));
    one.slowness = u64::MAX;
    beat(&mut world, &mut one);
    world.pass(9_000);
    world.reload();
    world.pass(9_999);
    beat(&mut world, &mut one);
    world.pass(1);
    assert_eq!(refusal(&mut world, one.to_say()), ErrorCode::UnknownMemberId);
    world.pass(45_000);
    assert_eq!(world.describe().expect("the group is there").state, GroupState::Empty);
}

// - static members -

fn permanent(member_id: &str) -> Client {
    Client { instance_id: Some("desk".to_owned()), ..Client::new(member_id, &["orders"]) }
}

#[test]
fn a_static_member_that_leaves_to_return_finds_everything_as_it_was() {
    let mut world = world();
    let mut one = permanent("one");
    let mut two = Client::new("two", &["orders"]);
    for _ in 0..4 {
        beat(&mut world, &mut one);
        beat(&mut world, &mut two);
    }
    let group_epoch = world.describe().expect("the group is there").group_epoch;
    let mut last = one.to_say();
    last.member_epoch = -2;
    assert_eq!(world.heartbeat(last).expect("it may leave").member_epoch, -2);
    assert_eq!(beat(&mut world, &mut two).assignment, None, "what it had waits for it");
    world.reload();

    let mut back = permanent("back");
    let answer = beat(&mut world, &mut back);
    assert_eq!((answer.member_epoch, back.owned), (group_epoch, one.owned.clone()));
    let group = world.describe().expect("the group is there");
    assert_eq!((group.group_epoch, group.members.len()), (group_epoch, 2), "nobody else is troubled");
    assert_eq!(refusal(&mut world, one.to_say()), ErrorCode::FencedInstanceId);
    let mut late = one.to_say();
    late.member_epoch = -1;
    assert_eq!(refusal(&mut world, late), ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_member_that_does_not_return_in_its_session_is_put_out() {
    let mut world = world();
    let mut one = permanent("one");
    beat(&mut world, &mut one);
    let mut last = one.to_say();
    last.member_epoch = -2;
    world.heartbeat(last).expect("it may leave");
    world.pass(45_000);
    assert_eq!(world.describe().expect("the group is there").state, GroupState::Empty);
}

#[test]
fn an_instance_id_in_use_is_not_given_to_another_member() {
    let mut world = world();
    let mut one = permanent("one");
    beat(&mut world, &mut one);
    assert_eq!(refusal(&mut world, permanent("two").to_say()), ErrorCode::UnreleasedInstanceId);
    let mut stranger = permanent("two").to_say();
    stranger.member_epoch = 1;
    assert_eq!(refusal(&mut world, stranger.clone()), ErrorCode::FencedInstanceId);
    stranger.instance_id = Some("chair".to_owned());
    assert_eq!(refusal(&mut world, stranger), ErrorCode::UnknownMemberId);
    // The answer to its first heartbeat was lost: it is still itself.
    let again = permanent("one");
    assert_eq!(world.heartbeat(again.to_say()).expect("it is taken").member_epoch, one.epoch);
}

#[test]
fn a_static_member_that_leaves_for_good_leaves_nothing() {
    let mut world = world();
    let mut one = permanent("one");
    beat(&mut world, &mut one);
    let mut last = one.to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    let mut two = permanent("two");
    beat(&mut world, &mut two);
    assert_eq!(two.owned, orders(&[0, 1, 2, 3]));
}

// - subscriptions -

#[test]
fn topics_that_do_not_exist_yet_are_waited_for() {
    let mut world = World::new(settings());
    let mut client = Client::new("one", &["orders", "bills"]);
    beat(&mut world, &mut client);
    assert!(client.owned.is_empty());
    world.add_topic("orders", 2);
    beat(&mut world, &mut client);
    assert_eq!(client.owned, orders(&[0, 1]));
    world.grow_topic(TopicId([1; 16]));
    beat(&mut world, &mut client);
    assert_eq!(client.owned, orders(&[0, 1, 2]));
    world.add_topic("unrelated", 2);
    let epoch = client.epoch;
    beat(&mut world, &mut client);
    assert_eq!(client.epoch, epoch, "what nobody subscribes to changes nothing");
    world.remove_topic(TopicId([1; 16]));
    beat(&mut world, &mut client);
    assert!(client.told.is_empty());
}

#[test]
fn a_regular_expression_stands_for_what_it_matches_now_and_later() {
    let mut world = world();
    world.add_topic("orders-eu", 1);
    world.add_topic("other", 1);
    let mut client = Client { regex: Some("orders.*".to_owned()), ..Client::new("one", &[]) };
    beat(&mut world, &mut client);
    assert_eq!(client.owned.len(), 5);
    world.add_topic("orders-us", 2);
    world.pass(1_000);
    beat(&mut world, &mut client);
    assert_eq!(client.owned.len(), 7);
    let member = world.describe().expect("the group is there").members.remove(0);
    assert_eq!((member.subscribed_topic_regex.as_deref(), member.subscribed_topic_names.len()), (Some("orders.*"), 0));

    // Names and an expression together.
    client.names = vec!["other".to_owned()];
    client.must_say_all = true;
    beat(&mut world, &mut client);
    assert_eq!(client.owned.len(), 8);
    client.regex = None;
    client.must_say_all = true;
    beat(&mut world, &mut client);
    assert_eq!(client.owned.len(), 1);
}

#[test]
fn a_regular_expression_that_is_none_is_refused_and_changes_nothing() {
    let mut world = world();
    let mut client = Client { regex: Some("orders(".to_owned()), ..Client::new("one", &[]) };
    assert_eq!(refusal(&mut world, client.to_say()), ErrorCode::InvalidRegularExpression);
    assert!(world.log.is_empty());
    client.regex = Some("orders".to_owned());
    beat(&mut world, &mut client);
    let before = world.describe();
    client.regex = Some("[".to_owned());
    client.must_say_all = true;
    assert_eq!(refusal(&mut world, client.to_say()), ErrorCode::InvalidRegularExpression);
    assert_eq!(world.describe(), before);
}

#[test]
fn what_a_member_subscribes_to_no_more_is_taken_from_it() {
    let mut world = world();
    world.add_topic("bills", 2);
    let mut client = Client::new("one", &["orders", "bills"]);
    beat(&mut world, &mut client);
    assert_eq!(client.owned.len(), 6);
    client.names = vec!["orders".to_owned()];
    client.must_say_all = true;
    let answer = beat(&mut world, &mut client);
    assert_eq!((answer.member_epoch, client.owned.clone()), (2, orders(&[0, 1, 2, 3])));
    assert_eq!(beat(&mut world, &mut client).member_epoch, 3);
}

#[test]
fn other_groups_are_others() {
    let mut world = world();
    settled(&mut world, &["one"]);
    let mut heartbeat = Client::new("one", &["orders"]).to_say();
    heartbeat.group_id = format!("{GROUP}-2");
    assert_eq!(world.heartbeat(heartbeat).expect("it is taken").member_epoch, 2);
}

// - offsets -

#[test]
fn only_members_commit_and_only_in_their_epoch_or_what_they_have_kept_since_an_earlier_one() {
    let mut world = world();
    let mut one = settled(&mut world, &["one"]).remove(0);
    assert_eq!(world.commit(&one, &orders(&[0, 3])), Ok(()));
    assert_eq!(
        world.commit(&Client { epoch: one.epoch + 1, ..one.clone() }, &orders(&[0])),
        Err(ErrorCode::StaleMemberEpoch)
    );
    assert_eq!(
        world.commit(&Client { epoch: 1, ..Client::new("who", &[]) }, &orders(&[0])),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        world.commit(&Client { epoch: -1, ..Client::new("", &[]) }, &orders(&[0])),
        Err(ErrorCode::UnknownMemberId)
    );
    let old_version = OffsetCommit {
        group_id: GROUP.to_owned(),
        generation_or_epoch: one.epoch,
        member_id: one.member_id.clone(),
        topics: world.to_commit(&orders(&[0])),
        ..OffsetCommit::default()
    };
    assert_eq!(world.ask_commit(old_version), Err(ErrorCode::UnsupportedVersion));

    // The group moves on. What the member still has it may commit in its old epoch, until it moves on itself and after.
    let old = one.clone();
    beat(&mut world, &mut Client::new("two", &["orders"]));
    beat(&mut world, &mut one);
    assert_eq!(world.commit(&old, &orders(&[0, 1, 2, 3])), Ok(()), "it has yet to give up half of it");
    beat(&mut world, &mut one);
    assert_eq!(one.epoch, old.epoch + 1);
    let kept = one.owned.clone();
    assert_eq!(world.commit(&old, &kept), Ok(()));
    assert_eq!(
        world.commit(&old, &orders(&[0, 1, 2, 3])),
        Err(ErrorCode::StaleMemberEpoch),
        "one of them is another's"
    );
}

#[test]
fn what_a_member_was_given_only_later_it_may_not_commit_in_its_old_epoch() {
    let mut world = world();
    let mut clients = settled(&mut world, &["one", "two"]);
    let old = clients[0].clone();
    let mut last = clients[1].to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    beat(&mut world, &mut clients[0]);
    assert_eq!(clients[0].owned, orders(&[0, 1, 2, 3]));
    let since: Owned = clients[0].owned.difference(&old.owned).copied().collect();
    assert_eq!(world.commit(&old, &old.owned), Ok(()));
    assert_eq!(world.commit(&old, &since), Err(ErrorCode::StaleMemberEpoch), "it was another's in that epoch");
}

#[test]
fn who_says_who_it_is_when_it_fetches_must_be_in_its_epoch() {
    let mut world = world();
    let one = settled(&mut world, &["one"]).remove(0);
    assert_eq!(world.fetch(None, -1), Ok(()));
    assert_eq!(world.fetch(Some("one"), one.epoch), Ok(()));
    assert_eq!(world.fetch(Some("one"), one.epoch - 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(world.fetch(Some("two"), one.epoch), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_group_is_deleted_when_it_is_empty_and_leaves_nothing_in_the_log() {
    let mut world = world();
    let mut one = Client { regex: Some("ord.*".to_owned()), ..Client::new("one", &[]) };
    beat(&mut world, &mut one);
    assert_eq!(world.commit(&one, &orders(&[0])), Ok(()));
    assert_eq!(world.delete(), ErrorCode::NonEmptyGroup);
    let mut last = one.to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    assert_eq!(world.delete(), ErrorCode::None);
    assert_eq!(world.describe(), None);
    assert_eq!(world.delete(), ErrorCode::GroupIdNotFound);
    world.reload();
    assert_eq!((world.describe(), world.coordinator.size()), (None, (0, 0)));
    let mut latest = std::collections::BTreeMap::new();
    for record in &world.log {
        latest.insert(record.key.clone(), record.value.is_some());
    }
    assert!(latest.values().all(|has_value| !has_value), "every key ends with a tombstone");
}

#[test]
fn operators_commit_to_a_group_that_is_empty() {
    let mut world = world();
    let one = settled(&mut world, &["one"]).remove(0);
    let mut last = one.to_say();
    last.member_epoch = -1;
    world.heartbeat(last).expect("it may leave");
    assert_eq!(world.commit(&Client { epoch: -1, ..Client::new("", &[]) }, &orders(&[0])), Ok(()));
}

// - what Kafka 4.3.0 was seen to answer to the same conversation -

#[test]
fn a_conversation_goes_as_with_kafka() {
    let mut world = world();
    let all = orders(&[0, 1, 2, 3]);
    let mut one = Client::new("one", &["orders"]);
    assert_eq!(beat(&mut world, &mut one).member_epoch, 2);
    assert_eq!(one.owned, all);
    let mut two = Client::new("two", &["orders"]);
    let answer = beat(&mut world, &mut two);
    assert_eq!((answer.member_epoch, answer.assignment), (3, Some(Vec::new())));

    let answer = world.heartbeat(one.to_say()).expect("it is taken");
    assert_eq!(answer.member_epoch, 2);
    let kept = from_topics(&answer.assignment.expect("it is told"));
    assert_eq!(kept.len(), 2);
    let members = world.describe().expect("the group is there").members;
    let assigned = |member: usize| members[member].assignment.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    assert_eq!((assigned(0), assigned(1)), (4, 0), "what a member has yet to give up is described as its own");
    assert_eq!(members[0].subscribed_topic_regex.as_deref(), Some(""));

    one.owned.clone_from(&kept);
    let gave_up = one.to_say();
    let answer = world.heartbeat(gave_up.clone()).expect("it is taken");
    assert_eq!((answer.member_epoch, answer.assignment), (3, None));
    let answer = world.heartbeat(gave_up).expect("one epoch behind");
    assert_eq!((answer.member_epoch, answer.assignment), (3, None));
    let answer = beat(&mut world, &mut two);
    assert_eq!((answer.member_epoch, two.owned.len()), (3, 2));

    one.epoch = 3;
    let mut strange = one.to_say();
    strange.topic_partitions = Some(to_topics(&[TopicPartition::default()].into()));
    assert_eq!(world.heartbeat(strange).expect("it is taken").assignment, None);
    one.names = vec!["none".to_owned()];
    one.must_say_all = true;
    let answer = world.heartbeat(one.to_say()).expect("it is taken");
    assert_eq!((answer.member_epoch, answer.assignment), (3, Some(Vec::new())));
}

// - offsets that go -

/// KIP-211, where subscriptions are always known. Of a group that is empty the age of the commit counts.
#[test]
fn offsets_of_topics_that_nobody_subscribes_to_expire_and_with_the_last_of_them_the_group() {
    const MINUTE_MS: u64 = 60_000;
    let mut world = World::new(Settings { offsets_retention_ms: 20 * MINUTE_MS as i64, ..settings() });
    world.add_topic("orders", 1);
    world.add_topic("bills", 1);
    let mut client = Client::new("one", &["orders", "bills"]);
    beat(&mut world, &mut client);
    world.commit(&client, &client.owned).expect("committed");
    let live = |world: &mut World, client: &mut Client, minutes: u64| {
        for _ in 0..2 * minutes {
            world.pass(MINUTE_MS / 2);
            beat(world, client);
        }
    };
    live(&mut world, &mut client, 40);
    assert_eq!(world.topics_committed(), ["bills", "orders"]);
    (client.names, client.must_say_all) = (vec!["orders".to_owned()], true);
    beat(&mut world, &mut client);
    // At the next look, since the commit is that old.
    live(&mut world, &mut client, 11);
    assert_eq!(world.topics_committed(), ["orders"]);
    world.commit(&client, &client.owned).expect("committed");
    let leave = ConsumerGroupHeartbeat { member_epoch: -1, ..client.to_say() };
    world.heartbeat(leave).expect("left");
    world.pass(19 * MINUTE_MS);
    assert_eq!(world.topics_committed(), ["orders"]);
    world.pass(11 * MINUTE_MS);
    assert_eq!((world.topics_committed(), world.listed()), (vec![], None));
}
