//! Random runs of a coordinator with clients of the classic protocol, against a dumb twin that only reads the log.
//!
//! Each seed draws how often things go wrong: appends that take long, are refused or are lost with the leadership, replicas that
//! fall out of sync, clients that stop, leave, come back and commit with what they once knew. After every step:
//!
//! - every offset that is fetched is the last one in the log (G3, G4), and what was acknowledged is in the log (G3);
//! - the generations in the log only grow (G6), and in one generation nothing is assigned to two (G1);
//! - at rest, a coordinator that folds the log sees what the living one sees.
//!
//! Who may commit (G2) is judged rule by rule in `groups/offsets.rs`.
//!
//! In the end everything is healed, and every group must come to rest with all that want to be in it (G7), every request answered.
//!
//! `SEED=n cargo test -p coordinator-core --release --test properties` runs one seed; `SEEDS=n` runs so many.
#![allow(clippy::disallowed_methods, reason = "a test reads its seed from the environment")]

#[path = "groups/world.rs"]
mod world;

use std::collections::BTreeMap;

use base_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, Random, TopicId};
use bytes::Bytes;
use coordinator_core::records::{OffsetKey, Record};
use coordinator_core::{Event, RequestKey, Settings};
use peer_api::groups::{
    ClassicGroupDescription, DeleteGroups, DescribeGroups, FetchGroup, GroupRequest, GroupResponse, GroupState,
    Heartbeat, JoinGroup, LeaveGroup, LeavingMember, ListGroups, OffsetCommit, OffsetDelete, OffsetFetch, OffsetTopic,
    SyncGroup,
};
use peer_api::storage::AppendError;

use world::{World, commit, consumer, protocol};

const SEEDS: u64 = 300;
const STEPS: usize = 400;
const GROUPS: [&str; 2] = ["a", "b"];
const PARTITIONS: i32 = 3;
const CLIENTS: usize = 7;

#[test]
fn groups_and_offsets_keep_their_word_in_random_runs() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let (mut stable, mut acknowledged) = (0, 0);
    for seed in seeds.clone() {
        let mut run = Run::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.all()));
        if let Err(panic) = result {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        stable += run.generations.len();
        acknowledged += run.acknowledged;
    }
    // The runs are worth something: members were assigned things and offsets were acknowledged.
    let runs = (seeds.end - seeds.start) as usize;
    assert!(stable > 3 * runs, "{stable} assignments in {runs} runs");
    assert!(acknowledged > 3 * runs, "{acknowledged} commits in {runs} runs");
}

/// What a client of the classic protocol believes.
#[derive(Clone, Debug, Default)]
struct Client {
    group: String,
    instance: Option<String>,
    member_id: String,
    generation: i32,
    phase: Phase,
    /// Joined as the leader of this generation, with these members.
    leads: Vec<String>,
    /// Does nothing until it is woken.
    sleeps: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Out,
    Joining(RequestKey),
    Joined,
    Syncing(RequestKey),
    In,
}

struct Run {
    random: Random,
    world: World,
    clients: Vec<Client>,
    faults_per_mille: u64,
    commits: Vec<(RequestKey, OffsetKey, i64)>,
    next_offset: i64,
    acknowledged: usize,
    /// Per (group, life of the group, generation, partition): who has it.
    generations: BTreeMap<(String, usize, i32, String), String>,
    twin: Twin,
}

/// A fold of the log that any child could write.
#[derive(Default)]
struct Twin {
    read: usize,
    offsets: BTreeMap<OffsetKey, i64>,
    /// Every offset that was ever in the log.
    ever: Vec<(OffsetKey, i64)>,
    generation: BTreeMap<String, i32>,
    /// Where in the log groups came to their ends.
    ends: Vec<(String, usize)>,
}

impl Twin {
    fn read(&mut self, world: &World) {
        for (at, record) in world.log.iter().enumerate().skip(self.read) {
            match Record::decode(record) {
                Ok(Some(Record::Offset { key, value: Some(value) })) => {
                    self.ever.push((key.clone(), value.offset.0));
                    self.offsets.insert(key, value.offset.0);
                }
                Ok(Some(Record::Offset { key, value: None })) => {
                    self.offsets.remove(&key);
                }
                Ok(Some(Record::Classic { group_id, value: Some(value) })) => {
                    let before = self.generation.insert(group_id.clone(), value.generation).unwrap_or(0);
                    assert!(value.generation >= before, "G6: {group_id} from {before} to {}", value.generation);
                }
                Ok(Some(Record::Classic { group_id, value: None })) => {
                    self.generation.remove(&group_id);
                    self.ends.push((group_id, at));
                }
                other => panic!("{other:?}"),
            }
        }
        self.read = world.log.len();
    }
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let settings = Settings {
            group_initial_rebalance_delay_ms: if random.chance(500) { 0 } else { 3_000 },
            group_size_max: if random.chance(200) { 3 } else { 100 },
            offsets_retention_ms: if random.chance(300) { 120_000 } else { 604_800_000 },
            offsets_retention_check_interval_ms: 30_000,
            ..Settings::default()
        };
        let clients = (0..CLIENTS).map(|index| Client {
            group: GROUPS[index % GROUPS.len()].to_owned(),
            instance: (index >= 4).then(|| format!("instance-{index}")),
            ..Client::default()
        });
        Run {
            faults_per_mille: random.below(120),
            world: World::with(settings),
            clients: clients.collect(),
            random,
            commits: Vec::new(),
            next_offset: 1,
            acknowledged: 0,
            generations: BTreeMap::new(),
            twin: Twin::default(),
        }
    }

    fn all(&mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check();
        }
        self.heal();
    }

    fn step(&mut self) {
        if self.random.below(1_000) < self.faults_per_mille {
            return self.fault();
        }
        match self.random.below(10) {
            0..6 => {
                let index = self.random.below(CLIENTS as u64) as usize;
                self.act(index);
            }
            6 => self.world.pass(self.random.fork(6).below(4_000)),
            7 => {
                self.world.commit_one();
            }
            8 => self.offsets_from_outside(),
            _ => self.collect(),
        }
    }

    fn fault(&mut self) {
        match self.random.below(8) {
            0 => self.world.holding = true,
            1 => {
                self.world.holding = false;
                self.world.commit();
            }
            2 => self.fail_over(),
            3 if !self.world.in_flight.is_empty() => {
                let error = match self.random.below(2) {
                    0 => AppendError::NotEnoughReplicas,
                    _ => AppendError::NotLeader { leader: BrokerId(1), leader_epoch: LeaderEpoch(1) },
                };
                self.world.refuse(error);
                self.world.fail_over();
            }
            4 => self.world.event(Event::WritableChanged(false)),
            5 => self.world.event(Event::WritableChanged(true)),
            6 => {
                let index = self.random.below(CLIENTS as u64) as usize;
                self.clients[index].sleeps = !self.clients[index].sleeps;
            }
            _ => self.world.pass(30_000),
        }
    }

    /// Of what is in flight, the first so many are committed all the same.
    fn fail_over(&mut self) {
        let survive = self.random.below(self.world.in_flight.len() as u64 + 1);
        self.world.event(Event::Unloaded);
        for _ in 0..survive {
            if let Some((_, records)) = self.world.in_flight.pop_front() {
                self.world.log.extend(records);
            }
        }
        self.world.fail_over();
    }

    fn act(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.sleeps {
            return;
        }
        match (client.phase, self.random.below(20)) {
            (Phase::Out, 0..19) => self.join(index),
            (Phase::Joined, 0..16) => self.sync(index),
            (Phase::In, 0..8) => self.heartbeat(index),
            (Phase::In, 8..15) => self.commit_by(&client),
            (Phase::In, 15) => self.join(index),
            (Phase::Joined | Phase::In, 16) => self.leave(index),
            // Starts anew and has forgotten everything but its name.
            (_, 19) => {
                let Client { group, instance, .. } = client;
                self.clients[index] = Client { group, instance, ..Client::default() };
            }
            (Phase::Joining(_) | Phase::Syncing(_), _) => self.collect(),
            _ => {}
        }
    }

    fn join(&mut self, index: usize) {
        let client = &self.clients[index];
        let topic = if self.random.chance(900) { "t" } else { "u" };
        let join = JoinGroup {
            group_id: client.group.clone(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance.clone(),
            protocols: vec![protocol("range", topic), protocol("roundrobin", topic)],
            requires_known_member_id: true,
            supports_skip_assignment: true,
            ..consumer()
        };
        let request = self.world.ask(GroupRequest::JoinGroup(join));
        self.clients[index].phase = Phase::Joining(request);
    }

    fn sync(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let assignments =
            client.leads.iter().enumerate().map(|(part, member)| (member.clone(), Bytes::from(format!("{part}"))));
        let request = self.world.ask(GroupRequest::SyncGroup(SyncGroup {
            group_id: client.group,
            generation_id: client.generation,
            member_id: client.member_id,
            group_instance_id: client.instance,
            assignments: assignments.collect(),
            ..SyncGroup::default()
        }));
        self.clients[index].phase = Phase::Syncing(request);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let request = self.world.ask(GroupRequest::Heartbeat(Heartbeat {
            group_id: client.group,
            generation_id: client.generation,
            member_id: client.member_id,
            group_instance_id: client.instance,
        }));
        match self.world.answer(request) {
            Ok(GroupResponse::Heartbeat(Ok(()))) | Err(_) => {}
            Ok(GroupResponse::Heartbeat(Err(ErrorCode::RebalanceInProgress))) => self.join(index),
            _ => self.forget(index),
        }
    }

    fn leave(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let leaving = LeavingMember { member_id: client.member_id, group_instance_id: client.instance, reason: None };
        self.world.ask(GroupRequest::LeaveGroup(LeaveGroup { group_id: client.group, members: vec![leaving] }));
        self.forget(index);
    }

    fn forget(&mut self, index: usize) {
        self.clients[index].member_id = String::new();
        self.clients[index].phase = Phase::Out;
        self.clients[index].leads = Vec::new();
    }

    fn commit_by(&mut self, client: &Client) {
        let lag = i32::from(self.random.chance(100));
        let by_member = OffsetCommit {
            group_id: client.group.clone(),
            member_id: client.member_id.clone(),
            generation_or_epoch: client.generation - lag,
            group_instance_id: client.instance.clone(),
            ..commit(0)
        };
        self.commit_offset(by_member);
    }

    fn commit_offset(&mut self, mut commit: OffsetCommit) {
        let offset = self.next_offset;
        self.next_offset += 1;
        let partition = PartitionIndex(self.random.below(PARTITIONS as u64) as i32);
        commit.topics[0].name = if self.random.chance(700) { "t" } else { "u" }.to_owned();
        commit.topics[0].partitions[0].offset = Offset(offset);
        commit.topics[0].partitions[0].partition = partition;
        let topic = commit.topics[0].name.clone();
        let key = OffsetKey { group_id: commit.group_id.clone(), topic, partition };
        let request = self.world.ask(GroupRequest::OffsetCommit(commit));
        self.commits.push((request, key, offset));
    }

    fn offsets_from_outside(&mut self) {
        let group_id = GROUPS[self.random.below(2) as usize].to_owned();
        match self.random.below(12) {
            0..5 => self.commit_offset(OffsetCommit { group_id, ..commit(0) }),
            5 => {
                self.world.ask(GroupRequest::DeleteGroups(DeleteGroups { groups: vec![group_id] }));
            }
            6 => {
                let topics =
                    vec![OffsetTopic { id: TopicId::ZERO, name: "u".to_owned(), partitions: vec![PartitionIndex(0)] }];
                self.world.ask(GroupRequest::OffsetDelete(OffsetDelete { group_id, topics }));
            }
            7 => self.world.event(Event::MetadataChanged { removed: vec![(TopicId([7; 16]), "u".to_owned())] }),
            _ => {}
        }
    }

    /// Clients and committers take up their answers.
    fn collect(&mut self) {
        for index in 0..self.clients.len() {
            let client = self.clients[index].clone();
            match client.phase {
                Phase::Joining(request) if !self.world.is_waiting(request) => self.take_joined(index, request),
                Phase::Syncing(request) if !self.world.is_waiting(request) => self.take_synced(index, request),
                _ => {}
            }
        }
        self.twin.read(&self.world);
        for (request, key, offset) in std::mem::take(&mut self.commits) {
            if self.world.is_waiting(request) {
                self.commits.push((request, key, offset));
                continue;
            }
            if let Ok(GroupResponse::OffsetCommit(Ok(_))) = self.world.answer(request) {
                assert!(self.twin.ever.contains(&(key.clone(), offset)), "G3: {key:?} {offset} is not in the log");
                self.acknowledged += 1;
            }
        }
    }

    fn take_joined(&mut self, index: usize, request: RequestKey) {
        let answer = self.world.answer(request);
        let client = &mut self.clients[index];
        client.phase = Phase::Out;
        match answer {
            Ok(GroupResponse::JoinGroup(Ok(joined))) => {
                client.member_id = joined.member_id;
                client.generation = joined.generation_id;
                client.phase = Phase::Joined;
                let assigns = joined.leader == client.member_id && !joined.skip_assignment;
                client.leads = if assigns {
                    joined.members.into_iter().map(|member| member.member_id).collect()
                } else {
                    Vec::new()
                };
            }
            Ok(GroupResponse::JoinGroup(Err(refused))) => match refused.error {
                ErrorCode::MemberIdRequired => client.member_id = refused.member_id,
                ErrorCode::RebalanceInProgress => {}
                _ => self.forget(index),
            },
            Err(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn take_synced(&mut self, index: usize, request: RequestKey) {
        let answer = self.world.answer(request);
        self.twin.read(&self.world);
        let client = &mut self.clients[index];
        client.phase = Phase::Out;
        match answer {
            Ok(GroupResponse::SyncGroup(Ok(synced))) => {
                client.phase = Phase::In;
                if synced.assignment.is_empty() {
                    return;
                }
                let answered_at = self.world.answered_at[&request];
                let life =
                    self.twin.ends.iter().filter(|(group, at)| *group == client.group && *at < answered_at).count();
                let part = String::from_utf8_lossy(&synced.assignment).into_owned();
                let me = client.instance.clone().unwrap_or_else(|| client.member_id.clone());
                let place = (client.group.clone(), life, client.generation, part);
                let owner = self.generations.entry(place.clone()).or_insert_with(|| me.clone());
                assert_eq!(*owner, me, "G1: {place:?} has two owners");
            }
            Ok(GroupResponse::SyncGroup(Err(ErrorCode::RebalanceInProgress))) | Err(_) => {}
            _ => self.forget(index),
        }
    }

    fn check(&mut self) {
        self.twin.read(&self.world);
        self.check_fetches();
        let is_quiet = self.world.in_flight.is_empty() && self.world.commits_are_possible();
        if is_quiet && self.random.chance(50) {
            self.compare_with_a_fold_of_the_log();
        }
    }

    fn check_fetches(&mut self) {
        for group in GROUPS {
            let expected: Vec<(String, i32, i64)> = self
                .twin
                .offsets
                .iter()
                .filter(|(key, _)| key.group_id == group)
                .map(|(key, offset)| (key.topic.clone(), key.partition.0, *offset))
                .collect();
            assert_eq!(self.world.all_offsets(group), expected, "G4: {group}");
        }
    }

    fn compare_with_a_fold_of_the_log(&mut self) {
        let live = self.world.rest();
        let mut other = World::unloaded(self.world.settings.clone());
        other.now = self.world.now;
        other.event(Event::RecordsLoaded(self.world.log.clone()));
        other.event(Event::LoadFinished);
        let folded = other.rest();
        for (group, seen) in &live {
            match seen {
                // What has not come to rest is not in the log yet.
                Some(seen) if !matches!(seen.state, GroupState::Stable | GroupState::Empty) => {}
                seen => assert_eq!(folded.get(group), Some(seen), "{group}"),
            }
        }
    }

    /// No more faults; everyone is awake and well-behaved.
    fn heal(&mut self) {
        self.world.holding = false;
        self.world.commit();
        self.world.event(Event::WritableChanged(true));
        self.clients.iter_mut().for_each(|client| client.sleeps = false);
        if self.world.settings.group_size_max < CLIENTS {
            return;
        }
        for _ in 0..200 {
            self.collect();
            for index in 0..self.clients.len() {
                match self.clients[index].phase {
                    Phase::Out => self.join(index),
                    Phase::Joined => self.sync(index),
                    Phase::In => self.heartbeat(index),
                    Phase::Joining(_) | Phase::Syncing(_) => {}
                }
            }
            self.world.pass(1_000);
            self.check();
        }
        for client in &self.clients {
            assert_eq!(client.phase, Phase::In, "G7: {client:?}");
        }
        for (group, seen) in self.world.view() {
            let members = self.clients.iter().filter(|client| client.group == group).count();
            let seen = seen.expect("a group");
            assert_eq!((seen.state, seen.members.len()), (GroupState::Stable, members), "G7: {group}");
        }
        self.collect();
        assert!(self.commits.is_empty(), "unanswered: {:?}", self.commits);
        self.compare_with_a_fold_of_the_log();
    }
}

impl World {
    /// Answers of the coordinator are its state and not the lack of it.
    fn commits_are_possible(&mut self) -> bool {
        let request = self.ask(GroupRequest::ListGroups(ListGroups::default()));
        self.answer(request).is_ok()
    }

    fn all_offsets(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let group = FetchGroup { group_id: group.to_owned(), member_id: None, member_epoch: -1, topics: None };
        let fetch = OffsetFetch { groups: vec![group], require_stable: false };
        let request = self.ask(GroupRequest::OffsetFetch(fetch));
        let Ok(GroupResponse::OffsetFetch(mut groups)) = self.answer(request) else { panic!("not served") };
        let topics = groups.remove(0).result.expect("fetched");
        topics
            .into_iter()
            .flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |found| (name.clone(), found.partition.0, found.offset.0))
            })
            .collect()
    }

    fn view(&mut self) -> BTreeMap<String, Option<ClassicGroupDescription>> {
        let groups = GROUPS.iter().map(|group| (*group).to_owned()).collect();
        let request = self.ask(GroupRequest::DescribeGroups(DescribeGroups { groups }));
        let Ok(GroupResponse::DescribeGroups(described)) = self.answer(request) else { panic!("not served") };
        described.into_iter().map(|(group, result)| (group, result.ok())).collect()
    }

    /// Without groups of which there is nothing: their last offset was taken back, and they wait to be forgotten.
    fn rest(&mut self) -> BTreeMap<String, Option<ClassicGroupDescription>> {
        let mut view = self.view();
        for (group, seen) in &mut view {
            let is_bare =
                |seen: &ClassicGroupDescription| seen.state == GroupState::Empty && seen.protocol_type.is_empty();
            if seen.as_ref().is_some_and(is_bare) && self.all_offsets(group).is_empty() {
                *seen = None;
            }
        }
        view
    }
}
