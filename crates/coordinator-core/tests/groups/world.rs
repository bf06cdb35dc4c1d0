//! A coordinator with its log, its clock and its clients.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, VecDeque};

use base_types::{ErrorCode, LeaderEpoch, Now, Offset, PartitionIndex, Random, Tick, Timestamp, TopicId};
use bytes::Bytes;
use coordinator_core::{AppendId, Effect, Effects, Event, GroupCoordinator, LogRecord, RequestKey, Settings};
use peer_api::groups::{
    Caller, ClassicGroupDescription, CommitPartition, CoordinatorError, DescribeGroups, FetchGroup, FetchedOffset,
    GroupRequest, GroupResponse, Heartbeat, JoinGroup, JoinProtocol, JoinRefused, Joined, LeaveGroup, LeavingMember,
    LeftMember, OffsetCommit, OffsetFetch, OffsetTopic, SyncGroup, Synced,
};
use peer_api::metadata::Image;
use peer_api::storage::AppendError;

pub const GROUP: &str = "group";

pub struct World {
    pub coordinator: GroupCoordinator,
    pub now: Now,
    pub image: Image,
    pub settings: Settings,
    /// What is committed.
    pub log: Vec<LogRecord>,
    /// What was asked of the log and is neither committed nor refused.
    pub in_flight: VecDeque<(AppendId, Vec<LogRecord>)>,
    /// Appends stay in flight until [`World::commit`].
    pub holding: bool,
    pub reloads: usize,
    replies: BTreeMap<RequestKey, Result<GroupResponse, CoordinatorError>>,
    /// How long the log was when a request was answered.
    pub answered_at: BTreeMap<RequestKey, usize>,
    next_request: u64,
    lives: u64,
}

impl World {
    pub fn new() -> World {
        World::with(Settings { group_initial_rebalance_delay_ms: 0, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> World {
        let mut world = World::unloaded(settings);
        world.event(Event::LoadFinished);
        world
    }

    pub fn unloaded(settings: Settings) -> World {
        World {
            coordinator: GroupCoordinator::new(settings.clone(), Random::new(1)),
            now: Now { tick: Tick(1_000), wall: Timestamp(1_700_000_000_000) },
            image: Image::default(),
            settings,
            log: Vec::new(),
            in_flight: VecDeque::new(),
            holding: false,
            reloads: 0,
            replies: BTreeMap::new(),
            answered_at: BTreeMap::new(),
            next_request: 0,
            lives: 1,
        }
    }

    pub fn event(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.coordinator.step(self.now, &self.image, event, &mut effects);
        self.coordinator.check_invariants();
        for effect in effects.drain() {
            match effect {
                Effect::Append { append, records } => {
                    let size = |record: &LogRecord| record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
                    let bytes: usize = records.iter().map(size).sum();
                    assert!(bytes <= self.settings.append_bytes_max, "a batch of {bytes} bytes is refused");
                    self.in_flight.push_back((append, records));
                }
                Effect::Reply { request, response } => {
                    let before = self.answered_at.insert(request, self.log.len());
                    self.replies.insert(request, response);
                    assert!(before.is_none(), "{request:?} is answered twice");
                }
                Effect::Reload => self.reloads += 1,
            }
        }
        if !self.holding {
            self.commit();
        }
    }

    /// Everything in flight is committed.
    pub fn commit(&mut self) {
        while self.commit_one() {}
    }

    pub fn commit_one(&mut self) -> bool {
        let Some((append, records)) = self.in_flight.pop_front() else { return false };
        self.log.extend(records);
        let holding = std::mem::replace(&mut self.holding, true);
        self.event(Event::AppendCommitted(append));
        self.holding = holding;
        true
    }

    /// The oldest append in flight is refused.
    pub fn refuse(&mut self, error: AppendError) {
        let (append, _) = self.in_flight.pop_front().expect("an append in flight");
        self.event(Event::AppendRefused { append, error });
    }

    /// Lets time pass, from deadline to deadline.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.tick.plus_ms(ms);
        loop {
            match self.coordinator.next_deadline() {
                Some(at) if at <= end => {
                    self.set_time(at.max(self.now.tick));
                    self.event(Event::Ticked);
                }
                _ => break,
            }
        }
        self.set_time(end);
    }

    fn set_time(&mut self, tick: Tick) {
        self.now.wall.0 += tick.ms_since(self.now.tick) as i64;
        self.now.tick = tick;
    }

    /// Another coordinator takes over with what the log has; what is in flight is lost.
    pub fn fail_over(&mut self) {
        self.event(Event::Unloaded);
        self.in_flight.clear();
        self.lives += 1;
        self.coordinator = GroupCoordinator::new(self.settings.clone(), Random::new(self.lives));
        self.event(Event::RecordsLoaded(self.log.clone()));
        self.event(Event::LoadFinished);
    }

    pub fn ask(&mut self, body: GroupRequest) -> RequestKey {
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        let caller = Caller { client_id: "client".to_owned(), client_host: "/127.0.0.1".to_owned() };
        self.event(Event::Requested { request, caller, body });
        request
    }

    pub fn is_waiting(&self, request: RequestKey) -> bool {
        !self.replies.contains_key(&request)
    }

    pub fn answer(&mut self, request: RequestKey) -> Result<GroupResponse, CoordinatorError> {
        self.replies.remove(&request).unwrap_or_else(|| panic!("{request:?} is not answered"))
    }

    pub fn unanswered(&self) -> u64 {
        self.next_request - self.replies.len() as u64
    }

    pub fn joined(&mut self, request: RequestKey) -> Result<Joined, JoinRefused> {
        match self.answer(request) {
            Ok(GroupResponse::JoinGroup(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn synced(&mut self, request: RequestKey) -> Result<Synced, ErrorCode> {
        match self.answer(request) {
            Ok(GroupResponse::SyncGroup(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn join(&mut self, join: JoinGroup) -> RequestKey {
        self.ask(GroupRequest::JoinGroup(join))
    }

    pub fn sync(&mut self, member_id: &str, generation_id: i32, assignments: &[(&str, &'static str)]) -> RequestKey {
        let assignments =
            assignments.iter().map(|(member, bytes)| ((*member).to_owned(), Bytes::from_static(bytes.as_bytes())));
        self.ask(GroupRequest::SyncGroup(SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id,
            member_id: member_id.to_owned(),
            assignments: assignments.collect(),
            ..SyncGroup::default()
        }))
    }

    pub fn heartbeat(&mut self, member_id: &str, generation_id: i32) -> Result<(), ErrorCode> {
        self.heartbeat_as(member_id, None, generation_id)
    }

    pub fn heartbeat_as(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        let request = self.ask(GroupRequest::Heartbeat(Heartbeat {
            group_id: GROUP.to_owned(),
            generation_id,
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
        }));
        match self.answer(request) {
            Ok(GroupResponse::Heartbeat(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Result<Vec<LeftMember>, ErrorCode> {
        let members = members.iter().map(|(member_id, instance)| LeavingMember {
            member_id: (*member_id).to_owned(),
            group_instance_id: instance.map(str::to_owned),
            reason: None,
        });
        let leave = LeaveGroup { group_id: GROUP.to_owned(), members: members.collect() };
        let request = self.ask(GroupRequest::LeaveGroup(leave));
        match self.answer(request) {
            Ok(GroupResponse::LeaveGroup(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn describe(&mut self) -> Option<ClassicGroupDescription> {
        let request = self.ask(GroupRequest::DescribeGroups(DescribeGroups { groups: vec![GROUP.to_owned()] }));
        match self.answer(request) {
            Ok(GroupResponse::DescribeGroups(mut groups)) => groups.remove(0).1.ok(),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self) -> &'static str {
        self.describe().map_or("none", |group| group.state.name())
    }

    /// A dynamic member joins with its two steps; its request waits for the others.
    pub fn join_new(&mut self, join: JoinGroup) -> (String, RequestKey) {
        let first = self.join(JoinGroup { requires_known_member_id: true, ..join.clone() });
        let refused = self.joined(first).expect_err("MEMBER_ID_REQUIRED");
        assert_eq!(refused.error, ErrorCode::MemberIdRequired);
        let member_id = refused.member_id;
        let second = self.join(JoinGroup { member_id: member_id.clone(), ..join });
        (member_id, second)
    }

    /// A stable group of one member.
    pub fn stable_member(&mut self) -> (String, i32) {
        let (member_id, request) = self.join_new(consumer());
        self.pass(0);
        let joined = self.joined(request).expect("joined");
        assert_eq!(joined.leader, member_id);
        let request = self.sync(&member_id, joined.generation_id, &[(&member_id, "all")]);
        self.synced(request).expect("synced");
        (member_id, joined.generation_id)
    }

    /// A second member has joined; generation 2 waits for its leader, the first, to assign.
    pub fn two_joined(&mut self) -> (String, String) {
        let (first, _) = self.stable_member();
        let (second, waits) = self.join_new(consumer());
        let again = self.join(JoinGroup { member_id: first.clone(), ..consumer() });
        self.joined(again).expect("first");
        self.joined(waits).expect("second");
        (first, second)
    }

    pub fn commit_offset(&mut self, offset: i64) -> Result<ErrorCode, ErrorCode> {
        let request = self.ask(GroupRequest::OffsetCommit(commit(offset)));
        self.committed(request)
    }

    /// The code of the first partition.
    pub fn committed(&mut self, request: RequestKey) -> Result<ErrorCode, ErrorCode> {
        match self.answer(request) {
            Ok(GroupResponse::OffsetCommit(result)) => result.map(|topics| topics[0].partitions[0].error),
            other => panic!("{other:?}"),
        }
    }

    pub fn fetch(&mut self, topic: &str, partition: i32) -> FetchedOffset {
        let topic =
            OffsetTopic { id: TopicId::ZERO, name: topic.to_owned(), partitions: vec![PartitionIndex(partition)] };
        let mut topics = self.fetch_group(Some(vec![topic]));
        topics.remove(0).partitions.remove(0)
    }

    pub fn fetch_group(&mut self, topics: Option<Vec<OffsetTopic<PartitionIndex>>>) -> Vec<OffsetTopic<FetchedOffset>> {
        let group = FetchGroup { group_id: GROUP.to_owned(), member_id: None, member_epoch: -1, topics };
        let request = self.ask(GroupRequest::OffsetFetch(OffsetFetch { groups: vec![group], require_stable: false }));
        match self.answer(request) {
            Ok(GroupResponse::OffsetFetch(mut groups)) => groups.remove(0).result.expect("fetched"),
            other => panic!("{other:?}"),
        }
    }
}

/// An ordinary consumer that subscribes to topic `t` and knows two assignors.
pub fn consumer() -> JoinGroup {
    JoinGroup {
        group_id: GROUP.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range", "t"), protocol("roundrobin", "t")],
        ..JoinGroup::default()
    }
}

/// A protocol whose metadata subscribes to one topic.
pub fn protocol(name: &str, topic: &str) -> JoinProtocol {
    let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    metadata.extend_from_slice(topic.as_bytes());
    metadata.extend_from_slice(&[0xff; 4]);
    JoinProtocol { name: name.to_owned(), metadata: Bytes::from(metadata) }
}

/// Of partition 0 of topic `t`, by nobody in particular.
pub fn commit(offset: i64) -> OffsetCommit {
    let partition = CommitPartition {
        partition: PartitionIndex(0),
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(3),
        metadata: Some("note".to_owned()),
    };
    OffsetCommit {
        group_id: GROUP.to_owned(),
        generation_or_epoch: -1,
        topics: vec![OffsetTopic { id: TopicId([7; 16]), name: "t".to_owned(), partitions: vec![partition] }],
        ..OffsetCommit::default()
    }
}
