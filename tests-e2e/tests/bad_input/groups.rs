//! Wrong requests to groups of either protocol, in every state that a group can be in.

use std::io::Write as _;
use std::net::TcpStream;

use kafka_wire::k08_offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::k09_offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_wire::k11_join_group::JoinGroupRequestProtocol;
use kafka_wire::k13_leave_group::MemberIdentity;
use kafka_wire::k14_sync_group::SyncGroupRequestAssignment;
use kafka_wire::k47_offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::k68_consumer_group_heartbeat::RequestTopicPartitions;
use kafka_wire::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::*;

/// Long enough for every case: nobody is to be put out in the middle.
const SESSION_MS: i32 = 600_000;

/// Every group that is asked about, whether it is there or not.
const GROUPS: [&str; 16] = [
    "",
    "alone",
    "connect",
    "consumers",
    "doubled",
    "empty",
    "expressive",
    "fixed",
    "fresh",
    "moving",
    "new",
    "nowhere",
    "odd",
    "stable",
    "static",
    "workers",
];

/// A group of the classic protocol with one member, and its generation.
struct Classic {
    group: &'static str,
    member: KafkaString,
    generation: i32,
}

pub(super) fn all_cases(bootstrap: String) -> Result<String> {
    let mut asked = Asked::new(bootstrap);
    create_topics(&mut asked)?;
    finding(&mut asked)?;
    joining(&mut asked)?;
    let stable = classic(&mut asked, "stable", None, "consumer")?;
    let connect = classic(&mut asked, "connect", None, "connect")?;
    let empty = classic(&mut asked, "empty", None, "consumer")?;
    leave_all(&mut asked, &empty)?;
    joining_a_group(&mut asked, &stable, &empty)?;
    syncing(&mut asked, &stable, &empty)?;
    living(&mut asked, &stable, &empty)?;
    static_members(&mut asked)?;
    committing(&mut asked, &stable, &empty)?;
    fetching(&mut asked, &stable)?;
    deleting(&mut asked, &stable, &connect)?;
    in_the_middle(&mut asked)?;
    leaving(&mut asked, &stable, &connect)?;
    heartbeats(&mut asked)?;
    consumer_group(&mut asked)?;
    describing(&mut asked)?;
    Ok(asked.said)
}

fn create_topics(asked: &mut Asked) -> Result<()> {
    let names = ["plain", "second", "third"];
    let response = asked.ask(7, &create(names.map(|name| topic(name, 1, 1, &[])).into()))?.context("closed")?;
    ensure!(response.topics.iter().all(|topic| topic.error_code == 0), "{response:?}");
    tests_e2e::wait::until("leaders", ANSWER_BOUND, || {
        let response = asked.ask(9, &named(&names))?.context("closed")?;
        Ok(response
            .topics
            .iter()
            .all(|topic| topic.error_code == 0 && topic.partitions[0].leader_id >= 0)
            .then_some(()))
    })?;
    // The first question makes the topic of the groups, and then its partitions are loaded.
    tests_e2e::wait::until("coordinators", ANSWER_BOUND, || {
        asked.ask(4, &find(&GROUPS))?.context("closed")?;
        let groups: Vec<(&str, Option<&str>, i32)> = GROUPS.iter().map(|group| (*group, None, -1)).collect();
        let response = asked.ask(8, &fetch_of(&groups, None))?.context("closed")?;
        Ok(response.groups.iter().all(|group| group.error_code == 0).then_some(()))
    })
}

fn id_of(asked: &mut Asked, name: &str) -> Result<Uuid> {
    let response = asked.ask(12, &named(&[name]))?.context("closed")?;
    Ok(response.topics.first().context("a topic")?.topic_id)
}

// - finding -

fn find(keys: &[&str]) -> FindCoordinatorRequest {
    let coordinator_keys = keys.iter().map(|key| KafkaString::from(*key)).collect();
    FindCoordinatorRequest { coordinator_keys, ..Default::default() }
}

fn finding(asked: &mut Asked) -> Result<()> {
    let told = |response: &FindCoordinatorResponse| -> Vec<i64> {
        let each = response.coordinators.iter().flat_map(|found| [i64::from(found.error_code), found.node_id.into()]);
        [response.error_code.into()].into_iter().chain(each).collect()
    };
    let one = |key: &str, key_type| FindCoordinatorRequest { key: key.into(), key_type, ..Default::default() };
    let typed = |keys: &[&str], key_type| FindCoordinatorRequest { key_type, ..find(keys) };
    asked.case("FindCoordinator an empty group", 0, &one("", 0), told)?;
    asked.case("FindCoordinator an unknown kind", 1, &one("a", 9), told)?;
    asked.case("FindCoordinator an empty group", 4, &find(&[""]), told)?;
    asked.case("FindCoordinator nobody", 4, &find(&[]), told)?;
    asked.case("FindCoordinator the same twice", 4, &find(&["a", "a"]), told)?;
    asked.case("FindCoordinator an unknown kind", 4, &typed(&["a"], 9), told)?;
    asked.case("FindCoordinator a negative kind", 4, &typed(&["a"], -1), told)?;
    asked.case("FindCoordinator a share group before its version", 5, &typed(&["a"], 2), told)?;
    asked.case("FindCoordinator an empty transactional id", 4, &typed(&[""], 1), told)
}

// - the classic protocol -

/// What a consumer that subscribes to `plain` says of itself.
fn subscription() -> Bytes {
    [&[0, 0, 0, 0, 0, 1, 0, 5][..], b"plain", &[0xff; 4]].concat().into()
}

fn join(group: &str, member: &str, protocol_type: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: SESSION_MS,
        member_id: member.into(),
        protocol_type: protocol_type.into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: subscription() }],
        ..Default::default()
    }
}

/// The code, the generation, whether there is a member id, how many members are told of.
fn joined(response: &JoinGroupResponse) -> Vec<i64> {
    let has_id = i64::from(!response.member_id.is_empty());
    vec![response.error_code.into(), response.generation_id.into(), has_id, response.members.len() as i64]
}

/// Makes a group with one member, which has synced.
fn classic(asked: &mut Asked, group: &'static str, instance: Option<&str>, protocol_type: &str) -> Result<Classic> {
    let as_instance = |member: &str| JoinGroupRequest {
        group_instance_id: instance.map(KafkaString::from),
        ..join(group, member, protocol_type)
    };
    let mut response = asked.ask(9, &as_instance(""))?.context("closed")?;
    if response.error_code == 79 {
        response = asked.ask(9, &as_instance(&response.member_id))?.context("closed")?;
    }
    ensure!(response.error_code == 0, "{response:?}");
    let classic = Classic { group, member: response.member_id, generation: response.generation_id };
    let synced = asked.ask(5, &sync_as(&classic, protocol_type, instance))?.context("closed")?;
    ensure!(synced.error_code == 0, "{synced:?}");
    Ok(classic)
}

fn sync_as(classic: &Classic, protocol_type: &str, instance: Option<&str>) -> SyncGroupRequest {
    let assignment = Bytes::from_static(&[0; 10]);
    SyncGroupRequest {
        group_id: classic.group.into(),
        generation_id: classic.generation,
        member_id: classic.member.clone(),
        group_instance_id: instance.map(KafkaString::from),
        protocol_type: Some(protocol_type.into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment { member_id: classic.member.clone(), assignment }],
    }
}

fn leave_all(asked: &mut Asked, classic: &Classic) -> Result<()> {
    let response = asked.ask(5, &leave(classic.group, &[(&classic.member, None)]))?.context("closed")?;
    ensure!(response.error_code == 0 && response.members[0].error_code == 0, "{response:?}");
    Ok(())
}

fn joining(asked: &mut Asked) -> Result<()> {
    for version in [2, 5, 9] {
        let session = |session_timeout_ms| JoinGroupRequest { session_timeout_ms, ..join("new", "", "consumer") };
        asked.case("JoinGroup an empty group", version, &join("", "", "consumer"), joined)?;
        asked.case("JoinGroup too short a session", version, &session(5_999), joined)?;
        asked.case("JoinGroup too long a session", version, &session(1_800_001), joined)?;
        asked.case("JoinGroup a negative session", version, &session(-1), joined)?;
        asked.case(
            "JoinGroup an unknown member of a new group",
            version,
            &join("new", "nobody", "consumer"),
            joined,
        )?;
        asked.case("JoinGroup no protocol type", version, &join("new", "", ""), joined)?;
        let none = JoinGroupRequest { protocols: Vec::new(), ..join("new", "", "consumer") };
        asked.case("JoinGroup no protocols", version, &none, joined)?;
    }
    let both = JoinGroupRequest { session_timeout_ms: 1, ..join("", "nobody", "") };
    asked.case("JoinGroup everything wrong", 9, &both, joined)?;
    let instance =
        |member: &str| JoinGroupRequest { group_instance_id: Some("nobody".into()), ..join("new", member, "consumer") };
    asked.case("JoinGroup an unknown instance with a member id", 9, &instance("m"), joined)?;
    let empty = JoinGroupRequest { group_instance_id: Some("".into()), ..join("odd", "", "consumer") };
    asked.case("JoinGroup an empty instance id", 9, &empty, joined)?;
    let many = |count: usize| JoinGroupRequest {
        protocols: (0..count)
            .map(|_| JoinGroupRequestProtocol { name: "range".into(), metadata: subscription() })
            .collect(),
        ..join("doubled", "", "consumer")
    };
    asked.case("JoinGroup the same protocol twice, without a member id", 9, &many(2), joined)
}

fn joining_a_group(asked: &mut Asked, stable: &Classic, empty: &Classic) -> Result<()> {
    for version in [4, 9] {
        let of = |member: &str| join(stable.group, member, "consumer");
        asked.case("JoinGroup a new member without an id", version, &of(""), joined)?;
        asked.case("JoinGroup an unknown member", version, &of("nobody"), joined)?;
        asked.case("JoinGroup another protocol type", version, &join(stable.group, "", "connect"), joined)?;
        let other = JoinGroupRequestProtocol { name: "roundrobin".into(), metadata: subscription() };
        let other = JoinGroupRequest { protocols: vec![other], ..of("") };
        asked.case("JoinGroup no protocol in common", version, &other, joined)?;
        let short = JoinGroupRequest { session_timeout_ms: 1, ..of(&stable.member) };
        asked.case("JoinGroup a member with too short a session", version, &short, joined)?;
        let type_changed = join(stable.group, &stable.member, "connect");
        asked.case("JoinGroup a member with another protocol type", version, &type_changed, joined)?;
        asked.case(
            "JoinGroup who left an empty group",
            version,
            &join(empty.group, &empty.member, "consumer"),
            joined,
        )?;
        let none = JoinGroupRequest { protocols: Vec::new(), ..join(empty.group, "", "consumer") };
        asked.case("JoinGroup an empty group without protocols", version, &none, joined)?;
    }
    Ok(())
}

fn syncing(asked: &mut Asked, stable: &Classic, empty: &Classic) -> Result<()> {
    let told = |response: &SyncGroupResponse| vec![response.error_code.into(), response.assignment.len() as i64];
    let good = sync_as(stable, "consumer", None);
    for version in [0, 3, 5] {
        let of = |member_id: &str, generation_id| SyncGroupRequest {
            member_id: member_id.into(),
            generation_id,
            ..good.clone()
        };
        let in_group = |group: &str| SyncGroupRequest { group_id: group.into(), ..good.clone() };
        asked.case("SyncGroup an empty group", version, &in_group(""), told)?;
        asked.case("SyncGroup an unknown group", version, &in_group("nowhere"), told)?;
        asked.case("SyncGroup an unknown member", version, &of("nobody", 1), told)?;
        asked.case("SyncGroup an empty member id", version, &of("", 1), told)?;
        asked.case("SyncGroup a generation past", version, &of(&stable.member, 0), told)?;
        asked.case("SyncGroup a generation to come", version, &of(&stable.member, 2), told)?;
        asked.case("SyncGroup no generation", version, &of(&stable.member, -1), told)?;
        asked.case("SyncGroup who left", version, &sync_as(empty, "consumer", None), told)?;
        asked.case("SyncGroup again", version, &good, told)?;
    }
    let typed = |protocol_type: Option<&str>, protocol_name: Option<&str>| SyncGroupRequest {
        protocol_type: protocol_type.map(KafkaString::from),
        protocol_name: protocol_name.map(KafkaString::from),
        ..good.clone()
    };
    asked.case("SyncGroup another protocol type", 5, &typed(Some("connect"), Some("range")), told)?;
    asked.case("SyncGroup another protocol", 5, &typed(Some("consumer"), Some("sticky")), told)?;
    asked.case("SyncGroup no protocol type", 5, &typed(None, Some("range")), told)?;
    asked.case("SyncGroup no protocol", 5, &typed(Some("consumer"), None), told)?;
    let instance = SyncGroupRequest { group_instance_id: Some("nobody".into()), ..good.clone() };
    asked.case("SyncGroup an unknown instance", 5, &instance, told)
}

fn beat(group: &str, member: &str, generation_id: i32, instance: Option<&str>) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id,
        member_id: member.into(),
        group_instance_id: instance.map(KafkaString::from),
    }
}

fn living(asked: &mut Asked, stable: &Classic, empty: &Classic) -> Result<()> {
    let Classic { group, member, generation } = stable;
    for version in [0, 3, 4] {
        let cases = [
            ("an empty group", beat("", member, *generation, None)),
            ("an unknown group", beat("nowhere", member, *generation, None)),
            ("an unknown member", beat(group, "nobody", *generation, None)),
            ("an empty member id", beat(group, "", *generation, None)),
            ("a generation past", beat(group, member, generation - 1, None)),
            ("a generation to come", beat(group, member, generation + 1, None)),
            ("no generation", beat(group, member, -1, None)),
            ("who left", beat(empty.group, &empty.member, empty.generation, None)),
        ];
        for (name, request) in cases {
            asked.case(&format!("Heartbeat {name}"), version, &request, |r| vec![r.error_code.into()])?;
        }
    }
    let instance = beat(group, member, *generation, Some("nobody"));
    asked.case("Heartbeat an unknown instance", 4, &instance, |r| vec![r.error_code.into()])
}

fn leave(group: &str, members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let member = |(member_id, instance): &(&str, Option<&str>)| MemberIdentity {
        member_id: (*member_id).into(),
        group_instance_id: instance.map(KafkaString::from),
        reason: None,
    };
    LeaveGroupRequest { group_id: group.into(), members: members.iter().map(member).collect(), ..Default::default() }
}

/// As versions say it that know of one member only, or of several.
fn leave_in(version: i16, group: &str, member: &str) -> LeaveGroupRequest {
    match version {
        0..=2 => LeaveGroupRequest { group_id: group.into(), member_id: member.into(), members: Vec::new() },
        _ => leave(group, &[(member, None)]),
    }
}

fn left(response: &LeaveGroupResponse) -> Vec<i64> {
    let each = response.members.iter().map(|member| member.error_code.into());
    [response.error_code.into()].into_iter().chain(each).collect()
}

/// An instance that was started anew fences its old self.
fn static_members(asked: &mut Asked) -> Result<()> {
    let old = classic(asked, "static", Some("one"), "consumer")?;
    let new = classic(asked, "static", Some("one"), "consumer")?;
    ensure!(old.member != new.member, "the new self has an id of its own");
    let again =
        |member: &str| JoinGroupRequest { group_instance_id: Some("one".into()), ..join("static", member, "consumer") };
    let code = |response: &JoinGroupResponse| vec![response.error_code.into()];
    asked.case("JoinGroup a fenced instance", 9, &again(&old.member), code)?;
    asked.case("JoinGroup a fenced instance without saying so", 9, &join("static", &old.member, "consumer"), code)?;
    asked.case("SyncGroup a fenced instance", 5, &sync_as(&old, "consumer", Some("one")), |r| {
        vec![r.error_code.into()]
    })?;
    let stale = beat("static", &old.member, old.generation, Some("one"));
    asked.case("Heartbeat a fenced instance", 4, &stale, |r| vec![r.error_code.into()])?;
    let nameless = beat("static", &new.member, new.generation, None);
    asked.case("Heartbeat an instance that does not say so", 4, &nameless, |r| vec![r.error_code.into()])?;
    let commit_of = |member: &str, instance: &str| OffsetCommitRequest {
        group_instance_id: Some(instance.into()),
        ..commit("static", member, new.generation, "plain", 0, None)
    };
    asked.case("OffsetCommit a fenced instance", 8, &commit_of(&old.member, "one"), committed)?;
    asked.case("OffsetCommit an unknown instance", 8, &commit_of(&new.member, "two"), committed)?;
    asked.case("OffsetCommit an instance without a member id", 8, &commit_of("", "one"), committed)?;
    asked.case("LeaveGroup a fenced instance", 5, &leave("static", &[(&old.member, Some("one"))]), left)?;
    asked.case("LeaveGroup an unknown instance", 5, &leave("static", &[("", Some("two"))]), left)?;
    let unknown = leave("static", &[(&new.member, Some("two"))]);
    asked.case("LeaveGroup a member under another instance", 5, &unknown, left)?;
    let several = leave("static", &[("", Some("two")), ("nobody", None), ("", Some("one")), ("", Some("one"))]);
    asked.case("LeaveGroup several, one of them there", 5, &several, left)
}

// - offsets -

fn commit(
    group: &str,
    member: &str,
    generation: i32,
    topic: &str,
    partition_index: i32,
    metadata: Option<&str>,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset: 5,
                committed_leader_epoch: -1,
                committed_metadata: metadata.map(KafkaString::from),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn committed(response: &OffsetCommitResponse) -> Vec<i64> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code.into()).collect()
}

fn committing(asked: &mut Asked, stable: &Classic, empty: &Classic) -> Result<()> {
    let Classic { group, member, generation } = stable;
    let (long, longest) = ("x".repeat(4_097), "x".repeat(4_096));
    for version in [2, 8, 9] {
        let cases = [
            ("an empty group", commit("", "", -1, "plain", 0, None)),
            ("an unknown group with a generation", commit("nowhere", "m", 1, "plain", 0, None)),
            ("an unknown group with generation 0", commit("nowhere", "", 0, "plain", 0, None)),
            ("an unknown group with a member id alone", commit("alone", "m", -1, "plain", 0, None)),
            ("an unknown member", commit(group, "nobody", *generation, "plain", 0, None)),
            ("a generation past", commit(group, member, generation - 1, "plain", 0, None)),
            ("a generation to come", commit(group, member, generation + 1, "plain", 0, None)),
            ("no generation", commit(group, member, -1, "plain", 0, None)),
            ("from outside, and members are there", commit(group, "", -1, "plain", 0, None)),
            ("a generation of an empty group", commit(empty.group, "", 1, "plain", 0, None)),
            ("who left", commit(empty.group, &empty.member, empty.generation, "plain", 0, None)),
            ("metadata too large", commit(group, member, *generation, "plain", 0, Some(&long))),
            ("metadata as large as may be", commit(group, member, *generation, "plain", 0, Some(&longest))),
            ("an unknown topic", commit(group, member, *generation, "nowhere", 0, None)),
            ("an empty topic", commit(group, member, *generation, "", 0, None)),
            ("an unknown partition", commit(group, member, *generation, "plain", 5, None)),
            ("a negative partition", commit(group, member, *generation, "plain", -1, None)),
            ("an unknown topic of an unknown member", commit(group, "nobody", *generation, "nowhere", 0, None)),
        ];
        for (name, request) in cases {
            asked.case(&format!("OffsetCommit {name}"), version, &request, committed)?;
        }
    }
    let mut mixed = commit(group, member, *generation, "plain", 0, None);
    mixed.topics.extend(commit("", "", 0, "nowhere", 0, None).topics);
    mixed.topics[0].partitions.extend(commit("", "", 0, "plain", 7, Some(&long)).topics.remove(0).partitions);
    mixed.topics[0].partitions.extend(commit("", "", 0, "plain", 0, Some(&long)).topics.remove(0).partitions);
    asked.case("OffsetCommit good and bad together, sorted", 8, &mixed, |response| {
        let mut codes = committed(response);
        codes.sort_unstable();
        codes
    })?;
    let nothing = OffsetCommitRequest { topics: Vec::new(), ..mixed };
    asked.case("OffsetCommit nothing", 8, &nothing, committed)?;
    let negative = |offset| {
        let mut request = commit(group, member, *generation, "plain", 0, None);
        request.topics[0].partitions[0].committed_offset = offset;
        request
    };
    asked.case("OffsetCommit a negative offset", 8, &negative(-1), committed)?;
    asked.case("OffsetCommit an offset far below 0", 8, &negative(-5), committed)?;
    let id = id_of(asked, "plain")?;
    let by_id = |member: &str, topic_id: Uuid| {
        let mut request = commit(group, member, *generation, "", 0, None);
        request.topics[0].topic_id = topic_id;
        request
    };
    asked.case("OffsetCommit an unknown id", 10, &by_id(member, Uuid([9; 16])), committed)?;
    asked.case("OffsetCommit no id", 10, &by_id(member, Uuid::ZERO), committed)?;
    asked.case("OffsetCommit an unknown member, by id", 10, &by_id("nobody", id), committed)
}

fn fetch_of(groups: &[(&str, Option<&str>, i32)], topics: Option<&[(&str, Uuid, i32)]>) -> OffsetFetchRequest {
    let group = |(group, member, member_epoch): &(&str, Option<&str>, i32)| OffsetFetchRequestGroup {
        group_id: (*group).into(),
        member_id: member.map(KafkaString::from),
        member_epoch: *member_epoch,
        topics: topics.map(|topics| {
            let topic = |(name, topic_id, partition): &(&str, Uuid, i32)| OffsetFetchRequestTopics {
                name: (*name).into(),
                topic_id: *topic_id,
                partition_indexes: vec![*partition],
            };
            topics.iter().map(topic).collect()
        }),
    };
    OffsetFetchRequest { groups: groups.iter().map(group).collect(), ..Default::default() }
}

/// The code of each group, and the offset and code of each of its partitions.
fn fetched(response: &OffsetFetchResponse) -> Vec<i64> {
    let of_group = response.groups.iter().flat_map(|group| {
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        let each = partitions.flat_map(|partition| [partition.committed_offset, partition.error_code.into()]);
        [group.error_code.into()].into_iter().chain(each)
    });
    let before = response.topics.iter().flat_map(|topic| &topic.partitions);
    let before = before.flat_map(|partition| [partition.committed_offset, partition.error_code.into()]);
    [response.error_code.into()].into_iter().chain(before).chain(of_group).collect()
}

fn fetching(asked: &mut Asked, stable: &Classic) -> Result<()> {
    let name = |name| [(name, Uuid::ZERO, 0)];
    for version in [1, 5, 7] {
        let of = |group: &str, topic: &str, partition| OffsetFetchRequest {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopic { name: topic.into(), partition_indexes: vec![partition] }]),
            ..Default::default()
        };
        asked.case("OffsetFetch an empty group", version, &of("", "plain", 0), fetched)?;
        asked.case("OffsetFetch an unknown group", version, &of("nowhere", "plain", 0), fetched)?;
        asked.case("OffsetFetch an unknown topic", version, &of(stable.group, "nowhere", 0), fetched)?;
        asked.case("OffsetFetch an unknown partition", version, &of(stable.group, "plain", 5), fetched)?;
    }
    let everything = OffsetFetchRequest { group_id: "nowhere".into(), topics: None, ..Default::default() };
    asked.case("OffsetFetch everything of an unknown group", 7, &everything, fetched)?;
    for version in [8, 9] {
        let plain = name("plain");
        let cases = [
            ("nobody", fetch_of(&[], Some(&plain))),
            ("an empty group", fetch_of(&[("", None, -1)], Some(&plain))),
            ("an unknown group", fetch_of(&[("nowhere", None, -1)], Some(&plain))),
            ("everything of an unknown group", fetch_of(&[("nowhere", None, -1)], None)),
            ("the same group twice", fetch_of(&[("nowhere", None, -1), ("nowhere", None, -1)], Some(&plain))),
            ("an unknown topic", fetch_of(&[(stable.group, None, -1)], Some(&name("nowhere")))),
        ];
        for (name, request) in cases {
            asked.case(&format!("OffsetFetch {name}"), version, &request, fetched)?;
        }
    }
    let member = |group, member, epoch| fetch_of(&[(group, Some(member), epoch)], Some(&name("plain")));
    asked.case("OffsetFetch a member of an unknown group", 9, &member("nowhere", "m", 1), fetched)?;
    asked.case("OffsetFetch an unknown member of a classic group", 9, &member(stable.group, "nobody", 1), fetched)?;
    asked.case("OffsetFetch a wrong generation", 9, &member(stable.group, &stable.member, 7), fetched)?;
    let by_id = |id| fetch_of(&[(stable.group, None, -1)], Some(&[("", id, 0)]));
    asked.case("OffsetFetch an unknown id", 10, &by_id(Uuid([9; 16])), fetched)?;
    asked.case("OffsetFetch no id", 10, &by_id(Uuid::ZERO), fetched)
}

fn delete_offset(group: &str, topic: &str, partition_index: i32) -> OffsetDeleteRequest {
    let partitions = vec![OffsetDeleteRequestPartition { partition_index }];
    let topics = vec![OffsetDeleteRequestTopic { name: topic.into(), partitions }];
    OffsetDeleteRequest { group_id: group.into(), topics }
}

fn deleted(response: &OffsetDeleteResponse) -> Vec<i64> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let each = partitions.map(|partition| partition.error_code.into());
    [response.error_code.into()].into_iter().chain(each).collect()
}

fn deleting(asked: &mut Asked, stable: &Classic, connect: &Classic) -> Result<()> {
    let cases = [
        ("an empty group", delete_offset("", "plain", 0)),
        ("an unknown group", delete_offset("nowhere", "plain", 0)),
        ("an unknown topic of an unknown group", delete_offset("nowhere", "nowhere", 0)),
        ("a topic that is subscribed to", delete_offset(stable.group, "plain", 0)),
        ("a topic that is not subscribed to", delete_offset(stable.group, "second", 0)),
        ("an unknown topic", delete_offset(stable.group, "nowhere", 0)),
        ("an unknown partition", delete_offset(stable.group, "second", 5)),
        ("of a group of another type with members", delete_offset(connect.group, "plain", 0)),
        ("nothing", OffsetDeleteRequest { group_id: stable.group.into(), topics: Vec::new() }),
        ("nothing of an unknown group", OffsetDeleteRequest { group_id: "nowhere".into(), topics: Vec::new() }),
    ];
    for (name, request) in cases {
        asked.case(&format!("OffsetDelete {name}"), 0, &request, deleted)?;
    }
    for version in [0, 2] {
        let cases: [(&str, &[&str]); 6] = [
            ("an empty group", &[""]),
            ("an unknown group", &["nowhere"]),
            ("a group with members", &[stable.group]),
            ("a group of another type with members", &[connect.group]),
            ("the same twice", &["nowhere", "nowhere"]),
            ("nobody", &[]),
        ];
        for (name, groups) in cases {
            let groups_names = groups.iter().map(|group| KafkaString::from(*group)).collect();
            let request = DeleteGroupsRequest { groups_names };
            asked.case(&format!("DeleteGroups {name}"), version, &request, |response| {
                response.results.iter().map(|result| result.error_code.into()).collect()
            })?;
        }
    }
    Ok(())
}

// - a group between two generations -

/// Sends, and leaves the answer where it is.
fn begin<R: Request>(asked: &Asked, version: i16, request: &R) -> Result<TcpStream> {
    let frame = encode_request(7, Some("bad-input".into()), version, request);
    let mut connection = TcpStream::connect(&asked.bootstrap)?;
    connection.write_all(&frame.map_err(|error| anyhow::anyhow!("{error:?}"))?.concat())?;
    Ok(connection)
}

fn state_of(asked: &mut Asked, group: &str) -> Result<String> {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let response = asked.ask(5, &request)?.context("closed")?;
    Ok(response.groups.first().context("a group")?.group_state.to_string())
}

/// Somebody else joins, and the group waits for its member; then the member joins, and the group waits for its assignments.
fn in_the_middle(asked: &mut Asked) -> Result<()> {
    let one = classic(asked, "moving", None, "consumer")?;
    let Classic { group, member, generation } = &one;
    let known = asked.ask(9, &join(group, "", "consumer"))?.context("closed")?;
    ensure!(known.error_code == 79, "{known:?}");
    let waiting = begin(asked, 9, &join(group, &known.member_id, "consumer"))?;
    tests_e2e::wait::until("a rebalance", ANSWER_BOUND, || {
        Ok((state_of(asked, group)? == "PreparingRebalance").then_some(()))
    })?;
    let cases = |asked: &mut Asked, when: &str, generation: i32| -> Result<()> {
        let good = beat(group, member, generation, None);
        asked.case(&format!("Heartbeat {when}"), 4, &good, |r| vec![r.error_code.into()])?;
        let past = beat(group, member, generation - 1, None);
        asked.case(&format!("Heartbeat a generation past {when}"), 4, &past, |r| vec![r.error_code.into()])?;
        let stranger = beat(group, "nobody", generation, None);
        asked.case(&format!("Heartbeat an unknown member {when}"), 4, &stranger, |r| vec![r.error_code.into()])?;
        for version in [2, 8] {
            let good = commit(group, member, generation, "plain", 0, None);
            asked.case(&format!("OffsetCommit {when}"), version, &good, committed)?;
            let past = commit(group, member, generation - 1, "plain", 0, None);
            asked.case(&format!("OffsetCommit a generation past {when}"), version, &past, committed)?;
        }
        let stranger = sync_as(&Classic { group, member: "nobody".into(), generation }, "consumer", None);
        asked.case(&format!("SyncGroup an unknown member {when}"), 5, &stranger, |r| vec![r.error_code.into()])?;
        let past = Classic { group, member: member.clone(), generation: generation - 1 };
        asked.case(&format!("SyncGroup a generation past {when}"), 5, &sync_as(&past, "consumer", None), |r| {
            vec![r.error_code.into()]
        })?;
        let stranger = join(group, "nobody", "consumer");
        asked.case(&format!("JoinGroup an unknown member {when}"), 9, &stranger, joined)?;
        let other = join(group, "", "connect");
        asked.case(&format!("JoinGroup another protocol type {when}"), 9, &other, joined)?;
        asked.case(&format!("LeaveGroup an unknown member {when}"), 5, &leave(group, &[("nobody", None)]), left)?;
        let groups_names = vec![KafkaString::from(*group)];
        asked.case(&format!("DeleteGroups {when}"), 2, &DeleteGroupsRequest { groups_names }, |response| {
            response.results.iter().map(|result| result.error_code.into()).collect()
        })?;
        asked.case(&format!("OffsetDelete {when}"), 0, &delete_offset(group, "second", 0), deleted)
    };
    cases(asked, "while members join", *generation)?;
    let good = sync_as(&one, "consumer", None);
    asked.case("SyncGroup while members join", 5, &good, |r| vec![r.error_code.into()])?;

    let response = asked.ask(9, &join(group, member, "consumer"))?.context("closed")?;
    ensure!(response.error_code == 0 && response.generation_id == generation + 1, "{response:?}");
    ensure!(state_of(asked, group)? == "CompletingRebalance");
    cases(asked, "while the leader assigns", response.generation_id)?;
    drop(waiting);
    Ok(())
}

fn leaving(asked: &mut Asked, stable: &Classic, connect: &Classic) -> Result<()> {
    for version in [0, 2, 5] {
        asked.case("LeaveGroup an empty group", version, &leave_in(version, "", "m"), left)?;
        asked.case("LeaveGroup an unknown group", version, &leave_in(version, "nowhere", "m"), left)?;
        asked.case("LeaveGroup an unknown member", version, &leave_in(version, stable.group, "nobody"), left)?;
        asked.case("LeaveGroup an empty member id", version, &leave_in(version, stable.group, ""), left)?;
    }
    asked.case("LeaveGroup nobody", 5, &leave(stable.group, &[]), left)?;
    asked.case("LeaveGroup nobody of an unknown group", 5, &leave("nowhere", &[]), left)?;
    asked.case("LeaveGroup an unknown instance of a group", 5, &leave(stable.group, &[("", Some("i"))]), left)?;
    let twice = leave(connect.group, &[(&connect.member, None), (&connect.member, None)]);
    asked.case("LeaveGroup the same twice", 5, &twice, left)
}

// - the consumer protocol -

fn heartbeat(group: &str, member: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch,
        rebalance_timeout_ms: -1,
        ..Default::default()
    }
}

/// As a member says it when it joins.
fn first(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: SESSION_MS,
        subscribed_topic_names: Some(topics.iter().map(|name| KafkaString::from(*name)).collect()),
        topic_partitions: Some(Vec::new()),
        ..heartbeat(group, member, 0)
    }
}

/// The code, and the epoch of a member that was refused or has left.
fn beaten(response: &ConsumerGroupHeartbeatResponse) -> Vec<i64> {
    vec![response.error_code.into(), response.member_epoch.min(0).into()]
}

/// What can be judged without a group.
fn heartbeats(asked: &mut Asked) -> Result<()> {
    let with = |change: &dyn Fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = first("fresh", "m", &["plain"]);
        change(&mut request);
        request
    };
    for version in [0, 1] {
        let owns = RequestTopicPartitions { topic_id: Uuid([9; 16]), partitions: vec![0] };
        let cases = [
            ("an empty group", with(&|r| r.group_id = "".into())),
            ("a blank group", with(&|r| r.group_id = "  ".into())),
            ("an empty member id later", with(&|r| (r.member_id, r.member_epoch) = ("".into(), 1))),
            ("a blank member id later", with(&|r| (r.member_id, r.member_epoch) = (" ".into(), 1))),
            ("an empty member id that leaves", with(&|r| (r.member_id, r.member_epoch) = ("".into(), -1))),
            ("an empty instance id", with(&|r| r.instance_id = Some("".into()))),
            ("an empty rack", with(&|r| r.rack_id = Some("".into()))),
            ("no rebalance time-out", with(&|r| r.rebalance_timeout_ms = -1)),
            ("no subscription", with(&|r| r.subscribed_topic_names = None)),
            ("nothing said of what it owns", with(&|r| r.topic_partitions = None)),
            ("partitions owned already", with(&|r| r.topic_partitions = Some(vec![owns.clone()]))),
            ("epoch -3", with(&|r| r.member_epoch = -3)),
            ("epoch -2 without an instance", with(&|r| r.member_epoch = -2)),
            ("an unknown assignor", with(&|r| r.server_assignor = Some("sticky".into()))),
            ("an empty assignor", with(&|r| r.server_assignor = Some("".into()))),
            ("an unknown group with an epoch", with(&|r| r.member_epoch = 1)),
            ("an unknown group that is left", with(&|r| r.member_epoch = -1)),
            (
                "an unknown group with an instance and an epoch",
                with(&|r| {
                    (r.member_epoch, r.instance_id) = (1, Some("i".into()));
                }),
            ),
        ];
        for (name, request) in cases {
            asked.case(&format!("ConsumerGroupHeartbeat {name}"), version, &request, beaten)?;
        }
    }
    let empty = with(&|r| r.member_id = "".into());
    asked.case("ConsumerGroupHeartbeat an empty member id", 1, &empty, beaten)?;
    let regex = |regex: &str| {
        let regex = KafkaString::from(regex);
        with(&|r| (r.subscribed_topic_regex, r.group_id) = (Some(regex.clone()), "expressive".into()))
    };
    asked.case("ConsumerGroupHeartbeat an expression that is none", 1, &regex("["), beaten)?;
    asked.case("ConsumerGroupHeartbeat an expression that RE2 does not know", 1, &regex("(?=a)"), beaten)
}

/// One member, two epochs after its first.
fn consumer_group(asked: &mut Asked) -> Result<()> {
    const GROUP: &str = "consumers";
    let first_epoch = asked.ask(1, &first(GROUP, "m", &["plain"]))?.context("closed")?.member_epoch;
    let (mut epoch, mut owned) = (first_epoch, Vec::new());
    for topics in [&["plain", "second"][..], &["plain", "second", "third"]] {
        // It owns what it was given, and is given more.
        tests_e2e::wait::until("the next epoch", ANSWER_BOUND, || {
            let request = ConsumerGroupHeartbeatRequest {
                member_epoch: epoch,
                topic_partitions: Some(owned.clone()),
                ..first(GROUP, "m", topics)
            };
            let response = asked.ask(1, &request)?.context("closed")?;
            ensure!(response.error_code == 0, "{response:?}");
            epoch = response.member_epoch;
            if let Some(assignment) = response.assignment {
                let given = assignment.topic_partitions.into_iter();
                owned =
                    given.map(|t| RequestTopicPartitions { topic_id: t.topic_id, partitions: t.partitions }).collect();
            }
            Ok((owned.len() == topics.len()).then_some(()))
        })?;
    }
    ensure!(epoch == first_epoch + 2, "{epoch} after {first_epoch}");
    for version in [0, 1] {
        let with = |member: &str, member_epoch, instance: Option<&str>| ConsumerGroupHeartbeatRequest {
            instance_id: instance.map(KafkaString::from),
            ..heartbeat(GROUP, member, member_epoch)
        };
        let cases = [
            ("an unknown member", with("nobody", 1, None)),
            ("an unknown member that leaves", with("nobody", -1, None)),
            ("an epoch past", with("m", first_epoch, None)),
            ("the epoch before, and nothing said of what it owns", with("m", epoch - 1, None)),
            ("an epoch to come", with("m", epoch + 1, None)),
            ("an unknown instance", with("m", epoch, Some("i"))),
            ("an unknown instance that leaves", with("m", -1, Some("i"))),
            ("an unknown instance that leaves to return", with("m", -2, Some("i"))),
            ("a member that leaves to return and has no instance", with("m", -2, None)),
        ];
        for (name, request) in cases {
            asked.case(&format!("ConsumerGroupHeartbeat {name} of a group"), version, &request, beaten)?;
        }
    }
    let static_one = |member: &str, member_epoch| ConsumerGroupHeartbeatRequest {
        instance_id: Some("one".into()),
        member_epoch,
        ..first("fixed", member, &["plain"])
    };
    let response = asked.ask(1, &static_one("s", 0))?.context("closed")?;
    ensure!(response.error_code == 0, "{response:?}");
    asked.case("ConsumerGroupHeartbeat an instance that is in use", 1, &static_one("t", 0), beaten)?;
    asked.case("ConsumerGroupHeartbeat an instance of another", 1, &static_one("t", 1), beaten)?;
    asked.case("ConsumerGroupHeartbeat an instance of another that leaves", 1, &static_one("t", -1), beaten)?;
    asked.case(
        "ConsumerGroupHeartbeat an instance of another that leaves to return",
        1,
        &static_one("t", -2),
        beaten,
    )?;
    let nameless = heartbeat("fixed", "s", response.member_epoch);
    asked.case("ConsumerGroupHeartbeat an instance that does not say so", 1, &nameless, beaten)?;
    asked.case("ConsumerGroupHeartbeat an instance that leaves to return", 1, &static_one("s", -2), beaten)?;
    asked.case("ConsumerGroupHeartbeat an instance that has left", 1, &static_one("s", 1), beaten)?;
    // A group of the classic protocol whose members are no consumers stays what it is.
    classic(asked, "workers", None, "connect")?;
    asked.case(
        "ConsumerGroupHeartbeat a classic group of another type",
        1,
        &first("workers", "m", &["plain"]),
        beaten,
    )?;
    asked.case("ConsumerGroupHeartbeat a classic group with an epoch", 1, &heartbeat("workers", "m", 1), beaten)?;
    asked.case("ConsumerGroupHeartbeat a classic group that is left", 1, &heartbeat("workers", "m", -1), beaten)?;

    for version in [2, 8, 9] {
        let cases = [
            ("an unknown member", commit(GROUP, "nobody", epoch, "plain", 0, None)),
            ("epoch 0", commit(GROUP, "m", 0, "plain", 0, None)),
            ("an epoch past", commit(GROUP, "m", first_epoch, "third", 0, None)),
            ("an epoch past in which it had the partition", commit(GROUP, "m", first_epoch, "plain", 0, None)),
            ("an epoch to come", commit(GROUP, "m", epoch + 1, "plain", 0, None)),
            ("from outside", commit(GROUP, "", -1, "plain", 0, None)),
            ("a member without an epoch", commit(GROUP, "m", -1, "plain", 0, None)),
        ];
        for (name, request) in cases {
            asked.case(&format!("OffsetCommit {name} of a consumer group"), version, &request, committed)?;
        }
    }
    let fetch = |member: Option<&str>, epoch| fetch_of(&[(GROUP, member, epoch)], Some(&[("third", Uuid::ZERO, 0)]));
    asked.case("OffsetFetch an unknown member of a consumer group", 9, &fetch(Some("nobody"), 1), fetched)?;
    asked.case("OffsetFetch an epoch past of a consumer group", 9, &fetch(Some("m"), first_epoch), fetched)?;
    asked.case("OffsetFetch an epoch to come of a consumer group", 9, &fetch(Some("m"), epoch + 1), fetched)?;
    asked.case("OffsetFetch a member without an epoch of a consumer group", 9, &fetch(Some("m"), -1), fetched)?;
    asked.case("OffsetFetch nobody with an epoch of a consumer group", 9, &fetch(None, epoch), fetched)?;

    let as_classic = |member: &str, protocol_type: &str| join(GROUP, member, protocol_type);
    asked.case("JoinGroup a consumer group as another type", 9, &as_classic("", "connect"), joined)?;
    let garbled = JoinGroupRequest {
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"?") }],
        ..as_classic("", "consumer")
    };
    asked.case("JoinGroup a consumer group with an unreadable subscription", 9, &garbled, joined)?;
    let of_group = |member: &str| Classic { group: GROUP, member: member.into(), generation: epoch };
    for member in ["nobody", "m"] {
        asked.case(
            &format!("SyncGroup {member} of a consumer group"),
            5,
            &sync_as(&of_group(member), "consumer", None),
            |r| vec![r.error_code.into()],
        )?;
        asked.case(&format!("Heartbeat {member} of a consumer group"), 4, &beat(GROUP, member, epoch, None), |r| {
            vec![r.error_code.into()]
        })?;
        asked.case(&format!("LeaveGroup {member} of a consumer group"), 5, &leave(GROUP, &[(member, None)]), left)?;
    }
    asked.case(
        "OffsetDelete a topic that a consumer group subscribes to",
        0,
        &delete_offset(GROUP, "plain", 0),
        deleted,
    )?;
    let request = DeleteGroupsRequest { groups_names: vec![GROUP.into()] };
    asked.case("DeleteGroups a consumer group with members", 2, &request, |response| {
        response.results.iter().map(|result| result.error_code.into()).collect()
    })
}

// - seen from outside -

fn describing(asked: &mut Asked) -> Result<()> {
    let groups: [(&str, &[&str]); 7] = [
        ("nobody", &[]),
        ("an empty group", &[""]),
        ("an unknown group", &["nowhere"]),
        ("the same twice", &["nowhere", "nowhere"]),
        ("a classic group", &["stable"]),
        ("a group without members", &["empty"]),
        ("a consumer group", &["consumers"]),
    ];
    for (name, groups) in groups {
        let ids = || groups.iter().map(|group| KafkaString::from(*group)).collect();
        for version in [0, 5, 6] {
            let request = DescribeGroupsRequest { groups: ids(), ..Default::default() };
            asked.note(&format!("DescribeGroups {name}"), version, &request, |response| {
                let of_group = |group: &kafka_wire::k15_describe_groups::DescribedGroup| {
                    let words =
                        [&group.group_state, &group.protocol_type, &group.protocol_data].map(|word| quoted(word));
                    format!("{} {} {}", group.error_code, words.join(" "), group.members.len())
                };
                response.groups.iter().map(of_group).collect::<Vec<_>>().join(", ")
            })?;
        }
        for version in [0, 1] {
            let request = ConsumerGroupDescribeRequest { group_ids: ids(), include_authorized_operations: false };
            asked.note(&format!("ConsumerGroupDescribe {name}"), version, &request, described)?;
        }
    }
    let filters: [(&str, &[&str], &[&str]); 7] = [
        ("everything", &[], &[]),
        ("an unknown state", &["Sleeping"], &[]),
        ("a state in other letters", &["sTABLE"], &[]),
        ("an empty state", &[""], &[]),
        ("an unknown type", &[], &["modern"]),
        ("a type in other letters", &[], &["CONSUMER"]),
        ("a state of one type and another type", &["PreparingRebalance"], &["consumer"]),
    ];
    for (name, states, types) in filters {
        let words = |words: &[&str]| words.iter().map(|word| KafkaString::from(*word)).collect::<Vec<_>>();
        let request = ListGroupsRequest { states_filter: words(states), types_filter: words(types) };
        let version = if types.is_empty() { 4 } else { 5 };
        asked.note(&format!("ListGroups {name}"), version, &request, |response| {
            let of_group = |group: &kafka_wire::k16_list_groups::ListedGroup| {
                let words = [&group.group_id, &group.protocol_type, &group.group_state, &group.group_type];
                words.map(|word| quoted(word)).join(" ")
            };
            let mut groups: Vec<String> = response.groups.iter().map(of_group).collect();
            groups.sort_unstable();
            format!("{}: {}", response.error_code, groups.join(", "))
        })?;
    }
    Ok(())
}

fn described(response: &ConsumerGroupDescribeResponse) -> String {
    let of_group = |group: &kafka_wire::k69_consumer_group_describe::DescribedGroup| {
        let epochs = format!("{} {}", group.group_epoch, group.assignment_epoch);
        let words = [&group.group_state, &group.assignor_name].map(|word| quoted(word)).join(" ");
        format!("{} {words} {epochs} {}", group.error_code, group.members.len())
    };
    response.groups.iter().map(of_group).collect::<Vec<_>>().join(", ")
}

fn quoted(word: &str) -> String {
    if word.is_empty() { "-".to_owned() } else { word.to_owned() }
}
