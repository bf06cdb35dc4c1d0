//! How far groups are behind: asked of coordinators and leaders from time to time, for the metrics.
//!
//! ```text
//!  every partition of __consumer_offsets ── ListGroups ──► OffsetFetch of everything, and who the members are ──┐
//!  every leader of a partition that has a committed offset ◄───────────────── ListOffsets, latest ◄─────────────┘
//! ```
//!
//! A round asks for the groups of the storage nodes that this gateway stands for, so that all gateways together tell each group
//! once. What cannot be asked is missing from the round: a gap in a graph is honest. Rounds do not overlap.
//!
//! What it must not know: names of metrics.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Tick, TopicPartition};
use peer_api::groups::{
    Caller, ConsumerGroupDescribe, DescribeGroups, FetchGroup, GROUPS_TOPIC, GroupKind, GroupRequest, GroupResponse,
    ListGroups, ListedGroup, OffsetFetch, ToCoordinator,
};
use peer_api::metadata::Image;
use peer_api::storage::{
    Isolation, ListOffsetsPartition, OffsetSpec, Request, RequestId, Response, ToStorage, TransportError,
};

use crate::calls::Calls;
use crate::effect::{Effect, Effects};
use crate::event::Trace;
use crate::limits::READ_TIMEOUT_MS;
use crate::operation::OperationId;
use crate::route;

/// In whose name the questions are asked; no request of a client has it.
pub(crate) const OPERATION: OperationId = OperationId(u64::MAX);

/// One group, as the last round found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLag {
    pub group_id: String,
    /// By Kafka's name.
    pub state: &'static str,
    pub members: usize,
    /// What has a committed offset and a leader that said how far it is.
    pub partitions: Vec<PartitionLag>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    pub topic: String,
    pub partition: PartitionIndex,
    pub committed: Offset,
    /// Records between the committed offset and the high watermark; never below 0.
    pub lag: i64,
}

pub(crate) struct Lag {
    /// 0: never.
    interval_ms: u64,
    begin_at: Tick,
    round: Option<Round>,
    groups: Vec<GroupLag>,
    rounds: u64,
}

/// What it needs of the gateway.
pub(crate) struct Ways<'a> {
    pub now: Tick,
    pub gateway: BrokerId,
    pub image: &'a Image,
    pub calls: &'a mut Calls,
    pub effects: &'a mut Effects,
}

struct Round {
    until: Tick,
    calls: BTreeMap<RequestId, Asked>,
    groups: BTreeMap<String, Found>,
    /// The leaders are being asked.
    measuring: bool,
    ends: BTreeMap<TopicPartition, Offset>,
}

enum Asked {
    /// A coordinator, of one partition.
    Coordinator(BrokerId, PartitionIndex),
    Leader,
}

struct Found {
    listed: ListedGroup,
    members: usize,
    committed: Vec<(TopicPartition, String, Offset)>,
}

impl Lag {
    pub fn new(interval_ms: u64) -> Lag {
        Lag { interval_ms, begin_at: Tick(0), round: None, groups: Vec::new(), rounds: 0 }
    }

    pub fn groups(&self) -> &[GroupLag] {
        &self.groups
    }

    /// Finished ones: whoever remembers the number knows whether there is news.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    pub fn next_deadline(&self) -> Option<Tick> {
        match &self.round {
            Some(round) => Some(round.until),
            None => (self.interval_ms > 0).then_some(self.begin_at),
        }
    }

    pub fn ticked(&mut self, ways: &mut Ways<'_>) {
        if self.round.as_ref().is_some_and(|round| round.until <= ways.now) {
            self.finish();
        }
        if self.interval_ms > 0 && self.round.is_none() && self.begin_at <= ways.now {
            self.begin_at = ways.now.plus_ms(self.interval_ms);
            self.round = Some(Round::begin(ways));
            self.go_on(ways);
        }
    }

    pub fn answered(&mut self, ways: &mut Ways<'_>, call: RequestId, result: Result<Response, TransportError>) {
        let Some(round) = &mut self.round else { return };
        let Some(asked) = round.calls.remove(&call) else { return };
        match (asked, result) {
            (Asked::Coordinator(node, partition), Ok(Response::Coordinate(answer))) => {
                if let Ok(response) = *answer {
                    round.coordinator_said(ways, node, partition, response);
                }
            }
            (Asked::Leader, Ok(Response::ListOffsets(found))) => {
                round.ends.extend(found.into_iter().filter_map(|(partition, end)| Some((partition, end.ok()?.offset))));
            }
            _ => {}
        }
        self.go_on(ways);
    }

    /// Begins the second half of a round, or ends it, when nothing is awaited any more.
    fn go_on(&mut self, ways: &mut Ways<'_>) {
        let Some(round) = &mut self.round else { return };
        if round.calls.is_empty() && !round.measuring {
            round.measure(ways);
        }
        if round.calls.is_empty() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(round) = self.round.take() {
            self.groups = round.told();
            self.rounds += 1;
        }
    }
}

impl Round {
    fn begin(ways: &mut Ways<'_>) -> Round {
        let mut round = Round {
            until: ways.now.plus_ms(READ_TIMEOUT_MS),
            calls: BTreeMap::new(),
            groups: BTreeMap::new(),
            measuring: false,
            ends: BTreeMap::new(),
        };
        let nodes = route::nodes_of(ways.image, ways.gateway);
        let partitions = ways.image.topic_named(GROUPS_TOPIC).map(|topic| topic.partitions.as_slice());
        for (index, state) in (0..).zip(partitions.unwrap_or_default()) {
            if let Some(leader) = state.leader.filter(|leader| nodes.contains(leader)) {
                let request = GroupRequest::ListGroups(ListGroups::default());
                round.ask_coordinator(ways, leader, PartitionIndex(index), request);
            }
        }
        round
    }

    fn ask(&mut self, ways: &mut Ways<'_>, node: BrokerId, asked: Asked, request: Request) {
        let id = ways.calls.begin(node, OPERATION);
        ways.effects.push(Effect::ToStorage { node, message: ToStorage { id, request }, trace: Trace::default() });
        self.calls.insert(id, asked);
    }

    fn ask_coordinator(
        &mut self,
        ways: &mut Ways<'_>,
        node: BrokerId,
        partition: PartitionIndex,
        request: GroupRequest,
    ) {
        let question = ToCoordinator { partition, caller: Caller::default(), request };
        self.ask(ways, node, Asked::Coordinator(node, partition), Request::Coordinate(Box::new(question)));
    }

    fn coordinator_said(
        &mut self,
        ways: &mut Ways<'_>,
        node: BrokerId,
        partition: PartitionIndex,
        response: GroupResponse,
    ) {
        match response {
            GroupResponse::ListGroups(groups) => self.listed(ways, node, partition, groups),
            GroupResponse::OffsetFetch(groups) => {
                for fetched in groups {
                    let Some(found) = self.groups.get_mut(&fetched.group_id) else { continue };
                    for topic in fetched.result.unwrap_or_default() {
                        // Offsets are kept by name: a topic that is gone has no end to compare with.
                        let Some(known) = ways.image.topic_named(&topic.name) else { continue };
                        let offsets = topic.partitions.iter().filter(|offset| offset.offset.0 >= 0);
                        found.committed.extend(offsets.map(|offset| {
                            let partition = TopicPartition { topic: known.id, partition: offset.partition };
                            (partition, topic.name.clone(), offset.offset)
                        }));
                    }
                }
            }
            GroupResponse::DescribeGroups(groups) => {
                for (group_id, described) in groups {
                    if let (Some(found), Ok(described)) = (self.groups.get_mut(&group_id), described) {
                        found.members = described.members.len();
                    }
                }
            }
            GroupResponse::ConsumerGroupDescribe(groups) => {
                for (group_id, described) in groups {
                    if let (Some(found), Ok(described)) = (self.groups.get_mut(&group_id), described) {
                        found.members = described.members.len();
                    }
                }
            }
            _ => {}
        }
    }

    fn listed(&mut self, ways: &mut Ways<'_>, node: BrokerId, partition: PartitionIndex, groups: Vec<ListedGroup>) {
        if groups.is_empty() {
            return;
        }
        let of_kind = |kind| -> Vec<String> {
            groups.iter().filter(|group| group.kind == kind).map(|group| group.group_id.clone()).collect()
        };
        let (classic, consumer) = (of_kind(GroupKind::Classic), of_kind(GroupKind::Consumer));
        let fetch = |group: &ListedGroup| FetchGroup {
            group_id: group.group_id.clone(),
            member_id: None,
            member_epoch: -1,
            topics: None,
        };
        let fetch = OffsetFetch { groups: groups.iter().map(fetch).collect(), require_stable: false };
        for listed in groups {
            let found = Found { listed, members: 0, committed: Vec::new() };
            self.groups.insert(found.listed.group_id.clone(), found);
        }
        self.ask_coordinator(ways, node, partition, GroupRequest::OffsetFetch(fetch));
        if !classic.is_empty() {
            let describe = GroupRequest::DescribeGroups(DescribeGroups { groups: classic });
            self.ask_coordinator(ways, node, partition, describe);
        }
        if !consumer.is_empty() {
            let describe = GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups: consumer });
            self.ask_coordinator(ways, node, partition, describe);
        }
    }

    /// Asks each leader how far its partitions are.
    fn measure(&mut self, ways: &mut Ways<'_>) {
        self.measuring = true;
        let wanted: BTreeSet<TopicPartition> =
            self.groups.values().flat_map(|found| &found.committed).map(|(partition, ..)| *partition).collect();
        let mut by_leader: BTreeMap<BrokerId, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for partition in wanted {
            if let Some(leader) = ways.image.partition(partition).and_then(|state| state.leader) {
                by_leader.entry(leader).or_default().push(ListOffsetsPartition {
                    partition,
                    leader_epoch: LeaderEpoch::UNKNOWN,
                    isolation: Isolation::ReadUncommitted,
                    at: OffsetSpec::Latest,
                });
            }
        }
        for (leader, partitions) in by_leader {
            self.ask(ways, leader, Asked::Leader, Request::ListOffsets(partitions));
        }
    }

    fn told(self) -> Vec<GroupLag> {
        let ends = self.ends;
        let lag = |(partition, topic, committed): (TopicPartition, String, Offset)| {
            let end = ends.get(&partition)?;
            let lag = (end.0 - committed.0).max(0);
            Some(PartitionLag { topic, partition: partition.partition, committed, lag })
        };
        self.groups
            .into_values()
            .map(|found| GroupLag {
                group_id: found.listed.group_id,
                state: found.listed.state.name(),
                members: found.members,
                partitions: found.committed.into_iter().filter_map(lag).collect(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use base_types::Timestamp;
    use peer_api::groups::{
        ClassicGroupDescription, ClassicMemberDescription, ConsumerGroupDescription, CoordinatorError, FetchedGroup,
        FetchedOffset, GroupNotFound, GroupState, OffsetTopic,
    };
    use peer_api::storage::{ListedOffset, ReadError};

    use super::*;
    use crate::testing::World;

    fn world() -> World {
        World::with(2, crate::Config { id: BrokerId(100), lag_interval_ms: 30_000, ..Default::default() })
    }

    fn listed(group_id: &str, kind: GroupKind) -> ListedGroup {
        let (group_id, state) = (group_id.to_owned(), GroupState::Stable);
        ListedGroup { group_id, protocol_type: "consumer".into(), state, kind }
    }

    fn fetched(group_id: &str, topic: &str, offsets: &[i64]) -> FetchedGroup {
        let offset = |(partition, offset): (i32, &i64)| FetchedOffset {
            partition: PartitionIndex(partition),
            offset: Offset(*offset),
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: String::new(),
            error: base_types::ErrorCode::None,
        };
        let partitions = (0..).zip(offsets).map(offset).collect();
        let topics = vec![OffsetTopic { id: base_types::TopicId::ZERO, name: topic.into(), partitions }];
        FetchedGroup { group_id: group_id.into(), result: Ok(topics) }
    }

    fn end(offset: i64) -> Result<ListedOffset, ReadError> {
        Ok(ListedOffset { offset: Offset(offset), timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch::UNKNOWN })
    }

    /// What the round that is due asks coordinators first.
    fn questions(world: &mut World) -> Vec<(BrokerId, RequestId, ToCoordinator)> {
        let mut questions = Vec::new();
        while !world.to_storage.is_empty() {
            questions.push(world.next_question());
        }
        questions
    }

    #[test]
    fn a_round_tells_members_and_how_far_each_partition_is_behind() {
        let mut world = world();
        let topic = world.topic("t", &[2, 2, 1]);
        world.topic(GROUPS_TOPIC, &[1]);
        world.pass(30_000);
        let [(node, list, question)] = questions(&mut world).try_into().unwrap();
        assert_eq!((node, question.request), (BrokerId(1), GroupRequest::ListGroups(ListGroups::default())));
        let groups = vec![listed("old", GroupKind::Classic), listed("new", GroupKind::Consumer)];
        world.coordinator_answers(node, list, Ok(GroupResponse::ListGroups(groups)));
        let [fetch, classic, consumer] = questions(&mut world).try_into().unwrap();
        // −1 is nothing committed; a topic that is gone has no end.
        let offsets = vec![fetched("old", "t", &[5, -1, 9]), fetched("new", "gone", &[1])];
        world.coordinator_answers(node, fetch.1, Ok(GroupResponse::OffsetFetch(offsets)));
        let member = ClassicMemberDescription {
            member_id: "m".into(),
            group_instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            metadata: Default::default(),
            assignment: Default::default(),
        };
        let described = ClassicGroupDescription {
            state: GroupState::Stable,
            protocol_type: "consumer".into(),
            protocol_name: "range".into(),
            members: vec![member],
        };
        let described = vec![("old".to_owned(), Ok(described))];
        world.coordinator_answers(node, classic.1, Ok(GroupResponse::DescribeGroups(described)));
        let described = ConsumerGroupDescription {
            state: GroupState::Stable,
            group_epoch: 1,
            assignment_epoch: 1,
            assignor_name: "uniform".into(),
            members: Vec::new(),
        };
        let described = vec![("new".to_owned(), Ok(described))];
        world.coordinator_answers(node, consumer.1, Ok(GroupResponse::ConsumerGroupDescribe(described)));
        // There was one before there were groups.
        assert_eq!((world.gateway.lag_rounds(), world.to_storage.len()), (1, 2));
        for (index, offset) in [(2, 7), (0, 12)] {
            let (node, id, request) = world.next_request();
            let Request::ListOffsets(asked) = request else { panic!("{request:?}") };
            assert_eq!(asked.len(), 1);
            assert_eq!(asked[0].partition, TopicPartition { topic, partition: PartitionIndex(index) });
            world.storage_answers(node, id, Response::ListOffsets(vec![(asked[0].partition, end(offset))]));
        }
        let lag = |partition, committed, lag| PartitionLag {
            topic: "t".into(),
            partition: PartitionIndex(partition),
            committed: Offset(committed),
            lag,
        };
        let group = |group_id: &str, members, partitions| GroupLag {
            group_id: group_id.into(),
            state: "Stable",
            members,
            partitions,
        };
        // Committed beyond what the leader says: not behind.
        let expected = [group("new", 0, vec![]), group("old", 1, vec![lag(0, 5, 7), lag(2, 9, 0)])];
        assert_eq!((world.gateway.lag_rounds(), world.gateway.lag()), (2, &expected[..]));
    }

    #[test]
    fn what_cannot_be_asked_is_missing_and_the_next_round_comes_in_time() {
        let mut world = world();
        world.topic("t", &[2]);
        world.topic(GROUPS_TOPIC, &[1, 2]);
        world.pass(30_000);
        let begun = world.now;
        let [first, second] = questions(&mut world).try_into().unwrap();
        world.storage_fails(second.0, second.1, TransportError::Broken);
        let groups = vec![listed("a", GroupKind::Classic)];
        world.coordinator_answers(first.0, first.1, Ok(GroupResponse::ListGroups(groups)));
        let [fetch, describe] = questions(&mut world).try_into().unwrap();
        let offsets = vec![fetched("a", "t", &[5])];
        world.coordinator_answers(fetch.0, fetch.1, Ok(GroupResponse::OffsetFetch(offsets)));
        let missing = vec![("a".to_owned(), Err(GroupNotFound { message: String::new() }))];
        world.coordinator_answers(describe.0, describe.1, Ok(GroupResponse::DescribeGroups(missing)));
        let (node, id, _) = world.next_request();
        assert_eq!(world.gateway.lag_rounds(), 1);
        world.pass(READ_TIMEOUT_MS);
        assert_eq!((world.gateway.lag_rounds(), world.gateway.lag()[0].partitions.len()), (2, 0));
        // Too late.
        world.storage_answers(node, id, Response::ListOffsets(vec![]));
        assert!(world.to_storage.is_empty());
        world.pass(begun + 30_000 - world.now);
        let again = questions(&mut world);
        assert_eq!(again.len(), 2);
        for (node, id, _) in again {
            world.coordinator_answers(node, id, Err(CoordinatorError::LoadInProgress));
        }
        assert_eq!((world.gateway.lag_rounds(), world.gateway.lag()), (3, &[][..]));
        world.gateway.check_invariants();
    }

    #[test]
    fn nobody_is_asked_when_nobody_wants_to_know() {
        let mut world = World::with_groups(1);
        world.pass(10_000_000);
        assert!(world.to_storage.is_empty());
    }
}
