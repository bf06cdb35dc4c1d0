//! A coordinator with its log and its metadata, and clients of the consumer protocol that play by its rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, Incarnation, LeaderEpoch, Now, Offset, PartitionEpoch, PartitionIndex, Random,
    Tick, Timestamp, TopicId, TopicPartition,
};
use coordinator_core::{Effect, Effects, Event, GroupCoordinator, LogRecord, RequestKey, Settings};
use peer_api::groups::{
    AssignedTopic, Caller, CommitPartition, ConsumerGroupDescribe, ConsumerGroupDescription, ConsumerGroupHeartbeat,
    ConsumerGroupHeartbeatAnswer, CoordinatorError, DeleteGroups, DescribeGroups, FetchGroup, GroupRequest,
    GroupResponse, ListGroups, ListedGroup, OffsetCommit, OffsetFetch, OffsetTopic, Refused,
};
use peer_api::metadata::{Broker, BrokerState, Image, MetadataOffset, PartitionState, Record};

pub const GROUP: &str = "workers";

pub type Owned = BTreeSet<TopicPartition>;

pub struct World {
    pub now: u64,
    pub image: Image,
    pub coordinator: GroupCoordinator,
    pub settings: Settings,
    /// What is committed.
    pub log: Vec<LogRecord>,
    effects: Effects,
    next_request: u64,
    replies: BTreeMap<RequestKey, Result<GroupResponse, CoordinatorError>>,
    topics_made: u8,
    lives: u64,
}

impl World {
    pub fn new(settings: Settings) -> World {
        let mut image = Image::default();
        for (id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
            image.apply(&Record::BrokerRegistered(Broker {
                id: BrokerId(id),
                epoch: BrokerEpoch(1),
                incarnation: Incarnation([id as u8; 16]),
                rack: Some(rack.to_owned()),
                peer_address: String::new(),
                host: String::new(),
                state: BrokerState::Active,
            }));
        }
        image.advance(MetadataOffset(1));
        let mut world = World {
            now: 1_000,
            image,
            coordinator: GroupCoordinator::new(settings.clone(), Random::new(1)),
            settings,
            log: Vec::new(),
            effects: Effects::default(),
            next_request: 0,
            replies: BTreeMap::new(),
            topics_made: 0,
            lives: 1,
        };
        world.step(Event::LoadFinished);
        world
    }

    pub fn step(&mut self, event: Event) {
        let now = Now { tick: Tick(self.now), wall: Timestamp(1_700_000_000_000 + self.now as i64) };
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.coordinator.step(now, &self.image, event, &mut self.effects);
            self.coordinator.check_invariants();
            for effect in self.effects.drain() {
                match effect {
                    Effect::Append { append, records } => {
                        self.log.extend(records);
                        events.push_back(Event::AppendCommitted(append));
                    }
                    Effect::Reply { request, response } => drop(self.replies.insert(request, response)),
                    Effect::Reload => panic!("nothing was refused"),
                }
            }
        }
    }

    /// For what is answered at once.
    pub fn ask(&mut self, body: GroupRequest) -> GroupResponse {
        let request = self.send(body);
        self.answer(request).expect("it is answered").expect("the coordinator serves")
    }

    /// The answer, if it is there by now.
    pub fn answer(&mut self, request: RequestKey) -> Option<Result<GroupResponse, CoordinatorError>> {
        self.replies.remove(&request)
    }

    pub fn send(&mut self, body: GroupRequest) -> RequestKey {
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        let caller = Caller { client_id: "client".to_owned(), client_host: "/10.0.0.1".to_owned() };
        self.step(Event::Requested { request, caller, body });
        request
    }

    pub fn heartbeat(&mut self, heartbeat: ConsumerGroupHeartbeat) -> Result<ConsumerGroupHeartbeatAnswer, Refused> {
        match self.ask(GroupRequest::ConsumerGroupHeartbeat(heartbeat)) {
            GroupResponse::ConsumerGroupHeartbeat(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, by: &Client, partitions: &Owned) -> Result<(), ErrorCode> {
        self.ask_commit(OffsetCommit {
            group_id: GROUP.to_owned(),
            generation_or_epoch: by.epoch,
            member_id: by.member_id.clone(),
            group_instance_id: by.instance_id.clone(),
            knows_member_epochs: true,
            topics: self.to_commit(partitions),
            ..OffsetCommit::default()
        })
    }

    pub fn ask_commit(&mut self, commit: OffsetCommit) -> Result<(), ErrorCode> {
        let GroupResponse::OffsetCommit(result) = self.ask(GroupRequest::OffsetCommit(commit)) else { panic!() };
        let topics = result?;
        let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.all(|partition| partition.error == ErrorCode::None));
        Ok(())
    }

    pub fn to_commit(&self, partitions: &Owned) -> Vec<OffsetTopic<CommitPartition>> {
        let partition = |partition: PartitionIndex| CommitPartition {
            partition,
            offset: Offset(7),
            leader_epoch: LeaderEpoch::UNKNOWN,
            metadata: None,
        };
        let topic = |topic: &AssignedTopic| OffsetTopic {
            id: topic.topic_id,
            name: self.image.topic(topic.topic_id).expect("it is there").name.clone(),
            partitions: topic.partitions.iter().copied().map(partition).collect(),
        };
        to_topics(partitions).iter().map(topic).collect()
    }

    pub fn fetch(&mut self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        let member_id = member_id.map(str::to_owned);
        let group = FetchGroup { group_id: GROUP.to_owned(), member_id, member_epoch, topics: None };
        let fetch = OffsetFetch { groups: vec![group], require_stable: false };
        let GroupResponse::OffsetFetch(mut groups) = self.ask(GroupRequest::OffsetFetch(fetch)) else { panic!() };
        groups.remove(0).result.map(|_| ())
    }

    /// Topics of which the group has committed something.
    pub fn topics_committed(&mut self) -> Vec<String> {
        let group = FetchGroup { group_id: GROUP.to_owned(), member_id: None, member_epoch: -1, topics: None };
        let fetch = OffsetFetch { groups: vec![group], require_stable: false };
        let GroupResponse::OffsetFetch(mut groups) = self.ask(GroupRequest::OffsetFetch(fetch)) else { panic!() };
        groups.remove(0).result.expect("fetched").into_iter().map(|topic| topic.name).collect()
    }

    pub fn delete(&mut self) -> ErrorCode {
        let delete = DeleteGroups { groups: vec![GROUP.to_owned()] };
        let GroupResponse::DeleteGroups(mut groups) = self.ask(GroupRequest::DeleteGroups(delete)) else { panic!() };
        groups.remove(0).1
    }

    pub fn describe(&mut self) -> Option<ConsumerGroupDescription> {
        let groups = vec![GROUP.to_owned()];
        match self.ask(GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups })) {
            GroupResponse::ConsumerGroupDescribe(mut groups) => groups.remove(0).1.ok(),
            other => panic!("{other:?}"),
        }
    }

    pub fn listed(&mut self) -> Option<ListedGroup> {
        match self.ask(GroupRequest::ListGroups(ListGroups::default())) {
            GroupResponse::ListGroups(mut groups) => groups.pop(),
            other => panic!("{other:?}"),
        }
    }

    /// Of a group of either kind.
    pub fn member_ids(&mut self) -> BTreeSet<String> {
        let groups = vec![GROUP.to_owned()];
        let GroupResponse::DescribeGroups(classic) = self.ask(GroupRequest::DescribeGroups(DescribeGroups { groups }))
        else {
            panic!()
        };
        let classic = classic.into_iter().filter_map(|(_, group)| group.ok()).flat_map(|group| group.members);
        let modern = self.describe().into_iter().flat_map(|group| group.members);
        classic.map(|member| member.member_id).chain(modern.map(|member| member.member_id)).collect()
    }

    /// Lets time pass, with every deadline on the way.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| deadline.0 <= until) {
            self.now = self.now.max(deadline.0);
            self.step(Event::Ticked);
        }
        self.now = until;
    }

    /// The coordinator goes away and another one reads the log.
    pub fn reload(&mut self) {
        self.step(Event::Unloaded);
        self.lives += 1;
        self.coordinator = GroupCoordinator::new(self.settings.clone(), Random::new(self.lives));
        for chunk in self.log.clone().chunks(3) {
            self.step(Event::RecordsLoaded(chunk.to_vec()));
        }
        self.step(Event::LoadFinished);
    }

    // - metadata -

    pub fn add_topic(&mut self, name: &str, partitions: i32) -> TopicId {
        self.topics_made += 1;
        let id = TopicId([self.topics_made; 16]);
        self.image.apply(&Record::TopicCreated { id, name: name.to_owned() });
        (0..partitions).for_each(|index| self.add_partition(id, index));
        self.metadata_changed(Vec::new());
        id
    }

    pub fn grow_topic(&mut self, id: TopicId) {
        let next = self.image.topic(id).expect("it is there").partitions.len() as i32;
        self.add_partition(id, next);
        self.metadata_changed(Vec::new());
    }

    pub fn remove_topic(&mut self, id: TopicId) {
        let name = self.image.topic(id).expect("it is there").name.clone();
        self.image.apply(&Record::TopicRemoved { id });
        self.metadata_changed(vec![(id, name)]);
    }

    fn add_partition(&mut self, topic: TopicId, index: i32) {
        let replicas = vec![BrokerId(1 + index % 3), BrokerId(1 + (index + 1) % 3)];
        let state = PartitionState {
            isr: replicas.clone(),
            leader: replicas.first().copied(),
            replicas,
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            ..PartitionState::default()
        };
        let partition = TopicPartition { topic, partition: PartitionIndex(index) };
        self.image.apply(&Record::PartitionChanged { partition, state });
    }

    fn metadata_changed(&mut self, removed: Vec<(TopicId, String)>) {
        let next = MetadataOffset(self.image.at().0 + 1);
        self.image.advance(next);
        self.step(Event::MetadataChanged { removed });
    }
}

/// A consumer: it does what it is told, sooner or later.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack: Option<String>,
    pub names: Vec<String>,
    pub regex: Option<String>,
    pub assignor: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub epoch: i32,
    pub owned: Owned,
    /// What it was told last to have.
    pub told: Owned,
    /// How many more heartbeats it takes to give up what it is told to.
    pub slowness: u64,
    /// The next heartbeat says everything, as after an error.
    pub must_say_all: bool,
    pub highest_epoch: i32,
}

impl Client {
    pub fn new(member_id: &str, names: &[&str]) -> Client {
        Client {
            member_id: member_id.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            rebalance_timeout_ms: 60_000,
            must_say_all: true,
            ..Client::default()
        }
    }

    pub fn to_say(&self) -> ConsumerGroupHeartbeat {
        let all = self.must_say_all || self.epoch == 0;
        ConsumerGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            rack_id: self.rack.clone().filter(|_| all),
            rebalance_timeout_ms: if all { self.rebalance_timeout_ms } else { -1 },
            subscribed_topic_names: all.then(|| self.names.clone()),
            subscribed_topic_regex: if all { Some(self.regex.clone().unwrap_or_default()) } else { None },
            server_assignor: self.assignor.clone().filter(|_| all),
            topic_partitions: Some(to_topics(&self.owned)),
            requires_member_id: true,
        }
    }

    pub fn hear(&mut self, answer: &ConsumerGroupHeartbeatAnswer) {
        assert!(answer.member_epoch >= self.highest_epoch, "G6: {} after {self:?}", answer.member_epoch);
        self.highest_epoch = answer.member_epoch;
        self.epoch = answer.member_epoch;
        self.must_say_all = false;
        if let Some(assignment) = &answer.assignment {
            self.told = from_topics(assignment);
        }
        self.follow();
    }

    /// Gives up first, takes up then.
    pub fn follow(&mut self) {
        if !self.owned.is_subset(&self.told) {
            if self.slowness > 0 {
                self.slowness -= 1;
                return;
            }
            self.owned.retain(|partition| self.told.contains(partition));
        }
        self.owned.clone_from(&self.told);
    }

    /// As a consumer does when it is refused.
    pub fn be_refused(&mut self, refused: &Refused) {
        match refused.error {
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                self.owned.clear();
                self.told.clear();
                self.epoch = 0;
                self.highest_epoch = 0;
                self.must_say_all = true;
            }
            _ => panic!("{refused:?} for {self:?}"),
        }
    }
}

pub fn to_topics(partitions: &Owned) -> Vec<AssignedTopic> {
    let mut topics: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.partition);
    }
    topics.into_iter().map(|(topic_id, partitions)| AssignedTopic { topic_id, partitions }).collect()
}

pub fn from_topics(topics: &[AssignedTopic]) -> Owned {
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|&partition| TopicPartition { topic: topic.topic_id, partition }))
        .collect()
}
