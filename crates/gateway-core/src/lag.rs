//! How far groups are behind: asked of coordinators and leaders from time to time, for the metrics.
//!
//! ```text
//!  every partition of __consumer_offsets ── ListGroups ──► OffsetFetch of everything, and who the members are ──┐
//!  every leader of a partition that has a committed offset ◄───────────────── ListOffsets, latest ◄─────────────┤
//!  the same, where a group is behind ◄─────────────── ListOffsets, time of what it has not read ◄───────────────┘
//! ```
//!
//! In seconds a group is behind by the age of the first record that it has not read: one batch for each offset, which its leader
//! looks at and does not send. A group that stands still is not asked about again.
//!
//! A round asks for the groups of the storage nodes that this gateway stands for, so that all gateways together tell each group
//! once. What cannot be asked is missing from the round: a gap in a graph is honest. Rounds do not overlap.
//!
//! What it must not know: names of metrics.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, LeaderEpoch, Now, Offset, PartitionIndex, Tick, Timestamp, TopicPartition};
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
    /// The generation or epoch, which grows with each rebalance; `None` when the coordinator did not say.
    pub rebalances: Option<i32>,
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
    /// Since the first of these records was written; 0 when there is none, `None` when its leader could not say.
    pub lag_ms: Option<i64>,
}

pub(crate) struct Lag {
    /// 0: never.
    interval_ms: u64,
    begin_at: Tick,
    round: Option<Round>,
    groups: Vec<GroupLag>,
    rounds: u64,
    /// When the first record was written that a group had not read in the last round.
    times: BTreeMap<Place, Timestamp>,
}

/// A partition, and an offset in it.
type Place = (TopicPartition, Offset);

/// What it needs of the gateway.
pub(crate) struct Ways<'a> {
    pub now: Now,
    pub gateway: BrokerId,
    pub image: &'a Image,
    pub calls: &'a mut Calls,
    pub effects: &'a mut Effects,
}

struct Round {
    until: Tick,
    calls: BTreeMap<RequestId, Asked>,
    groups: BTreeMap<String, Found>,
    stage: Stage,
    ends: BTreeMap<TopicPartition, Offset>,
    times: BTreeMap<Place, Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Coordinators are asked.
    Groups,
    /// Leaders are asked how far they are.
    Ends,
    /// Leaders are asked how old it is what groups have not read.
    Times,
}

enum Asked {
    /// A coordinator, of one partition.
    Coordinator(BrokerId, PartitionIndex),
    Ends,
    /// The offsets, in the order asked.
    Times(Vec<Offset>),
}

struct Found {
    listed: ListedGroup,
    rebalances: Option<i32>,
    members: usize,
    committed: Vec<(TopicPartition, String, Offset)>,
}

impl Lag {
    pub fn new(interval_ms: u64) -> Lag {
        let (groups, times) = (Vec::new(), BTreeMap::new());
        Lag { interval_ms, begin_at: Tick(0), round: None, groups, rounds: 0, times }
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
        if self.round.as_ref().is_some_and(|round| round.until <= ways.now.tick) {
            self.finish(ways.now);
        }
        if self.interval_ms > 0 && self.round.is_none() && self.begin_at <= ways.now.tick {
            self.begin_at = ways.now.tick.plus_ms(self.interval_ms);
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
            (Asked::Ends, Ok(Response::ListOffsets(found))) => {
                round.ends.extend(found.into_iter().filter_map(|(partition, end)| Some((partition, end.ok()?.offset))));
            }
            (Asked::Times(offsets), Ok(Response::ListOffsets(found))) => {
                let times = found.into_iter().zip(offsets).filter_map(|((partition, first), offset)| {
                    let time = first.ok()?.timestamp;
                    (time != Timestamp::NONE).then_some(((partition, offset), time))
                });
                round.times.extend(times);
            }
            _ => {}
        }
        self.go_on(ways);
    }

    /// Begins the next stage of a round, or ends it, when nothing is awaited any more.
    fn go_on(&mut self, ways: &mut Ways<'_>) {
        let Some(round) = &mut self.round else { return };
        if round.calls.is_empty() && round.stage == Stage::Groups {
            round.ask_for_ends(ways);
        }
        if round.calls.is_empty() && round.stage == Stage::Ends {
            round.ask_for_times(ways, &self.times);
        }
        if round.calls.is_empty() {
            self.finish(ways.now);
        }
    }

    fn finish(&mut self, now: Now) {
        if let Some(mut round) = self.round.take() {
            self.times = std::mem::take(&mut round.times);
            self.groups = round.told(now, &self.times);
            self.rounds += 1;
        }
    }
}

impl Round {
    fn begin(ways: &mut Ways<'_>) -> Round {
        let mut round = Round {
            until: ways.now.tick.plus_ms(READ_TIMEOUT_MS),
            calls: BTreeMap::new(),
            groups: BTreeMap::new(),
            stage: Stage::Groups,
            ends: BTreeMap::new(),
            times: BTreeMap::new(),
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
                        found.rebalances = Some(described.generation);
                    }
                }
            }
            GroupResponse::ConsumerGroupDescribe(groups) => {
                for (group_id, described) in groups {
                    if let (Some(found), Ok(described)) = (self.groups.get_mut(&group_id), described) {
                        found.members = described.members.len();
                        found.rebalances = Some(described.group_epoch);
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
            let found = Found { listed, rebalances: None, members: 0, committed: Vec::new() };
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
    fn ask_for_ends(&mut self, ways: &mut Ways<'_>) {
        self.stage = Stage::Ends;
        let committed = self.groups.values().flat_map(|found| &found.committed);
        let wanted: BTreeSet<TopicPartition> = committed.map(|(partition, ..)| *partition).collect();
        for (leader, partitions) in by_leader(ways.image, wanted.into_iter().map(|p| (p, OffsetSpec::Latest))) {
            self.ask(ways, leader, Asked::Ends, Request::ListOffsets(partitions));
        }
    }

    /// Asks each leader when the first record was written that a group has not read, as far as that is not `known`.
    fn ask_for_times(&mut self, ways: &mut Ways<'_>, known: &BTreeMap<Place, Timestamp>) {
        self.stage = Stage::Times;
        let committed = self.groups.values().flat_map(|found| &found.committed);
        let behind = committed.map(|(partition, _, offset)| (*partition, *offset));
        let behind = behind.filter(|(partition, offset)| self.ends.get(partition).is_some_and(|end| end > offset));
        let (old, new): (BTreeSet<Place>, BTreeSet<Place>) = behind.partition(|place| known.contains_key(place));
        self.times.extend(old.into_iter().filter_map(|place| Some((place, *known.get(&place)?))));
        let asked = new.into_iter().map(|(partition, offset)| (partition, OffsetSpec::TimeOf(offset)));
        for (leader, partitions) in by_leader(ways.image, asked) {
            let offset = |ask: &ListOffsetsPartition| match ask.at {
                OffsetSpec::TimeOf(offset) => offset,
                _ => Offset::UNKNOWN,
            };
            let offsets = partitions.iter().map(offset).collect();
            self.ask(ways, leader, Asked::Times(offsets), Request::ListOffsets(partitions));
        }
    }

    fn told(self, now: Now, times: &BTreeMap<Place, Timestamp>) -> Vec<GroupLag> {
        let ends = self.ends;
        let lag = |(partition, topic, committed): (TopicPartition, String, Offset)| {
            let end = ends.get(&partition)?;
            let lag = (end.0 - committed.0).max(0);
            let age = |time: &Timestamp| now.wall.0.saturating_sub(time.0).max(0);
            let lag_ms = if lag == 0 { Some(0) } else { times.get(&(partition, committed)).map(age) };
            Some(PartitionLag { topic, partition: partition.partition, committed, lag, lag_ms })
        };
        self.groups
            .into_values()
            .map(|found| GroupLag {
                group_id: found.listed.group_id,
                state: found.listed.state.name(),
                rebalances: found.rebalances,
                members: found.members,
                partitions: found.committed.into_iter().filter_map(lag).collect(),
            })
            .collect()
    }
}

/// Questions by whom they are for. What has no leader is not asked.
fn by_leader(
    image: &Image,
    questions: impl Iterator<Item = (TopicPartition, OffsetSpec)>,
) -> BTreeMap<BrokerId, Vec<ListOffsetsPartition>> {
    let mut by_leader: BTreeMap<BrokerId, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (partition, at) in questions {
        if let Some(leader) = image.partition(partition).and_then(|state| state.leader) {
            by_leader.entry(leader).or_default().push(ListOffsetsPartition {
                partition,
                leader_epoch: LeaderEpoch::UNKNOWN,
                isolation: Isolation::ReadUncommitted,
                at,
            });
        }
    }
    by_leader
}

#[cfg(test)]
mod tests {
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

    fn first(offset: i64, written: i64) -> Result<ListedOffset, ReadError> {
        let (offset, timestamp) = (Offset(offset), Timestamp(written));
        Ok(ListedOffset { offset, timestamp, leader_epoch: LeaderEpoch::UNKNOWN })
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
            generation: 4,
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
        let (node, id, request) = world.next_request();
        let Request::ListOffsets(asked) = request else { panic!("{request:?}") };
        let at: Vec<_> = asked.iter().map(|ask| (ask.partition.partition.0, ask.at)).collect();
        assert_eq!((node, at), (BrokerId(2), vec![(0, OffsetSpec::TimeOf(Offset(5)))]));
        let written = world.wall().0 - 1_500;
        world.storage_answers(node, id, Response::ListOffsets(vec![(asked[0].partition, first(4, written))]));
        let lag = |partition, committed, lag, lag_ms| PartitionLag {
            topic: "t".into(),
            partition: PartitionIndex(partition),
            committed: Offset(committed),
            lag,
            lag_ms: Some(lag_ms),
        };
        let group = |group_id: &str, rebalances, members, partitions| GroupLag {
            group_id: group_id.into(),
            state: "Stable",
            rebalances: Some(rebalances),
            members,
            partitions,
        };
        // Committed beyond what the leader says: not behind.
        let of_old = vec![lag(0, 5, 7, 1_500), lag(2, 9, 0, 0)];
        let expected = [group("new", 1, 0, vec![]), group("old", 4, 1, of_old)];
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

    /// One group on one partition, from what it has committed to what it is behind in milliseconds; `times` answers for the
    /// offsets that are asked for.
    fn round(world: &mut World, committed: i64, log_end: i64, times: &[(i64, Option<i64>)]) -> Option<i64> {
        let [(node, list, _)] = questions(world).try_into().unwrap();
        let groups = vec![listed("a", GroupKind::Classic)];
        world.coordinator_answers(node, list, Ok(GroupResponse::ListGroups(groups)));
        let [fetch, describe] = questions(world).try_into().unwrap();
        let offsets = vec![fetched("a", "t", &[committed])];
        world.coordinator_answers(fetch.0, fetch.1, Ok(GroupResponse::OffsetFetch(offsets)));
        let missing = vec![("a".to_owned(), Err(GroupNotFound { message: String::new() }))];
        world.coordinator_answers(describe.0, describe.1, Ok(GroupResponse::DescribeGroups(missing)));
        for (asked_for, answer) in std::iter::once(&(-1, None)).chain(times) {
            let (node, id, request) = world.next_request();
            let Request::ListOffsets(asked) = request else { panic!("{request:?}") };
            let [ask] = asked[..] else { panic!("{asked:?}") };
            let answer = match (ask.at, answer) {
                (OffsetSpec::Latest, _) => end(log_end),
                (OffsetSpec::TimeOf(offset), Some(written)) if offset.0 == *asked_for => first(offset.0, *written),
                (OffsetSpec::TimeOf(offset), None) if offset.0 == *asked_for => Err(ReadError::StorageFailed),
                (other, _) => panic!("{other:?}"),
            };
            world.storage_answers(node, id, Response::ListOffsets(vec![(ask.partition, answer)]));
        }
        assert!(world.to_storage.is_empty());
        let [PartitionLag { lag_ms, .. }] = world.gateway.lag()[0].partitions[..] else { panic!("one partition") };
        lag_ms
    }

    #[test]
    fn who_stands_still_grows_older_and_is_not_asked_about_again() {
        let mut world = world();
        world.topic("t", &[2]);
        world.topic(GROUPS_TOPIC, &[1]);
        world.pass(30_000);
        let written = world.wall().0 - 2_000;
        assert_eq!(round(&mut world, 5, 7, &[(5, Some(written))]), Some(2_000));
        world.pass(30_000);
        assert_eq!(round(&mut world, 5, 9, &[]), Some(32_000));
        world.pass(30_000);
        assert_eq!(round(&mut world, 9, 9, &[]), Some(0));
        world.pass(30_000);
        // Of a clock that is ahead of ours.
        let written = world.wall().0 + 500;
        assert_eq!(round(&mut world, 9, 10, &[(9, Some(written))]), Some(0));
        world.pass(30_000);
        assert_eq!(round(&mut world, 10, 12, &[(10, None)]), None);
        // What could not be said, and what has no time, is asked again.
        world.pass(30_000);
        assert_eq!(round(&mut world, 10, 12, &[(10, Some(-1))]), None);
        world.pass(30_000);
        let written = world.wall().0 - 1;
        assert_eq!(round(&mut world, 10, 12, &[(10, Some(written))]), Some(1));
    }

    #[test]
    fn nobody_is_asked_when_nobody_wants_to_know() {
        let mut world = World::with_groups(1);
        world.pass(10_000_000);
        assert!(world.to_storage.is_empty());
    }
}
