//! A small simulated cluster and the oracles that watch it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base_types::{BrokerEpoch, BrokerId, Incarnation, Now, ProducerId, Random, Tick, Timestamp, TopicPartition};
use bytes::Bytes;
use controller_core::{Config, Controller, Effect, Effects, Event, Persist, SessionId, Stored, WriteId};
use peer_api::controller::{
    ActiveController, AlterPartition, BrokerHeartbeat, ConfigChange, ConfigChanges, ConfigOperation, ElectionKind,
    ElectionTopics, FromController, IsrChange, NewTopic, Reassign, ReassignedTopic, RegisterBroker, Request, Response,
    Role, TopicOutcomes, TopicSelector,
};
use peer_api::metadata::{ConfigResource, Image, MetadataOffset, Update};
use peer_api::storage::RequestId;

const CONTROLLERS: i32 = 3;
const BROKERS: i32 = 4;

/// What a run has met.
#[derive(Debug, Default)]
pub struct Counts {
    crashes: u64,
    lost_writes: u64,
    lost_messages: u64,
    elections: u64,
    answers: u64,
    refusals: u64,
    lost_leadership: u64,
    snapshots: u64,
    topics: u64,
    isr_changes: u64,
    unclean_returns: u64,
    moves_begun: u64,
    moves_done: u64,
    moves_refused: u64,
    unregistered: u64,
    wiped_voters: u64,
    handovers: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.crashes += other.crashes;
        self.lost_writes += other.lost_writes;
        self.lost_messages += other.lost_messages;
        self.elections += other.elections;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.lost_leadership += other.lost_leadership;
        self.snapshots += other.snapshots;
        self.topics += other.topics;
        self.isr_changes += other.isr_changes;
        self.unclean_returns += other.unclean_returns;
        self.moves_begun += other.moves_begun;
        self.moves_done += other.moves_done;
        self.moves_refused += other.moves_refused;
        self.unregistered += other.unregistered;
        self.wiped_voters += other.wiped_voters;
        self.handovers += other.handovers;
    }

    pub fn has_seen_everything(&self) -> bool {
        [
            self.crashes,
            self.lost_writes,
            self.lost_messages,
            self.elections,
            self.answers,
            self.refusals,
            self.lost_leadership,
            self.snapshots,
            self.topics,
            self.isr_changes,
            self.unclean_returns,
            self.moves_begun,
            self.moves_done,
            self.moves_refused,
            self.unregistered,
            self.wiped_voters,
            self.handovers,
        ]
        .iter()
        .all(|count| *count > 0)
    }
}

#[derive(Default)]
struct Node {
    controller: Option<Controller>,
    disk: Disk,
    held: Vec<(WriteId, i32, Bytes)>,
    applied: u64,
}

/// Durable state, and writes that are not durable yet, in order.
#[derive(Default)]
struct Disk {
    hard_state: Option<Bytes>,
    snapshot: Option<Bytes>,
    entries: BTreeMap<u64, Bytes>,
    waiting: VecDeque<Persist>,
}

impl Disk {
    fn complete_one(&mut self) -> Option<WriteId> {
        let persist = self.waiting.pop_front()?;
        self.hard_state = persist.hard_state.or(self.hard_state.take());
        self.snapshot = persist.snapshot.or(self.snapshot.take());
        if let Some(from) = persist.remove_from {
            self.entries.split_off(&from);
        }
        if let Some(below) = persist.remove_below {
            self.entries = self.entries.split_off(&below);
        }
        self.entries.extend(persist.entries);
        Some(persist.write)
    }

    fn stored(&self) -> Stored {
        Stored {
            hard_state: self.hard_state.clone(),
            snapshot: self.snapshot.clone(),
            entries: self.entries.iter().map(|(index, bytes)| (*index, bytes.clone())).collect(),
        }
    }
}

#[derive(Default)]
struct Broker {
    incarnation: u64,
    epoch: Option<BrokerEpoch>,
    /// What its data directory says of its last registration.
    written_epoch: Option<BrokerEpoch>,
    clean_since: Option<BrokerEpoch>,
    intact_since: Option<BrokerEpoch>,
    session: Option<(SessionId, usize)>,
    view: Image,
    calls: u64,
    open: BTreeSet<RequestId>,
    registering: Option<RequestId>,
    stopping: bool,
}

pub struct Cluster {
    seed: u64,
    now: u64,
    random: Random,
    nodes: Vec<Node>,
    network: Vec<(usize, Bytes)>,
    /// To broker: index and what was said over which session.
    to_brokers: VecDeque<(usize, SessionId, FromController)>,
    sessions_made: u64,
    brokers: Vec<Broker>,
    topics_made: u64,
    faults: bool,
    // What the oracles have seen.
    leaders: BTreeMap<u64, usize>,
    images: BTreeMap<u64, Image>,
    producer_ids: BTreeSet<ProducerId>,
    epochs: BTreeMap<i32, BrokerEpoch>,
    pub counts: Counts,
    pub trace: u64,
}

impl Cluster {
    pub fn new(seed: u64) -> Cluster {
        let mut cluster = Cluster {
            seed,
            now: 1_000,
            random: Random::new(seed),
            nodes: (0..CONTROLLERS).map(|_| Node::default()).collect(),
            network: Vec::new(),
            to_brokers: VecDeque::new(),
            sessions_made: 0,
            brokers: (0..BROKERS).map(|_| Broker::default()).collect(),
            topics_made: 0,
            faults: true,
            leaders: BTreeMap::new(),
            images: BTreeMap::new(),
            producer_ids: BTreeSet::new(),
            epochs: BTreeMap::new(),
            counts: Counts::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for node in 0..cluster.nodes.len() {
            cluster.start(node);
        }
        for broker in 0..cluster.brokers.len() {
            cluster.restart_broker(broker);
        }
        cluster
    }

    pub fn run_with_faults(&mut self, steps: u64) {
        // Swarm testing: each seed has its own rates.
        let crash_rate = self.random.below(10);
        let loss_rate = self.random.below(200);
        // Slow disks leave more to lose.
        let write_rate = self.random.between(200, 1_000);
        // Those of every other seed are stopped in order now and then.
        let handover_rate = 5 * u64::from(self.seed.is_multiple_of(2));
        for _ in 0..steps {
            match self.random.below(100) {
                0..40 => self.deliver(loss_rate),
                40..60 if self.random.chance(write_rate) => self.complete_write(),
                40..60 => {}
                60..80 => self.advance_time(),
                _ => self.act_as_broker(),
            }
            if self.random.chance(crash_rate) {
                let node = self.random.below(self.nodes.len() as u64) as usize;
                match self.nodes[node].controller {
                    Some(_) => self.crash(node),
                    None => {
                        if self.random.chance(100) {
                            self.wipe(node);
                        }
                        self.start(node);
                    }
                }
            }
            if handover_rate > 0 && self.random.chance(handover_rate) {
                let node = self.random.below(self.nodes.len() as u64) as usize;
                self.counts.handovers += u64::from(self.is_active(node));
                self.step(node, Event::HandoverRequested);
            }
            self.pass_messages_to_brokers();
        }
    }

    /// No more faults: soon there is one active controller, and every storage node is unfenced and up to date.
    pub fn heal(&mut self) {
        self.faults = false;
        for node in 0..self.nodes.len() {
            if self.nodes[node].controller.is_none() {
                self.start(node);
            }
        }
        // Who asked to stop stops, and comes back.
        for index in 0..self.brokers.len() {
            if self.brokers[index].stopping {
                self.restart_broker(index);
            }
        }
        for _ in 0..400 {
            self.now += 25;
            for node in 0..self.nodes.len() {
                self.step(node, Event::Ticked);
            }
            for _ in 0..20 {
                (0..self.nodes.len()).for_each(|node| while self.complete_at(node) {});
                for (to, bytes) in std::mem::take(&mut self.network) {
                    self.step(to, Event::RaftReceived { bytes });
                }
                self.pass_messages_to_brokers();
            }
            for broker in 0..self.brokers.len() {
                self.keep_alive(broker);
            }
        }
        let active: Vec<usize> = (0..self.nodes.len()).filter(|node| self.is_active(*node)).collect();
        assert_eq!(active.len(), 1, "seed {}: active {active:?}", self.seed);
        let leader = self.nodes[active[0]].controller.as_ref().unwrap();
        for id in 0..BROKERS {
            let state = leader.image().broker(BrokerId(id)).map(|broker| broker.state);
            assert_eq!(state, Some(peer_api::metadata::BrokerState::Active), "seed {}: broker {id}", self.seed);
            assert_eq!(self.brokers[id as usize].view, *leader.image(), "seed {}: view of {id}", self.seed);
        }
        for node in &self.nodes {
            assert_eq!(node.controller.as_ref().unwrap().image(), leader.image(), "seed {}", self.seed);
        }
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.now), wall: Timestamp(0) }
    }

    fn is_active(&self, node: usize) -> bool {
        self.nodes[node].controller.as_ref().is_some_and(Controller::is_active)
    }

    fn start(&mut self, node: usize) {
        let quorum = (0..CONTROLLERS)
            .map(|id| ActiveController { id: BrokerId(id), address: format!("controller-{id}:9093") })
            .collect();
        let config = Config {
            snapshot_log_bytes: 2_000,
            entries_kept: 5,
            ..Config::new(BrokerId(node as i32), quorum, "sim".to_owned())
        };
        let stored = self.nodes[node].disk.stored();
        let random = Random::new(self.random.next_u64());
        let mut effects = Effects::default();
        let controller = Controller::recover(config, stored, self.now(), random, &mut effects)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.nodes[node].applied = 0;
        self.nodes[node].controller = Some(controller);
        self.perform(node, effects);
    }

    /// Writes that were not durable yet are lost, but for a prefix.
    fn crash(&mut self, node: usize) {
        self.counts.crashes += 1;
        let survivors = self.random.below(self.nodes[node].disk.waiting.len() as u64 + 1);
        for _ in 0..survivors {
            self.nodes[node].disk.complete_one();
        }
        self.counts.lost_writes += self.nodes[node].disk.waiting.len() as u64;
        self.nodes[node].disk.waiting.clear();
        self.nodes[node].held.clear();
        self.nodes[node].controller = None;
        for broker in &mut self.brokers {
            if broker.session.is_some_and(|(_, at)| at == node) {
                broker.session = None;
                broker.open.clear();
                broker.registering = None;
            }
        }
    }

    /// A stopped voter loses its directory, if all the others have theirs and have caught up. What it had said has arrived or never will.
    fn wipe(&mut self, node: usize) {
        let is_voter = |disk: &Disk| disk.hard_state.as_ref().is_some_and(|state| state[0] == 1);
        if (0..self.nodes.len()).all(|other| other == node || is_voter(&self.nodes[other].disk)) {
            self.counts.wiped_voters += 1;
            self.nodes[node].disk = Disk::default();
            self.network.clear();
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        let now = self.now();
        let Some(controller) = &mut self.nodes[node].controller else { return };
        let mut effects = Effects::default();
        controller.step(now, event, &mut effects);
        controller.check_invariants();
        self.perform(node, effects);
    }

    fn perform(&mut self, node: usize, mut effects: Effects) {
        while let Some(effect) = effects.pop() {
            self.note(node, &effect);
            match effect {
                Effect::Persist(persist) => {
                    self.counts.snapshots += u64::from(persist.snapshot.is_some());
                    self.nodes[node].disk.waiting.push_back(persist);
                }
                Effect::SendRaft { to, bytes, after: None } => {
                    // A leader's entries may go out before they are durable here: it does not count itself until then.
                    let follows = self.nodes[node].controller.as_ref().is_some_and(|c| !c.role().is_leader);
                    let waiting = self.nodes[node].disk.waiting.len();
                    assert!(!follows || waiting == 0, "seed {}: C4: a message overtakes {waiting} writes", self.seed);
                    self.network.push((to.0 as usize, bytes));
                }
                Effect::SendRaft { to, bytes, after: Some(after) } => self.nodes[node].held.push((after, to.0, bytes)),
                Effect::SendSession { session, message } => {
                    let to = self.brokers.iter().position(|b| b.session.is_some_and(|(s, _)| s == session));
                    if let Some(to) = to {
                        self.to_brokers.push_back((to, session, message));
                    }
                }
                Effect::CloseSession { session } => {
                    for broker in &mut self.brokers {
                        if broker.session.is_some_and(|(open, _)| open == session) {
                            // What was sent before still arrives: the messages name the session.
                            broker.registering = None;
                        }
                    }
                }
                Effect::RoleChanged(role) => {
                    if role.is_leader {
                        self.counts.elections += 1;
                        let first = *self.leaders.entry(role.term).or_insert(node);
                        assert_eq!(first, node, "seed {}: C1: two leaders in term {}", self.seed, role.term);
                    }
                }
            }
        }
        self.watch(node);
    }

    /// C2, C3, C5, C6: equal positions mean equal images, on every node and in every life.
    fn watch(&mut self, node: usize) {
        let Node { controller, applied, .. } = &mut self.nodes[node];
        let Some(image) = controller.as_ref().map(Controller::image) else { return };
        let at = image.at().0;
        assert!(at >= *applied, "seed {}: C3: applied went back", self.seed);
        if at > *applied {
            *applied = at;
            let seen = self.images.entry(at).or_insert_with(|| image.clone());
            assert_eq!(seen, image, "seed {}: C5: images at {at} differ", self.seed);
            if let Some((_, before)) = self.images.range(..at).next_back() {
                self.counts.moves_done += check_moves(self.seed, before, &self.images[&at]);
            }
        }
    }

    fn note(&mut self, node: usize, effect: &Effect) {
        for byte in format!("{} {node} {effect:?}", self.now).bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn deliver(&mut self, loss_rate: u64) {
        if self.network.is_empty() {
            return;
        }
        let at = self.random.below(self.network.len() as u64) as usize;
        let (to, bytes) = self.network.swap_remove(at);
        if self.random.chance(loss_rate) {
            self.counts.lost_messages += 1;
            return;
        }
        if self.random.chance(20) {
            self.network.push((to, bytes.clone()));
        }
        self.step(to, Event::RaftReceived { bytes });
    }

    fn complete_write(&mut self) {
        let node = self.random.below(self.nodes.len() as u64) as usize;
        self.complete_at(node);
    }

    fn complete_at(&mut self, node: usize) -> bool {
        if self.nodes[node].controller.is_none() {
            return false;
        }
        let Some(write) = self.nodes[node].disk.complete_one() else { return false };
        let held = std::mem::take(&mut self.nodes[node].held);
        let (free, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|(after, _, _)| *after <= write);
        self.nodes[node].held = held;
        self.network.extend(free.into_iter().map(|(_, to, bytes)| (to as usize, bytes)));
        self.step(node, Event::PersistCompleted { write });
        true
    }

    fn advance_time(&mut self) {
        self.now += if self.random.chance(5) { self.random.below(3_000) } else { self.random.below(30) };
        for node in 0..self.nodes.len() {
            self.step(node, Event::Ticked);
            let due = self.nodes[node].controller.as_ref().map(Controller::next_deadline);
            let seed = self.seed;
            assert!(
                due.is_none_or(|due| due > self.now().tick),
                "seed {seed}: node {node} is told the time without end"
            );
        }
    }

    fn restart_broker(&mut self, index: usize) {
        let incarnation = self.random.next_u64();
        let broker = &mut self.brokers[index];
        // Stopped cleanly, crashed with an intact directory, or wiped.
        let (clean, intact) = match self.random.below(10) {
            0 => (None, None),
            1..6 => (None, broker.written_epoch),
            _ => (broker.written_epoch, broker.written_epoch),
        };
        self.counts.unclean_returns += u64::from(clean.is_none());
        let session = broker.session;
        *broker = Broker {
            incarnation,
            written_epoch: intact,
            clean_since: clean,
            intact_since: intact,
            calls: broker.calls,
            ..Broker::default()
        };
        if let Some((session, node)) = session {
            self.step(node, Event::SessionClosed { session });
        }
    }

    fn act_as_broker(&mut self) {
        let index = self.random.below(self.brokers.len() as u64) as usize;
        match self.random.below(100) {
            0 => self.restart_broker(index),
            1..4 => self.hang_up(index),
            4..60 => self.keep_alive(index),
            60..64 => {
                self.topics_made += 1;
                let topic = NewTopic {
                    name: format!("topic-{}", self.random.below(8)),
                    partitions: self.random.between(1, 3) as i32,
                    replication_factor: self.random.between(1, 3) as i16,
                    assignments: Vec::new(),
                    configs: vec![("min.insync.replicas".to_owned(), Some(self.random.between(1, 2).to_string()))],
                };
                self.call(index, Request::CreateTopics { topics: vec![topic], validate_only: false });
            }
            64..65 => {
                let selector = TopicSelector::Name(format!("topic-{}", self.random.below(8)));
                self.call(index, Request::DeleteTopics(vec![selector]));
            }
            65..68 => self.call(index, Request::AllocateProducerIds),
            68..70 => self.call(index, Request::DescribeQuorum),
            70..72 => {
                let values = ["1", "2", "3"];
                let value = values[self.random.below(3) as usize].to_owned();
                let change = ConfigChange {
                    name: "min.insync.replicas".to_owned(),
                    operation: ConfigOperation::Set,
                    value: Some(value),
                };
                let resource = ConfigResource::Topic(format!("topic-{}", self.random.below(8)));
                let changes = vec![ConfigChanges { resource, replace_all: false, changes: vec![change] }];
                self.call(index, Request::AlterConfigs { changes, validate_only: false });
            }
            72..73 => {
                self.brokers[index].stopping = true;
                self.heartbeat(index, true);
            }
            73..77 => self.move_replicas(index),
            77..78 => {
                let kind = if self.random.chance(500) { ElectionKind::Preferred } else { ElectionKind::Unclean };
                self.call(index, Request::ElectLeaders { kind, topics: ElectionTopics::All });
            }
            78..79 if self.random.chance(300) => {
                let broker = BrokerId(self.random.below(BROKERS as u64) as i32);
                self.call(index, Request::UnregisterBroker { broker });
            }
            _ => self.propose_isr(index),
        }
    }

    fn hang_up(&mut self, index: usize) {
        let broker = &mut self.brokers[index];
        broker.open.clear();
        broker.registering = None;
        if let Some((session, node)) = broker.session.take() {
            self.step(node, Event::SessionClosed { session });
        }
    }

    /// Connects, registers or sends a heartbeat: whatever is next.
    fn keep_alive(&mut self, index: usize) {
        if self.brokers[index].session.is_none() {
            let node = self.random.below(self.nodes.len() as u64) as usize;
            if self.nodes[node].controller.is_none() {
                return;
            }
            self.sessions_made += 1;
            let session = SessionId(self.sessions_made);
            let broker = &mut self.brokers[index];
            broker.session = Some((session, node));
            let role = Role::Broker(BrokerId(index as i32));
            let follow_from = Some(broker.view.at());
            self.step(node, Event::SessionOpened { session, role, follow_from });
        } else if self.brokers[index].epoch.is_none() {
            if self.brokers[index].registering.is_some() {
                return;
            }
            let broker = &self.brokers[index];
            let mut incarnation = [0; 16];
            incarnation[..8].copy_from_slice(&broker.incarnation.to_be_bytes());
            let request = RegisterBroker {
                broker: BrokerId(index as i32),
                cluster_id: None,
                incarnation: Incarnation(incarnation),
                rack: None,
                peer_address: format!("storage-{index}:9190"),
                host: format!("storage-{index}"),
                clean_since: broker.clean_since,
                intact_since: broker.intact_since,
            };
            let id = RequestId(broker.calls + 1);
            self.brokers[index].registering = Some(id);
            self.call(index, Request::RegisterBroker(request));
        } else {
            self.heartbeat(index, false);
        }
    }

    fn heartbeat(&mut self, index: usize, want_shutdown: bool) {
        let broker = &self.brokers[index];
        let Some(mut broker_epoch) = broker.epoch else { return };
        let metadata_offset = broker.view.at();
        // A late message of an older life: refused (R14).
        if self.faults && self.random.chance(10) {
            broker_epoch.0 -= 1;
        }
        let broker = BrokerId(index as i32);
        let heartbeat = BrokerHeartbeat {
            broker,
            broker_epoch,
            metadata_offset,
            want_shutdown,
            damaged: Vec::new(),
            not_open: Vec::new(),
            more: false,
        };
        self.call(index, Request::BrokerHeartbeat(heartbeat));
    }

    /// As a leader would: takes a member out, or brings one back, going by its own view.
    fn propose_isr(&mut self, index: usize) {
        let me = BrokerId(index as i32);
        let Some(broker_epoch) = self.brokers[index].epoch else { return };
        let view = &self.brokers[index].view;
        let led: Vec<TopicPartition> =
            view.partitions().filter(|(_, state)| state.leader == Some(me)).map(|(id, _)| id).collect();
        if led.is_empty() {
            return;
        }
        let partition = led[self.random.below(led.len() as u64) as usize];
        let state = view.partition(partition).unwrap();
        let members: Vec<BrokerId> =
            state.replicas.iter().copied().filter(|id| *id == me || self.random.chance(600)).collect();
        let isr = members.iter().filter_map(|id| Some((*id, view.broker(*id)?.epoch))).collect();
        let change =
            IsrChange { partition, leader_epoch: state.leader_epoch, partition_epoch: state.partition_epoch, isr };
        self.call(index, Request::AlterPartition(AlterPartition { broker: me, broker_epoch, changes: vec![change] }));
    }

    /// To some of the brokers, or back.
    fn move_replicas(&mut self, index: usize) {
        let view = &self.brokers[index].view;
        let all: Vec<(String, i32)> = view
            .topics()
            .flat_map(|topic| (0..topic.partitions.len() as i32).map(|index| (topic.name.clone(), index)))
            .collect();
        if all.is_empty() {
            return;
        }
        let (name, partition) = all[self.random.below(all.len() as u64) as usize].clone();
        let mut ids: Vec<BrokerId> = (0..BROKERS).map(BrokerId).collect();
        for at in (1..ids.len()).rev() {
            ids.swap(at, self.random.below(at as u64 + 1) as usize);
        }
        ids.truncate(self.random.between(1, 3) as usize);
        let target = self.random.chance(800).then_some(ids);
        let topics = vec![ReassignedTopic { name, partitions: vec![(partition, target)] }];
        let allow_replication_factor_change = self.random.chance(800);
        self.call(index, Request::Reassign(Reassign { topics, allow_replication_factor_change }));
    }

    fn call(&mut self, index: usize, request: Request) {
        let broker = &mut self.brokers[index];
        let Some((session, node)) = broker.session else { return };
        broker.calls += 1;
        let id = RequestId(broker.calls);
        broker.open.insert(id);
        self.step(node, Event::Called { session, id, request });
    }

    fn pass_messages_to_brokers(&mut self) {
        while let Some((index, session, message)) = self.to_brokers.pop_front() {
            let broker = &mut self.brokers[index];
            if broker.session.is_none_or(|(open, _)| open != session) {
                continue;
            }
            match message {
                FromController::Welcome { .. } => {}
                FromController::NotActive { .. } => {
                    assert!(broker.open.is_empty() || broker.open.len() < 50, "seed {}", self.seed);
                    broker.session = None;
                    broker.open.clear();
                    broker.registering = None;
                }
                FromController::Update(update) => self.update_view(index, update),
                FromController::Answer { id, result } => {
                    assert!(broker.open.remove(&id), "seed {}: call {id:?} was answered twice", self.seed);
                    if broker.registering == Some(id) {
                        broker.registering = None;
                    }
                    match result {
                        Ok(response) => self.hear(index, response),
                        Err(peer_api::controller::Error::LostLeadership) => self.counts.lost_leadership += 1,
                        Err(peer_api::controller::Error::Refused(refusal)) => {
                            self.counts.refusals += 1;
                            let code = refusal.code;
                            if matches!(
                                code,
                                base_types::ErrorCode::StaleBrokerEpoch | base_types::ErrorCode::BrokerIdNotRegistered
                            ) {
                                broker.epoch = None;
                            }
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// C11: a view is a prefix of the committed log.
    fn update_view(&mut self, index: usize, update: Update) {
        let broker = &mut self.brokers[index];
        let before = broker.view.at();
        assert!(broker.view.update(update), "seed {}: C11: a delta does not continue the view", self.seed);
        let at = broker.view.at();
        assert!(at >= before, "seed {}: C11: the view of {index} went from {before} to {at}", self.seed);
        if let Some(image) = self.images.get(&at.0) {
            assert_eq!(*image, broker.view, "seed {}: C11: the view of {index} at {at}", self.seed);
        }
    }

    fn hear(&mut self, index: usize, response: Response) {
        self.counts.answers += 1;
        match response {
            Response::BrokerRegistered { broker_epoch } => {
                let broker = &mut self.brokers[index];
                let last = self.epochs.insert(index as i32, broker_epoch);
                assert!(last <= Some(broker_epoch), "seed {}: R14: {broker_epoch} after {last:?}", self.seed);
                broker.epoch = Some(broker_epoch);
                broker.written_epoch = Some(broker_epoch);
            }
            Response::ProducerIds { first, count } => {
                assert_eq!(count, 1000);
                assert!(self.producer_ids.insert(first), "seed {}: P7: {first} twice", self.seed);
            }
            Response::TopicsCreated { topics, visible_at } => {
                self.sees(visible_at);
                for topic in topics.into_iter().flatten() {
                    self.counts.topics += 1;
                    // Positions in the middle of a step are not seen from outside.
                    let Some(image) = self.images.get(&visible_at.0) else { continue };
                    assert_eq!(image.topic(topic.id).map(|t| t.name.clone()), Some(topic.name), "seed {}", self.seed);
                }
            }
            Response::TopicsDeleted { visible_at, .. }
            | Response::ConfigsAltered { visible_at, .. }
            | Response::LeadersElected { visible_at, .. }
            | Response::FeaturesUpdated { visible_at } => {
                self.sees(visible_at);
            }
            Response::BrokerUnregistered { visible_at } => {
                self.counts.unregistered += 1;
                self.sees(visible_at);
            }
            Response::Reassigned { topics, visible_at } => {
                self.sees(visible_at);
                for result in topics.into_iter().flat_map(|topic: TopicOutcomes| topic.partitions) {
                    match result.1 {
                        Ok(()) => self.counts.moves_begun += 1,
                        Err(_) => self.counts.moves_refused += 1,
                    }
                }
            }
            Response::PartitionsAltered(results) => {
                self.counts.isr_changes += results.iter().filter(|(_, result)| result.is_ok()).count() as u64;
            }
            Response::Quorum(quorum) => assert_eq!(quorum.voters.len(), CONTROLLERS as usize),
            Response::Heartbeat(_) | Response::GatewayRegistered | Response::PartitionsCreated { .. } => {}
        }
    }

    /// An answered change is committed.
    fn sees(&self, at: MetadataOffset) {
        let newest = self.images.last_key_value().map_or(0, |(at, _)| *at);
        assert!(at.0 <= newest, "seed {}: answered at {at}, committed up to {newest}", self.seed);
    }
}

/// R19: a replica goes only when all who stay are in the ISR or a move is undone, and then in another leader epoch. Returns how
/// many moves came to an end.
fn check_moves(seed: u64, before: &Image, after: &Image) -> u64 {
    let mut done = 0;
    for (partition, old) in before.partitions() {
        let Some(new) = after.partition(partition) else { continue };
        done += u64::from(old.is_moving() && !new.is_moving());
        let gone: Vec<BrokerId> = old.replicas.iter().filter(|id| !new.replicas.contains(id)).copied().collect();
        if gone.is_empty() {
            continue;
        }
        assert!(new.leader_epoch > old.leader_epoch, "seed {seed}: {partition} from {old:?} to {new:?}");
    }
    done
}
